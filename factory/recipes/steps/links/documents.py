"""Links: keys are exchanged, documents that share one are joined, and every cluster elects who stands for it.

    keys part  ->  buckets by key  ->  edges  ->  clusters  ->  links beside each document part

The clusters are connected components and the election is a minimum, so neither depends on order, parts or workers. Under
scope `incremental` members of earlier snapshots stand before later ones: what was kept stays kept.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS
from factory.core.manifest import Manifest, Part
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.kernels.clusters import cluster_sizes, connect, link
from factory.kernels.clusters import elect as elect_rows
from factory.recipes.steps.links.parts import ROW_BITS, clear, exchange_folder, linked_parts
from factory.recipes.work import Bench, Made, Work
from factory.storage.exchange import bucket_count, bucket_of, read_rows, write_rows
from factory.storage.parts import find_part, read_part, write_part, write_thin_part
from factory.storage.store import Store

EDGES = pa.schema([("a", pa.int64()), ("b", pa.int64())])
COLUMNS = LINK_COLUMNS["documents"]
ROW_BYTES = 24


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots, phase by phase, so that all workers are busy in each."""
    plans = {work.node.name: _plan(bench, work) for work in works}
    bench.run_tasks("exchange keys", [task for plan in plans.values() for task in _exchange_tasks(plan)])
    bench.run_tasks("join keys", [task for plan in plans.values() for task in _edge_tasks(plan)], unit="buckets")
    results = bench.run_tasks(
        "elect", [Task(name, f"{__name__}:elect", plan) for name, plan in plans.items()], unit="datasets"
    )
    for plan in plans.values():
        clear(bench, plan["exchange"])
    return {name: _made([Part.from_json(part) for part in results[name]["parts"]]) for name in plans}


def _made(parts: list[Part]) -> Made:
    notes: dict[str, Any] = {"histograms": merge_histograms([part.notes["histograms"] for part in parts])}
    for count in ("duplicates", "clustered"):
        notes[count] = sum(part.notes[count] for part in parts)
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


def _plan(bench: Bench, work: Work) -> dict[str, Any]:
    """All a worker needs, as plain data."""
    return {
        "store": bench.store.url,
        "folder": work.folder,
        "exchange": exchange_folder(work),
        "buckets": bucket_count(sum(_key_count(manifest) for manifest in work.of("keys")), ROW_BYTES, bench.memory),
        "parts": [part.to_json() for part in linked_parts(work)],
        "snapshot": work.node.partition,
        "keep": work.node.spec["keep"],
    }


def _key_count(manifest: Manifest) -> int:
    # Keys are stored as lists of 8-byte hashes, which do not compress: the bytes of the parts bound their number.
    return max(manifest.rows, manifest.bytes // 8)


def _exchange_tasks(plan: Mapping[str, Any]) -> Iterator[Task]:
    shared = {name: plan[name] for name in ("store", "exchange", "buckets")}
    for number, item in enumerate(plan["parts"]):
        name = f"{plan['exchange']} {number}"
        yield Task(
            name, f"{__name__}:exchange", {**shared, "number": number, "keys": item["keys"]}, item["keys"]["bytes"]
        )


def exchange(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one part's keys into buckets."""
    store, part = Store(payload["store"]), Part.from_json(payload["keys"])
    table = read_part(store, part)
    keys = table.column("keys").combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(keys), 0).to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(len(keys), dtype=np.int64), lengths)
    key = keys.flatten().to_numpy().astype(np.uint64)
    whole = (
        table.column("check").fill_null(0).to_numpy()
        if "check" in table.schema.names
        else np.zeros(len(keys), np.uint64)
    )
    node = rows | (payload["number"] << ROW_BITS)
    table = pa.table({"key": key, "check": whole[rows], "node": node})
    target = bucket_of(key, payload["buckets"])
    write_rows(store, payload["exchange"], f"{payload['number']:06d}", payload["buckets"], target, table)
    return {"keys": len(key)}


def _edge_tasks(plan: Mapping[str, Any]) -> Iterator[Task]:
    for bucket in range(plan["buckets"]):
        payload = {
            "store": plan["store"],
            "exchange": plan["exchange"],
            "bucket": bucket,
            "writers": len(plan["parts"]),
        }
        yield Task(f"{plan['exchange']} edges {bucket}", f"{__name__}:edges", payload)


