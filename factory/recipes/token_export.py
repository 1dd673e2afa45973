"""The tokens an experiment trains on, as files for other trainers: documents, their repeats, or packed sequences.

The rows of the dataset are cut into shards of about `shard_tokens`, one task each; a shard is a function of the tokens, the
options and its number, so shards that are there are not written again. `tokens.json` is written last and says what was
exported, and bytes and sha256 of each file; `SHA256SUMS` says it to `sha256sum -c`. A folder without it is unfinished.
"""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.errors import FactoryError, InputError, IntegrityError, suggest
from factory.core.fingerprint import fingerprint
from factory.core.manifest import Manifest, Part
from factory.core.mixture import numbered_copies
from factory.core.seeds import seed_for
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.recipe import Experiment
from factory.recipes.scale import proxy_scale
from factory.recipes.steps.proxies import LAID_OUT, training_index
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part
from factory.storage.store import TEMPORARY, Store
from factory.storage.token_formats import WRITERS, finish
from factory.training.scales import Scale

FORMATS = tuple(WRITERS)
TOKENS, SUMS, RECORDS = "tokens.json", "SHA256SUMS", ".parts"
UNFINISHED = f"{RECORDS}/export.json"
SHARD_TOKENS = 1 << 27
BATCH_TOKENS = 1 << 20
INDEX_COLUMNS = ["doc_id", "snapshot", "domain", "shard", "offset", "length", "repeats"]


