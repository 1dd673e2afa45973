"""The laws of the whole chain, on real text that every Python has: nothing depends on workers, order or interruption."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from factory.core.errors import FactoryError, InputError, LeaseHeld, LedgerError
from factory.execution.local import LocalExecutor
from factory.recipes.batches import batch
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace

RECIPE = """
name: chain
store: {store}
sources:
  topics: {{use: jsonl, uri: "data/*/*.jsonl", snapshot: "{{parent}}", part_bytes: 60000}}
scorers:
  language: {{use: fasttext_language}}
  words: {{use: word_statistics, reading: datatrove}}
  lines: {{use: line_statistics, reading: datatrove}}
  repetition: {{use: repetition}}
  quality: {{use: fasttext_quality, positives: "good/*.jsonl", negatives: topics, documents: 60, dim: 8, bucket: 2000}}
linkers:
  same: {{use: exact}}
  near: {{use: minhash}}
filters:
  length: {{use: in_range, column: words_words, min: {minimum}}}
  copy: {{use: is_absent, column: near_duplicate_of}}
tokenizer: {{vocab_size: 512, documents: 60}}
mixture: {{use: natural, tokens: 12000, max_epochs: 4}}
max_error_share: {errors}
proxy:
  seeds: 2
  overrides: {{width: 32, layers: 1, heads: 2, hidden: 64, context: 32, batch: 4, warmup_steps: 5}}
evaluate:
  heldout: {{use: bits_per_byte, uri: "good/*.jsonl", domain: null, limit: 5}}
experiments:
  raw: {{filters: {{}}}}
  full: {{}}
"""


def topics() -> list[str]:
    """The language reference that ships with Python, read without being run."""
    spec = find_spec("pydoc_data.topics")
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "topics":  # type: ignore[attr-defined]
            return [text for _, text in sorted(ast.literal_eval(node.value).items())]
    raise AssertionError("pydoc_data has no topics")


def write_project(folder: Path, *, store: str = ".factory", minimum: int = 50, errors: float = 0.1) -> str:
    texts = topics()
    pages = {"2026-10": texts[:50], "2026-11": [*texts[40:60], texts[0] + "\nEdited at the end of the page.\n"]}
    for snapshot, chosen in pages.items():
        lines = [
            json.dumps({"id": f"{snapshot}-{n}", "url": f"http://python.test/{n}", "text": text})
            for n, text in enumerate(chosen)
        ]
        lines.insert(7, '{"id": "broken", "text": ')
        (folder / "data" / snapshot).mkdir(parents=True)
        (folder / "data" / snapshot / "topics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "good").mkdir()
    (folder / "good" / "good.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[55:]))
    return write_recipe(folder, store=store, minimum=minimum, errors=errors)


def write_recipe(folder: Path, *, store: str = ".factory", minimum: int = 50, errors: float = 0.1) -> str:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(store=store, minimum=minimum, errors=errors))
    return str(path)


def run(recipe: str, *, workers: int = 2, names: list[str] | None = None) -> dict[str, str]:
    """Digests of all datasets by name."""
    with Workspace(load_recipe(recipe), LocalExecutor(workers)) as workspace:
        return {outcome.node.name: outcome.manifest.digest for outcome in workspace.run(names)}


def made(recipe: str, names: list[str] | None = None) -> list[str]:
    """What a run does not find done."""
    with Workspace(load_recipe(recipe), LocalExecutor(2)) as workspace:
        return [outcome.node.name for outcome in workspace.run(names) if outcome.made]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A project run whole with two workers: only to be looked at."""
    recipe = write_project(tmp_path_factory.mktemp("finished"))
    return recipe, run(recipe)


def test_the_digests_are_the_same_for_any_number_of_workers(finished, tmp_path):
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        assert run(write_project(folder), workers=workers) == finished[1]


def test_a_store_on_s3_holds_the_same_datasets(finished, tmp_path, s3_store_url):
    recipe = write_project(tmp_path, store=f"{s3_store_url}/chain")
    names = ["tokens"]
    found = run(recipe, names=names)
    assert found == {name: digest for name, digest in finished[1].items() if name in found}
    assert made(recipe, names) == []


def test_ray_gives_the_same_datasets(finished, tmp_path, ray_executor):
    recipe = write_project(tmp_path)
    workspace = Workspace(load_recipe(recipe), ray_executor)
    found = {outcome.node.name: outcome.manifest.digest for outcome in workspace.run(["tokens"])}
    assert found == {name: digest for name, digest in finished[1].items() if name in found}


def test_a_second_run_makes_nothing(finished):
    assert made(finished[0]) == []


