"""The laws of links: what stands for what follows from the documents alone, costs what they cost, and is never taken back."""

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from linked_documents import (
    Bench,
    Document,
    Inline,
    chain,
    expected_links,
    make_links,
    random_documents,
    spec,
    store_documents,
    store_in,
    store_keys,
    work_of,
)

from factory.core.errors import IntegrityError, StoreError
from factory.core.manifest import Manifest
from factory.core.schema import document_id
from factory.execution.local import Limits, LocalExecutor
from factory.recipes.gc import garbage
from factory.recipes.load import load_recipe
from factory.recipes.steps.links import documents, index
from factory.recipes.steps.links.components import label_all, read_labels
from factory.recipes.steps.links.parts import write_pairs
from factory.recipes.verify import verify
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

TINY = 8_000  # bytes: several buckets, elections that are gone through twice, components in rounds
LARGE = 1 << 30


def document(snapshot: str, name: str, *keys: int, **more) -> Document:
    return Document(snapshot, document_id("web", snapshot, name), keys, **more)


def links_of(folder: Path, found: list[Document], asked=None, *, memory: int = LARGE, **more):
    return make_links(Bench(store_in(folder), memory), found, asked or spec(), **more)


# --- what links are


@pytest.mark.parametrize("memory", [TINY, LARGE])
@pytest.mark.parametrize("keep", ["first", "newest", "best:good_value"])
@pytest.mark.parametrize("scope", ["snapshot", "incremental", "global"])
def test_links_are_what_the_definition_gives(tmp_path, scope, keep, memory):
    found = random_documents(1)
    assert links_of(tmp_path, found, spec(scope, keep), memory=memory, parts=3) == expected_links(found, scope, keep)


@pytest.mark.parametrize("stage", ["minhash", "exact"])
def test_links_are_the_same_however_documents_are_cut_and_whatever_the_budget(tmp_path, stage):
    found = random_documents(2)
    if stage == "exact":
        found = [replace(one, check=number % 2) for number, one in enumerate(found)]
    expected = expected_links(found)
    for parts, memory in ((1, TINY), (2, LARGE), (7, 4 * TINY), (16, LARGE)):
        random.Random(parts).shuffle(found)
        assert links_of(tmp_path / f"{parts}", found, spec(stage=stage), parts=parts, memory=memory) == expected


def test_verified_links_are_the_same_however_documents_are_cut_and_in_which_scope(tmp_path):
    found = random_documents(3)
    expected = expected_links(found, verify=0.5)
    assert expected != expected_links(found)
    for parts, memory in ((1, LARGE), (7, TINY)):
        random.Random(parts).shuffle(found)
        asked = spec(verify=0.5)
        assert links_of(tmp_path / f"{parts}", found, asked, parts=parts, memory=memory) == expected
    last = max(one.snapshot for one in found)
    whole = links_of(tmp_path / "whole", found, spec("global", verify=0.5), only=[last])
    assert whole == {one.doc_id: expected[one.doc_id] for one in found if one.snapshot == last}


def test_links_are_the_same_in_processes_of_their_own(tmp_path):
    found = random_documents(4)
    with LocalExecutor(2) as executor:
        bench = Bench(store_in(tmp_path), 50_000, executor)
        assert make_links(bench, found, spec(), parts=4) == expected_links(found)


def test_links_are_the_same_on_ray(tmp_path, ray_executor):
    found = random_documents(5)
    bench = Bench(store_in(tmp_path), 50_000, ray_executor)
    assert make_links(bench, found, spec(), parts=4) == expected_links(found)


def test_a_second_run_over_what_was_kept_removes_nothing(tmp_path):
    found = random_documents(6)
    first = links_of(tmp_path / "first", found)
    kept = [one for one in found if first[one.doc_id]["duplicate_of"] is None]
    second = links_of(tmp_path / "second", kept)
    assert 0 < len(kept) < len(found)
    assert all(link["duplicate_of"] is None and link["cluster_size"] == 1 for link in second.values())


def test_the_highest_score_stands_and_one_without_a_score_only_when_alone(tmp_path):
    found = [document("2026-01", name, 7, score=score) for name, score in (("a", None), ("b", -1.5), ("c", 2.0))]
    links = links_of(tmp_path, found, spec(keep="best:good_value"))
    assert {link["cluster"] for link in links.values()} == {found[2].doc_id}


