"""What a run would take is said before it runs, near to what it then takes; what cannot fit is refused, and nothing is made."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tiny_project import prose

from factory.core.errors import DoesNotFit
from factory.execution.local import LocalExecutor
from factory.recipes import limits
from factory.recipes.estimate import estimate
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.reports import estimates
from factory.storage.parts import value_count

FACTOR = 2  # docs/links.md: of the disk a run takes in all
DOCUMENTS = 200
RECIPE = """
name: estimated
store: .factory
sources:
  web: {use: jsonl, uri: "data/*/*.jsonl", snapshot: "{parent}", part_bytes: 200000}
scorers:
  words: {use: word_statistics, reading: datatrove}
linkers:
  near: {use: minhash}
  paragraphs: {use: bloom_paragraph}
filters:
  copy: {use: is_absent, column: near_duplicate_of}
tokenizer: none
experiments:
  full: {}
"""
KINDS = ("documents", "scores", "keys", "links", "index", "decisions")


def write(folder: Path, *snapshots: str) -> Path:
    for snapshot in snapshots:
        path = folder / "data" / snapshot / "web.jsonl"
        path.parent.mkdir(parents=True)
        # One in five is a copy.
        texts = [prose(f"{snapshot}{number % (DOCUMENTS * 4 // 5)}") for number in range(DOCUMENTS)]
        path.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    return recipe


def open_recipe(recipe: Path, store: Path | None = None, **settings: Any) -> Workspace:
    return Workspace(load_recipe(str(recipe), store=str(store) if store else None), LocalExecutor(2), **settings)


def on_disk(workspace: Workspace, kind: str) -> int:
    return sum(workspace.store.files(kind).values())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, dict[str, Any]]]:
    """A recipe's estimate before anything was made, and its workspace afterwards."""
    recipe = write(tmp_path_factory.mktemp("estimated"), "2026-10", "2026-11")
    with open_recipe(recipe) as workspace:
        before = workspace.store.files()
        data = estimate(workspace, sample=150)
        assert {path.split("/")[0] for path in workspace.store.files()} - {path.split("/")[0] for path in before} <= {
            "inputs"
        }
        workspace.run()
        yield workspace, data


