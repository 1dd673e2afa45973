"""Pieces of text that occur more often than they should: which bytes of each document go.

    keys part  ->  rows (key, place) by key  ->  how often, and who is first  ->  rows back to their part  ->  spans

A linker gives every piece of a text (a line, three sentences, a window of tokens) a key; see `factory.kernels.span_keys` for
its columns. A bucket of keys goes through a table of its distinct keys in streams, snapshot by snapshot: memory does not
grow with how often a key occurs, and one pass serves all snapshots of an `incremental` link, which counts what earlier
ones have and never looks at later ones. Of pieces with one key, those of an earlier snapshot are first, then the smallest
doc_id, then the one that comes first in its document: no order of parts or rows enters.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS, Needs
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.kernels.columns import count_column, share_column
from factory.kernels.covers import Cover, Ranges, cover
from factory.kernels.occurrences import KEY_BYTES, OccurrenceTable, Orders
from factory.recipes.steps.links.parts import LinkedPart, clear, exchange_folder, linked_parts
from factory.recipes.work import Bench, Made, Work
from factory.storage.exchange import MAX_BUCKETS, WORKING_COPIES, bucket_count, bucket_of, read_rows, write_rows
from factory.storage.parts import iterate_part, read_part, write_thin_part
from factory.storage.store import Store

COLUMNS = LINK_COLUMNS["spans"]
VERDICTS = pa.schema([("ordinal", pa.uint32()), ("copies", pa.uint32()), ("removed", pa.bool_())])
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
PIECES, ORDERS = "pieces", "orders"  # folders of an exchange
REPORTED = 50  # most removed pieces in a report
REPORTED_HOSTS = 5
REPORTED_CHARACTERS = 200

NEAR_ROWS = 1 << 19
# Rows of a part that are exchanged at once take so many bytes each: key, place, order, bucket, and a sorted copy.
CHUNK_ROW_BYTES = 128
# What a row takes on disk: key and ordinal; with the document's order where a first one is elected; its verdict.
PLAIN_BYTES, ORDER_BYTES, VERDICT_BYTES = 12, 16, 9

Counts = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]


def needs(rows: int, keys: int, memory: int, *, keep: str = "first") -> Needs:
    """What linking so many documents with so many pieces takes.

    A window of 50 words makes a piece of each word: 0.21 million pieces, 1.9 MB of keys and 2.6 MB of exchange (6.0 with
    `keep: first`) a megabyte of English text. Lines make 0.007 million.
    """
    splits = _buckets(keys, memory)
    row = PLAIN_BYTES + VERDICT_BYTES + (ORDER_BYTES if keep == "first" else 0)
    chunk = min(keys, _chunk_rows(memory)) * CHUNK_ROW_BYTES
    table = math.ceil(keys / splits) * KEY_BYTES + math.ceil(chunk / splits)
    return Needs(memory=max(chunk, table), disk=keys * row, splits=splits)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots, phase by phase, so that all workers are busy in each."""
    jobs = [_job(bench, group) for group in _groups(works)]
    sent = bench.run_tasks("exchange pieces", [task for job in jobs for task in _exchange_tasks(job)])
    for job in jobs:
        job["rows"] = sum(sent[f"{job['exchange']} {item['number']}"]["rows"] for item in job["parts"])
        job["chunks"] = [sent[f"{job['exchange']} {item['number']}"]["chunks"] for item in job["parts"]]
        job["pieces"] = [sent[f"{job['exchange']} {item['number']}"]["rows"] for item in job["parts"]]
    judged = bench.run_tasks("count pieces", [task for job in jobs for task in _count_tasks(job)], unit="buckets")
    for job in jobs:
        job["top"] = {
            snapshot: _most([judged[task.name]["top"].get(snapshot, []) for task in _count_tasks(job)])
            for snapshot in job["works"]
        }
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
    for count in ("documents", "pieces", "removed_pieces", "removed_bytes", "text_bytes"):
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
    rows = sum(manifest.bytes for manifest in widest.of("keys")) // 8  # hashes do not compress
    return {
        "store": bench.store.url,
        "exchange": exchange_folder(widest),
        "buckets": _buckets(rows, bench.memory),
        "chunk_rows": _chunk_rows(bench.memory),
        "parts": [part.to_json() for part in linked_parts(widest)],
        "works": {work.node.partition: work.node.name for work in works},
        "folders": {
            work.node.partition: f"{work.folder}/{fingerprint({'links': exchange_folder(work)})}" for work in works
        },
        "cumulative": spec["scope"] == "incremental",
        "keep": spec["settings"]["keep"],
        "over": spec["settings"]["over"],
        "columns": columns,
        "listed": "repeats" in columns,  # pieces that a person can read, once a document
    }


