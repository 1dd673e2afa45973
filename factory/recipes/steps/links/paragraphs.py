"""Paragraphs seen before: documents are asked for one after another, against a Bloom filter of those that came before them.

    keys part  ->  shards, cut into runs by the order  ->  filter, run after run  ->  verdicts  ->  links beside each part

The order is (snapshot, hash of doc_id), so it does not depend on parts, and runs are ranges of that hash: a task reads one
after the other, and holds one run and its filter. Each snapshot has a filter of its own, as large as its n-grams ask for, and
asks those of the earlier ones of its scope too. The filters are kept: a later snapshot reads them, and nothing of earlier
documents. They are made again from the keys when they are gone. Of the i-th snapshot's filter false positives are
`false_positives` x 6 / (pi x i)^2 rare, so that any number of them together stays below `false_positives`.

As an earlier snapshot's verdicts depend on nothing later, scope `global` is the same as `incremental`.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, IntegrityError
from factory.core.fingerprint import fingerprint, hash_ids
from factory.core.links import LINK_COLUMNS, Needs
from factory.core.manifest import Manifest, Part, dataset_folder, manifest_path
from factory.core.schema import SPANS
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.steps.links.parts import ROW_BITS, LinkedPart, clear, exchange_folder, linked_parts
from factory.recipes.steps.links.runs import KIND as INDEX
from factory.recipes.steps.links.runs import find_kept, keep
from factory.recipes.work import Bench, Made, Work
from factory.storage.exchange import MAX_BUCKETS, bucket_of, read_rows, write_rows
from factory.storage.parts import read_part, value_count, write_file, write_thin_part
from factory.storage.store import Store

COLUMNS = LINK_COLUMNS["paragraphs"]
KEY_BYTES = 8
RUN_SHARE = 4  # of the memory of a task, what a run may take; its filters have the rest
COPIES = 3  # of a run that is read: its files, one table of them, and what is looked at


@dataclass(frozen=True)
class _Turn:
    """One snapshot in the order of a linker's scope: what it is made of, and where its filters are kept.

    `state` is the path of their manifest, `inputs` what they are made of, and `before` has the paths of the earlier ones.
    `asked` says whether the links of this snapshot are to be made; else only its filters are gone.
    """

    work: Work
    snapshot: str
    place: int
    state: str
    inputs: Mapping[str, str]
    before: tuple[str, ...]
    parts: tuple[LinkedPart, ...]
    asked: bool

    @property
    def settings(self) -> Mapping[str, Any]:
        settings: Mapping[str, Any] = self.work.node.spec["settings"]
        return settings

    @property
    def alone(self) -> bool:
        """Whether no other snapshot is asked, now or later."""
        return bool(self.work.node.spec["scope"] == "snapshot")

    @property
    def exchange(self) -> str:
        return f"{exchange_folder(self.work)}/{self.snapshot}"

    @property
    def folder(self) -> str:
        """Where the filters lie."""
        node = self.work.node
        return f"{dataset_folder(INDEX, node.label, self.work.fingerprint, self.snapshot)}/{fingerprint(self.inputs)}"


def needs(rows: int, keys: int, memory: int, settings: Mapping[str, Any] | None = None) -> Needs:
    """For `keys` n-grams of `rows` documents in all snapshots of a scope; settings as the linker's, by default its own."""
    from factory.kernels.bloom import WORD_BITS, filter_words

    chosen = {"shards": 1, "false_positives": 0.01, **(settings or {})}
    shards = int(chosen["shards"])
    filters = filter_words(math.ceil(keys / shards), _rarer(chosen["false_positives"], 1)) * WORD_BITS // 8
    runs = _runs(keys * KEY_BYTES, shards, memory)
    run = math.ceil((keys * KEY_BYTES + rows * 48) / (shards * runs))
    return Needs(filters + COPIES * run, keys * KEY_BYTES + rows * 64 + shards * filters, shards * runs)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots, one snapshot after the other; shards and parts of one share the workers."""
    turns = _turns(bench, works)
    made: dict[str, Made] = {}
    for place in sorted({turn.place for turn in turns}):
        now = [turn for turn in turns if turn.place == place]
        made.update(_take_turns(bench, now))
    return made


def _turns(bench: Bench, works: list[Work]) -> list[_Turn]:
    """The snapshots that are asked for, and those earlier ones whose filters are gone."""
    turns: dict[str, _Turn] = {}
    for work in sorted(works, key=lambda work: work.node.partition):
        parts = [part for part in linked_parts(work) if part.snapshot <= work.node.partition]
        before: tuple[str, ...] = ()
        for place, snapshot in enumerate(sorted({part.snapshot for part in parts} | {work.node.partition})):
            own = tuple(part for part in parts if part.snapshot == snapshot)
            inputs = {
                name: manifest.digest for name, manifest in work.upstream.items() if manifest.partition <= snapshot
            }
            state = manifest_path(INDEX, work.node.label, work.fingerprint, snapshot, inputs)
            asked = snapshot == work.node.partition
            if asked or (state not in turns and find_kept(bench.store, state) is None):
                turns[state] = _Turn(work, snapshot, place, state, inputs, before, own, asked)
            before = (*before, state)
    return list(turns.values())


def _before(store: Store, turn: _Turn, shard: int) -> list[Part]:
    """The filters of a shard in earlier snapshots, which were there or have been made by now."""
    parts = []
    for state in turn.before:
        manifest = find_kept(store, state)
        if manifest is None:
            raise IntegrityError(
                f"The filters of {state} went away while they were needed. 'factory run' makes them again."
            )
        parts.append(manifest.parts[shard])
    return parts


def _take_turns(bench: Bench, turns: list[_Turn]) -> dict[str, Made]:
    exchanges = [task for turn in turns for task in _exchange_tasks(bench, turn)]
    dealt = bench.run_tasks("exchange n-grams", exchanges)
    for turn in turns:
        _require_memory(bench, turn, dealt)
    screens = [task for turn in turns for task in _screen_tasks(bench, turn, dealt)]
    screened = bench.run_tasks("ask for n-grams", screens, unit="n-grams")
    written = bench.run_tasks("paragraphs", [task for turn in turns for task in _write_tasks(bench, turn)], unit="rows")
    made = {}
    for turn in turns:
        filters = [screened[f"{turn.exchange} {shard}"] for shard in range(turn.settings["shards"])]
        _keep(bench.store, turn, [Part.from_json(item["part"]) for item in filters if item["part"] is not None])
        if turn.asked:
            parts = [Part.from_json(written[f"{turn.exchange} write {part.number}"]["part"]) for part in turn.parts]
            made[turn.work.node.name] = _made(parts, [item["filter"] for item in filters])
        clear(bench, turn.exchange)
    return made


def _made(parts: list[Part], filters: list[Mapping[str, Any]]) -> Made:
    notes: dict[str, Any] = {"histograms": merge_histograms([part.notes["histograms"] for part in parts])}
    for count in ("seen", "paragraphs", "removed_paragraphs", "removed_bytes"):
        notes[count] = sum(part.notes[count] for part in parts)
    notes["filters"] = {
        "shards": len(filters),
        "ngrams": sum(item["ngrams"] for item in filters),
        "inserted": sum(item["inserted"] for item in filters),
        "bytes": sum(item["bytes"] for item in filters),
        "fill": max(item["fill"] for item in filters),
    }
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


# --- n-grams into shards


def _runs(size: int, shards: int, memory: int) -> int:
    """Into how many runs a shard is cut, so that one of them, as it is read, takes its share of the memory."""
    return min(MAX_BUCKETS // shards, max(1, math.ceil(size / shards * COPIES * RUN_SHARE / memory)))


def _exchange_tasks(bench: Bench, turn: _Turn) -> Iterator[Task]:
    ngrams = sum(value_count(bench.store, part.keys, "keys") for part in turn.parts)
    runs = _runs(ngrams * KEY_BYTES, turn.settings["shards"], bench.memory)
    for part in turn.parts:
        payload = {
            "store": bench.store.url,
            "exchange": turn.exchange,
            "shards": turn.settings["shards"],
            "runs": runs,
            "part": part.to_json(),
        }
        yield Task(f"{turn.exchange} deal {part.number}", f"{__name__}:exchange", payload, part.keys.bytes)


def exchange(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the n-grams of one part's documents, to the shards they are dealt to, by where they are in the order."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    shards, runs = payload["shards"], payload["runs"]
    ids = read_part(store, part.document, ["doc_id"]).column("doc_id").combine_chunks()
    table = read_part(store, part.keys, ["keys", "counts"])
    order, check = hash_ids(ids, 0), hash_ids(ids, 1)
    shard = (check % np.uint64(shards)).astype(np.int64)
    lengths = pc.fill_null(pc.list_value_length(table.column("keys").combine_chunks()), 0).to_numpy()
    rows = np.flatnonzero(lengths)  # a document without n-grams is asked nothing
    node = rows | (part.number << ROW_BITS)
    table = table.take(pa.array(rows))
    columns = {"order": order[rows], "check": check[rows], "node": node}
    for name in reversed(columns):
        table = table.add_column(0, name, pa.array(columns[name]))
    target = shard * runs + bucket_of(order, runs).astype(np.int64)
    write_rows(store, payload["exchange"], part.writer, shards * runs, target[rows], table)
    ngrams = np.bincount(shard, weights=lengths, minlength=shards).astype(np.int64)
    return {"ngrams": ngrams.tolist(), "runs": runs}


def _ngrams(turn: _Turn, dealt: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """The n-grams of each shard."""
    found = [dealt[f"{turn.exchange} deal {part.number}"]["ngrams"] for part in turn.parts]
    return [sum(item[shard] for item in found) for shard in range(turn.settings["shards"])]


def _require_memory(bench: Bench, turn: _Turn, dealt: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise FactoryError where the filters of a shard are larger than what a task may hold, with what to do."""
    ngrams = max(_ngrams(turn, dealt))
    shards = turn.settings["shards"]
    earlier = [sum(part.bytes for part in _before(bench.store, turn, shard)) for shard in range(shards)]
    filters = _filter_words(turn, ngrams) * 8 + max(earlier)
    allowed = bench.memory - bench.memory // RUN_SHARE
    if filters <= allowed:
        return
    clear(bench, turn.exchange)
    label = turn.work.node.label
    raise FactoryError(
        f"links/{label}@{turn.snapshot}: a shard has up to {ngrams:,} n-grams, and its filters take {filters:,} bytes where "
        f"one task may hold {bench.memory:,}. Set shards: {math.ceil(shards * filters / allowed)} for linker '{label}' (fewer "
        f"copies are found between more shards), or give --memory "
        f"{math.ceil(filters * RUN_SHARE / (RUN_SHARE - 1) / (1 << 20))}MiB."
    )


