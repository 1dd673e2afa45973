"""What is kept of each snapshot for later ones: it changes no column, costs what it holds, and is made again when it is gone."""

import random
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linked_documents import DOCUMENTS, Bench, Inline, store_in
from span_project import sentence, workspace_of, write_snapshot

from factory.core.errors import IntegrityError
from factory.core.fingerprint import fingerprint
from factory.core.manifest import Manifest
from factory.execution.tasks import resolve
from factory.kernels.occurrences import OccurrenceTable, Orders
from factory.recipes.gc import garbage
from factory.recipes.graph import Node
from factory.recipes.steps.links import runs, spans
from factory.recipes.verify import verify
from factory.recipes.work import Work
from factory.storage.parts import write_part, write_thin_part
from factory.storage.store import Store

TINY, LARGE = 1 << 17, 1 << 30
SNAPSHOTS = "abc"


def write_texts(folder: Path, name: str, seed: int = 0) -> None:
    chance = random.Random(str((name, seed)))
    shared = [sentence(("shared", i), 10) for i in range(200)]
    texts = [
        "\n".join([*chance.choices(shared, k=3), *(sentence((name, i, j), 8) for j in range(3))]) for i in range(400)
    ]
    write_snapshot(folder, name, texts, parts=1 + SNAPSHOTS.index(name) + seed)


