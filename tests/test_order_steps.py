"""From a recipe to a training's order: phases, metadata and packing as they are written, counted and read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_project import RECIPE, write_project

from factory.core.errors import FactoryError
from factory.core.manifest import Part
from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.steps.tokens import read_index
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part
from factory.training.order import open_order
from factory.training.scales import SCALES
from factory.training.tokenizer import Encoder

EXPERIMENTS = """
experiments:
  plain: {filters: {}}
  phased:
    filters: {}
    mixture: {use: weights, weights: {example.org: 0.9, copies.example: 0.1}, tokens: 20000, max_epochs: 60, allow_red: true}
    phases:
      - {name: main, share: 0.8}
      - {name: end, share: 0.2, mixture: {weights: {example.org: 0.4, copies.example: 0.6}}}
  conditioned:
    filters: {}
    conditioning: {column: host, share: 0.9, template: "URL: {value}\\n\\n"}
    packing: {use: best_fit, document_mask: true}
  related: {filters: {}, packing: {use: in_context}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    path = write_project(tmp_path_factory.mktemp("order"))
    text = path.read_text()
    path.write_text(text[: text.index("experiments:")] + EXPERIMENTS.lstrip())
    recipe = load_recipe(str(path))
    with Workspace(recipe, LocalExecutor(1)) as workspace:
        workspace.run(["tokens"])
        yield workspace


def made(project, label):
    """(manifest, its parts, plan) of an experiment's tokens."""
    name = f"tokens/{label}"
    node = project.graph[name]
    manifest = project.need("tokens", label)
    plan = {key: node.spec[key] for key in ("packing", "phases", "conditioning") if key in node.spec}
    return manifest, {part.name: part.to_json() for part in manifest.parts}, {**plan, "bos": node.spec["bos"]}


def order_of(project, label, **changed):
    manifest, parts, plan = made(project, label)
    index = read_index(project.store, parts, {**plan, **changed}, ["doc_id", "domain"])
    with project.store.as_local(parts["tokens.bin"]["path"], parts["tokens.idx"]["path"]) as (path, _):
        prefix = path.removesuffix(".bin")
        order = open_order(prefix, index, {**plan, **changed}, scale=SCALES["nano"], seed=1, total_tokens=19_000)
    return order, index, manifest


def test_phases_have_their_shares_and_read_what_was_not_read_first(project):
    manifest, parts, _ = made(project, "phased")
    main, end = manifest.notes["phases"]
    longest = manifest.notes["longest"]
    assert main["tokens"] == pytest.approx(16_000, abs=2 * longest)
    assert end["tokens"] == pytest.approx(4_000, abs=2 * longest)
    assert main["shares"]["example.org"] == pytest.approx(0.9, abs=longest / 16_000)
    assert end["shares"]["copies.example"] == pytest.approx(0.6, abs=longest / 4_000)
    index = read_part(project.store, Part.from_json(parts["index"]))
    phases = np.array(index.column("phases").to_pylist())
    assert np.array_equal(phases.sum(axis=1), index.column("repeats").to_numpy())
    # A document comes again only when all of its domain were read as often.
    domains = np.array(index.column("domain").to_pylist())
    for domain in ("example.org", "copies.example"):
        for counts in (phases[domains == domain, 0], phases[domains == domain].sum(axis=1)):
            assert counts.max() - counts.min() <= 1


def test_an_order_of_phases_reads_each_of_them_in_its_steps(project):
    order, index, _ = order_of(project, "phased")
    border = round(0.8 * order.steps)
    domains = np.array(index.column("domain").to_pylist())
    for first, stop, share in ((0, border, 0.1), (border, order.steps, 0.6)):
        documents, tokens = order.inputs(first, stop)
        copies = tokens[domains[documents] == "copies.example"].sum() / tokens.sum()
        assert copies == pytest.approx(share, abs=0.07)


def test_metadata_is_beside_the_token_file_and_leaves_it_as_it_is(project):
    manifest, parts, _ = made(project, "conditioned")
    plain, _, _ = made(project, "plain")
    table = read_part(project.store, Part.from_json(parts["metadata"]))
    assert table.column("value").to_pylist() == ["copies.example", "example.org", "short.example"]
    with project.store.as_local(project.need("models", "tokenizer").parts[0].path) as (tokenizer,):
        ids, _ = Encoder(tokenizer, bos=False, eos=False).encode(pa.array(["URL: example.org\n\n"], pa.large_string()))
    assert table.column("ids")[1].as_py() == ids.tolist()
    assert {part.name: part.digest for part in manifest.parts}["tokens.bin"] == {
        part.name: part.digest for part in plain.parts
    }["tokens.bin"]
    assert manifest.notes["conditioning"]["documents"] == manifest.notes["documents"]


def test_the_last_tenth_of_a_conditioned_training_has_no_metadata(project):
    order, index, _ = order_of(project, "conditioned")
    prefixes = {tuple(ids) for ids in index.column("metadata").to_pylist()}
    cooldown = round(0.9 * order.steps)

    def shown(step):
        rows = order.batch(step).ids.tolist()
        return sum(tuple(row[at : at + len(p)]) == p for row in rows for p in prefixes for at in range(len(row)))

    assert all(shown(step) == 0 for step in range(cooldown, order.steps))
    assert sum(shown(step) for step in range(3)) > 0
    for step in range(order.steps):
        batch = order.batch(step)
        assert batch.targets is not None


def test_related_documents_get_a_place_each(project):
    _, parts, _ = made(project, "related")
    index = read_part(project.store, Part.from_json(parts["index"]), ["place", "domain"])
    places = index.column("place").to_numpy()
    assert np.array_equal(np.sort(places), np.arange(len(places)))
    order, _, _ = order_of(project, "related")
    assert order.batch(0).targets is None


def test_a_plan_without_anything_special_writes_what_it_always_wrote(project):
    manifest, parts, _ = made(project, "plain")
    index = read_part(project.store, Part.from_json(parts["index"]))
    assert index.column_names[-1] == "repeats"
    assert set(parts) == {"tokens.bin", "tokens.idx", "index"}
    assert "phases" not in manifest.notes


def test_an_index_of_other_phases_is_refused(project):
    changed = {"phases": [{"label": name, "share": 1 / 3} for name in "abc"]}
    with pytest.raises(FactoryError, match="counts repeats for 2 phases, and the plan has 3"):
        order_of(project, "phased", **changed)


@pytest.mark.parametrize("number", range(6))
def test_the_fragments_in_the_documentation_are_recipes(tmp_path, number):
    page = Path(__file__).parents[1] / "docs" / "order.md"
    fragments = page.read_text().split("```yaml\n")[1:]
    assert len(fragments) == 6
    head = RECIPE[: RECIPE.index("sources:")]
    sources = "sources:\n" + "".join(
        f'  {name}: {{use: jsonl, uri: "data/{name}/*.jsonl", snapshot: "2026-10"}}\n' for name in ("web", "math")
    )
    rest = "tokenizer: {vocab_size: 300}\nmixture: {use: natural, tokens: 20000}\n"
    fragment = fragments[number].split("```")[0]
    (tmp_path / "recipe.yaml").write_text(head + sources + rest + fragment)
    recipe = load_recipe(str(tmp_path / "recipe.yaml"))
    assert recipe.experiments
