"""Neighbours: each document's largest cosine with one that stands before it in its clusters (SemDeDup, arXiv:2303.09540).

    keys part  ->  buckets by cluster  ->  stretches of documents, compared with all before them  ->  links beside each part

A document lies in one cluster, the first of its keys, and is compared in all of them. The order is (snapshot, unless the
scope is not `incremental`; what `keep` says; snapshot; doc_id). A stretch is so many documents of the snapshot asked for as
memory allows, 50,000 at most; a task reads those that stand before them a stretch at a time, so that a cluster of any size
is compared whole, by several workers, in bounded memory. All products are exact (see `factory.kernels.vectors`), so neither
stretches nor buckets change a bit. Earlier snapshots are only ever looked back at: their verdicts stay.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS, Needs
from factory.core.manifest import Part
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.steps.links.parts import ROW_BITS, LinkedPart, clear, exchange_folder, linked_parts, parse_ids
from factory.recipes.work import Bench, Made, Work
from factory.storage.exchange import MAX_BUCKETS, WORKING_COPIES, bucket_count, iterate_rows, read_rows, write_rows
from factory.storage.parts import iterate_part, read_part, write_thin_part
from factory.storage.store import Store

COLUMNS = LINK_COLUMNS["neighbours"]
STRETCH = 50_000
PLACE_BYTES = 45  # of a row: where it stands
FOUND_BYTES = 28  # of a row: what was found
# A task holds two stretches of vectors, and while it gathers one, what a part has of them.
STRETCHES_HELD = 4
PRODUCT_BYTES = 64 << 20  # blocks of products and their factors in single precision
DIMENSIONS = 256  # of the vectors, where nobody has looked

Integers = npt.NDArray[np.int64]
Units = npt.NDArray[np.int16]


def needs(rows: int, keys: int, memory: int, settings: Mapping[str, Any] | None = None) -> Needs:
    """For so many rows in all snapshots of a scope, with a vector for each key (vectors of 256 dimensions)."""
    entries = max(rows, keys)
    buckets = _buckets(entries, DIMENSIONS, memory)
    bucket = math.ceil(entries / buckets)
    held = min(bucket, _stretch(DIMENSIONS, memory)) * DIMENSIONS * 2 * STRETCHES_HELD
    disk = entries * (2 * DIMENSIONS + PLACE_BYTES + FOUND_BYTES)
    return Needs(held + bucket * PLACE_BYTES * WORKING_COPIES + PRODUCT_BYTES, disk, buckets)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots, phase by phase, so that all workers are busy in each."""
    plans = {work.node.name: _plan(bench, work) for work in works}
    sorted_out = bench.run_tasks(
        "exchange vectors", [task for plan in plans.values() for task in _exchange_tasks(plan)]
    )
    compares = {name: list(_compare_tasks(plan, sorted_out)) for name, plan in plans.items()}
    bench.run_tasks("compare neighbours", [task for tasks in compares.values() for task in tasks], unit="documents")
    writes = {name: list(_write_tasks(plan, compares[name])) for name, plan in plans.items()}
    written = bench.run_tasks("links", [task for tasks in writes.values() for task in tasks], unit="documents")
    for plan in plans.values():
        clear(bench, plan["exchange"])
    return {
        name: _made([Part.from_json(written[task.name]["part"]) for task in tasks]) for name, tasks in writes.items()
    }


def _made(parts: list[Part]) -> Made:
    notes: dict[str, Any] = {"histograms": merge_histograms([part.notes["histograms"] for part in parts])}
    for count in ("duplicates", "compared", "without_vector"):
        notes[count] = sum(part.notes[count] for part in parts)
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


