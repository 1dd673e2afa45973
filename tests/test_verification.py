"""Candidate pairs are linked if and only if their sets of shingles overlap enough, whatever the parts and the memory."""

import io
import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from linked_documents import Bench as LinkedBench
from linked_documents import Document, make_links, spec, store_in

from factory.core.schema import document_id
from factory.execution.tasks import Context, resolve
from factory.recipes.steps.links.parts import ROW_BITS, LinkedPart, read_split, verified_folder, write_pairs
from factory.recipes.steps.links.verify import verify_all
from factory.stages.linkers.minhash import Settings, minhash
from factory.storage.parts import take_rows, write_part
from factory.storage.store import Store

DATA = Path(__file__).parents[1] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real data is not in ../shared/data")


@dataclass
class Bench:
    """Runs tasks here, in the order given."""

    store: Store

    def run_tasks(self, label: str, tasks: list[Any], unit: str = "bytes") -> dict[str, Any]:
        return {task.name: resolve(task.function)(json.loads(json.dumps(task.payload)), Context()) for task in tasks}


def keyed(values, **settings):
    """Keys and sets of shingles of some texts."""
    make = minhash(Settings(shingles=True, **settings))
    return make(pa.record_batch([pa.array(values, pa.large_string())], names=["text"]))


def candidates(keys):
    """Pairs of rows that share a key: a star for each group, around its first row."""
    found: dict[int, int] = {}
    pairs = {(found.setdefault(key, row), row) for row, own in enumerate(keys.to_pylist()) for key in own or ()}
    return sorted((a, b) for a, b in pairs if a != b)


def verified(folder, table, pairs, verify, parts=1, memory=1 << 30, splits=1, seed=0):
    """Those pairs of rows that stay, when the rows lie in so many parts in any order."""
    store = Store(str(folder))
    rows = np.array_split(np.random.default_rng(seed).permutation(len(table)), parts)
    node = np.empty(len(table), np.int64)
    linked = []
    for number, own in enumerate(rows):
        node[own] = np.arange(len(own)) | number << ROW_BITS
        batches = [table.take(pa.array(own[at : at + 50])) for at in range(0, len(own), 50)]
        part = write_part(store, "keys", f"{number}", table.schema, batches, ids="")
        linked.append(LinkedPart(number, "one", part, part).to_json())
    plan = {
        "store": store.url,
        "exchange": "exchange/near",
        "parts": linked,
        "memory": memory,
        "splits": splits,
        "pieces": [1, 1, 0],
        "spec": {"settings": {"verify": verify}},
    }
    a, b = (node[np.array(side, np.int64)] for side in (zip(*pairs, strict=True) if pairs else ((), ())))
    for bucket in range(2):  # every pair twice, as pairs that share keys of two buckets are
        write_pairs(store, plan, bucket, a, b)
    verify_all(Bench(store), [plan])
    places = {number: row for row, number in enumerate(node.tolist())}
    stay = [read_split(store, verified_folder(plan["exchange"]), split) for split in range(splits)]
    return sorted((places[a], places[b]) for own in stay for a, b in zip(*(side.tolist() for side in own), strict=True))


def true_jaccard(table, pairs):
    sets = [set(row or ()) for row in table["shingles"].to_pylist()]
    return np.array([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs])


@cache
def planted():
    """Texts of random words, each with copies of which ever more words are others."""
    source = np.random.default_rng(3)
    vocabulary = np.ascontiguousarray(source.choice(list("abcdefghijklmnop"), (20000, 6))).view("<U6")[:, 0]
    texts = []
    for _ in range(120):
        words = source.choice(vocabulary, 150)
        for share in (0, 0.003, 0.01, 0.02, 0.04, 0.08, 0.2):
            changed = source.random(len(words)) < share
            texts.append(" ".join(np.where(changed, source.choice(vocabulary, len(words)), words)))
    return keyed(texts, bands=40, rows=3)


def test_pairs_stay_if_and_only_if_they_are_similar_enough(tmp_path):
    table = planted()
    pairs = candidates(table["keys"])
    similarity = true_jaccard(table, pairs)
    assert 0.1 < (similarity >= 0.7).mean() < 0.9
    stay = verified(tmp_path, table, pairs, 0.7)
    assert stay == [pair for pair, value in zip(pairs, similarity, strict=True) if value >= 0.7]


@pytest.mark.parametrize("parts", [2, 7, 16])
@pytest.mark.parametrize(("memory", "splits"), [(1 << 30, 1), (1 << 17, 3)])
def test_the_same_pairs_stay_whatever_the_parts_the_splits_and_the_memory(tmp_path, parts, memory, splits):
    pairs = candidates(planted()["keys"])
    check = partial(verified, table=planted(), pairs=pairs, verify=0.8)
    assert check(tmp_path / "several", parts=parts, memory=memory, splits=splits, seed=parts) == check(tmp_path / "one")