def test_the_leaderboard_judges_every_experiment(finished):
    with Workspace(load_recipe(finished[0])) as workspace:
        board = workspace.need("leaderboard").notes["board"]
    assert {row["experiment"] for row in board["rows"]} == {"raw", "full"}
    assert all(row["primary"]["seed_interval"] for row in board["rows"])


def test_a_step_tells_the_documents_it_reads_and_a_token_the_one_it_is_of(finished):
    with Workspace(load_recipe(finished[0])) as workspace:
        step = batch(workspace, "raw", step=7, seed=1)
        assert sum(item["read"] for item in step["documents"]) == step["tokens"] // step["steps"] == 4 * 32
        first = batch(workspace, "raw", token=7 * 4 * 32, seed=1)
        assert first["step"] == 7
        assert first["documents"][0]["doc_id"] in {item["doc_id"] for item in step["documents"]}
        tokens = [batch(workspace, "raw", step=number)["documents"] for number in range(step["steps"])]
        everything = {item["doc_id"] for documents in tokens for item in documents}
        assert len(everything) > 0.9 * workspace.need("tokens", "raw").notes["documents"]
        with pytest.raises(InputError, match=f"has {step['steps']} steps, 0 to {step['steps'] - 1}"):
            batch(workspace, "raw", step=step["steps"])


def test_a_killed_run_ends_where_an_undisturbed_one_does(finished, tmp_path):
    recipe = write_project(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_chain; test_chain.run({recipe!r})"
    )
    for wait in (2.5, 6.0):
        started = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(wait)
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    assert run(recipe) == finished[1]


def test_a_threshold_makes_the_decisions_anew_and_what_follows(finished, tmp_path):
    recipe = write_project(tmp_path)
    names = ["tokens"]
    run(recipe, names=names)
    write_recipe(tmp_path, minimum=60)
    kinds = {name.split("@")[0] for name in made(recipe, names)}
    assert "decisions/full" in kinds
    assert not kinds & {"decisions/raw", "documents", "scores/words", "links/near", "encodings", "tokens/raw"}


def test_the_plan_names_the_field_that_made_a_dataset_stale(tmp_path):
    recipe = write_project(tmp_path)
    run(recipe, names=["decisions"])
    write_recipe(tmp_path, minimum=60)
    with Workspace(load_recipe(recipe)) as workspace:
        states = {status.node.name: status for status in workspace.plan()}
    assert states["documents@2026-10"].state == "cached"
    assert states["decisions/full@2026-10"].state == "make"
    assert "50" in states["decisions/full@2026-10"].why[0]
    assert "rules[length].settings.min" in states["decisions/full@2026-10"].why[0]


def test_a_file_that_arrives_costs_its_own_parts(tmp_path):
    recipe = write_project(tmp_path)
    names = ["scores/words"]
    run(recipe, names=names)
    before = sorted((tmp_path / ".factory" / "documents").rglob("*.parquet"))
    times = [path.stat().st_mtime_ns for path in before]
    extra = {"id": "new", "text": topics()[70]}
    (tmp_path / "data" / "2026-11" / "more.jsonl").write_text(json.dumps(extra) + "\n")
    assert made(recipe, names) == ["documents@2026-11", "scores/words@2026-11"]
    assert [path.stat().st_mtime_ns for path in before] == times
    after = sorted((tmp_path / ".factory" / "documents").rglob("*.parquet"))
    assert len(after) == len(before) + 1


def test_links_of_an_earlier_snapshot_do_not_change_when_a_later_one_arrives(tmp_path):
    recipe = write_project(tmp_path)
    later = tmp_path / "data" / "2026-11"
    later.rename(tmp_path / "later")
    first = run(recipe, names=["links"])
    (tmp_path / "later").rename(later)
    both = run(recipe, names=["links"])
    assert both["links/near@2026-10"] == first["links/near@2026-10"]
    with Workspace(load_recipe(recipe)) as workspace:
        assert (
            workspace.need("links", "near", "2026-11").notes["duplicates"] >= 11
        )  # ten repeated pages and an edited one


def test_a_change_that_alters_nothing_stops_one_step_later(tmp_path):
    recipe = write_project(tmp_path)
    run(recipe, names=["decisions"])
    # The same files cut elsewhere are other documents parts; the same bytes under another time are not.
    for path in (tmp_path / "data").rglob("*.jsonl"):
        os.utime(path, (1, 1))
    assert made(recipe, ["decisions"]) == []


def test_bad_records_are_rows_and_the_ledger_balances(finished):
    with Workspace(load_recipe(finished[0])) as workspace:
        for snapshot in workspace.snapshots:
            ledger = workspace.need("documents", "", snapshot).ledger
            assert ledger["errors"] == {"json": 1}
            assert ledger["records"] == ledger["rows"] + sum(ledger["skipped"].values())
            decided = workspace.need("decisions", "full", snapshot).ledger
            assert decided["rows"] == decided["kept"] + sum(decided["dropped"].values()) + sum(
                decided["errors"].values()
            )