# --- filters, shard by shard


def _chance(turn: _Turn) -> float:
    chance = float(turn.settings["false_positives"])
    return chance if turn.alone else _rarer(chance, turn.place + 1)


def _rarer(chance: float, place: int) -> float:
    """The chance of the filter at this place, counted from 1, such that all together stay below `chance`."""
    return chance * 6 / (math.pi * place) ** 2


def _filter_words(turn: _Turn, ngrams: int) -> int:
    from factory.kernels.bloom import filter_words

    return filter_words(ngrams, _chance(turn))


def _screen_tasks(bench: Bench, turn: _Turn, dealt: Mapping[str, Mapping[str, Any]]) -> Iterator[Task]:
    runs = [dealt[f"{turn.exchange} deal {part.number}"]["runs"] for part in turn.parts]
    for shard, ngrams in enumerate(_ngrams(turn, dealt)):
        payload = {
            "store": bench.store.url,
            "exchange": turn.exchange,
            "folder": None if turn.alone else turn.folder,
            "before": [part.to_json() for part in _before(bench.store, turn, shard)],
            "writers": [part.writer for part in turn.parts],
            "first": turn.parts[0].number if turn.parts else 0,
            "shard": shard,
            "runs": runs[0] if runs else 0,
            "ngrams": ngrams,
            "words": _filter_words(turn, ngrams),
            "chance": _chance(turn),
            "threshold": turn.settings["threshold"],
        }
        yield Task(f"{turn.exchange} {shard}", f"{__name__}:screen_shard", payload, ngrams)


