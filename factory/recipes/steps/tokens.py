"""Tokens: the selected documents as a token file, each once, with an index that says how often the mixture takes it.

Where a selection takes documents several times, a copy is to the mixture what a document is: it has a hash of its own, and
the epochs of its domain hold for it. `repeats` is then the number of all copies together.

Where a training has phases, `phases` counts the copies each reads, and `repeats` is their sum: a phase goes on with the
documents, by their hash, at which the one before it left off, so that what was not read comes first. Where texts have
metadata before them, their tokens lie in a part of their own (`metadata`, each value once), and the index says which value
a document has: the token file holds texts and nothing else. Where a packer has an order of its own, `place` is a
document's place in it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, IntegrityError
from factory.core.fingerprint import fingerprint, hash_ids
from factory.core.manifest import Part
from factory.core.mixture import best_first, copy_hashes, numbered_copies, repeats
from factory.core.packing import Integers, Packer
from factory.core.registry import find_stage
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.references import make_stage
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file, write_part
from factory.storage.store import Store
from factory.storage.tokens import TokenWriter
from factory.training.phases import Phase, plan_phases

INDEX = pa.schema(
    [
        ("doc_id", pa.string()),
        ("snapshot", pa.string()),
        ("domain", pa.string()),
        ("part", pa.string()),  # digest of the document part
        ("row", pa.uint32()),
        ("shard", pa.string()),
        ("document", pa.int64()),  # its number in the shard
        ("offset", pa.int64()),  # of its first token in the shard
        ("length", pa.int64()),  # tokens, with BOS and EOS
        ("repeats", pa.uint32()),
    ]
)
# Columns that only some plans have, behind the others.
OPTIONAL = {"phases": pa.list_(pa.uint32()), "place": pa.int64(), "metadata": pa.uint32()}
METADATA = pa.schema([("value", pa.string()), ("ids", pa.list_(pa.int32()))])
SHARD = "tokens"
ROUND_TRIPS = 32
LAID_OUT = ("packing", "phases", "conditioning")
MOST_CHARACTERS = 200  # of a metadata value; what is longer is no provenance


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made | FactoryError]:
    """Token files of several experiments, one task each; one that cannot be written leaves the others alone."""
    tasks = [
        Task(work.node.name, f"{__name__}:make", _payload(bench, work), work.one("selection").rows) for work in works
    ]
    failed: dict[str, FactoryError] = {}
    results = bench.run_tasks("tokens", tasks, unit="documents", failed=failed)
    made = {
        name: Made(tuple(Part.from_json(part) for part in result["parts"]), notes=result["notes"])
        for name, result in results.items()
    }
    return {**failed, **made}


def _payload(bench: Bench, work: Work) -> dict[str, Any]:
    documents = {part.digest: part.to_json() for manifest in work.of("documents") for part in manifest.parts}
    encodings = {part.name: part.to_json() for manifest in work.of("encodings") for part in manifest.parts}
    selection = work.one("selection")
    made_of = {"selection": selection.digest}
    epochs = [dict.fromkeys(selection.notes["tokens"], 1.0)]  # a pool holds every document once
    for mixture in work.of("mixture"):
        made_of["mixture"] = mixture.digest
        declared = mixture.notes.get("phases") or [mixture.notes]
        epochs = [dict(item["epochs"]) for item in declared]
    return {
        "store": bench.store.url,
        "folder": f"{work.folder}/{fingerprint(made_of)}",
        "selection": [part.to_json() for part in selection.parts],
        "documents": documents,
        "encodings": encodings,
        "epochs": epochs,
        "tokenizer": work.one("models").parts[0].path,
        "policy": {"bos": work.node.spec["bos"], "eos": work.node.spec["eos"]},
        "seed": work.node.spec["seed"],
        "plan": {name: work.node.spec[name] for name in LAID_OUT if name in work.node.spec},
        "inputs": bench.recipe.folder,
    }


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one experiment's token file, its index, and the checks of the token contract."""
    from factory.training.tokenizer import Encoder

    store = Store(payload["store"])
    chosen = _chosen(store, payload)
    with store.scratch() as scratch, store.as_local(payload["tokenizer"]) as (tokenizer,):
        encoder = Encoder(tokenizer, **payload["policy"])
        prefix = os.path.join(scratch, SHARD)
        with TokenWriter(prefix, encoder.dtype) as writer:
            for ids, lengths in _documents(store, payload, chosen):
                _check_policy(encoder, ids, lengths)
                writer.append(ids, lengths)
            summary = writer.close()
        lengths = chosen.column("length").to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        chosen = chosen.append_column("shard", pa.repeat(pa.scalar(SHARD), chosen.num_rows))
        chosen = chosen.append_column("document", pa.array(np.arange(chosen.num_rows)))
        chosen = chosen.append_column("offset", pa.array(offsets.astype(np.int64)))
        folder = payload["folder"]
        parts = [write_file(store, folder, f"{SHARD}.{ending}", f"{prefix}.{ending}") for ending in ("bin", "idx")]
        packer = _packer(payload)
        if packer is not None and packer.arrange is not None:
            place = packer.arrange(lambda: _columns(store, payload, chosen, "text"), payload["seed"])
            chosen = chosen.append_column("place", pa.array(place))
        shown: dict[str, Any] = {}
        if any(phase.conditioned for phase in plan_phases(payload["plan"])):
            numbers, table, notes = _metadata(store, payload, chosen, tokenizer)
            chosen = chosen.append_column("metadata", numbers)
            parts.append(write_part(store, folder, "metadata", METADATA, table.to_batches(), ids=""))
            shown["conditioning"] = notes
        schema = pa.schema([*INDEX, *((name, OPTIONAL[name]) for name in OPTIONAL if name in chosen.column_names)])
        index = chosen.select(schema.names).cast(schema)
        parts.append(write_part(store, folder, "index", schema, index.combine_chunks().to_batches(), ids=""))
        checked = encoder.check_round_trip(_sample(store, payload, index))
    phases = plan_phases(payload["plan"])
    notes = {"contract": encoder.contract(), "digest": summary.digest, "round_trips": checked, **shown}
    return {"parts": [part.to_json() for part in parts], "notes": {**notes, **_realised(index, phases)}}


