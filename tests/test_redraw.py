"""Seeds that draw their documents anew: other documents of the same domains, and as much of each."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_project import write_project

from factory.core.errors import RecipeError
from factory.execution.local import LocalExecutor
from factory.recipes.batches import batch
from factory.recipes.load import check_recipe, load_recipe
from factory.recipes.token_export import opened_order, read_by, training_plan
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

PROXY = (
    "proxy: {scale: pico, seeds: 3, redraw: true, overrides: {width: 16, hidden: 32, layers: 1, heads: 2, kv_heads: 1, "
    "head_width: 8, context: 32, batch: 4, warmup_steps: 2}}\n"
)
EXPERIMENTS = """
experiments:
  plain: {filters: {}}
  even: {filters: {}, mixture: {use: uniform, max_epochs: 60, allow_red: true}}
"""


def opened(path: Path, text: str) -> Workspace:
    path.write_text(text)
    return Workspace(load_recipe(str(path)), LocalExecutor(1))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    path = write_project(tmp_path_factory.mktemp("redraw"))
    written = path.read_text()
    text = written[: written.index("experiments:")].replace("tokens: 20000", "tokens: 6000") + EXPERIMENTS + PROXY
    with opened(path, text) as workspace:
        workspace.run(["proxies"])
        yield workspace


def read(project, label, seed):
    """(ids of the documents a proxy reads, tokens by domain it reads) by its order alone."""
    experiment = project.recipe.experiment(label)
    manifest = read_by(project, experiment, seed)
    parts = {part.name: part.to_json() for part in manifest.parts}
    plan = training_plan(project, experiment, manifest, seed)
    with opened_order(project.store, {"plan": plan, "parts": parts}) as order:
        documents, counts = order.inputs(0, order.steps)
    index = read_part(project.store, next(part for part in manifest.parts if part.name == "index"))
    names = np.array(index.column("doc_id").to_pylist())[documents]
    domains = np.array(index.column("domain").to_pylist())[documents]
    return set(names.tolist()), {name: int(counts[domains == name].sum()) for name in set(domains.tolist())}


def test_every_seed_reads_other_documents_and_as_much_of_every_domain(project):
    for label in ("plain", "even"):
        drawn = [read(project, label, seed) for seed in range(3)]
        assert len({frozenset(documents) for documents, _ in drawn}) == 3
        total = sum(drawn[0][1].values())
        longest = max(part.notes["longest"] for part in [project.need("tokens", label)])
        for _, shares in drawn:
            assert sum(shares.values()) == total
            for name, tokens in shares.items():
                assert abs(tokens - drawn[0][1].get(name, 0)) <= 2 * longest


def test_experiments_that_select_alike_share_one_pool(project):
    assert [name for name in project.graph if name.startswith("pools/")] == ["pools/plain"]
    assert "pools/plain" in project.graph["proxies/even@pico-1"].upstream
    assert "tokens/even" in project.graph["proxies/even@pico-0"].upstream


def test_the_first_seed_is_what_it_is_without(project):
    recipe = project.recipe
    without = recipe.model_copy(
        update={
            "experiments": tuple(
                one.model_copy(update={"proxy": one.proxy.model_copy(update={"redraw": False})})
                for one in recipe.experiments
            )
        }
    )
    plain = Workspace(without, LocalExecutor(1))
    states = {status.node.name: status.state for status in plain.plan()}
    assert states["proxies/plain@pico-0"] == "cached"
    assert states["proxies/plain@pico-1"] != "cached"


def test_a_batch_of_another_seed_is_of_what_that_seed_drew(project):
    found = batch(project, "even", step=3, seed=2)
    assert {row["doc_id"] for row in found["documents"]} <= read(project, "even", 2)[0]
    assert sum(row["read"] for row in found["documents"]) + found["padding"] == 4 * 32


def test_another_mixture_draws_anew_and_nothing_else_is_trained(project, tmp_path):
    folder = shutil.copytree(project.recipe.folder, tmp_path / "project")
    path = folder / "recipe.yaml"
    with opened(path, path.read_text().replace("max_epochs: 60", "max_epochs: 60, tokens: 6100")) as changed:
        made = {status.node.name for status in changed.plan() if status.state != "cached"}
    assert {f"proxies/even@pico-{seed}" for seed in range(3)} <= made
    assert not {name for name in made if name.startswith(("pools", "proxies/plain"))}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"phases": [{"name": "main", "share": 0.9}, {"name": "end", "share": 0.1}]}, "has phases"),
        ({"conditioning": {"column": "host"}}, "has conditioning"),
    ],
)
def test_what_cannot_be_drawn_anew_is_refused(changed, said):
    data = {
        "name": "r",
        "sources": {"web": {"use": "jsonl", "uri": "*.jsonl"}},
        "mixture": {"use": "natural", "tokens": 100_000},
        "proxy": {"redraw": True},
        **changed,
    }
    with pytest.raises(RecipeError, match=rf"proxy\.redraw: .*{said}"):
        check_recipe(data, folder=".")