def export_tokens(
    workspace: Workspace,
    experiment: str,
    to: str,
    form: str,
    *,
    repeat: bool = False,
    packed: bool = False,
    seed: int = 0,
    shard_tokens: int = SHARD_TOKENS,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the tokens of an experiment below `to` (a folder or URL); what `tokens.json` then says.

    A row is a document of the mixture, once, with how often it is taken; with `repeat` as often as that, pass after pass;
    with `packed` a sequence, in the order in which the proxy of this seed reads them. `dry_run` only says what would be
    written.
    """
    known = [item.label for item in workspace.recipe.experiments]
    if experiment not in known:
        raise InputError(f"No experiment is named '{experiment}'.{suggest(experiment, known)}")
    asked = workspace.recipe.experiment(experiment)
    if form not in FORMATS:
        raise InputError(f"No format of tokens is named '{form}'.{suggest(form, FORMATS)}")
    if repeat and packed:
        raise FactoryError("export: packed sequences hold every document as often as it is read. Leave --repeat out.")
    if shard_tokens < 1:
        raise FactoryError(f"export: shards of {shard_tokens:,} tokens asked; 1 or more are possible.")
    manifest = read_by(workspace, asked, seed) if packed else workspace.need("tokens", experiment)
    source: dict[str, Any] = {
        "store": workspace.store.url,
        "parts": {part.name: part.to_json() for part in manifest.parts},
        "dtype": manifest.notes["contract"]["dtype"],
        "repeat": repeat,
        "plan": training_plan(workspace, asked, manifest, seed) if packed else None,
    }
    described = {
        "recipe": workspace.recipe.name,
        "experiment": experiment,
        "format": form,
        "rows": "sequences" if packed else "copies" if repeat else "documents",
        "shard_tokens": shard_tokens,
        "tokens_digest": manifest.notes["digest"],
        "index": source["parts"]["index"]["digest"],
        "contract": dict(manifest.notes["contract"]),
        **({"order": source["plan"]} if packed else {}),
    }
    shards = _shards(workspace.store, source, shard_tokens)
    target = Store(to if "://" in to else os.path.abspath(to))
    tokens = sum(shard["tokens"] for shard in shards)
    there = _finished(target, described)
    if dry_run:
        size = tokens * np.dtype(source["dtype"]).itemsize
        planned = {"tokens": tokens, "shards": len(shards), "id_bytes": size, "is_there": there is not None}
        return {**described, **planned, "to": target.url, "dry_run": True}
    if there is not None:
        return {**there, "to": target.url, "written": 0}
    target.put(UNFINISHED, json.dumps(described, sort_keys=True).encode())
    payloads = [
        {**source, "to": target.url, "form": form, "number": number, "shards": len(shards), **shard}
        for number, shard in enumerate(shards)
    ]
    names = [fingerprint({**described, "number": number}) for number in range(len(shards))]
    found = {name: _record(target, name) for name in names}
    tasks = [
        Task(f"shard {p['number']}", f"{__name__}:write", {**p, "name": name}, p["tokens"])
        for p, name in zip(payloads, names, strict=True)
        if found[name] is None
    ]
    results = workspace.run_tasks("export", tasks, unit="tokens")
    made = [found[name] or results[f"shard {number}"] for number, name in enumerate(names)]
    listed = [file for shard in made for file in shard["files"]]
    for name, data in finish(form, _schema(source), made, fingerprint(described)).items():
        target.put(name, data)
        listed.append({"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    target.put(SUMS, "".join(f"{file['sha256']}  {file['path']}\n" for file in listed).encode())
    exported = {**described, "samples": sum(shard["rows"] for shard in made), "tokens": tokens, "files": listed}
    target.put(TOKENS, json.dumps(exported, indent=1, sort_keys=True).encode())
    for path in [*(f"{RECORDS}/{name}.json" for name in names), UNFINISHED]:
        target.delete(path)
    if target.local:  # the folders in which files were written
        target.delete_temporaries([f"{target.root}/{TEMPORARY}scratch/part"])
        with contextlib.suppress(OSError):
            os.rmdir(target.full(RECORDS))
    return {**exported, "to": target.url, "written": len(tasks)}


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one shard."""
    target, source = Store(payload["to"]), Store(payload["store"])
    schema, rows = _schema(payload), 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in _sequences(source, payload) if payload["plan"] is not None else _documents(source, payload):
            rows += batch.num_rows
            context.report({"advance": len(batch.column("ids").flatten())})
            yield batch

    with target.scratch() as scratch:
        names = WRITERS[payload["form"]](scratch, payload["number"], payload["shards"], schema, counted())
        if payload["rows"] is not None and rows != payload["rows"]:
            raise IntegrityError(
                f"export: shard {payload['number']} has {rows:,} rows, {payload['rows']:,} were planned"
            )
        files = []
        for name in names:
            local = os.path.join(scratch, name)
            with open(local, "rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            files.append({"path": name, "bytes": os.path.getsize(local), "sha256": sha256})
            target.put_file(name, local)
    made = {"files": files, "rows": rows}
    target.put(f"{RECORDS}/{payload['name']}.json", json.dumps(made, sort_keys=True).encode())
    return made


def _record(target: Store, name: str) -> dict[str, Any] | None:
    """What an earlier export that was not finished made of this shard."""
    try:
        found: dict[str, Any] = json.loads(target.read(f"{RECORDS}/{name}.json"))
    except (FileNotFoundError, ValueError):
        return None
    whole = all(target.size(file["path"]) == file["bytes"] for file in found["files"])
    return found if whole else None


def _finished(target: Store, described: Mapping[str, Any]) -> dict[str, Any] | None:
    """What lies there if it is this export, whole; None in an empty or unfinished folder."""
    if target.size("corpus.json") is not None:
        raise FactoryError(f"{target.url} holds an exported corpus of texts. Export tokens to a folder of their own.")
    for path, state in ((TOKENS, "other tokens"), (UNFINISHED, "an unfinished export of other tokens")):
        try:
            there: dict[str, Any] = json.loads(target.read(path))
        except FileNotFoundError:
            continue
        except ValueError:
            there = {}
        other = [key for key, value in described.items() if there.get(key) != json.loads(json.dumps(value))]
        if other:
            raise FactoryError(
                f"{target.url} holds {state} ({there.get('recipe')}, {there.get('experiment')}, {there.get('format')}); "
                f"they differ in {', '.join(other)}. Export to a folder of its own, or remove that one."
            )
        if path == TOKENS and all(target.size(file["path"]) == file["bytes"] for file in there["files"]):
            return there
    return None


def _shards(store: Store, source: Mapping[str, Any], shard_tokens: int) -> list[dict[str, Any]]:
    """First and last + 1 row of each shard, rows and tokens; of sequences, steps, whose rows are counted when read.

    A dataset of no rows has one shard.
    """
    if source["plan"] is not None:
        with opened_order(store, source) as order:
            per_step = order.tokens // order.steps if order.steps else 0
            per_shard = max(1, shard_tokens // max(1, per_step))
            bounds = [*range(0, order.steps, per_shard), order.steps] if order.steps else [0, 0]
            rows: list[int | None] = [None] * (len(bounds) - 1)
            tokens = [per_step * (b - a) for a, b in _pairs(bounds)]
    else:
        index = read_part(store, Part.from_json(source["parts"]["index"]), ["length", "repeats"])
        documents, _ = _entries(index, repeat=source["repeat"])
        ends = np.cumsum(index.column("length").to_numpy()[documents])
        # A shard ends with the document that fills it.
        groups = (ends - 1) // shard_tokens if len(ends) else ends
        bounds = [*np.flatnonzero(np.diff(groups, prepend=-1)).tolist(), len(ends)] if len(ends) else [0, 0]
        rows = [b - a for a, b in _pairs(bounds)]
        starts = np.concatenate([[0], ends])
        tokens = [int(starts[b] - starts[a]) for a, b in _pairs(bounds)]
    return [
        {"first": a, "last": b, "rows": own, "tokens": weight}
        for (a, b), own, weight in zip(_pairs(bounds), rows, tokens, strict=True)
    ]


def _pairs(bounds: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(bounds))


def _entries(index: pa.Table, *, repeat: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Documents and the numbers of their copies, pass after pass; without `repeat`, the first."""
    counts = index.column("repeats").to_numpy().astype(np.int64)
    documents, copies = numbered_copies(counts if repeat else np.ones(len(counts), np.int64))
    order = np.argsort(copies, kind="stable")
    return documents[order], copies[order]


def _schema(source: Mapping[str, Any]) -> pa.Schema:
    ids = ("ids", pa.list_(pa.from_numpy_dtype(np.dtype(source["dtype"]))))
    plan = source["plan"]
    if plan is None:
        times = ("copy" if source["repeat"] else "repeats", pa.uint32())
        return pa.schema([("doc_id", pa.string()), ("snapshot", pa.string()), ("domain", pa.string()), times, ids])
    masks = [("targets", pa.list_(pa.bool_())), ("documents", pa.list_(pa.int32()))] if plan["masks"] else []
    return pa.schema([("step", pa.int64()), ids, *masks])


def _documents(store: Store, payload: Payload) -> Iterator[pa.RecordBatch]:
    """The rows of a shard whose rows are documents."""
    schema = _schema(payload)
    index = read_part(store, Part.from_json(payload["parts"]["index"]), INDEX_COLUMNS).combine_chunks()
    documents, copies = (part[payload["first"] : payload["last"]] for part in _entries(index, repeat=payload["repeat"]))
    table = index.take(pa.array(documents))
    if payload["repeat"]:
        table = table.append_column("copy", pa.array(copies.astype(np.uint32)))
    lengths = table.column("length").to_numpy().astype(np.int64)
    groups = np.cumsum(lengths) // BATCH_TOKENS
    bounds = [*np.flatnonzero(np.diff(groups, prepend=-1)).tolist(), len(lengths)]
    with contextlib.ExitStack() as stack:
        streams: dict[str, BinaryIO] = {}
        for shard in dict.fromkeys(table.column("shard").to_pylist()):
            part = Part.from_json(payload["parts"][f"{shard}.bin"])
            if store.size(part.path) != part.bytes:
                raise IntegrityError(
                    f"{part.path} is not as long as it was written. 'factory verify --repair' removes it."
                )
            streams[shard] = stack.enter_context(store.open(part.path))
        for first, last in _pairs(bounds):
            rows = table.slice(first, last - first)
            ids = _read_runs(streams, rows, np.dtype(payload["dtype"]))
            offsets = np.concatenate([[0], np.cumsum(lengths[first:last])]).astype(np.int32)
            lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
            (batch,) = rows.append_column("ids", lists).select(schema.names).combine_chunks().to_batches() or (None,)
            if batch is not None:
                yield batch.cast(schema)


def _read_runs(streams: Mapping[str, BinaryIO], rows: pa.Table, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The ids of documents; those that lie side by side in the file are read at once."""
    shards = np.array(rows.column("shard").to_pylist(), dtype=object)
    offsets, lengths = rows.column("offset").to_numpy(), rows.column("length").to_numpy()
    new = np.ones(len(offsets), np.bool_)
    new[1:] = (shards[1:] != shards[:-1]) | (offsets[1:] != offsets[:-1] + lengths[:-1])
    begins = np.flatnonzero(new)
    counts = np.add.reduceat(lengths, begins) if len(begins) else lengths
    pieces = [np.empty(0, dtype)]
    for begin, count in zip(begins.tolist(), counts.tolist(), strict=True):
        stream = streams[shards[begin]]
        stream.seek(int(offsets[begin]) * dtype.itemsize)
        data = stream.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise IntegrityError(f"{shards[begin]}.bin ends within a document. 'factory verify --repair' removes it.")
        pieces.append(np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False))
    return np.concatenate(pieces)


def read_by(workspace: Workspace, experiment: Experiment, seed: int) -> Manifest:
    """The dataset the experiment's proxy of this seed reads: the experiment's tokens, or a pool it draws documents from."""
    if experiment.proxy.redraw and 0 < seed < experiment.proxy.seeds:
        return workspace.need("pools", workspace.recipe.pool_of(experiment.label))
    return workspace.need("tokens", experiment.label)


def _drawn(workspace: Workspace, experiment: Experiment, spec: Mapping[str, Any]) -> dict[str, Any]:
    if "documents" not in spec:
        return {"epochs": None}
    return {"epochs": workspace.need("mixture", experiment.label).notes["epochs"], "seen": None}


def training_plan(workspace: Workspace, experiment: Experiment, manifest: Manifest, seed: int) -> dict[str, Any]:
    """What decides the training order of the experiment's proxy of this seed, as plain data; `manifest` is what it reads."""
    scale = proxy_scale(experiment.proxy)
    name = f"proxies/{experiment.label}@{experiment.proxy.scale}-{seed}"
    if name not in workspace.graph:
        raise FactoryError(f"{name} is not in the recipe, which trains {experiment.proxy.seeds} seeds from 0 on.")
    spec = workspace.graph[name].spec
    run_seed = spec["seed"][0]
    laid_out = {key: spec[key] for key in LAID_OUT if key in spec}
    return {
        "spec": {
            **laid_out,
            "bos": manifest.notes["contract"]["bos"],
            "copies": run_seed if spec.get("order") == "copies" else None,
        },
        "scale": asdict(scale),
        "seed": list(spec["seed"]),
        **_drawn(workspace, experiment, spec),
        "budget": int(spec["tokens"]) - scale.context,
        "masks": bool(laid_out),
    }


@contextlib.contextmanager
def opened_order(store: Store, source: Mapping[str, Any]) -> Iterator[Any]:
    """The order of a plan, over local copies of the token files."""
    from factory.training.order import open_order

    plan, parts = source["plan"], source["parts"]
    paths = [part["path"] for name, part in parts.items() if name.endswith((".bin", ".idx"))]
    index = training_index(store, parts, plan["spec"], plan)
    run_seed, number = plan["seed"]
    with store.as_local(*paths) as local:
        prefix = next(path for path in local if path.endswith(".bin")).removesuffix(".bin")
        yield open_order(
            prefix,
            index,
            plan["spec"],
            scale=Scale(**plan["scale"]),
            seed=seed_for(run_seed, f"proxy {number}"),
            total_tokens=plan["budget"],
        )


def _sequences(store: Store, payload: Payload) -> Iterator[pa.RecordBatch]:
    """The rows of a shard whose rows are packed sequences, step by step."""
    schema = _schema(payload)
    with opened_order(store, payload) as order:
        for step in range(payload["first"], payload["last"]):
            batch = order.batch(step)
            rows, width = batch.ids.shape
            columns = [pa.array(np.full(rows, step)), _lists(batch.ids, schema.field("ids").type)]
            if payload["plan"]["masks"]:
                # All attend to all: one document. All are predicted: every target.
                empty = np.zeros((rows, width - 1), np.int32)
                targets = batch.targets if batch.targets is not None else empty == 0
                documents = batch.documents if batch.documents is not None else empty
                columns += [_lists(targets, schema.field("targets").type), _lists(documents, pa.list_(pa.int32()))]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _lists(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    rows, width = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()).cast(kind.value_type))
