"""Tokens: the selected documents as a token file, each once, with an index that says how often the mixture takes it.

Where a selection takes documents several times, a copy is to the mixture what a document is: it has a hash of its own, and
the epochs of its domain hold for it. `repeats` is then the number of all copies together.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.errors import IntegrityError
from factory.core.fingerprint import fingerprint, hash_ids
from factory.core.manifest import Part
from factory.core.mixture import copy_hashes, numbered_copies, repeats
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file, write_part
from factory.storage.store import Store
from factory.storage.tokens import TokenWriter

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
SHARD = "tokens"
ROUND_TRIPS = 32


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Token files of several experiments, one task each."""
    tasks = [
        Task(work.node.name, f"{__name__}:make", _payload(bench, work), work.one("selection").rows) for work in works
    ]
    results = bench.run_tasks("tokens", tasks, unit="documents")
    return {
        task.name: Made(
            tuple(Part.from_json(part) for part in results[task.name]["parts"]), notes=results[task.name]["notes"]
        )
        for task in tasks
    }


def _payload(bench: Bench, work: Work) -> dict[str, Any]:
    documents = {part.digest: part.to_json() for manifest in work.of("documents") for part in manifest.parts}
    encodings = {part.name: part.to_json() for manifest in work.of("encodings") for part in manifest.parts}
    mixture = work.one("mixture")
    return {
        "store": bench.store.url,
        "folder": f"{work.folder}/{fingerprint({'selection': work.one('selection').digest, 'mixture': mixture.digest})}",
        "selection": [part.to_json() for part in work.one("selection").parts],
        "documents": documents,
        "encodings": encodings,
        "epochs": dict(mixture.notes["epochs"]),
        "tokenizer": work.one("models").parts[0].path,
        "policy": {"bos": work.node.spec["bos"], "eos": work.node.spec["eos"]},
        "seed": work.node.spec["seed"],
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
        index = chosen.append_column("offset", pa.array(offsets.astype(np.int64))).select(INDEX.names).cast(INDEX)
        folder = payload["folder"]
        parts = [write_file(store, folder, f"{SHARD}.{ending}", f"{prefix}.{ending}") for ending in ("bin", "idx")]
        parts.append(write_part(store, folder, "index", INDEX, index.combine_chunks().to_batches(), ids=""))
        checked = encoder.check_round_trip(_sample(store, payload, index))
    notes = {"contract": encoder.contract(), "digest": summary.digest, "round_trips": checked, **_realised(index)}
    return {"parts": [part.to_json() for part in parts], "notes": notes}


def _chosen(store: Store, payload: Payload) -> pa.Table:
    """The selected documents that the mixture takes at least once, in the order of their parts."""
    table = pa.concat_tables([read_part(store, Part.from_json(part)) for part in payload["selection"]]).combine_chunks()
    domains = np.array(table.column("domain").to_pylist(), dtype=object)
    tokens = table.column("tokens").to_numpy().astype(np.int64)
    hashes = hash_ids(table.column("doc_id").combine_chunks(), payload["seed"])
    counts = np.zeros(table.num_rows, np.uint32)
    copies = table.column("repeats").to_numpy() if "repeats" in table.column_names else np.ones(len(hashes), np.uint16)
    for domain, epochs in payload["epochs"].items():
        own = np.flatnonzero(domains == domain)
        of, number = numbered_copies(copies[own])
        taken = repeats(epochs, copy_hashes(hashes[own][of], number), tokens[own][of])
        counts[own] = np.bincount(of, taken, len(own)).astype(np.uint32)
    if "repeats" in table.column_names:
        table = table.drop_columns("repeats")
    table = table.append_column("repeats", pa.array(counts)).append_column("length", pa.array(tokens))
    return table.filter(pa.array((counts > 0) & (tokens > 0))).combine_chunks()


def _documents(store: Store, payload: Payload, chosen: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids of the chosen documents, part by part, in their order."""
    parts = chosen.column("part").to_pylist()
    starts = [index for index, name in enumerate(parts) if index == 0 or parts[index - 1] != name]
    for start, stop in zip(starts, [*starts[1:], len(parts)], strict=True):
        part = Part.from_json(payload["encodings"][parts[start]])
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


def _realised(index: pa.Table) -> dict[str, Any]:
    """What the training will read, by domain: counted from what was written, not from what was asked."""
    lengths = index.column("length").to_numpy()
    read = lengths * index.column("repeats").to_numpy().astype(np.int64)
    domains = np.array(index.column("domain").to_pylist(), dtype=object)
    total = int(read.sum())
    shares = (
        {str(domain): float(read[domains == domain].sum() / total) for domain in np.unique(domains)} if total else {}
    )
    return {
        "documents": index.num_rows,
        "unique_tokens": int(lengths.sum()),
        "tokens": total,
        "shares": shares,
        "longest": int(lengths.max()) if len(lengths) else 0,
    }