def test_a_bound_of_zero_keeps_all_and_of_one_keeps_equal_sets(tmp_path):
    table = planted()
    pairs = candidates(table["keys"])
    assert verified(tmp_path / "all", table, pairs, 0.0, splits=2) == pairs
    assert verified(tmp_path / "none_given", table, pairs, None) == pairs
    equal = [pair for pair, value in zip(pairs, true_jaccard(table, pairs), strict=True) if value == 1]
    assert 0 < len(equal) == len(verified(tmp_path / "equal", table, pairs, 1.0))


def test_without_candidates_nothing_is_linked(tmp_path):
    assert verified(tmp_path, planted(), [], 0.7, parts=3, splits=2) == []


def test_a_star_of_many_copies_is_checked_one_by_one(tmp_path):
    words = [f"word{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n // 100]}" for n in range(300)]
    changed = [[*words[:at], *["other"] * 40, *words[at + 40 :]] for at in range(0, 260, 10)]
    copies = [words, *[words] * 500, *changed]
    table = keyed([" ".join(copy) for copy in copies])
    pairs = [(0, row) for row in range(1, len(table))]
    assert verified(tmp_path, table, pairs, 0.95, memory=1 << 16) == pairs[:500]


def test_rows_that_nobody_asked_for_are_not_read(tmp_path):
    store = Store(str(tmp_path))
    schema = pa.schema([("shingles", pa.list_(pa.uint32()))])
    big = pa.array([np.arange(5_000_000, dtype=np.uint32)] * 2, schema.field(0).type)
    batches = [pa.record_batch([big.slice(row, 1)], schema=schema) for row in range(2)]
    part = write_part(store, "keys", "part", schema, batches, ids="")
    path = tmp_path / part.path
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(100)  # damages the first row group
    path.write_bytes(content)
    (found,) = [
        (rows.tolist(), len(batch[0][0])) for rows, batch in take_rows(store, part, ["shingles"], np.array([1]))
    ]
    assert found == ([1], 5_000_000)


@cache
def documents():
    """The planted texts as documents of two snapshots."""
    table = planted()
    found = []
    for row, (keys, shingles) in enumerate(zip(table["keys"].to_pylist(), table["shingles"].to_pylist(), strict=True)):
        snapshot = f"2026-{1 + row % 2:02d}"
        found.append(Document(snapshot, document_id("web", snapshot, str(row)), tuple(keys), shingles=tuple(shingles)))
    return found


@pytest.mark.parametrize("scope", ["incremental", "snapshot", "global"])
def test_verified_links_are_the_same_for_any_number_of_parts_and_any_memory(tmp_path, scope):
    asked = spec(scope, verify=0.8)
    one = make_links(linked_bench(tmp_path / "1"), documents(), asked)
    sizes = [link["cluster_size"] for link in one.values()]
    assert min(sizes) == 1
    assert 1 < max(sizes) <= 7  # copies of one text, and of no other
    for parts, memory in ((2, 1 << 30), (7, 1 << 20), (16, 1 << 19)):
        assert make_links(linked_bench(tmp_path / f"{parts}", memory), documents(), asked, parts=parts) == one


def linked_bench(folder, memory=1 << 30):
    return LinkedBench(store_in(folder), memory)


@cache
def articles():
    """Real texts, all different, and of every fifth one a copy with some words left out."""
    texts = []
    for name in ("wikipedia", "government", "howto", "techdocs", "textbook"):
        with (DATA / f"corpus/{name}.jsonl.zst").open("rb") as file:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8", newline="\n")
            texts += [json.loads(line)["text"][:20000] for line in lines]
    originals = len(texts)
    source = np.random.default_rng(5)
    for text in texts[::5]:
        words = text.split(" ")
        for share in (0.01, 0.03, 0.06):
            texts.append(" ".join(word for word in words if source.random() > share))
    return originals, keyed(texts)


@needs_data
def test_verified_pairs_of_real_texts_are_similar_and_none_is_lost(tmp_path):
    _, table = articles()
    pairs = candidates(table["keys"])
    similarity = true_jaccard(table, pairs)
    stay = verified(tmp_path, table, pairs, 0.5, parts=4, splits=2)
    assert len(stay) > 500
    assert (true_jaccard(table, stay) >= 0.5).mean() >= 0.999
    assert stay == [pair for pair, value in zip(pairs, similarity, strict=True) if value >= 0.5]
    assert (similarity >= 0.5).mean() >= 0.99  # before


@needs_data
def test_different_real_articles_are_hardly_ever_linked():
    originals, table = articles()
    assert originals > 1000
    pairs = candidates(table["keys"].slice(0, originals))
    false = {b for (_, b), value in zip(pairs, true_jaccard(table, pairs), strict=True) if value < 0.5}
    assert len(false) / originals < 0.001