def _plan(bench: Bench, work: Work) -> dict[str, Any]:
    parts = linked_parts(work)
    width = _width(bench.store, parts)
    settings = work.node.spec["settings"]
    own = [part for part in parts if part.snapshot == work.node.partition]
    entries = sum(part.document.rows for part in parts) + (settings["probes"] - 1) * sum(p.document.rows for p in own)
    snapshots = sorted({part.snapshot for part in parts})
    return {
        "store": bench.store.url,
        "folder": work.folder,
        "exchange": exchange_folder(work),
        "parts": parts,
        "own": own,
        "ranks": {snapshot: rank for rank, snapshot in enumerate(snapshots)},
        "snapshot": work.node.partition,
        "incremental": work.node.spec["scope"] == "incremental",
        "keep": settings["keep"],
        "epsilon": settings["epsilon"],
        "buckets": _buckets(entries, width, bench.memory),
        "stretch": _stretch(width, bench.memory),
    }


def _width(store: Store, parts: list[LinkedPart]) -> int:
    """The dimensions of the vectors; 0 where no document has one."""
    for part in parts:
        for batch in iterate_part(store, part.keys, ["vector"]):
            found = batch.column("vector").drop_null()
            if len(found):
                return len(found[0])
    return 0


def _stretch(width: int, memory: int) -> int:
    return min(STRETCH, max(64, memory // (2 * STRETCHES_HELD * 2 * max(1, width))))


def _buckets(rows: int, width: int, memory: int) -> int:
    """So many that where documents of a bucket stand fits a task, and if clusters are many, their vectors do."""
    return min(MAX_BUCKETS, max(bucket_count(rows, PLACE_BYTES, memory), math.ceil(rows / _stretch(width, memory))))


# --- vectors to the buckets of their clusters


def _exchange_tasks(plan: Mapping[str, Any]) -> Iterator[Task]:
    for part in plan["parts"]:
        payload = {
            "store": plan["store"],
            "exchange": plan["exchange"],
            "buckets": plan["buckets"],
            "rank": plan["ranks"][part.snapshot],
            "own": part.snapshot == plan["snapshot"],
            "incremental": plan["incremental"],
            "keep": plan["keep"],
            "part": part.to_json(),
        }
        yield Task(f"{plan['exchange']} {part.number}", f"{__name__}:exchange", payload, part.keys.bytes)


def exchange(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one part's vectors, and in a file of its own where each stands, to the buckets of their clusters."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    table = read_part(store, part.keys, ["keys", "vector", "nearness"])
    rows = np.flatnonzero(pc.is_valid(table.column("vector")).to_numpy())
    table = table.take(pa.array(rows)).combine_chunks()
    high, low = parse_ids(read_part(store, part.document, ["doc_id"]).column("doc_id").take(pa.array(rows)))
    nearness = table.column("nearness").to_numpy()
    values = table.column("vector").combine_chunks().flatten().to_numpy()
    width = len(values) // len(rows) if len(rows) else 1
    vectors = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * width), len(rows), [None, pa.py_buffer(values)])
    # A document waits in its own cluster for others, and asks in all of its clusters if its snapshot is the one asked for.
    keys = table.column("keys").combine_chunks().flatten().to_numpy().astype(np.int64).reshape(len(rows), -1)
    keys = keys if payload["own"] else keys[:, :1]
    turn = np.tile(np.arange(keys.shape[1], dtype=np.uint8), len(rows))
    item = np.repeat(np.arange(len(rows)), keys.shape[1])
    cluster, nearness, rows = keys.reshape(-1), nearness[item], rows[item]
    rank = np.full(len(rows), payload["rank"], np.int32)
    places = {
        "cluster": cluster.astype(np.uint32),
        "before": rank if payload["incremental"] else np.zeros_like(rank),
        "order": {"hard": nearness, "easy": -nearness, "first": np.zeros_like(nearness)}[payload["keep"]],
        "snapshot": rank,
        "high": high[item],
        "low": low[item],
        "node": rows | (part.number << ROW_BITS),
        "turn": turn,
        "own": np.full(len(rows), payload["own"]),
    }
    vectors = vectors.take(pa.array(item))
    target = cluster % payload["buckets"]
    for kind, columns in (("places", places), ("vectors", {"vector": vectors})):
        folder = f"{payload['exchange']}/{kind}"
        write_rows(store, folder, part.writer, payload["buckets"], target, pa.table(columns))
    own = target if payload["own"] else target[:0]
    return {"own": np.bincount(own, minlength=payload["buckets"]).tolist()}


# --- comparing


def _compare_tasks(plan: Mapping[str, Any], sorted_out: Mapping[str, Mapping[str, Any]]) -> Iterator[Task]:
    own = np.zeros(plan["buckets"], np.int64)
    for part in plan["own"]:
        own += np.array(sorted_out[f"{plan['exchange']} {part.number}"]["own"])
    for bucket in np.flatnonzero(own).tolist():
        for start in range(0, int(own[bucket]), plan["stretch"]):
            stop = min(start + plan["stretch"], int(own[bucket]))
            payload = {
                "store": plan["store"],
                "exchange": plan["exchange"],
                "writers": [part.writer for part in plan["parts"]],
                "first": plan["own"][0].number,
                "own_parts": len(plan["own"]),
                "bucket": bucket,
                "start": start,
                "stop": stop,
                "stretch": plan["stretch"],
            }
            yield Task(f"{plan['exchange']} {bucket:04d}-{start:09d}", f"{__name__}:compare", payload, stop - start)


def compare(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: of a stretch of a bucket's own documents, the most similar that stand before them."""
    from factory.kernels.vectors import raise_to_earlier

    store = Store(payload["store"])
    places = read_rows(store, f"{payload['exchange']}/places", payload["bucket"], payload["writers"])
    column = {name: places.column(name).to_numpy() for name in places.column_names}
    keys = ("node", "low", "high", "snapshot", "order", "before", "cluster")
    order = np.lexsort([column[name] for name in keys])  # from the least to the most important
    cluster = column["cluster"][order]
    waits = column["turn"][order] == 0
    asked = np.flatnonzero(column["own"][order])[payload["start"] : payload["stop"]]
    begin = int(np.searchsorted(cluster, cluster[asked[0]]))
    end = int(asked[-1]) + 1
    best, nearest = np.full(len(asked), -np.inf), np.full(len(asked), -1)
    whole = end - begin <= payload["stretch"]
    held = _vectors(store, payload, order[begin:end] if whole else order[asked])
    later = held[asked - begin] if whole else held
    for start in range(begin, end, payload["stretch"]):
        stop = min(start + payload["stretch"], end)
        earlier = held if whole else _vectors(store, payload, order[start:stop])
        for first, last in _runs(cluster[start:stop]):
            inside = slice(
                *np.searchsorted(asked, [start + first, np.searchsorted(cluster, cluster[start + first], "right")])
            )
            if inside.stop > inside.start:
                there = first + np.flatnonzero(waits[start + first : start + last])
                at = start + there
                raise_to_earlier(later[inside], asked[inside], earlier[there], at, best[inside], nearest[inside])
    seen = nearest >= 0
    found = pa.table(
        {
            "node": column["node"][order[asked]],
            "turn": column["turn"][order[asked]],
            "similarity": np.minimum(best, 1.0),
            **{name: column[name][order[nearest]] for name in ("high", "low")},
        }
    ).filter(pa.array(seen))
    target = (found.column("node").to_numpy() >> ROW_BITS) - payload["first"]
    name = f"{payload['bucket']:04d}-{payload['start']:09d}"
    write_rows(store, f"{payload['exchange']}/found", name, payload["own_parts"], target, found)
    return {"found": name}


def _runs(values: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Where each run of equal values begins and ends."""
    bounds = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1], [True]])).tolist()
    return list(pairwise(bounds))


def _vectors(store: Store, payload: Payload, wanted: Integers) -> Units:
    """The vectors of some rows of a bucket, by their numbers over all writers, in the order they are asked for."""
    turn = np.argsort(wanted, kind="stable")
    ascending = wanted[turn]
    made: Units | None = None
    first = 0
    for table in iterate_rows(store, f"{payload['exchange']}/vectors", payload["bucket"], payload["writers"]):
        low, high = np.searchsorted(ascending, [first, first + table.num_rows])
        if high > low:
            column = table.column("vector").combine_chunks()
            width = column.type.byte_width // 2
            rows = np.frombuffer(column.buffers()[1], np.int16).reshape(-1, width)
            rows = rows[column.offset : column.offset + len(column)]
            if made is None:
                made = np.empty((len(wanted), width), np.int16)
            made[turn[low:high]] = rows[ascending[low:high] - first]
        first += table.num_rows
    assert made is not None
    return made


# --- links beside documents


def _write_tasks(plan: Mapping[str, Any], compares: list[Task]) -> Iterator[Task]:
    folder = f"{plan['folder']}/{fingerprint({'links': plan['exchange']})}"
    for position, part in enumerate(plan["own"]):
        payload = {
            "store": plan["store"],
            "exchange": plan["exchange"],
            "folder": folder,
            "writers": [task.name.rpartition(" ")[2] for task in compares],
            "position": position,
            "epsilon": plan["epsilon"],
            "part": part.to_json(),
        }
        yield Task(f"{plan['exchange']} write {part.number}", f"{__name__}:write", payload, part.document.rows)


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: what was found of one part's documents, as columns beside them."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    keys = read_part(store, part.keys, ["keys", "nearness"])
    has_vector = pc.is_valid(keys.column("nearness")).to_numpy()
    cluster = np.zeros(part.document.rows, np.uint32)
    cluster[has_vector] = pc.list_element(
        keys.column("keys").filter(pc.is_valid(keys.column("nearness"))), 0
    ).to_numpy()
    similarity = np.full(part.document.rows, np.nan, np.float32)
    duplicate_of = np.full(part.document.rows, None, dtype=object)
    if payload["writers"]:
        found = read_rows(store, f"{payload['exchange']}/found", payload["position"], payload["writers"])
        # Of several clusters the one with the nearest; of equally near ones the document's first.
        order = np.lexsort(
            [found.column("turn").to_numpy(), -found.column("similarity").to_numpy(), found.column("node").to_numpy()]
        )
        node = found.column("node").to_numpy()[order]
        found = found.take(pa.array(order[np.concatenate([[True], node[1:] != node[:-1]])[: len(node)]]))
        rows = found.column("node").to_numpy() & ((1 << ROW_BITS) - 1)
        similarity[rows] = found.column("similarity").to_numpy()
        close = similarity[rows].astype(np.float64) > 1.0 - payload["epsilon"]
        duplicate_of[rows[close]] = _names(*(found.column(name).to_numpy()[close] for name in ("high", "low")))
    none = np.isnan(similarity)
    made = {
        "duplicate_of": pa.array(duplicate_of, pa.string()),
        "cluster": pa.array(cluster, mask=~has_vector),
        "max_similarity": pa.array(similarity, mask=none),
        "nearness": keys.column("nearness").combine_chunks(),
    }
    batch = pa.RecordBatch.from_arrays([made[name] for name in COLUMNS], schema=pa.schema(list(COLUMNS.items())))
    notes = {
        "duplicates": part.document.rows - batch.column("duplicate_of").null_count,
        "compared": int((~none).sum()),
        "without_vector": int((~has_vector).sum()),
        "histograms": {name: histogram(batch.column(name)) for name in ("max_similarity", "nearness")},
    }
    written = write_thin_part(store, payload["folder"], part.document, COLUMNS, [batch], notes=partial(dict, notes))
    return {"part": written.to_json()}


def _names(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> list[str]:
    digits = np.stack([high, low], axis=1).astype(">u8").tobytes().hex()
    return [digits[at : at + 32] for at in range(0, len(digits), 32)]