class Watching(Inline):
    """Remembers whose pieces were exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanged: list[str] = []

    def run(self, tasks, on_done, on_report=lambda task, message: None):
        tasks = list(tasks)
        self.exchanged += [task.payload["part"]["snapshot"] for task in tasks if task.function.endswith("s:exchange")]
        super().run(tasks, on_done, on_report)


def link(folder: Path, *, memory: int = LARGE, **linker):
    """Every byte of the links by snapshot, and the snapshots whose pieces were exchanged."""
    workspace = workspace_of(folder, memory=memory, **linker)
    workspace.executor.close()
    workspace.executor = Watching()
    workspace.run(["links"])
    links = {
        name: [(part.name, workspace.store.read(part.path)) for part in workspace.need("links", "seen", name).parts]
        for name in workspace.snapshots
    }
    return links, set(workspace.executor.exchanged), workspace


LINKERS = [
    {"over": 2, **linker, "keep": keep}
    for linker in ({"use": "lines"}, {"use": "sentences", "n": 1}, {"use": "exact_substring", "length": 6})
    for keep in ("first", "none")
]


@pytest.mark.parametrize("linker", LINKERS, ids=lambda linker: f"{linker['use']}-{linker['keep']}")
def test_links_are_the_same_byte_for_byte_with_and_without_what_is_kept(tmp_path, linker):
    for name in SNAPSHOTS:
        write_texts(tmp_path / "at once", name)
    expected, exchanged, workspace = link(tmp_path / "at once", **linker)
    assert exchanged == {*SNAPSHOTS}
    removed = sum(workspace.need("links", "seen", name).notes["removed_pieces"] for name in SNAPSHOTS)
    assert removed > 0
    for memories in ((LARGE, TINY, LARGE), (TINY, LARGE, TINY)):
        folder = tmp_path / f"{memories[0]}"
        for name, memory in zip(SNAPSHOTS, memories, strict=True):
            write_texts(folder, name)
            links, exchanged, _ = link(folder, memory=memory, **linker)
            assert exchanged == {name}
        assert links == expected
    shutil.rmtree(next((folder / ".factory" / "index").rglob("b")))
    shutil.rmtree(next((folder / ".factory" / "links").rglob("c")))
    links, exchanged, _ = link(folder, memory=TINY, **linker)
    assert exchanged == {"b", "c"}
    assert links == expected


def test_a_run_says_the_same_whatever_the_budget(tmp_path):
    found = []
    for memory in (TINY, LARGE):
        write_texts(tmp_path / f"{memory}", "a")
        _, _, workspace = link(tmp_path / f"{memory}", use="exact_substring", length=5, memory=memory)
        state = find_index(workspace.store)
        tables = [{"path": part.path, "notes": part.notes} for part in state.parts]
        blocks = list(runs.Run(workspace.store, tables).blocks(0, 1))
        keys, copies = (
            np.concatenate([block.column(name).to_numpy() for block in blocks]) for name in ("key", "copies")
        )
        assert (keys[1:] > keys[:-1]).all()
        assert copies.sum() == workspace.need("links", "seen", "a").notes["pieces"]
        assert state.ledger["keys"] == len(keys)
        found.append((keys.tolist(), copies.tolist(), len(state.parts)))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] > found[1][2] == 1


def find_index(store: Store, name: str = "a") -> Manifest:
    (path,) = [path for path in store.files("index") if f"/{name}/manifest-" in path]
    state = runs.find_kept(store, path)
    assert state is not None
    return state


def test_a_snapshot_that_gained_files_has_another_run_and_the_others_stay(tmp_path):
    for name in SNAPSHOTS:
        write_texts(tmp_path, name)
    _, _, workspace = link(tmp_path, use="lines", over=2)
    before = {path: workspace.store.read(path) for path in workspace.store.files("index")}
    shutil.rmtree(tmp_path / "data" / "b")
    write_texts(tmp_path, "b", seed=1)
    links, exchanged, workspace = link(tmp_path, use="lines", over=2)
    assert exchanged == {"b", "c"}  # whose links are made again
    after = {path: workspace.store.read(path) for path in workspace.store.files("index")}
    assert before.items() < after.items()
    assert {path.split("/")[3] for path in after.keys() - before.keys()} == {"b"}
    gone = set(garbage(workspace.store, older_than_hours=-1)["files"])
    assert {path for path in gone if path.startswith("index/")} == {path for path in before if "/b/" in path}
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "data", again / "data")
    assert link(again, use="lines", over=2)[0] == links


def test_runs_of_the_current_recipe_are_kept_and_those_of_another_collected(tmp_path):
    for name in "ab":
        write_texts(tmp_path, name)
    _, _, workspace = link(tmp_path, use="lines", over=2)
    old = set(workspace.store.files("index"))
    assert not old & set(garbage(workspace.store, older_than_hours=-1)["files"])
    _, _, workspace = link(tmp_path, use="lines", over=2, min_chars=20)
    new = set(workspace.store.files("index")) - old
    gone = set(garbage(workspace.store, older_than_hours=-1)["files"])
    assert old <= gone
    assert new
    assert not new & gone


def test_a_damaged_run_is_found_refused_and_made_again(tmp_path):
    linker = {"use": "exact_substring", "over": 2}
    for name in "ab":
        write_texts(tmp_path, name)
        expected, _, workspace = link(tmp_path, **linker)
    victim = tmp_path / ".factory" / find_index(workspace.store).parts[0].path
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    write_texts(tmp_path, "c")
    with pytest.raises(IntegrityError, match="not what was written"):
        link(tmp_path, **linker)
    assert len(verify(workspace, repair=True)["damaged"]) == 1
    links, exchanged, workspace = link(tmp_path, **linker)
    assert exchanged == {"a", "c"}
    assert {name: links[name] for name in "ab"} == expected
    assert verify(workspace)["damaged"] == {}


GROUPS = st.lists(st.lists(st.integers(0, 40), max_size=60), min_size=1, max_size=5)


@given(GROUPS, st.integers(1, 9), st.integers(1, 3))
@settings(deadline=None)
def test_counts_that_were_kept_add_up_and_who_came_before_is_first(groups, piece, over):
    total: Counter[int] = Counter()
    kept = []
    for group in groups:
        rows = np.array(group, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        own, before, table = Counter(rows.tolist()), Counter(total), OccurrenceTable(1)
        total += own
        table.count(rows)
        keys, copies = table.own()
        assert list(zip(keys.tolist(), copies.tolist(), strict=True)) == sorted(own.items())
        for old_keys, old_copies in kept:
            at = 0
            for start in range(0, len(old_keys), piece):
                at = table.add(old_keys[start : start + piece], old_copies[start : start + piece], at)
        kept.append((keys, copies))
        places = np.arange(len(rows))
        table.open_election(over)
        table.elect(rows, Orders(np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.uint64), places))
        found, removed = table.verdicts(rows, places, over, keep_first=True)
        assert found.tolist() == [total[key] for key in rows.tolist()]
        first = {key: place for place, key in reversed(list(enumerate(rows.tolist()))) if not before[key]}
        assert removed.tolist() == [
            total[key] > over and first.get(key) != place for place, key in enumerate(rows.tolist())
        ]


# --- what it costs


def store_windows(store: Store, snapshot: str, count: int, seed: int, documents: int = 100) -> dict[str, Manifest]:
    """Documents with so many pieces in all, each piece another number."""
    chance = np.random.default_rng(seed)
    ids = [f"{number:032x}" for number in range(documents)]
    batch = pa.record_batch([ids, pa.nulls(documents, DOCUMENTS.field("date").type)], schema=DOCUMENTS)
    document = write_part(store, f"documents/{snapshot}", "0", DOCUMENTS, [batch])
    starts = np.linspace(0, count, documents + 1).astype(np.int32)
    columns = {"keys": pa.list_(pa.uint64()), "lengths": pa.list_(pa.uint8()), "text_bytes": pa.uint32()}
    keys = pa.ListArray.from_arrays(starts, chance.integers(0, 2**64, count, dtype=np.uint64))
    words = starts + np.arange(documents + 1, dtype=np.int32)  # a window of two words: one more than there are windows
    lengths = pa.ListArray.from_arrays(words, np.full(words[-1], 5, np.uint8))
    sizes = pa.array(np.diff(words) * 5).cast(pa.uint32())
    batch = pa.record_batch([keys, lengths, sizes], names=list(columns))
    keyed = write_thin_part(store, f"keys/seen/{snapshot}", document, columns, [batch])
    made = (Manifest("documents", "", snapshot, "made", {}, {}, (document,)),)
    made += (Manifest("keys", "seen", snapshot, "made", {}, {}, (keyed,)),)
    return {manifest.name: manifest for manifest in made}


def windows_of(manifests: dict[str, Manifest], snapshot: str, keep: str = "none") -> Work:
    spec = {
        "stage": "exact_substring",
        "version": 1,
        "settings": {"length": 2, "keep": keep, "over": 1},
        "scope": "incremental",
    }
    upstream = {name: manifest for name, manifest in manifests.items() if manifest.partition <= snapshot}
    return Work(Node("links", "seen", snapshot, spec, tuple(upstream)), fingerprint({"spec": spec}), upstream)


def test_a_snapshot_costs_its_own_pieces_and_a_walk_along_the_others(tmp_path):
    cost = {}
    for history in (1, 8):
        bench, manifests = Bench(store_in(tmp_path / f"{history}")), {}
        for number in range(history):
            manifests |= store_windows(bench.store, f"2026-{number:02d}", 300_000, number)
        spans.make_all(bench, [windows_of(manifests, name.split("@")[1]) for name in manifests if "keys" in name])
        manifests |= store_windows(bench.store, "2027", 300_000, 99)
        bench.tasks.clear()
        started = time.process_time()
        spans.make_all(bench, [windows_of(manifests, "2027")])
        cost[history] = time.process_time() - started
        assert sum(resolve(task.function) is spans.exchange for task in bench.tasks) == 1
    assert cost[8] < 2 * cost[1]


def test_a_run_is_as_large_as_it_was_said_to_be(tmp_path):
    bench = Bench(store_in(tmp_path))
    spans.make_all(bench, [windows_of(store_windows(bench.store, "2026", 200_000, 1), "2026")])
    kept = sum(bench.store.files("index").values())
    more, less = (spans.needs(100, 200_000, LARGE, scope=scope).disk for scope in ("incremental", "global"))
    assert more - less <= kept < 1.02 * (more - less)


def test_of_two_that_make_one_run_at_once_one_commits_and_both_go_on(tmp_path):
    write_texts(tmp_path, "a")
    link(tmp_path, use="lines")
    store = Store(str(tmp_path / ".factory"))
    state = find_index(store)
    part = state.parts[0]
    other = replace(state, parts=(replace(part, digest="0" * 32),))
    for _ in range(60):
        store.delete(state.path)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: runs.keep(store, one), (state, other)))  # cut by another budget
        assert find_index(store).parts in (state.parts, other.parts)