def screen_shard(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the verdicts on a shard's documents, in their order, and the filter that later snapshots will ask."""
    from factory.kernels.bloom import fill_ratio, screen

    store = Store(payload["store"])
    layers = _layers(store, payload)
    found, inserted = [], 0
    for run in range(payload["runs"]):
        bucket = payload["shard"] * payload["runs"] + run
        table = read_rows(store, payload["exchange"], bucket, payload["writers"])
        keys, key_starts = _lists(table.column("keys"))
        counts, paragraph_starts = _lists(table.column("counts"))
        order = np.lexsort([table.column(name).to_numpy() for name in ("check", "order")])
        verdicts = screen(keys, key_starts, counts, paragraph_starts, order, layers, payload["threshold"])
        inserted += verdicts.inserted
        removed = _lists_of(paragraph_starts, verdicts.removed)
        found.append(
            pa.table(
                {
                    "node": table.column("node"),
                    "ngrams": np.diff(key_starts).astype(np.uint32),
                    "known": verdicts.known,
                    "whole": verdicts.whole,
                    "removed": removed,
                }
            )
        )
    own = layers.words[layers.starts[-2] :]
    summary = {
        "ngrams": payload["ngrams"],
        "inserted": inserted,
        "bytes": own.nbytes,
        "hashes": int(layers.hashes[-1]),
        "fill": fill_ratio(own),
    }
    part = _write_filter(store, payload, own, summary) if payload["folder"] is not None else None
    if found:
        verdicts = pa.concat_tables(found).combine_chunks()
        target = (verdicts.column("node").to_numpy() >> ROW_BITS) - payload["first"]
        folder, writers = f"{payload['exchange']}/verdicts", len(payload["writers"])
        write_rows(store, folder, f"{payload['shard']:04d}", writers, target, verdicts)
    return {"filter": summary, "part": part.to_json() if part is not None else None}


def _lists(column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The items of a column of lists, and where those of each row begin."""
    array = column.combine_chunks()
    return array.flatten().to_numpy(), _starts(array)


def _starts(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _lists_of(starts: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> pa.Array:
    """For each row the numbers, within the row, of its items that are chosen."""
    items = np.flatnonzero(chosen)
    rows = np.searchsorted(starts, items, side="right") - 1
    offsets = np.searchsorted(rows, np.arange(len(starts)))
    numbers = pa.array((items - starts[rows]).astype(np.uint32))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), numbers)


def _layers(store: Store, payload: Payload) -> Any:
    """The filters of earlier snapshots, as they were kept, and an empty one."""
    from factory.kernels.bloom import Layers, hash_count

    before = [Part.from_json(part) for part in payload["before"]]
    sizes = [*(part.bytes // 8 for part in before), payload["words"]]
    words = np.zeros(sum(sizes), np.uint64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    for part, start, stop in zip(before, starts, starts[1:], strict=False):
        _read_into(store, part, words[start:stop])
    hashes = [*(part.notes["hashes"] for part in before), hash_count(payload["chance"])]
    return Layers(words, starts, np.array(hashes, np.int64))


def _read_into(store: Store, part: Part, words: npt.NDArray[np.uint64]) -> None:
    from factory.core.fingerprint import digest_bytes

    target = memoryview(words.view(np.uint8))  # type: ignore[arg-type]
    with store.open(part.path) as stream:
        filled = 0
        while filled < len(target) and (chunk := stream.read(min(8 << 20, len(target) - filled))):
            target[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
    if filled != len(target) or digest_bytes(target) != part.digest:
        raise IntegrityError(f"{part.path} does not hold what was written. Remove it: 'factory run' makes it again.")


def _write_filter(store: Store, payload: Payload, words: npt.NDArray[np.uint64], summary: Mapping[str, Any]) -> Part:
    with store.scratch() as scratch:
        local = os.path.join(scratch, "filter")
        words.astype("<u8", copy=False).tofile(local)
        return write_file(store, payload["folder"], f"{payload['shard']:04d}.bits", local, notes=summary)


def _keep(store: Store, turn: _Turn, filters: list[Part]) -> None:
    """Make the filters, a part for each shard, what a later snapshot finds."""
    if filters:
        node = turn.work.node
        manifest = Manifest(
            kind=INDEX,
            label=node.label,
            partition=turn.snapshot,
            fingerprint=turn.work.fingerprint,
            spec=node.spec,
            inputs=turn.inputs,
            parts=tuple(filters),
        )
        keep(store, manifest)


# --- links beside documents


def _write_tasks(bench: Bench, turn: _Turn) -> Iterator[Task]:
    if not turn.asked:
        return
    for position, part in enumerate(turn.parts):
        payload = {
            "store": bench.store.url,
            "exchange": turn.exchange,
            "folder": f"{turn.work.folder}/{fingerprint({'state': turn.state})}",
            "shards": turn.settings["shards"],
            "position": position,
            "part": part.to_json(),
        }
        yield Task(f"{turn.exchange} write {part.number}", f"{__name__}:write", payload, part.document.rows)


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: what was decided on one part's documents, as columns beside them."""
    store, part = Store(payload["store"]), LinkedPart.from_json(payload["part"])
    shards = [f"{shard:04d}" for shard in range(payload["shards"])]
    verdicts = read_rows(store, f"{payload['exchange']}/verdicts", payload["position"], shards)
    rows = verdicts.column("node").to_numpy() & ((1 << ROW_BITS) - 1)
    table = read_part(store, part.keys, ["spans", "counts"])
    spans = table.column("spans").combine_chunks()
    asked = table.column("counts").combine_chunks().flatten().to_numpy() > 0
    valid = pc.is_valid(spans).to_numpy(zero_copy_only=False)
    starts = _starts(spans)
    begins, ends = (pc.struct_field(spans.flatten(), name).to_numpy().astype(np.int64) for name in ("start", "end"))
    gone = np.zeros(len(begins), np.bool_)
    numbers, number_starts = _lists(verdicts.column("removed"))
    gone[np.repeat(starts[rows], np.diff(number_starts)) + numbers] = True
    whole = np.zeros(part.document.rows, np.bool_)
    whole[rows] = verdicts.column("whole").to_numpy()
    gone |= np.repeat(whole, np.diff(starts))
    known, ngrams = np.zeros(part.document.rows), np.zeros(part.document.rows)
    known[rows], ngrams[rows] = verdicts.column("known").to_numpy(), verdicts.column("ngrams").to_numpy()
    batch = _columns(valid, starts, begins, ends, gone, known, ngrams)
    notes = {
        "seen": int(whole.sum()),
        "paragraphs": int(asked.sum()),  # that have n-grams: no others are ever removed by themselves
        "removed_paragraphs": int((gone & asked).sum()),
        "removed_bytes": int((ends - begins)[gone].sum()),
        "histograms": {name: histogram(batch.column(name)) for name in ("removed_share", "seen_share")},
    }
    made = write_thin_part(store, payload["folder"], part.document, COLUMNS, [batch], notes=partial(dict, notes))
    return {"part": made.to_json()}


def _columns(
    valid: npt.NDArray[np.bool_],
    starts: npt.NDArray[np.int64],
    begins: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    gone: npt.NDArray[np.bool_],
    known: npt.NDArray[np.float64],
    ngrams: npt.NDArray[np.float64],
) -> pa.RecordBatch:
    owner = np.repeat(np.arange(len(valid)), np.diff(starts))
    # Paragraphs that go and follow each other are one span.
    follows = np.zeros(len(gone), np.bool_)
    follows[1:] = gone[1:] & gone[:-1] & (owner[1:] == owner[:-1])
    leads = np.ones(len(gone), np.bool_)
    leads[:-1] = ~follows[1:]
    first, last = gone & ~follows, gone & leads
    pieces = pa.StructArray.from_arrays(
        [pa.array(begins[first].astype(np.uint32)), pa.array(ends[last].astype(np.uint32))],
        fields=list(SPANS.value_type),
    )
    offsets = np.searchsorted(owner[first], np.arange(len(valid) + 1)).astype(np.int32)
    removed = pa.ListArray.from_arrays(pa.array(offsets), pieces, mask=pa.array(~valid)).cast(SPANS)
    sizes = ends - begins
    taken = np.bincount(owner, weights=sizes * gone, minlength=len(valid))
    total = np.bincount(owner, weights=sizes, minlength=len(valid))
    with np.errstate(invalid="ignore"):
        shares = taken / total, known / ngrams
    columns = [
        removed,
        pa.array(taken.astype(np.uint32), mask=~valid),
        pa.array(shares[0].astype(np.float32), mask=~valid | (total == 0)),
        pa.array(shares[1].astype(np.float32), mask=~valid | (ngrams == 0)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(list(COLUMNS.items())))