def edges(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the edges of one bucket, a star for each group of equal keys."""
    store = Store(payload["store"])
    writers = [f"{number:06d}" for number in range(payload["writers"])]
    table = read_rows(store, payload["exchange"], payload["bucket"], writers) if writers else None
    columns = ("key", "node", "check")
    empty = (np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.uint64))
    a, b = link(*(empty if table is None else (table.column(name).to_numpy() for name in columns)))
    table = pa.table([pa.array(a), pa.array(b)], schema=EDGES)
    write_part(store, f"{payload['exchange']}/edges", f"{payload['bucket']:04d}", EDGES, table.to_batches(), ids="")
    return {"edges": len(a)}


def elect(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: clusters of all edges, their representatives, and the links beside each document part of the snapshot."""
    store = Store(payload["store"])
    found = [find_part(store, f"{payload['exchange']}/edges", f"{bucket:04d}") for bucket in range(payload["buckets"])]
    tables = [read_part(store, part) for part in found if part is not None]
    a = np.concatenate([table.column("a").to_numpy() for table in tables])
    b = np.concatenate([table.column("b").to_numpy() for table in tables])
    members, roots = connect(a, b)
    details = _details(store, payload, members)
    # The election: per cluster the least of (snapshot, [newest first], doc_id), by rank, so that all are whole numbers.
    newest = [-details["date"]] if payload["keep"] == "newest" else []
    priorities = [_ranks(details["snapshot"]), *newest, _ranks(details["doc_id"])]
    winner = np.searchsorted(members, elect_rows(roots, members, priorities))
    sizes = cluster_sizes(roots)
    return {"parts": [part.to_json() for part in _write(store, payload, members, winner, sizes, details)]}


def _details(store: Store, payload: Payload, members: np.ndarray) -> dict[str, np.ndarray]:
    """Of every clustered node: its doc_id, its snapshot and its date."""
    doc_id = np.empty(len(members), dtype="S32")
    date = np.zeros(len(members), np.int64)
    snapshot = np.empty(len(members), dtype=object)
    for number, item in enumerate(payload["parts"]):
        low, high = np.searchsorted(members, [number << ROW_BITS, (number + 1) << ROW_BITS])
        snapshot[low:high] = item["snapshot"]
        if high > low:
            rows = pa.array(members[low:high] & ((1 << ROW_BITS) - 1))
            table = read_part(store, Part.from_json(item["document"]), ["doc_id", "date"]).take(rows)
            doc_id[low:high] = np.array(table.column("doc_id").to_pylist(), dtype="S32")
            date[low:high] = table.column("date").cast(pa.int64()).fill_null(0).to_numpy()
    return {"doc_id": doc_id, "date": date, "snapshot": snapshot.astype(str)}


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return ranks


def _write(
    store: Store,
    payload: Payload,
    members: np.ndarray,
    winner: np.ndarray,
    sizes: np.ndarray,
    details: Mapping[str, np.ndarray],
) -> Iterator[Part]:
    names = np.array([value.decode() for value in details["doc_id"].tolist()], dtype=object)
    for number, item in enumerate(payload["parts"]):
        if item["snapshot"] != payload["snapshot"]:
            continue
        document = Part.from_json(item["document"])
        low, high = np.searchsorted(members, [number << ROW_BITS, (number + 1) << ROW_BITS])
        rows = members[low:high] & ((1 << ROW_BITS) - 1)
        columns: dict[str, np.ndarray] = {name: np.full(document.rows, None, dtype=object) for name in COLUMNS}
        columns["cluster_size"] = np.ones(document.rows, np.uint32)
        columns["first_seen"][:] = payload["snapshot"]
        stands = winner[low:high]
        duplicate = stands != np.arange(low, high)
        columns["duplicate_of"][rows[duplicate]] = names[stands[duplicate]]
        columns["cluster"][rows] = names[stands]
        columns["cluster_size"][rows] = sizes[low:high]
        columns["first_seen"][rows] = _earliest(details["snapshot"], winner, low, high)
        batch = pa.RecordBatch.from_arrays(
            [pa.array(columns[name], kind, from_pandas=True) for name, kind in COLUMNS.items()],
            schema=pa.schema(list(COLUMNS.items())),
        )
        counts = {"duplicates": int(duplicate.sum()), "clustered": len(rows)}
        histograms = {
            "cluster_size": histogram(batch.column("cluster_size")),
            "first_seen": histogram(batch.column("first_seen")),
        }
        yield write_thin_part(
            store,
            f"{payload['folder']}/{fingerprint({'links': payload['exchange']})}",
            document,
            COLUMNS,
            [batch],
            notes=partial(dict, counts, histograms=histograms),
        )


def _earliest(snapshots: np.ndarray, winner: np.ndarray, low: int, high: int) -> np.ndarray:
    # The winner is of the earliest snapshot of its cluster, whatever else the election looks at.
    found: np.ndarray = snapshots[winner[low:high]].astype(object)
    return found