def _buckets(rows: int, memory: int) -> int:
    """As many as memory asks for, or more: a table that stays near the processor is asked twice as fast."""
    needed = bucket_count(rows, math.ceil((KEY_BYTES + CHUNK_ROW_BYTES / 4) / WORKING_COPIES), memory)
    return max(needed, min(MAX_BUCKETS, rows // NEAR_ROWS))


def _chunk_rows(memory: int) -> int:
    return max(1 << 9, memory // (2 * CHUNK_ROW_BYTES))


def _exchange_tasks(job: Mapping[str, Any]) -> Iterator[Task]:
    shared = {name: job[name] for name in ("store", "exchange", "buckets", "chunk_rows", "keep")}
    for item in job["parts"]:
        name = f"{job['exchange']} {item['number']}"
        yield Task(name, f"{__name__}:exchange", {**shared, "part": item}, item["keys"]["bytes"])


def exchange(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one part's keys into buckets, some rows at a time; a row's ordinal is its number among the keys of the part."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    orders = _document_orders(store, part.document) if payload["keep"] == "first" else None
    chunk, ordinal, row = 0, 0, 0
    pending: list[pa.Table] = []
    waiting = 0
    for batch in iterate_part(store, part.keys, ["keys"]):
        column = batch.column("keys")
        keys = column.flatten().to_numpy()
        columns: dict[str, npt.NDArray[Any]] = {
            "key": keys,
            "ordinal": np.arange(ordinal, ordinal + len(keys), dtype=np.uint32),
        }
        if orders is not None:
            rows = np.repeat(np.arange(row, row + len(column)), _lengths(column))
            columns |= {"high": orders[rows, 0], "low": orders[rows, 1]}
        pending.append(pa.table(columns))
        ordinal, row, waiting = ordinal + len(keys), row + len(column), waiting + len(keys)
        if waiting >= payload["chunk_rows"]:
            _send(store, payload, part, chunk, pending)
            chunk, pending, waiting = chunk + 1, [], 0
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
    names = ("store", "exchange", "keep", "over", "cumulative", "listed", "chunks")
    shared = {name: job[name] for name in names} | {
        "snapshots": [item["snapshot"] for item in job["parts"]],
        "wanted": sorted(job["works"]),
        "distinct": int(job["rows"] / job["buckets"] * 1.05) + 1000,
    }
    for bucket in range(job["buckets"]):
        yield Task(f"{job['exchange']} bucket {bucket}", f"{__name__}:judge", {**shared, "bucket": bucket})


def judge(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: how often the keys of one bucket occur, and which of their rows go; a file of verdicts for each chunk."""
    store, table = Store(payload["store"]), OccurrenceTable(payload["distinct"])
    over, keep_first = payload["over"], payload["keep"] == "first"
    of_snapshot: dict[str, list[tuple[int, int]]] = {}
    for number, (snapshot, chunks) in enumerate(zip(payload["snapshots"], payload["chunks"], strict=True)):
        of_snapshot.setdefault(snapshot, []).extend((number, chunk) for chunk in range(chunks))

    def read(folder: str, number: int, chunk: int) -> pa.Table:
        return read_rows(store, f"{payload['exchange']}/{folder}", payload["bucket"], [_chunk_name(number, chunk)])

    top: dict[str, list[tuple[int, int]]] = {}
    rounds = [[snapshot] for snapshot in of_snapshot] if payload["cumulative"] else [list(of_snapshot)]
    for snapshots in rounds:
        for at in (at for snapshot in snapshots for at in of_snapshot[snapshot]):
            table.count(read(PIECES, *at).column("key").to_numpy())
        if keep_first:
            table.open_election(over)
            for snapshot in snapshots:
                for number, chunk in of_snapshot[snapshot]:
                    rows, order = read(PIECES, number, chunk), read(ORDERS, number, chunk)
                    high, low = (order.column(name).to_numpy() for name in ("high", "low"))
                    table.elect(rows.column("key").to_numpy(), Orders(high, low, _places(rows, number)))
                table.settle()
        for snapshot in (snapshot for snapshot in snapshots if snapshot in payload["wanted"]):
            listed = top.setdefault(snapshot, [])
            for number, chunk in of_snapshot[snapshot]:
                rows = read(PIECES, number, chunk)
                key = rows.column("key").to_numpy()
                copies, removed = table.verdicts(key, _places(rows, number), over, keep_first=keep_first)
                _send_verdicts(store, payload, number, chunk, rows, copies, removed)
                if payload["listed"]:
                    listed[:] = _most([listed, _candidates(key, copies, removed, listed)])
        table.close_group()
    return {"top": top}


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
            }
            name = f"{job['works'][item['snapshot']]} {item['number']}"
            yield Task(name, f"{__name__}:write", payload, item["keys"]["bytes"])


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the links beside one document part."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    copies, removed = _read_verdicts(store, payload, part)
    counts = dict.fromkeys(("documents", "pieces", "removed_pieces", "removed_bytes", "text_bytes"), 0)
    histograms: list[dict[str, dict[str, int]]] = []
    holders = _Holders([key for _, key in payload["top"]])
    schema = pa.schema(list(COLUMNS.items()))

    def batches() -> Iterator[pa.RecordBatch]:
        piece = row = 0
        for batch in iterate_part(store, part.keys, payload["columns"]):
            pieces = np.concatenate([[0], np.cumsum(_lengths(batch.column("keys")))]).astype(np.int64)
            own = slice(piece, piece + int(pieces[-1]))
            holders.add(batch, pieces, row)
            made, again = _links(batch, pieces, copies[own], removed[own])
            piece, row = own.stop, row + batch.num_rows
            counts["pieces"] += int(pieces[-1]) + again
            counts["removed_pieces"] += int(np.count_nonzero(removed[own])) + again
            counts["documents"] += pc.sum(pc.greater(made["removed_bytes"], 0)).as_py() or 0
            counts["removed_bytes"] += pc.sum(made["removed_bytes"]).as_py() or 0
            counts["text_bytes"] += pc.sum(batch.column("text_bytes")).as_py() or 0
            links = pa.RecordBatch.from_arrays([made[name] for name in COLUMNS], schema=schema)
            histograms.append({name: histogram(links.column(name)) for name in COLUMNS if name != "removed"})
            yield links

    def notes() -> dict[str, Any]:
        return {**counts, "histograms": merge_histograms(histograms)}  # type: ignore[arg-type]

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


def _links(
    batch: pa.RecordBatch, pieces: Integers, copies: Counts, removed: npt.NDArray[np.bool_]
) -> tuple[dict[str, pa.Array], int]:
    """The columns of a batch of documents, and how many repeats within a document go."""
    valid = batch.column("keys").is_valid().to_numpy(zero_copy_only=False)
    units, always = _units(batch), _ranges(batch.column("repeats")) if "repeats" in batch.schema.names else None
    nothing = Ranges(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(len(pieces), np.int64))
    found: Cover = cover(units, pieces, removed, always or nothing)
    size = batch.column("text_bytes").fill_null(0).to_numpy().astype(np.int64)
    left = _sums(~found.touched, units.firsts)
    words = None
    if "words" in batch.schema.names:
        words = _sums(np.where(found.touched, 0, batch.column("words").flatten().to_numpy()), units.firsts)
    starts, ends, firsts = found.ranges
    spans = pa.StructArray.from_arrays([pa.array(starts), pa.array(ends)], fields=list(COLUMNS["removed"].value_type))
    columns = {
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
    return columns, 0 if always is None else len(always.starts)


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