def test_disk_is_near_to_what_the_run_takes(told: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, data = told
    actual = sum(on_disk(workspace, kind) for kind in KINDS)
    disk = data["totals"]["disk"]
    assert actual / FACTOR < disk["value"] < actual * FACTOR
    assert disk["low"] < disk["value"] < disk["high"]


def test_documents_and_keys_are_near_to_those_there_are(told: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, data = told
    lines = {line["name"]: line for line in data["datasets"]}
    assert lines["documents@2026-10"]["rows"] == pytest.approx(DOCUMENTS, rel=0.2)
    assert (
        lines["documents@2026-10"]["rows_range"]["low"] < DOCUMENTS < lines["documents@2026-10"]["rows_range"]["high"]
    )
    first, second = (lines[f"links/near@{snapshot}"]["exchange"] for snapshot in ("2026-10", "2026-11"))
    assert second == pytest.approx(first, rel=0.2), "of the first snapshot it reads the index"
    keys = workspace.need("keys", "near", "2026-10").parts
    assert sum(value_count(workspace.store, part, "keys") for part in keys) == 14 * DOCUMENTS


def test_every_dataset_has_a_line_with_ranges_or_a_reason(told: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, data = told
    assert [line["name"] for line in data["datasets"]] == list(workspace.graph)
    for line in data["datasets"]:
        assert line["unknown"] is None, line
        for name in ("cpu_seconds", "memory", "disk"):
            assert 0 <= line[name]["low"] <= line[name]["value"] <= line[name]["high"], (line["name"], name)
    assert data["totals"]["cpu_seconds"]["value"] > 0
    assert data["sample"]["of"] == "records of the inputs"
    assert (data["refused"], data["exit_code"]) == ([], 0)


def test_ranges_of_totals_are_at_least_a_fifth_and_count_the_start_of_workers(
    told: tuple[Workspace, dict[str, Any]],
) -> None:
    totals = told[1]["totals"]
    for name in ("cpu_seconds", "wall_seconds", "disk", "start_seconds"):
        item = totals[name]
        assert item["low"] * 1.2 <= item["value"] * 1.001, name
        assert item["high"] >= item["value"] * 1.199, name
    assert 0 < totals["start_seconds"]["value"] < totals["cpu_seconds"]["value"]
    shown = io.StringIO()
    Console(file=shown, width=200).print(estimates.estimate(told[1]))
    assert "start of workers" in shown.getvalue()


def test_loops_that_are_compiled_once_on_a_machine_are_not_the_start_of_each_worker(tmp_path: Path) -> None:
    recipe = write(tmp_path, "2026-10")
    program = Path(sys.executable).parent / "factory"
    seconds = []
    for _ in range(2):  # the first compiles
        done = subprocess.run(
            [program, "estimate", "scores", "-r", recipe, "-n", "50", "--workers", "1", "--json"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "compiled")},
        )
        seconds.append(json.loads(done.stdout)["totals"]["start_seconds"]["value"])
    assert any((tmp_path / "compiled").iterdir())
    assert seconds[0] < 1.5 * seconds[1] + 0.2


def test_models_that_are_trained_are_measured(tmp_path: Path) -> None:
    recipe = write(tmp_path, "2026-10")
    recipe.write_text(
        RECIPE.replace("tokenizer: none", "tokenizer: {vocab_size: 400, documents: 150}").replace(
            "scorers:", "scorers:\n  language: {use: fasttext_language}"
        )
        + "mixture: {use: natural, tokens: 1000}\n"
    )
    with open_recipe(recipe) as workspace:
        data = estimate(workspace, ["models"], sample=50)
    lines = {line["name"]: line for line in data["datasets"]}
    assert lines["models/language"]["disk"]["value"] > 10_000
    for name in ("models/language", "models/tokenizer"):
        assert lines[name]["unknown"] is None
        assert lines[name]["cpu_seconds"]["value"] > 0.005


def test_what_is_there_is_counted_and_compared(told: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = told
    assert estimate(workspace)["datasets"] == []
    again = estimate(workspace, ["scores"], sample=100, again=True)
    line = next(line for line in again["datasets"] if line["name"] == "scores/words@2026-10")
    manifest = workspace.need("scores", "words", "2026-10")
    assert line["last"]["bytes"] == manifest.bytes
    assert line["last"]["seconds"] == manifest.run["seconds"]


def test_a_changed_setting_is_measured_on_the_documents_that_are_there(
    told: tuple[Workspace, dict[str, Any]], tmp_path: Path
) -> None:
    workspace, _ = told
    recipe = Path(workspace.recipe.folder) / "changed.yaml"
    recipe.write_text(RECIPE.replace("{use: minhash}", "{use: minhash, bands: 20}"))
    with open_recipe(recipe) as changed:
        data = estimate(changed, sample=100)
    names = [line["name"] for line in data["datasets"]]
    assert data["sample"]["of"] == "documents that are there"
    assert not any(name.startswith(("documents", "scores")) for name in names)
    line = next(line for line in data["datasets"] if line["name"] == "keys/near@2026-10")
    assert (line["rows"], line["rows_range"]) == (DOCUMENTS, None)


# --- refusing


@pytest.fixture(scope="module")
def keyed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = write(tmp_path_factory.mktemp("keyed"), "2026-10")
    with open_recipe(recipe) as workspace:
        workspace.run(["keys"])
    return recipe.parent


@pytest.fixture
def keyed(keyed_project: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A project all of whose keys are there."""
    shutil.copytree(keyed_project, tmp_path / "keyed")
    with open_recipe(tmp_path / "keyed" / "recipe.yaml") as workspace:
        assert workspace.inputs  # looked at, which the store remembers
        yield workspace


def test_too_little_memory_is_refused_with_what_is_needed_and_nothing_is_made(keyed: Workspace) -> None:
    before = keyed.store.files()
    keyed.memory = 20_000
    with pytest.raises(DoesNotFit, match=r"links/paragraphs@2026-10 needs .* --memory allows 20\.0 kB") as told:
        keyed.run()
    assert "Run with --memory" in str(told.value)
    assert keyed.store.files() == before
    keyed.memory = 1 << 30
    keyed.run()


def test_what_only_shows_when_keys_are_there_is_refused_before_links_and_the_keys_stay(tmp_path: Path) -> None:
    with open_recipe(write(tmp_path, "2026-10"), memory=20_000) as workspace:
        with pytest.raises(DoesNotFit, match="What was made so far is kept"):
            workspace.run()
        assert workspace.need("keys", "paragraphs", "2026-10").rows == DOCUMENTS
        assert not workspace.store.files("exchange")


def test_too_little_disk_is_refused_before_anything_is_made(keyed: Workspace) -> None:
    before = keyed.store.files()
    nodes = keyed.select(["links"])
    with pytest.raises(DoesNotFit, match=r"100\.0 kB are free\. Free another"):
        keyed.require_fit(nodes, free=lambda folder: 100_000)
    keyed.require_fit(nodes, free=lambda folder: 1 << 40)
    data = estimate(keyed, sample=50, free=lambda folder: 100_000)
    assert data["exit_code"] == DoesNotFit.exit_code
    assert "are free. Free another" in data["refused"][0]
    assert keyed.store.files() == before


def test_one_advice_on_memory_is_enough_for_all_links_with_all_the_keys_there_may_be(keyed: Workspace) -> None:
    recipe, rows, expected, most = keyed.recipe, 50_000, 3_830_000, 4_990_000
    node, fixed = keyed.graph["links/paragraphs@2026-10"], limits.join_needs(keyed.recipe, "paragraphs", 0, 0, 1 << 20)

    def item(keys: int, memory: int, most: int = 0) -> limits.LinkNeeds:
        needs = limits.join_needs(recipe, "paragraphs", rows, keys, memory)
        return limits.LinkNeeds(node, rows, keys, needs, fixed.memory, 0, most)

    asked = 1 << 20
    (first, second, advice) = limits.problems(
        recipe, keyed.store, [item(expected, asked, most), item(expected // 2, asked)], memory=asked
    )
    assert "--memory allows" in first
    assert "--memory allows" in second
    advised = int(str(re.search(r"Run with --memory (\d+)MiB, or deal", advice)[1])) << 20
    assert limits.problems(recipe, keyed.store, [item(most, advised)], memory=advised) == []
    assert limits.problems(recipe, keyed.store, [item(most, advised // 2)], memory=advised // 2)
    between = next(
        size
        for size in range(asked, advised, 1 << 18)
        if not limits.problems(recipe, keyed.store, [item(expected, size)], memory=size)
    )
    assert "Enough is --memory" in str(limits.unsure(recipe, [item(expected, between, most)], between))
    assert limits.unsure(recipe, [item(expected, advised, most)], advised) is None


def test_keys_that_are_there_are_counted_and_those_of_a_sample_have_a_range(keyed: Workspace) -> None:
    parts = keyed.need("keys", "paragraphs", "2026-10").parts
    keys = sum(value_count(keyed.store, part, "keys") for part in parts)
    keyed.memory = 20_000
    refused = estimate(keyed, ["links/paragraphs"], sample=50)["refused"]
    with pytest.raises(DoesNotFit) as told:
        keyed.run(["links/paragraphs"])
    assert refused[0] in str(told.value)
    assert f"{keys:,} keys" in refused[0]
    again = estimate(keyed, ["links/paragraphs"], sample=50, again=True)["refused"][0]
    expected = int(str(re.search(r"([\d,]+) keys", again)[1]).replace(",", ""))
    assert expected == pytest.approx(keys, rel=0.25)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    program = shutil.which("mount")
    command = [program or "mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if program is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here (root on Linux is meant)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_foreseen_from_the_disk_itself(tmp_path: Path, small_disk: Path) -> None:
    recipe = write(tmp_path / "project", "2026-10")
    with open_recipe(recipe, small_disk / "store") as workspace:
        workspace.run(["keys"])
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - 200_000)))
        before = workspace.store.files()
        with pytest.raises(DoesNotFit, match=r"of disk are needed in .*small"):
            workspace.run()
        assert workspace.store.files() == before
        ballast.unlink()
        workspace.run(["links/near"])


def test_the_numbers_of_a_refusal_are_those_of_the_files(keyed: Workspace) -> None:
    names = ("documents@2026-10", "keys/near@2026-10")
    found = {name: keyed.need(*name_of(name)) for name in names}
    item = limits.needs_of(keyed.recipe, keyed.store, keyed.graph["links/near@2026-10"], found, keyed.memory)
    assert item is not None
    stored = [pq.read_table(Path(keyed.store.root) / part.path) for part in found[names[1]].parts]
    assert item.keys == sum(len(keys) for table in stored for keys in table["keys"].to_pylist()) == 14 * DOCUMENTS
    assert item.rows == DOCUMENTS


@pytest.mark.parametrize(
    ("linker", "scope", "times"),
    [("near", "incremental", 1), ("near", "global", 2), ("near", "snapshot", 2), ("lines", "incremental", 2)],
)
def test_the_disk_asked_for_is_that_of_what_is_exchanged_at_once(
    tmp_path: Path, linker: str, scope: str, times: int
) -> None:
    recipe = tmp_path / "recipe.yaml"
    write(tmp_path, "2026-10", "2026-11")
    recipe.write_text(
        "name: small\nstore: .factory\ntokenizer: none\nexperiments: {all: {filters: {}}}\n"
        'sources: {web: {use: jsonl, uri: "data/*/*.jsonl", snapshot: "{parent}"}}\n'
        f"linkers: {{near: {{use: minhash, scope: {scope}}}, lines: {{use: lines, scope: {scope}}}}}\n"
    )
    with open_recipe(recipe) as workspace:
        workspace.run(["keys"])
        nodes = [workspace.graph[f"links/{linker}@{snapshot}"] for snapshot in ("2026-10", "2026-11")]
        found = {name: workspace.need(*name_of(name)) for node in nodes for name in node.upstream}
        items = [limits.needs_of(workspace.recipe, workspace.store, node, found, workspace.memory) for node in nodes]
        parts = workspace.need("keys", linker, "2026-10").parts
        keys = sum(value_count(workspace.store, part, "keys") for part in parts)
        alone = limits.join_needs(workspace.recipe, linker, DOCUMENTS, keys, workspace.memory).disk
        assert limits.exchange_peak(workspace.recipe, items) == pytest.approx(times * alone, rel=0.1)


def name_of(name: str) -> tuple[str, str, str]:
    dataset, _, partition = name.partition("@")
    kind, _, label = dataset.partition("/")
    return kind, label, partition


def test_workers_that_hold_more_than_the_machine_has_are_told() -> None:
    assert limits.memory_warning(4, 1 << 30, machine=8 << 30) is None
    warning = limits.memory_warning(16, 1 << 30, machine=8 << 30)
    assert "--workers to 8" in str(warning)
    assert "--memory to 512MB" in str(warning)
    assert limits.machine_memory() > 0


def test_the_command_says_it_and_leaves_with_the_status_of_a_refusal(keyed: Workspace) -> None:
    program = Path(sys.executable).parent / "factory"
    recipe = Path(keyed.recipe.folder) / "recipe.yaml"
    asked = [program, "estimate", "links", "-r", recipe, "--memory", "16MiB", "-n", "50"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "CPU time" in done.stdout
    data = subprocess.run([*asked, "--json"], capture_output=True, text=True, check=True).stdout
    assert json.loads(data)["memory"] == 16 << 20