def test_whole_numbers_are_ordered_exactly_and_zeros_are_equal():
    import pyarrow as pa

    for kind, values in (
        (pa.uint64(), [2**64 - 2, 2**64 - 3, 2**63, 2**63 - 1, 1, 0, None]),
        (pa.int64(), [2**63 - 1, 2**53 + 1, 2**53, 0, -1, -(2**63) + 1, None]),
    ):
        order = documents.descending(pa.chunked_array([pa.array(values, kind)])).tolist()
        assert order == sorted(set(order))
    order = documents.descending(pa.chunked_array([pa.array([0.0, -0.0, -1.0, float("inf"), float("nan"), None])]))
    assert order[0] == order[1]
    assert order[4] == order[5] == np.iinfo(np.int64).max
    assert order[3] < order[0] < order[2]


def test_the_newest_stands_also_among_dates_before_1970_and_one_without_a_date_only_when_alone(tmp_path):
    found = [document("2026-01", name, 7, date=date) for name, date in (("a", None), ("b", -9), ("c", -2), ("d", None))]
    links = links_of(tmp_path, found, spec(keep="newest"))
    assert {link["cluster"] for link in links.values()} == {found[2].doc_id}


def test_the_notes_name_the_largest_clusters_and_who_stands_for_them(tmp_path):
    found = [document("2026-01", f"{size} {copy}", size) for size in range(1, 61) for copy in range(size)]
    manifests = store_documents(store_in(tmp_path), found, parts=5, asked=spec())
    made = documents.make_all(Bench(store_in(tmp_path)), [work_of(manifests, spec(), "2026-01")])
    largest = made["links/near@2026-01"].notes["largest"]
    assert [item["size"] for item in largest] == list(range(60, 10, -1))
    for item in largest:
        assert item["doc_id"] == min(one.doc_id for one in found if one.keys == (item["size"],))


# --- what they cost


def links_of_keys(folder: Path, keys: np.ndarray, memory: int = LARGE, parts: int = 4):
    """How many duplicates there are, the size of the largest cluster, CPU seconds, and the tasks it took."""
    bench = Bench(store_in(folder), memory)
    manifests = store_keys(bench.store, keys, parts=parts)
    started = time.process_time()
    made = documents.make_all(bench, [work_of(manifests, spec(), "2026-01")])["links/near@2026-01"]
    spent = time.process_time() - started
    return made.notes["duplicates"], made.notes["largest"][0]["size"], spent, bench.tasks


def copies(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(14, dtype=np.uint64) * np.uint64(7**20), (count, 14))


@pytest.mark.parametrize("shape", [copies, chain])
@pytest.mark.parametrize("memory", [4 << 20, LARGE])
def test_copies_and_chains_cost_in_proportion_to_their_number(tmp_path, shape, memory):
    links_of_keys(tmp_path / "warm", shape(2_000), memory)
    *_, one, _ = links_of_keys(tmp_path / "one", shape(25_000), memory)
    duplicates, size, four, _ = links_of_keys(tmp_path / "four", shape(100_000), memory)
    assert (duplicates, size) == (99_999, 100_000)
    assert four < 12 * one + 1