def read_index(
    store: Store, parts: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any], columns: Iterable[str] = ()
) -> pa.Table:
    """The columns of a token index that `open_order` wants for a plan, and others; metadata as lists of tokens.

    `parts` are those of a tokens dataset by name.
    """
    from factory.training.order import order_columns

    names = list(dict.fromkeys([*order_columns(plan), *columns]))
    index = read_part(store, Part.from_json(parts["index"]), names)
    if "metadata" in names:
        ids = read_part(store, Part.from_json(parts["metadata"]), ["ids"]).column("ids").combine_chunks()
        place = index.column_names.index("metadata")
        index = index.set_column(place, "metadata", ids.take(index.column("metadata").combine_chunks()))
    return index


def _chosen(store: Store, payload: Payload) -> pa.Table:
    """The selected documents that the mixture takes at least once, in the order of their parts."""
    table = pa.concat_tables([read_part(store, Part.from_json(part)) for part in payload["selection"]]).combine_chunks()
    domains = np.array(table.column("domain").to_pylist(), dtype=object)
    tokens = table.column("tokens").to_numpy().astype(np.int64)
    hashes = hash_ids(table.column("doc_id").combine_chunks(), payload["seed"])
    copies = table.column("repeats").to_numpy() if "repeats" in table.column_names else np.ones(len(hashes), np.uint16)
    scores = table.column("score").to_numpy().astype(np.float64) if "score" in table.column_names else None
    phases = plan_phases(payload["plan"])
    counts = np.zeros((table.num_rows, len(phases)), np.uint32)
    for domain in payload["epochs"][0]:
        own = np.flatnonzero(domains == domain)
        of, number = numbered_copies(copies[own])
        keys = copy_hashes(hashes[own][of], number)
        if scores is not None:
            keys = best_first(scores[own][of], keys)
        sizes = tokens[own][of]
        until, before = 0.0, np.zeros(len(of), np.uint32)
        for column, phase in enumerate(phases):
            epochs = payload["epochs"][phase.of].get(domain, 0.0) * phase.part
            if epochs > 0 and not sizes.sum():
                raise FactoryError(
                    f"tokens: '{domain}' should be read {epochs:.3g} times and none of its documents has tokens. "
                    "Leave it out of the mixture, or look at `factory funnel` for the rule that drops it."
                )
            # All copies until the end of this phase, less those of the phases before it.
            until += epochs
            taken = repeats(until, keys, sizes)
            counts[own, column] = np.bincount(of, taken - before, len(own))
            before = taken
    table = table.drop_columns([name for name in ("repeats", "score") if name in table.column_names])
    table = table.append_column("repeats", pa.array(counts.sum(axis=1, dtype=np.uint32)))
    table = table.append_column("length", pa.array(tokens))
    if len(phases) > 1:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(counts.reshape(-1)), len(phases))
        table = table.append_column("phases", lists.cast(OPTIONAL["phases"]))
    return table.filter(pa.array((counts.sum(axis=1) > 0) & (tokens > 0))).combine_chunks()


def _packer(payload: Payload) -> Packer | None:
    item = payload["plan"].get("packing")
    if item is None:
        return None
    stage = find_stage("packer", item["stage"])
    config = stage.config(**item["settings"])
    packer: Packer = make_stage(stage, config, pinned=item.get("files", {}), folder=payload["inputs"])
    return packer


def _columns(store: Store, payload: Payload, chosen: pa.Table, name: str) -> Iterator[pa.Array]:
    """A column of the chosen documents, part by part, in their order."""
    for part, start, stop in _runs(chosen):
        column = read_part(store, Part.from_json(payload["documents"][part]), [name]).column(name)
        yield column.take(chosen.column("row").slice(start, stop - start)).combine_chunks()