def test_a_snapshot_over_its_error_budget_is_read_by_nothing(tmp_path):
    recipe = write_project(tmp_path, errors=0.0)
    with pytest.raises(LedgerError, match=r"documents@2026-10 did not pass: errors: .*could not be read"):
        run(recipe, names=["scores/words"])
    with Workspace(load_recipe(recipe)) as workspace:
        assert workspace.find("documents", "", "2026-10") is None
    write_recipe(tmp_path, errors=0.1)
    assert made(recipe, ["documents"]) == []  # the data were fine, only the gate was closed
    write_recipe(tmp_path, errors=0.0)
    with pytest.raises(LedgerError, match="could not be read"):  # a gate that closes later closes for what has passed
        run(recipe, names=["scores/words"])


def test_deleted_output_is_made_again(tmp_path):
    recipe = write_project(tmp_path)
    digests = run(recipe, names=["decisions"])
    victim = next((tmp_path / ".factory" / "scores" / "words").rglob("*.parquet"))
    victim.unlink()
    assert made(recipe, ["decisions"]) == ["scores/words@" + victim.parent.name]
    assert run(recipe, names=["decisions"]) == digests


def test_no_source_file_is_an_error_that_names_the_pattern(tmp_path):
    recipe = write_project(tmp_path)
    for path in (tmp_path / "data").rglob("*.jsonl"):
        path.unlink()
    with pytest.raises(InputError, match=r"nothing matches 'data/\*/\*\.jsonl'"):
        run(recipe)


def test_a_mixture_that_asks_too_much_says_what_is_possible(tmp_path):
    recipe = Path(write_project(tmp_path))
    recipe.write_text(recipe.read_text().replace("tokens: 12000", "tokens: 90000000"))
    with pytest.raises(FactoryError, match=r"90,000,000 tokens asked, [\d,]+ possible"):
        run(str(recipe), names=["mixture"])


def test_a_second_run_does_not_write_what_another_is_writing(tmp_path):
    recipe = write_project(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_chain; test_chain.run({recipe!r})"
    )
    other = subprocess.Popen([sys.executable, "-c", code])
    try:
        leases = tmp_path / ".factory" / "leases"
        while not list(leases.glob("documents*/*")):
            time.sleep(0.02)
        with (
            Workspace(load_recipe(recipe), LocalExecutor(1), wait=False) as workspace,
            pytest.raises(LeaseHeld) as held,
        ):
            workspace.run(["documents"])
        assert str(other.pid) in str(held.value)
    finally:
        other.kill()
        other.wait()


def test_the_real_crawl_goes_through_with_balanced_books(shared_data, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
name: real
store: .factory
sources: {{crawl: {{use: warc, uri: "{shared_data}/warc/crawl-2026*.warc.gz", snapshot: "{{stem}}", part_bytes: 3000000}}}}
extract: [{{use: resiliparse}}]
scorers:
  words: {{use: word_statistics, reading: datatrove}}
  lines: {{use: line_statistics, reading: datatrove}}
  repetition: {{use: repetition}}
linkers: {{near: {{use: minhash}}}}
filters:
  gopher: {{preset: gopher}}
  repetition: {{preset: gopher_repetition}}
  copy: {{use: is_absent, column: near_duplicate_of}}
tokenizer: {{vocab_size: 1000, documents: 200}}
mixture: {{use: natural, tokens: 50000, max_epochs: 4}}
experiments: {{full: {{}}}}
"""
    )
    with Workspace(load_recipe(str(recipe)), LocalExecutor(2)) as workspace:
        outcomes = {outcome.node.name: outcome for outcome in workspace.run(["tokens"])}
    assert all(outcome.passed for outcome in outcomes.values())
    books = outcomes["documents@crawl-2026-09-00000"].manifest.ledger
    assert books["records"] == books["rows"] + sum(books["skipped"].values())
    assert 700 < books["rows"] <= 769
    kept = outcomes["decisions/full@crawl-2026-09-00000"].manifest.ledger["kept"]
    assert 0 < kept < books["rows"]


def test_another_budget_trains_again_even_where_the_token_file_is_the_same(tmp_path):
    recipe = Path(write_project(tmp_path))

    def proxy() -> str:
        with Workspace(load_recipe(str(recipe))) as workspace:
            return workspace.graph["proxies/full@nano-0"].fingerprint({"models/tokenizer": "any"})

    before = proxy()
    recipe.write_text(recipe.read_text().replace("tokens: 12000", "tokens: 12001"))
    assert proxy() != before