def components(
    folder: Path, a: np.ndarray, b: np.ndarray, count: int, memory: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Nodes and their roots, and how many rounds that took."""
    bench = Bench(store_in(folder))
    plan = {
        "store": bench.store.url,
        "exchange": "exchange/x",
        "splits": 4,
        "pieces": [1],
        "linked": "pairs",
        "first": 0,
    }
    plan |= {"part_count": 1, "offsets": [0, count], "pairs": len(a), "documents": count, "memory": memory}
    write_pairs(bench.store, plan, 0, a, b)
    label_all(bench, [plan])
    rounds = {task.payload["round"] for task in bench.tasks if "round" in task.payload}
    return *read_labels(bench.store, plan, 0), len(rounds)


def test_components_are_the_same_by_pairs_by_documents_and_in_rounds(tmp_path):
    rng = np.random.default_rng(1)
    for count in (0, 1, 50, 3_000):
        a, b = rng.integers(0, 4_000, (2, count))
        ways = [components(tmp_path / f"{count} {memory}", a, b, 4_000, memory) for memory in (1 << 30, 40_000, 100)]
        for nodes, roots, _ in ways[1:]:
            assert np.array_equal(nodes, ways[0][0])
            assert np.array_equal(roots, ways[0][1])


def test_a_chain_takes_no_more_rounds_than_its_length_has_doublings(tmp_path):
    order = np.random.default_rng(0).permutation(100_000)
    nodes, roots, rounds = components(tmp_path, order[:-1], order[1:], len(order), 100)
    assert len(nodes) == len(order)
    assert not roots.any()
    assert 1 < rounds <= 17


def test_signatures_beyond_the_budget_are_linked_within_it(tmp_path):
    budget, count = 64 << 20, 300_000
    keys = np.random.default_rng(1).integers(0, 2**64, (count, 14), dtype=np.uint64)
    keys[1::10, 3:9] = keys[::10, 3:9]
    started = 400 << 20  # what Python, Arrow, numba and compiled kernels take by themselves
    with LocalExecutor(1, limits=Limits(memory=started + budget)) as executor:
        bench = Bench(store_in(tmp_path), budget, executor)
        manifests = store_keys(bench.store, keys, parts=6)
        made = documents.make_all(bench, [work_of(manifests, spec(), "2026-01")])["links/near@2026-01"]
    assert made.notes["duplicates"] == count // 10
    assert (
        len([task for task in bench.tasks if " pairs " in task.name])
        == documents.needs(count, 14 * count, budget).splits
    )


class Watching(Inline):
    """Looks at how large the exchange is after every phase."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench, self.peak = bench, 0

    def run(self, tasks, on_done, on_report=lambda task, message: None):
        super().run(tasks, on_done, on_report)
        self.peak = max(self.peak, sum(self.bench.store.files("exchange").values()))


@pytest.mark.parametrize(("copied", "over"), [(0, 1), (10, 1), (3, 1), (1, 2)])
def test_the_exchange_is_as_large_as_it_was_said_to_be_and_twice_if_all_are_copies(tmp_path, copied, over):
    count = 30_000
    keys = np.random.default_rng(1).integers(0, 2**64, (count, 14), dtype=np.uint64)
    if copied:
        keys[::copied] = keys[0]
    bench = Bench(store_in(tmp_path), 8 << 20)
    bench.executor = Watching(bench)
    manifests = store_keys(bench.store, keys, parts=3)
    documents.make_all(bench, [work_of(manifests, spec(), "2026-01")])
    said = documents.needs(count, 14 * count, bench.memory).disk
    assert 0.75 * said < bench.executor.peak < 1.25 * over * said


def test_nothing_of_the_exchange_is_left(tmp_path):
    store = store_in(tmp_path)
    make_links(Bench(store, TINY), random_documents(7), spec(), parts=3)
    assert store.files("exchange") == {}


# --- one snapshot after another


@pytest.mark.parametrize("memory", [TINY, LARGE])
def test_a_document_that_bridges_two_clusters_makes_them_one_and_takes_nothing_back(tmp_path, memory):
    old = [document("2026-01", name, key) for name, key in (("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3))]
    bridge = [document("2026-02", "f", 1, 2), document("2026-02", "g", 3)]
    later = [document("2026-03", "h", 2, 3), document("2026-03", "i", 3)]
    for number in range(1, 4):
        seen = [one for one in (*old, *bridge, *later) if one.snapshot <= f"2026-{number:02d}"]
        bench = Bench(store_in(tmp_path), memory)
        links = make_links(bench, seen, spec(), only=[f"2026-{number:02d}"])
        expected = expected_links(seen)
        assert links == {one: expected[one] for one in links}
    assert [links[one.doc_id]["cluster_size"] for one in later] == [9, 9]


@pytest.mark.parametrize("keep", ["first", "newest", "best:good_value"])
@pytest.mark.parametrize("seed", range(4))
def test_snapshots_that_arrive_one_by_one_give_what_all_at_once_give(tmp_path, seed, keep):
    found = random_documents(seed, count=400, snapshots=6)
    bench, links = Bench(store_in(tmp_path), TINY if seed % 2 else LARGE), {}
    for snapshot in sorted({one.snapshot for one in found}):
        seen = [one for one in found if one.snapshot <= snapshot]
        links.update(make_links(bench, seen, spec(keep=keep), parts=1 + seed, only=[snapshot]))
    assert links == expected_links(found, keep=keep)
    kept = {doc_id for doc_id, link in links.items() if link["duplicate_of"] is None}
    assert all(link["cluster"] in kept for link in links.values() if link["cluster_size"] > 1)


def test_a_snapshot_is_joined_with_the_index_and_not_with_the_keys_before(tmp_path):
    found = random_documents(8, snapshots=5)
    bench = Bench(store_in(tmp_path))
    make_links(bench, found, spec(), only=["2026-04"])
    assert exchanged(bench) == {"2026-01", "2026-02", "2026-03", "2026-04"}
    bench.tasks.clear()
    make_links(bench, found, spec(), only=["2026-05"])
    assert exchanged(bench) == {"2026-05"}


def exchanged(bench: Bench) -> set[str]:
    return {task.payload["part"]["snapshot"] for task in bench.tasks if task.function.endswith(":exchange")}


def test_an_index_has_as_many_runs_as_the_logarithm_of_its_snapshots(tmp_path):
    found = random_documents(9, count=640, snapshots=16)
    store = store_in(tmp_path)
    make_links(Bench(store), found, spec())
    manifests = store_documents(store, found, asked=spec())
    for number in range(1, 17):
        state = index.find_state(store, work_of(manifests, spec(), "2026-16"), f"2026-{number:02d}")
        assert 1 <= len(state.notes["runs"]["keys"]) <= 5
        keys = {key for one in found if one.snapshot <= f"2026-{number:02d}" for key in one.keys}
        assert state.ledger["keys"] == len(keys)


def test_a_snapshot_that_gained_documents_has_another_index_from_there_on(tmp_path):
    found = random_documents(10, snapshots=4)
    bench = Bench(store_in(tmp_path))
    make_links(bench, found, spec())
    bench.tasks.clear()
    more = [*found, document("2026-03", "more", *found[0].keys, 1, 2, 3)]
    expected = expected_links(more)
    links = make_links(bench, more, spec(), only=["2026-04"])
    assert links == {one: expected[one] for one in links}
    assert exchanged(bench) == {"2026-03", "2026-04"}


@pytest.mark.parametrize("empty", ["2026-00", "2026-02"])
def test_a_snapshot_without_documents_is_a_link_of_the_chain_too(tmp_path, empty):
    found = [document("2026-01", "a", 5), document("2026-03", "b", 5), document("2026-03", "c", 6)]
    bench = Bench(store_in(tmp_path))
    manifests = store_documents(bench.store, found, parts=2, asked=spec())
    for kind, label in (("documents", ""), ("keys", "near")):
        manifest = Manifest(kind, label, empty, "made", {}, {}, ())
        manifests[manifest.name] = manifest
    works = [work_of(manifests, spec(), snapshot) for snapshot in sorted({empty, "2026-01", "2026-03"})]
    made = documents.make_all(bench, works)
    for work in works[:2]:
        bench.store.delete(index.state_path(works[2], work.node.partition))
        again = documents.make_all(bench, works[2:])["links/near@2026-03"]
        assert [part.digest for part in again.parts] == [part.digest for part in made["links/near@2026-03"].parts]


def test_two_that_make_one_index_at_once_with_other_budgets_do_not_meet(tmp_path):
    found = random_documents(12)
    store = store_in(tmp_path)
    manifests = store_documents(store, found, parts=2, asked=spec())
    folders = set()
    for snapshot, memory in (("2026-02", LARGE), ("2026-03", TINY), ("2026-03", LARGE)):
        bench = Bench(store, memory)
        documents.make_all(bench, [work_of(manifests, spec(), snapshot)])
        folders |= {task.payload["state"]["folder"] for task in bench.tasks if task.payload.get("state")}
        for path in store.files("index"):
            if path.endswith(".json"):
                store.delete(path)
    assert len(folders) == 2 + 3 + 3


def test_an_index_that_does_not_hold_what_was_written_is_refused(tmp_path):
    found = random_documents(11)
    bench = Bench(store_in(tmp_path))
    make_links(bench, found, spec(), only=["2026-02"])
    (run,) = (tmp_path / "index").rglob("2026-02-keys*.blocks")
    data = bytearray(run.read_bytes())
    data[len(data) // 3] ^= 1
    run.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="not what was written"):
        make_links(bench, found, spec(), only=["2026-03"])


def test_the_cost_of_a_snapshot_does_not_grow_like_what_came_before(tmp_path):
    rng = np.random.default_rng(1)
    cost = {}
    for times in (1, 8):
        bench = Bench(store_in(tmp_path / f"{times}"))
        manifests = store_keys(bench.store, rng.integers(0, 2**64, (times * 40_000, 14), dtype=np.uint64), parts=times)
        documents.make_all(bench, [work_of(manifests, spec(), "2026-01")])
        manifests |= store_keys(
            bench.store, rng.integers(0, 2**64, (40_000, 14), dtype=np.uint64), snapshot="2026-02", parts=1
        )
        started = time.process_time()
        documents.make_all(bench, [work_of(manifests, spec(), "2026-02")])
        cost[times] = time.process_time() - started
    assert cost[8] < 4 * cost[1]


# --- in a project

TEXTS = ["", " \n\t ", "word", "other", "等待", "学习", "计算机科学", "ก", "?!", "--", "\u200b", "one two", "1"]


def project(folder: Path, *snapshots: list[str]) -> str:
    for number, texts in enumerate(snapshots):
        path = folder / "data" / f"2026-{number + 1:02d}" / "web.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"id": f"{row}", "text": text} for row, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: links\nstore: .factory\ntokenizer: none\nmax_error_share: 1.0\nexperiments: {all: {filters: {}}}\n"
        'sources: {web: {use: jsonl, uri: "data/*/*.jsonl", snapshot: "{parent}"}}\n'
        "linkers: {same: {use: exact}, near: {use: minhash}}\n"
    )
    return str(recipe)


def run(recipe: str) -> Workspace:
    workspace = Workspace(load_recipe(recipe), Inline())
    workspace.run(["links"])
    return workspace


def test_short_and_empty_documents_and_those_without_spaces_never_collapse(tmp_path):
    workspace = run(project(tmp_path, TEXTS))
    for label in ("same", "near"):
        manifest = workspace.need("links", label, "2026-01")
        assert manifest.notes["duplicates"] == 0
        for part in manifest.parts:
            assert set(read_part(workspace.store, part).column("cluster_size").to_pylist()) == {1}


class OneTaskShort(Inline):
    """Runs tasks until the disk is full."""

    def run(self, tasks, on_done, on_report=lambda task, message: None):
        if any(task.function.endswith(":elect") for task in tasks):
            raise StoreError("The disk is full")
        super().run(tasks, on_done, on_report)


def test_what_was_exchanged_is_gone_when_links_could_not_be_made(tmp_path):
    recipe = project(tmp_path, TEXTS, TEXTS)
    workspace = Workspace(load_recipe(recipe), OneTaskShort())
    with pytest.raises(StoreError, match="full"):
        workspace.run(["links"])
    assert workspace.store.files("keys")
    assert not workspace.store.files("exchange")


def test_leases_are_taken_in_one_order_whatever_the_order_of_the_recipe(tmp_path):
    recipe = project(tmp_path, TEXTS)
    taken = []

    class Noting(Workspace):
        def _lease(self, work):
            taken.append(work.node.name)
            return super()._lease(work)

    Noting(load_recipe(recipe), Inline()).run(["links"])
    for kind in ("keys", "links"):
        assert [name for name in taken if name.startswith(kind)] == [f"{kind}/near@2026-01", f"{kind}/same@2026-01"]


def test_indexes_that_links_go_on_from_are_kept_and_others_collected(tmp_path):
    texts = [f"a text with number {chr(97 + number)} in it" for number in range(9)]
    recipe = project(tmp_path, texts, texts[:5])
    workspace = run(recipe)
    indexes = set(workspace.store.files("index"))
    assert indexes
    assert not indexes & set(garbage(workspace.store, older_than_hours=-1)["files"])
    assert verify(workspace)["damaged"] == {}
    recipe = project(tmp_path, texts, texts[:6])
    workspace = run(recipe)
    gone = indexes & set(garbage(workspace.store, older_than_hours=-1)["files"])
    assert gone
    assert all("/2026-02/" in path for path in gone)


def test_a_damaged_index_is_found_and_made_again(tmp_path):
    texts = [f"a text with number {chr(97 + number)} in it" for number in range(9)]
    workspace = run(project(tmp_path, texts))
    victim = next(path for path in (tmp_path / ".factory/index").rglob("*.blocks"))
    data = bytearray(victim.read_bytes())
    data[3] ^= 255
    victim.write_bytes(bytes(data))
    assert len(verify(workspace, repair=True)["damaged"]) == 1
    workspace = run(project(tmp_path, texts, texts[:3]))
    assert workspace.need("links", "same", "2026-02").notes["duplicates"] == 3
    assert verify(workspace)["damaged"] == {}