def _metadata(
    store: Store, payload: Payload, chosen: pa.Table, tokenizer: str
) -> tuple[pa.Array, pa.Table, dict[str, Any]]:
    """Which value each document has, the tokens of every value, and what came of it. No value: nothing before the text."""
    from factory.training.tokenizer import Encoder

    settings = payload["plan"]["conditioning"]
    # Runs of white space would let a value end its line and begin another.
    values = [
        None if value is None else " ".join(value.split()) or None
        for column in _columns(store, payload, chosen, settings["column"])
        for value in column.to_pylist()
    ]
    long = sum(value is not None and len(value) > MOST_CHARACTERS for value in values)
    array = pa.array(
        [None if value is None or len(value) > MOST_CHARACTERS else value for value in values], pa.string()
    )
    distinct = pa.array(sorted(set(array.drop_null().to_pylist())), pa.string())
    encoder = Encoder(tokenizer, bos=False, eos=False)
    texts = [settings["template"].format(value=value) for value in distinct.to_pylist()]
    ids, lengths = encoder.encode(pa.array(texts, pa.large_string()))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.asarray(ids, dtype=np.int32)))
    numbers = pc.index_in(array, value_set=distinct).cast(pa.uint32())
    notes = {
        "column": settings["column"],
        "values": len(distinct),
        "documents": len(array) - array.null_count,
        "without": array.null_count - long,
        "too_long": long,
        "longest": int(np.max(lengths)) if len(lengths) else 0,
    }
    return numbers, pa.table([distinct, lists], schema=METADATA), notes


def _runs(chosen: pa.Table) -> Iterator[tuple[str, int, int]]:
    """(part, first row, last row + 1) of the chosen documents, which are in the order of their parts."""
    parts = chosen.column("part").to_pylist()
    starts = [index for index, name in enumerate(parts) if index == 0 or parts[index - 1] != name]
    for start, stop in zip(starts, [*starts[1:], len(parts)], strict=True):
        yield parts[start], start, stop


def _documents(store: Store, payload: Payload, chosen: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids of the chosen documents, part by part, in their order."""
    for name, start, stop in _runs(chosen):
        part = Part.from_json(payload["encodings"][name])
        lists = (
            read_part(store, part, ["ids"])
            .column("ids")
            .take(chosen.column("row").slice(start, stop - start))
            .combine_chunks()
        )
        lengths = chosen.column("length").slice(start, stop - start).to_numpy()
        ids = lists.flatten().to_numpy()
        if len(ids) != lengths.sum():
            raise IntegrityError(f"{part.path}: {len(ids):,} token ids where the selection counts {lengths.sum():,}")
        yield ids, lengths


def _check_policy(encoder: Any, ids: np.ndarray, lengths: np.ndarray) -> None:
    """Every document begins and ends as the policy says, and has no second BOS."""
    ends = np.cumsum(lengths)
    if encoder.eos and (ids[ends - 1] != encoder.eos_id).any():
        raise IntegrityError("a document does not end with EOS although the policy asks for it")
    if encoder.bos:
        first = ids[ends - lengths] == encoder.bos_id
        second = ids[np.minimum(ends - lengths + 1, len(ids) - 1)] == encoder.bos_id
        if not first.all() or (second & (lengths > 1)).any():
            raise IntegrityError("a document does not begin with exactly one BOS although the policy asks for it")


def _sample(store: Store, payload: Payload, index: pa.Table) -> Iterator[tuple[str, str]]:
    """(doc_id, text) of the documents with the smallest hashes."""
    order = np.argsort(hash_ids(index.column("doc_id").combine_chunks(), payload["seed"] + 1))[:ROUND_TRIPS]
    rows = index.take(pa.array(np.sort(order))).select(["doc_id", "part", "row"]).to_pylist()
    for name in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == name]
        texts = read_part(store, Part.from_json(payload["documents"][name]), ["text"]).column("text")
        yield from ((row["doc_id"], texts[row["row"]].as_py()) for row in own)


def _realised(index: pa.Table, phases: list[Phase]) -> dict[str, Any]:
    """What the training will read, by domain: counted from what was written, not from what was asked."""
    lengths = index.column("length").to_numpy()
    domains = np.array(index.column("domain").to_pylist(), dtype=object)
    read = lengths * index.column("repeats").to_numpy().astype(np.int64)
    notes = {
        "documents": index.num_rows,
        "unique_tokens": int(lengths.sum()),
        "tokens": int(read.sum()),
        "shares": _shares(read, domains),
        "longest": int(lengths.max()) if len(lengths) else 0,
    }
    if len(phases) > 1:
        counts = index.column("phases").combine_chunks().flatten().to_numpy().reshape(-1, len(phases))
        notes["phases"] = [
            {
                "label": phase.label,
                "share": phase.share,
                "conditioned": phase.conditioned,
                "tokens": int((lengths * own).sum()),
                "shares": _shares(lengths * own, domains),
            }
            for phase, own in zip(phases, counts.astype(np.int64).T, strict=True)
        ]
    return notes


def _shares(read: Integers, domains: np.ndarray) -> dict[str, float]:
    total = int(read.sum())
    if not total:
        return {}
    return {str(domain): float(read[domains == domain].sum() / total) for domain in np.unique(domains)}
