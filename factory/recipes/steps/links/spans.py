"""Pieces of text that occur more often than they should: which bytes of each document go.

    keys part  ->  rows (key, place) by key  ->  how often, and who is first  ->  rows back to their part  ->  spans

A linker gives every piece of a text (a line, three sentences, a window of tokens) a key; see `factory.kernels.span_keys` for
its columns. A bucket of keys goes through a table of its distinct keys in streams, snapshot by snapshot: memory does not
grow with how often a key occurs. Of pieces with one key, those of an earlier snapshot are first, then the smallest
doc_id, then the one that comes first in its document: no order of parts or rows enters.

Under scope `incremental` a snapshot counts what earlier ones have and never looks at later ones. Of each snapshot a sorted
run is kept (see `runs`), the dataset `index/<label>@<snapshot>`: its distinct keys and how often each occurs in it. That is
all a later one has to know, also to elect: the first of a key that has a copy in an earlier snapshot is not among its own.
A run says nothing of other snapshots, and its manifest lies at a path made of the linker's fingerprint and the digest of the
snapshot's keys. So runs are made in any order, none is made again when another snapshot gains files, and they need no
merging: a snapshot exchanges its own keys and walks along those of the earlier ones, in order, block by block.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS, Needs
from factory.core.manifest import Manifest, Part, dataset_folder, manifest_path
from factory.core.registry import find_stage
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.kernels.columns import count_column, share_column
from factory.kernels.covers import Cover, Ranges, cover
from factory.kernels.occurrences import KEY_BYTES, OccurrenceTable, Orders
from factory.recipes.steps.links import runs
from factory.recipes.steps.links.parts import LinkedPart, clear, exchange_folder, linked_parts
from factory.recipes.work import Bench, Made, Work
from factory.storage.exchange import MAX_BUCKETS, WORKING_COPIES, bucket_count, bucket_of, read_rows, write_rows
from factory.storage.parts import iterate_part, read_part, write_thin_part
from factory.storage.store import Store

COLUMNS = LINK_COLUMNS["spans"]
VERDICTS = pa.schema([("ordinal", pa.uint32()), ("copies", pa.uint32()), ("removed", pa.bool_())])
RUN = pa.schema([("key", pa.uint64()), ("copies", pa.uint32())])
HOLDERS = pa.schema(
    [
        ("key", pa.uint64()),
        ("host", pa.string()),
        ("documents", pa.int64()),
        ("doc_id", pa.string()),
        ("row", pa.int64()),
        ("start", pa.uint32()),
        ("end", pa.uint32()),
    ]
)
COUNTED = ("documents", "pieces", "removed_pieces", "removed_bytes", "text_bytes")
WITHIN = ("removed_pieces_within", "removed_bytes_within")  # of these, what goes because its own document repeats it
PIECES, ORDERS = "pieces", "orders"  # folders of an exchange
REPORTED = 50  # most removed pieces in a report
REPORTED_HOSTS = 5
REPORTED_CHARACTERS = 200

NEAR_ROWS = 1 << 19
# Rows of a part that are exchanged at once take so many bytes each: key, place, order, bucket, and a sorted copy.
CHUNK_ROW_BYTES = 128
# What a row takes on disk: key and ordinal; with the document's order where a first one is elected; its verdict. And a
# distinct key in the run that is kept: itself and a byte for how often it occurs, hardly ever more.
PLAIN_BYTES, ORDER_BYTES, VERDICT_BYTES, RUN_BYTES = 12, 16, 9, 9
RUN_BLOCK_ROWS, RUN_BLOCK_BYTES = 1 << 16, 13  # one is held at a time: as it was read, and wider counts

Counts = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]


def needs(rows: int, keys: int, memory: int, *, keep: str = "first", scope: str = "incremental") -> Needs:
    """What linking so many documents with so many pieces takes.

    A window of 50 words makes a piece of each word: 0.21 million pieces, 1.9 MB of keys and 2.6 MB of exchange (6.0 with
    `keep: first`) a megabyte of English text. Lines make 0.007 million. Under `incremental` the distinct pieces stay for
    later snapshots, in 9 bytes each: of windows that is 1.9 MB a megabyte of text, as much as their keys. They count as disk.
    """
    splits = _buckets(keys, memory)
    row = PLAIN_BYTES + VERDICT_BYTES + (ORDER_BYTES if keep == "first" else 0)
    row += RUN_BYTES if scope == "incremental" else 0
    chunk = min(keys, _chunk_rows(memory)) * CHUNK_ROW_BYTES
    table = math.ceil(keys / splits) * KEY_BYTES + math.ceil(chunk / splits)
    block = RUN_BLOCK_ROWS * RUN_BLOCK_BYTES if scope == "incremental" else 0
    return Needs(memory=max(chunk, table + block), disk=keys * row, splits=splits)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots, phase by phase, so that all workers are busy in each."""
    jobs = [_job(bench, group) for group in _groups(works)]
    sent = bench.run_tasks("exchange pieces", [task for job in jobs for task in _exchange_tasks(job)])
    for job in jobs:
        found = [sent.get(f"{job['exchange']} {item['number']}", {"chunks": 0, "rows": 0}) for item in job["parts"]]
        job["chunks"], job["pieces"] = ([one[name] for one in found] for name in ("chunks", "rows"))
    judged = bench.run_tasks("count pieces", [task for job in jobs for task in _count_tasks(job)], unit="buckets")
    for job in jobs:
        results = [judged[task.name] for task in _count_tasks(job)]
        job["top"] = {
            snapshot: _most([result["top"].get(snapshot, []) for result in results]) for snapshot in job["works"]
        }
        for snapshot, state in job["states"].items():
            runs.keep(bench.store, _state(state, [result["runs"][snapshot] for result in results]))
    written = bench.run_tasks("mark spans", [task for job in jobs for task in _write_tasks(job)])
    reports = bench.run_tasks("list pieces", [task for job in jobs for task in _report_tasks(job)], unit="datasets")
    for job in jobs:
        clear(bench, job["exchange"])
    made: dict[str, Made] = {}
    for job in jobs:
        for snapshot, name in job["works"].items():
            parts = [
                Part.from_json(written[f"{name} {item['number']}"])
                for item in job["parts"]
                if item["snapshot"] == snapshot
            ]
            made[name] = _made(parts, reports.get(name))
    return made


def _made(parts: list[Part], report: Mapping[str, Any] | None) -> Made:
    notes: dict[str, Any] = {"histograms": merge_histograms([part.notes["histograms"] for part in parts])}
    # Only of pieces that may repeat within a document it is noted which went for that alone.
    for count in (*COUNTED, *(WITHIN if report is not None else ())):
        notes[count] = sum(part.notes[count] for part in parts)
    if report is not None:
        notes["most_removed"] = report["pieces"]
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


def _groups(works: list[Work]) -> Iterator[list[Work]]:
    """Works that one pass serves, the one with the widest scope last: all snapshots of a linker, unless each is alone."""
    groups: dict[tuple[str, ...], list[Work]] = {}
    for work in works:
        alone = (work.node.partition,) if work.node.spec["scope"] == "snapshot" else ()
        groups.setdefault((work.node.label, work.fingerprint, *alone), []).append(work)
    for group in groups.values():
        yield sorted(group, key=lambda work: work.node.partition)


def _job(bench: Bench, works: list[Work]) -> dict[str, Any]:
    """All a worker needs, as plain data."""
    widest = works[-1]
    spec = widest.node.spec
    stage = find_stage("linker", spec["stage"])
    columns = list(stage.writes_for(stage.config(**spec["settings"])))
    wanted = {work.node.partition: work.node.name for work in works}
    # Hashes do not compress.
    rows = {manifest.partition: manifest.bytes // 8 for manifest in widest.of("keys")}
    cumulative = spec["scope"] == "incremental"
    # Two link datasets may both make a run that is missing: each writes into a folder of its own, and one commits.
    maker = fingerprint({"exchange": exchange_folder(widest), "memory": bench.memory})
    states = {manifest.partition: _state_of(widest, manifest, maker) for manifest in widest.of("keys") if cumulative}
    kept = {snapshot: runs.find_kept(bench.store, state["path"]) for snapshot, state in states.items()}
    fresh = [snapshot for snapshot in sorted(rows) if snapshot in wanted or kept.get(snapshot) is None]
    counted = max(rows[snapshot] for snapshot in fresh) if cumulative else sum(rows.values())
    return {
        "store": bench.store.url,
        "exchange": exchange_folder(widest),
        "rows": rows,
        "fresh": fresh,
        "buckets": _buckets(counted, bench.memory),
        "chunk_rows": _chunk_rows(bench.memory),
        "parts": [part.to_json() for part in linked_parts(widest)],
        "works": wanted,
        "folders": {
            work.node.partition: f"{work.folder}/{fingerprint({'links': exchange_folder(work)})}" for work in works
        },
        "cumulative": cumulative,
        "runs": {
            snapshot: [{"path": part.path, "notes": dict(part.notes)} for part in state.parts]
            for snapshot, state in kept.items()
            if state is not None
        },
        "states": {snapshot: state for snapshot, state in states.items() if kept[snapshot] is None},
        "keep": spec["settings"]["keep"],
        "over": spec["settings"]["over"],
        "within": spec["settings"].get("within", "keep"),
        "columns": columns,
        "listed": "repeats" in columns,  # pieces that a person can read, once a document
    }


def _state_of(work: Work, keys: Manifest, maker: str) -> dict[str, Any]:
    """Where the run of a snapshot lies: what was asked, and the keys it was asked of, of this snapshot alone."""
    node, inputs = work.node, {keys.name: keys.digest}
    about = (runs.KIND, node.label, work.fingerprint, keys.partition)
    return {
        "path": manifest_path(*about, inputs),
        "folder": f"{dataset_folder(*about)}/{maker}",
        "label": node.label,
        "partition": keys.partition,
        "fingerprint": work.fingerprint,
        "spec": dict(node.spec),
        "inputs": inputs,
    }


def _state(state: Mapping[str, Any], made: Sequence[Mapping[str, Any]]) -> Manifest:
    """The manifest of a run, its parts in the order of their keys."""
    about = {name: state[name] for name in ("label", "partition", "fingerprint", "spec", "inputs")}
    parts = tuple(Part.from_json(part) for part in made)
    return Manifest(kind=runs.KIND, **about, parts=parts, ledger={"keys": sum(part.rows for part in parts)})


def _buckets(rows: int, memory: int) -> int:
    """As many as memory asks for, or more: a table that stays near the processor is asked twice as fast."""
    needed = bucket_count(rows, math.ceil((KEY_BYTES + CHUNK_ROW_BYTES / 4) / WORKING_COPIES), memory)
    return max(needed, min(MAX_BUCKETS, rows // NEAR_ROWS))


def _chunk_rows(memory: int) -> int:
    return max(1 << 9, memory // (2 * CHUNK_ROW_BYTES))


def _exchange_tasks(job: Mapping[str, Any]) -> Iterator[Task]:
    shared = {name: job[name] for name in ("store", "exchange", "buckets", "chunk_rows", "keep")}
    for item in job["parts"]:
        if item["snapshot"] in job["fresh"]:
            name = f"{job['exchange']} {item['number']}"
            yield Task(name, f"{__name__}:exchange", {**shared, "part": item}, item["keys"]["bytes"])


def exchange(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one part's keys into buckets, some rows at a time; a row's ordinal is its number among the keys of the part."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    orders = _document_orders(store, part.document) if payload["keep"] == "first" else None
    limit = payload["chunk_rows"]
    chunk, ordinal, row = 0, 0, 0
    pending: list[pa.Table] = []
    waiting = 0
    for batch in iterate_part(store, part.keys, ["keys"]):
        column = batch.column("keys")
        keys, ends = column.flatten().to_numpy(), np.cumsum(_lengths(column))
        start = 0
        while start < len(keys):  # a batch of long documents has more than a task may hold
            own = keys[start : start + limit - waiting]
            columns: dict[str, npt.NDArray[Any]] = {
                "key": own,
                "ordinal": np.arange(ordinal, ordinal + len(own), dtype=np.uint32),
            }
            if orders is not None:
                rows = row + np.searchsorted(ends, np.arange(start, start + len(own)), side="right")
                columns |= {"high": orders[rows, 0], "low": orders[rows, 1]}
            pending.append(pa.table(columns))
            start, ordinal, waiting = start + len(own), ordinal + len(own), waiting + len(own)
            if waiting == limit:
                _send(store, payload, part, chunk, pending)
                chunk, pending, waiting = chunk + 1, [], 0
        row += len(column)
    if waiting:
        _send(store, payload, part, chunk, pending)
        chunk += 1
    return {"chunks": chunk, "rows": ordinal}


def _send(store: Store, payload: Payload, part: LinkedPart, chunk: int, pending: list[pa.Table]) -> None:
    table = pa.concat_tables(pending).combine_chunks()
    target = bucket_of(table.column("key").to_numpy(), payload["buckets"])
    for folder, columns in ((PIECES, ["key", "ordinal"]), (ORDERS, ["high", "low"])):
        if columns[0] in table.column_names:
            name = _chunk_name(part.number, chunk)
            write_rows(
                store, f"{payload['exchange']}/{folder}", name, payload["buckets"], target, table.select(columns)
            )


def _document_orders(store: Store, document: Part) -> npt.NDArray[np.uint64]:
    """The two halves of every doc_id, which is 128 bits in hexadecimal."""
    names = read_part(store, document, ["doc_id"]).column("doc_id").combine_chunks()
    halves = np.frombuffer(bytes.fromhex("".join(names.to_pylist())), ">u8")
    return halves.astype(np.uint64).reshape(-1, 2)


def _chunk_name(number: int, chunk: int) -> str:
    return f"{number:06d}.{chunk:03d}"


def _places(rows: pa.Table, number: int) -> Integers:
    places: Integers = rows.column("ordinal").to_numpy().astype(np.int64) | (number << 32)
    return places


def _lengths(column: pa.Array) -> Integers:
    lengths: Integers = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _count_tasks(job: Mapping[str, Any]) -> Iterator[Task]:
    names = ("store", "exchange", "buckets", "keep", "over", "cumulative", "listed", "chunks", "fresh")
    shared = {name: job[name] for name in names} | {
        "snapshots": [item["snapshot"] for item in job["parts"]],
        "wanted": sorted(job["works"]),
        "distinct": {snapshot: int(rows / job["buckets"] * 1.05) + 1000 for snapshot, rows in job["rows"].items()},
        "folders": {snapshot: state["folder"] for snapshot, state in job["states"].items()},
    }
    for bucket in range(job["buckets"]):
        known = {snapshot: _overlapping(parts, bucket, job["buckets"]) for snapshot, parts in job["runs"].items()}
        payload = {**shared, "bucket": bucket, "runs": known}
        yield Task(f"{job['exchange']} bucket {bucket}", f"{__name__}:judge", payload)


def _overlapping(parts: Sequence[dict[str, Any]], bucket: int, buckets: int) -> list[dict[str, Any]]:
    """Those parts of a run that may hold keys of a bucket."""
    return list(parts[bucket * len(parts) // buckets : -(-(bucket + 1) * len(parts) // buckets)])


def judge(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: how often the keys of one bucket occur, and which of their rows go; a file of verdicts for each chunk.

    Under scope `incremental` also what is to be known of these keys later: a part of the run of each snapshot without one.
    """
    pieces = _Pieces(payload)
    if not payload["cumulative"]:
        table = OccurrenceTable(sum(payload["distinct"].values()))
        pieces.count(table, payload["fresh"])
        return {"top": pieces.judge(table, payload["fresh"]), "runs": {}}
    top: dict[str, list[tuple[int, int]]] = {}
    made: dict[str, dict[str, Any]] = {}
    earlier: list[list[dict[str, Any]]] = []
    for snapshot in sorted(payload["distinct"]):
        if snapshot in payload["fresh"]:
            table = OccurrenceTable(payload["distinct"][snapshot])
            pieces.count(table, [snapshot])
            keys, copies = table.own()
            if snapshot in payload["folders"]:
                made[snapshot] = _write_run(pieces.store, payload, snapshot, keys, copies)
            del keys, copies
            if snapshot in payload["wanted"]:
                for run in earlier:
                    _add(pieces.store, payload, table, run)
                top |= pieces.judge(table, [snapshot])
            del table  # before the next is made
        earlier.append([made[snapshot]] if snapshot in made else payload["runs"].get(snapshot, []))
    return {"top": top, "runs": made}


class _Pieces:
    """The rows of one bucket, of all chunks that were exchanged."""

    def __init__(self, payload: Payload) -> None:
        self.payload, self.store = payload, Store(payload["store"])
        self.of_snapshot: dict[str, list[tuple[int, int]]] = {}
        for number, (snapshot, chunks) in enumerate(zip(payload["snapshots"], payload["chunks"], strict=True)):
            self.of_snapshot.setdefault(snapshot, []).extend((number, chunk) for chunk in range(chunks))

    def read(self, folder: str, number: int, chunk: int) -> pa.Table:
        folder = f"{self.payload['exchange']}/{folder}"
        return read_rows(self.store, folder, self.payload["bucket"], [_chunk_name(number, chunk)])

    def count(self, table: OccurrenceTable, snapshots: Sequence[str]) -> None:
        for at in (at for snapshot in snapshots for at in self.of_snapshot.get(snapshot, ())):
            table.count(self.read(PIECES, *at).column("key").to_numpy())

    def judge(self, table: OccurrenceTable, snapshots: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
        """Verdicts on the rows of these snapshots, which count together; the most copied of what goes, by snapshot."""
        over, keep_first = self.payload["over"], self.payload["keep"] == "first"
        if keep_first:
            table.open_election(over)
            for snapshot in snapshots:
                for number, chunk in self.of_snapshot.get(snapshot, ()):
                    rows, order = self.read(PIECES, number, chunk), self.read(ORDERS, number, chunk)
                    high, low = (order.column(name).to_numpy() for name in ("high", "low"))
                    table.elect(rows.column("key").to_numpy(), Orders(high, low, _places(rows, number)))
                table.settle()
        top: dict[str, list[tuple[int, int]]] = {}
        for snapshot in (snapshot for snapshot in snapshots if snapshot in self.payload["wanted"]):
            listed = top.setdefault(snapshot, [])
            for number, chunk in self.of_snapshot.get(snapshot, ()):
                rows = self.read(PIECES, number, chunk)
                key = rows.column("key").to_numpy()
                copies, removed = table.verdicts(key, _places(rows, number), over, keep_first=keep_first)
                _send_verdicts(self.store, self.payload, number, chunk, rows, copies, removed)
                if self.payload["listed"]:
                    listed[:] = _most([listed, _candidates(key, copies, removed, listed)])
        return top


def _write_run(
    store: Store, payload: Payload, snapshot: str, keys: npt.NDArray[np.uint64], copies: Counts
) -> dict[str, Any]:
    """The part of a snapshot's run that holds the keys of this bucket."""
    bucket, buckets = payload["bucket"], payload["buckets"]
    pieces = max(1, math.ceil(len(keys) / RUN_BLOCK_ROWS))
    blocks = np.arange(bucket * pieces + 1, (bucket + 1) * pieces, dtype=np.uint64)
    bounds = [0, *np.searchsorted(bucket_of(keys, buckets * pieces), blocks).tolist(), len(keys)]
    return runs.write_run_part(
        store,
        payload["folders"][snapshot],
        f"{bucket:06d}-{buckets}",
        (_run_block(keys[low:high], copies[low:high]) for low, high in pairwise(bounds)),
        schema=RUN,
        bucket=bucket,
        buckets=buckets,
        pieces=pieces,
    ).to_json()


def _run_block(keys: npt.NDArray[np.uint64], copies: Counts) -> pa.Table:
    # Windows occur once, nearly all of them: four bytes for that would be a third of the run.
    narrow = np.min_scalar_type(int(copies.max(initial=0)))
    return pa.table({"key": keys, "copies": copies.astype(narrow)})


def _add(store: Store, payload: Payload, table: OccurrenceTable, run: Sequence[Mapping[str, Any]]) -> None:
    """What an earlier snapshot has of the keys at hand."""
    at = 0
    for block in runs.Run(store, run).blocks(payload["bucket"], payload["buckets"]):
        copies = block.column("copies").to_numpy().astype(np.uint32)
        at = table.add(block.column("key").to_numpy(), copies, at)


def _send_verdicts(
    store: Store, payload: Payload, number: int, chunk: int, rows: pa.Table, copies: Counts, removed: pa.Array
) -> None:
    """What is more than nothing: pieces that occur again."""
    again = np.flatnonzero(copies > 1)
    ordinals = rows.column("ordinal").to_numpy()[again]
    table = pa.table([pa.array(ordinals), pa.array(copies[again]), pa.array(removed[again])], schema=VERDICTS)
    folder, name = _verdicts(payload["exchange"], number), _verdict_name(payload["bucket"], chunk)
    write_rows(store, folder, name, 1, np.zeros(len(table), np.int64), table)


def _verdicts(exchange: str, number: int) -> str:
    return f"{exchange}/verdicts/{number:06d}"


def _verdict_name(bucket: int, chunk: int) -> str:
    return f"{bucket:04d}.{chunk:03d}"


def _candidates(
    key: npt.NDArray[np.uint64], copies: Counts, removed: npt.NDArray[np.bool_], known: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Removed pieces that may be among the most copied: (copies, key)."""
    least = known[-1][0] if len(known) == REPORTED else 0
    found = np.flatnonzero(removed & (copies >= least))
    keys, first = np.unique(key[found], return_index=True)
    return list(zip(copies[found][first].tolist(), keys.tolist(), strict=True))


def _most(lists: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The most copied of all, each key once; of equally many copies the smallest keys."""
    found = {(copies, key) for pieces in lists for copies, key in pieces}
    return sorted(found, key=lambda item: (-item[0], item[1]))[:REPORTED]


def _write_tasks(job: Mapping[str, Any]) -> Iterator[Task]:
    for item in job["parts"]:
        if item["snapshot"] in job["works"]:
            payload = {
                "store": job["store"],
                "exchange": job["exchange"],
                "buckets": job["buckets"],
                "folder": job["folders"][item["snapshot"]],
                "part": item,
                "chunks": job["chunks"][item["number"]],
                "rows": job["pieces"][item["number"]],
                "top": job["top"][item["snapshot"]],
                "columns": job["columns"],
                "within": job["within"],
            }
            name = f"{job['works'][item['snapshot']]} {item['number']}"
            yield Task(name, f"{__name__}:write", payload, item["keys"]["bytes"])


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the links beside one document part."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    copies, removed = _read_verdicts(store, payload, part)
    counts = dict.fromkeys((*COUNTED, *WITHIN), 0)
    histograms: list[dict[str, dict[str, int]]] = []
    holders = _Holders([key for _, key in payload["top"]])
    schema = pa.schema(list(COLUMNS.items()))

    def batches() -> Iterator[pa.RecordBatch]:
        piece = row = 0
        for batch in iterate_part(store, part.keys, payload["columns"]):
            pieces = np.concatenate([[0], np.cumsum(_lengths(batch.column("keys")))]).astype(np.int64)
            own = slice(piece, piece + int(pieces[-1]))
            holders.add(batch, pieces, row)
            repeats = _repeats(batch, pieces, removed[own], remove=payload["within"] == "remove")
            made = _links(batch, pieces, copies[own], removed[own], repeats)
            piece, row = own.stop, row + batch.num_rows
            counts["pieces"] += int(pieces[-1]) + len(repeats.going.starts) + int(repeats.staying.sum())
            counts["removed_pieces"] += int(np.count_nonzero(removed[own])) + len(repeats.going.starts)
            counts["removed_pieces_within"] += repeats.pieces_within
            counts["removed_bytes_within"] += repeats.bytes_within
            counts["documents"] += pc.sum(pc.greater(made["removed_bytes"], 0)).as_py() or 0
            counts["removed_bytes"] += pc.sum(made["removed_bytes"]).as_py() or 0
            counts["text_bytes"] += pc.sum(batch.column("text_bytes")).as_py() or 0
            links = pa.RecordBatch.from_arrays([made[name] for name in COLUMNS], schema=schema)
            histograms.append({name: histogram(links.column(name)) for name in COLUMNS if name != "removed"})
            yield links

    def notes() -> dict[str, Any]:
        listed = {name: counts[name] for name in counts if name not in WITHIN or "repeats" in payload["columns"]}
        return {**listed, "histograms": merge_histograms(histograms)}  # type: ignore[arg-type]

    written = write_thin_part(store, payload["folder"], part.document, COLUMNS, batches(), notes=notes)
    if payload["top"]:
        folder = _holders_folder(payload["exchange"], part.snapshot)
        table = holders.table(store, part.document)
        write_rows(store, folder, f"{part.number:06d}", 1, np.zeros(len(table), np.int64), table)
    return written.to_json()


def _read_verdicts(store: Store, payload: Payload, part: LinkedPart) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """Of every piece of a part, how often it occurs and whether it goes."""
    copies, removed = np.ones(payload["rows"], np.uint32), np.zeros(payload["rows"], np.bool_)
    for bucket in range(payload["buckets"]):
        for chunk in range(payload["chunks"]):
            folder = _verdicts(payload["exchange"], part.number)
            found = read_rows(store, folder, 0, [_verdict_name(bucket, chunk)])
            ordinals = found.column("ordinal").to_numpy()
            copies[ordinals] = found.column("copies").to_numpy()
            removed[ordinals] = found.column("removed").to_numpy()
    return copies, removed


class _Repeats(NamedTuple):
    """Of the repeats of pieces within a document: which go, how many of each document stay, what goes for that alone."""

    going: Ranges
    staying: Integers
    pieces_within: int
    bytes_within: int


def _repeats(batch: pa.RecordBatch, pieces: Integers, removed: npt.NDArray[np.bool_], *, remove: bool) -> _Repeats:
    """A repeat goes with the piece it repeats; with `remove` it goes in any case."""
    documents = len(pieces) - 1
    if "repeats" not in batch.schema.names:
        nothing = np.zeros(0, np.uint32)
        return _Repeats(
            Ranges(nothing, nothing, np.zeros(documents + 1, np.int64)), np.zeros(documents, np.int64), 0, 0
        )
    starts, ends, firsts = _ranges(batch.column("repeats"))
    of = batch.column("repeat_of").flatten().to_numpy() + np.repeat(pieces[:-1], np.diff(firsts))
    across = removed[of]
    going = np.ones(len(of), np.bool_) if remove else across
    alone = going & ~across
    gone = np.concatenate([[0], np.cumsum(going)]).astype(np.int64)[firsts]
    return _Repeats(
        Ranges(starts[going], ends[going], gone),
        np.diff(firsts) - np.diff(gone),
        int(np.count_nonzero(alone)),
        int((ends[alone].astype(np.int64) - starts[alone]).sum()),
    )


def _links(
    batch: pa.RecordBatch, pieces: Integers, copies: Counts, removed: npt.NDArray[np.bool_], repeats: _Repeats
) -> dict[str, pa.Array]:
    """The columns of a batch of documents."""
    valid = batch.column("keys").is_valid().to_numpy(zero_copy_only=False)
    units = _units(batch)
    found: Cover = cover(units, pieces, removed, repeats.going)
    size = batch.column("text_bytes").fill_null(0).to_numpy().astype(np.int64)
    left = _sums(~found.touched, units.firsts) + repeats.staying
    words = None
    if "words" in batch.schema.names:
        words = _sums(np.where(found.touched, 0, batch.column("words").flatten().to_numpy()), units.firsts)
    starts, ends, firsts = found.ranges
    spans = pa.StructArray.from_arrays([pa.array(starts), pa.array(ends)], fields=list(COLUMNS["removed"].value_type))
    return {
        "removed": pa.ListArray.from_arrays(
            pa.array(firsts.astype(np.int32)), spans, type=COLUMNS["removed"], mask=pa.array(~valid)
        ),
        "removed_bytes": count_column(found.sizes, valid),
        "removed_share": share_column(found.sizes, size, valid),
        "copies": count_column(_most_in(copies, pieces), valid & (np.diff(pieces) > 0)),
        "bytes_left": count_column(size - found.sizes, valid),
        "pieces_left": count_column(left, valid),
        "words_left": pa.nulls(len(batch), pa.uint32()) if words is None else count_column(words, valid),
    }


def _units(batch: pa.RecordBatch) -> Ranges:
    if "spans" in batch.schema.names:
        return _ranges(batch.column("spans"))
    column = batch.column("lengths")
    lengths = column.flatten().to_numpy().astype(np.int64)
    firsts = np.concatenate([[0], np.cumsum(_lengths(column))]).astype(np.int64)
    ends = np.cumsum(lengths)
    before = np.concatenate([[0], ends]).astype(np.int64)[firsts[:-1]]  # the bytes of all documents before
    ends -= np.repeat(before, np.diff(firsts))
    return Ranges((ends - lengths).astype(np.uint32), ends.astype(np.uint32), firsts)


def _ranges(column: pa.Array) -> Ranges:
    flat = column.flatten()
    firsts = np.concatenate([[0], np.cumsum(_lengths(column))]).astype(np.int64)
    return Ranges(flat.field("start").to_numpy(), flat.field("end").to_numpy(), firsts)


def _sums(values: npt.NDArray[Any], firsts: Integers) -> Integers:
    sums: Integers = np.diff(np.concatenate([[0], np.cumsum(values, dtype=np.int64)])[firsts])
    return sums


def _most_in(copies: Counts, pieces: Integers) -> Integers:
    """The largest number of each document; 0 where it has no pieces."""
    largest = np.zeros(len(pieces) - 1, np.int64)
    filled = np.diff(pieces) > 0
    if filled.any():
        largest[filled] = np.maximum.reduceat(copies, pieces[:-1][filled])
    return largest


class _Holders:
    """Documents of a part that have one of the most copied pieces, and where in them it lies."""

    def __init__(self, keys: Sequence[int]) -> None:
        self.keys = np.sort(np.array(keys, np.uint64))
        self.found: list[dict[str, npt.NDArray[Any]]] = []

    def add(self, batch: pa.RecordBatch, pieces: Integers, first_row: int) -> None:
        if not len(self.keys):
            return
        keys = batch.column("keys").flatten().to_numpy()
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        at = np.flatnonzero(self.keys[place] == keys)
        spans = _units(batch)
        rows = np.searchsorted(pieces, at, side="right") - 1
        self.found.append({"key": keys[at], "row": rows + first_row, "start": spans.starts[at], "end": spans.ends[at]})

    def table(self, store: Store, document: Part) -> pa.Table:
        """One row for each piece and host: how many documents, and the least of them."""
        if not any(len(found["key"]) for found in self.found):
            return HOLDERS.empty_table()
        columns = {name: np.concatenate([found[name] for found in self.found]) for name in self.found[0]}
        about = read_part(store, document, ["doc_id", "host"]).take(pa.array(columns["row"]))
        ones = pa.array(np.ones(len(columns["row"]), np.int64))
        table = pa.table({**columns, "documents": ones, **{name: about.column(name) for name in ("doc_id", "host")}})
        return _by_host(table.select(HOLDERS.names).cast(HOLDERS))


def _by_host(table: pa.Table) -> pa.Table:
    """Rows of one piece and host added up; the least doc_id stands for all."""
    table = table.sort_by([("key", "ascending"), ("host", "ascending"), ("doc_id", "ascending")])
    grouped = table.group_by(["key", "host"], use_threads=False).aggregate(
        [("documents", "sum"), *((name, "first") for name in ("doc_id", "row", "start", "end", *_extra(table)))]
    )
    names = {f"{name}_first": name for name in table.column_names} | {"documents_sum": "documents"}
    return grouped.rename_columns([names.get(name, name) for name in grouped.column_names]).select(table.column_names)


def _extra(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in HOLDERS.names]


def _holders_folder(exchange: str, snapshot: str) -> str:
    return f"{exchange}/holders/{fingerprint({'snapshot': snapshot})}"


def _report_tasks(job: Mapping[str, Any]) -> Iterator[Task]:
    for snapshot, name in job["works"].items():
        if job["listed"]:
            payload = {
                "store": job["store"],
                "folder": _holders_folder(job["exchange"], snapshot),
                "parts": [item for item in job["parts"] if item["snapshot"] == snapshot],
                "top": job["top"][snapshot],
            }
            yield Task(name, f"{__name__}:report", payload)


def report(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the most copied pieces that were removed, with their text, and the hosts that have them."""
    store = Store(payload["store"])
    if not payload["top"]:
        return {"pieces": []}
    parts = {item["number"]: LinkedPart.from_json(item) for item in payload["parts"]}
    table = HOLDERS.append(pa.field("number", pa.int64())).empty_table()
    for number in parts:
        found = read_rows(store, payload["folder"], 0, [f"{number:06d}"])
        found = found.append_column("number", pa.array(np.full(len(found), number, np.int64)))
        table = _by_host(pa.concat_tables([table, found]))
    pieces, wanted = [], []
    for copies, key in payload["top"]:
        held = table.filter(pc.equal(table.column("key"), pa.scalar(key, pa.uint64())))
        hosts = sorted(
            zip(held.column("host").to_pylist(), held.column("documents").to_pylist(), strict=True),
            key=lambda item: (-item[1], item[0] or ""),
        )
        wanted.append(held.sort_by([("doc_id", "ascending")]).slice(0, 1).to_pylist()[0])
        named = {host: count for host, count in hosts if host is not None}
        pieces.append(
            {
                "copies": copies,
                "documents": sum(count for _, count in hosts),
                "hosts": len(named),
                "top_hosts": dict(list(named.items())[:REPORTED_HOSTS]),
                "doc_id": wanted[-1]["doc_id"],
            }
        )
    texts = _texts(store, parts, wanted)
    return {"pieces": [{"text": text, **piece} for text, piece in zip(texts, pieces, strict=True)]}


def _texts(store: Store, parts: Mapping[int, LinkedPart], wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    """The beginning of each piece as it stands in one document."""
    found: dict[int, str] = {}
    for number in {piece["number"] for piece in wanted}:
        asked = sorted((piece["row"], index) for index, piece in enumerate(wanted) if piece["number"] == number)
        first = 0
        for batch in iterate_part(store, parts[number].document, ["text"]):
            while asked and asked[0][0] < first + batch.num_rows:
                row, index = asked.pop(0)
                data: bytes = batch.column("text")[row - first].as_py().encode()
                piece = data[wanted[index]["start"] : wanted[index]["end"]].decode("utf-8", "replace")
                found[index] = piece.strip()[:REPORTED_CHARACTERS]
            first += batch.num_rows
            if not asked:
                break
    return [found[index] for index in range(len(wanted))]
