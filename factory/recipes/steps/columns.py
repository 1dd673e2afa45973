"""Columns beside documents: scores, keys of linkers, token ids. All that is stale of a document part is made in one task.

A batch goes through every stale stage before the next one is looked at, so that what stages share of a text (its words) is
found once and is still in the cache.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import canonical_json, fingerprint
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.core.schema import DOCUMENT
from factory.core.stage import BatchFunction
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.graph import column_owners
from factory.recipes.references import make_stage
from factory.recipes.steps.apply import Failures, apply, batches, null_rows
from factory.recipes.steps.decisions import verdicts, with_failures
from factory.recipes.steps.encodings import encoder
from factory.recipes.steps.rewriting import rewriter
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import find_part, read_aligned, read_part, write_thin_part
from factory.storage.store import Store

BATCH_ROWS = 1024
STAGE_KIND = {"scores": "scorer", "keys": "linker"}


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Column datasets of any kind and snapshot: one task per document part, for all of its stale columns."""
    done: dict[str, dict[str, Part]] = {work.node.name: {} for work in works}
    stale: dict[str, tuple[Part, list[dict[str, Any]]]] = {}
    for work in works:
        column = _column(bench, work)
        for document in work.one("documents").parts:
            own = {**column, **_beside(work, column, document)}
            part = find_part(bench.store, own["folder"], document.digest)
            if part is not None and part.ids == document.ids:
                done[work.node.name][document.digest] = part
            else:
                stale.setdefault(document.digest, (document, []))[1].append(own)
    tasks = [
        Task(
            f"columns {digest}",
            f"{__name__}:make",
            {"store": bench.store.url, "document": document.to_json(), "columns": columns},
            document.bytes,
        )
        for digest, (document, columns) in stale.items()
    ]
    results = bench.run_tasks("columns", tasks)
    for task in tasks:
        for name, part in results[task.name].items():
            done[name][task.name.split(" ")[1]] = Part.from_json(part)
    return {
        work.node.name: _made([done[work.node.name][part.digest] for part in work.one("documents").parts])
        for work in works
    }


def _made(parts: list[Part]) -> Made:
    notes = {
        "histograms": merge_histograms([part.notes["histograms"] for part in parts]),
        "failed": sum(part.notes["failed"] for part in parts),
        "causes": [cause for part in parts for cause in part.notes["causes"]][:10],
    }
    if all("tokens" in part.notes for part in parts):
        notes["tokens"] = sum(part.notes["tokens"] for part in parts)
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


def _column(bench: Bench, work: Work) -> dict[str, Any]:
    """What a worker needs to make one column dataset, as plain data."""
    node = work.node
    models = work.of("models")
    column: dict[str, Any] = {"name": node.name, "kind": node.kind, "folder": work.folder, "spec": dict(node.spec)}
    if "files" in node.spec:
        column["inputs"] = bench.recipe.folder
    if models:
        column["model"] = models[0].parts[0].path
    if node.kind == "encodings" and bench.recipe.rewrite:
        column["rewrite"] = [use.identity for use in bench.recipe.rewrite]
        reads = [name for use in bench.recipe.rewrite for name in use.stage.reads_for(use.config)]
        column["reads"] = _owned(bench, reads)
    if node.kind == "keys" and "after" in node.spec:
        rules = [{**rule, "reads": list(rule["reads"]), "inputs": bench.recipe.folder} for rule in node.spec["after"]]
        column["after"] = rules
        column["reads"] = _owned(bench, [name for rule in rules for name in rule["reads"]])
    return column


def _owned(bench: Bench, names: Iterable[str]) -> list[tuple[tuple[str, str], dict[str, str]]]:
    """The datasets whose columns these are, each with its columns by their own names."""
    owners = column_owners(bench.recipe)
    wanted: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        if name in owners:
            kind, label, stored = owners[name]
            wanted.setdefault((kind, label), {})[stored] = name
    return sorted(wanted.items())


def _beside(work: Work, column: Mapping[str, Any], document: Part) -> dict[str, Any]:
    """The thin parts that rewriters or rules read; what is made depends on them too, and so does its folder."""
    if not column.get("reads"):
        return {}
    parts = [
        (next(part for part in work.one(kind, label).parts if part.name == document.digest), names)
        for (kind, label), names in column["reads"]
    ]
    identity: dict[str, Any] = {"beside": [part.digest for part, _ in parts]}
    if "after" in column:  # a row that failed and one without a value look the same in a column
        identity["failed"] = [part.notes.get("failed_rows", []) for part, _ in parts]
    folder = f"{column['folder']}/{fingerprint(identity)}"
    return {"folder": folder, "beside": [(part.to_json(), names) for part, names in parts]}


@dataclass
class _Column:
    """A column dataset being made: its function, what it reads and writes, and what went wrong."""

    name: str
    folder: str
    function: BatchFunction
    reads: tuple[str, ...]
    writes: Mapping[str, pa.DataType]
    table: pa.Table
    failures: Failures = field(default_factory=Failures)
    chunks: list[pa.RecordBatch] = field(default_factory=list)


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: every stale column beside one document part."""
    store = Store(payload["store"])
    document = Part.from_json(payload["document"])
    prepared = [(column, *_prepared(store, column)) for column in payload["columns"]]
    own = sorted({name for _, _, reads, _ in prepared for name in reads if name in DOCUMENT.names})
    table = read_part(store, document, own).combine_chunks()
    columns = [
        _Column(column["name"], column["folder"], function, reads, writes, _with_beside(store, document, table, column))
        for column, function, reads, writes in prepared
    ]
    for first, batch in batches(table, BATCH_ROWS):
        for position, column in enumerate(columns):
            rows = column.table.select(list(column.reads)).slice(first, batch.num_rows)
            column.chunks.append(_made_of(column, rows, position * table.num_rows, first, context))
    return {
        column.name: write_thin_part(
            store, column.folder, document, column.writes, column.chunks, notes=partial(_notes, column)
        ).to_json()
        for column in columns
    }


def _with_beside(store: Store, document: Part, table: pa.Table, column: Mapping[str, Any]) -> pa.Table:
    if not column.get("beside"):
        return table
    beside = [(Part.from_json(part), names) for part, names in column["beside"]]
    thin = read_aligned(store, document, beside)
    for name in thin.column_names:
        table = table.append_column(name, thin.column(name))
    if "after" in column:
        table = with_failures(table.combine_chunks(), [part for part, _ in beside])
    return table.combine_chunks()


def _prepared(
    store: Store, column: Mapping[str, Any]
) -> tuple[BatchFunction, tuple[str, ...], Mapping[str, pa.DataType]]:
    """The stage, and where documents have to pass rules first, the stage on those that do."""
    function, reads, writes = _load(store.url, *_ask(column))
    if "after" not in column:
        return function, reads, writes
    rules = column["after"]
    wanted = dict.fromkeys([*reads, "doc_id", "error", *(name for rule in rules for name in rule["reads"])])
    return partial(_passing, function, reads, rules), tuple(wanted), writes


def _passing(
    function: BatchFunction, reads: tuple[str, ...], rules: list[dict[str, Any]], batch: pa.RecordBatch
) -> pa.RecordBatch:
    """What the stage makes of the rows that pass the rules; null for the others."""
    passes = verdicts(pa.Table.from_batches([batch]), rules, {}).all(axis=0)
    passes &= batch.column("error").is_null().to_numpy(zero_copy_only=False)
    made = function(batch.select(list(reads)).filter(pa.array(passes)))
    at = np.cumsum(passes) - 1
    return made.take(pa.array(at, pa.int64(), mask=~passes))


def _made_of(column: _Column, rows: pa.Table, offset: int, first: int, context: Context) -> pa.RecordBatch:
    schema = pa.schema(list(column.writes.items()))
    (batch,) = rows.to_batches() or [pa.RecordBatch.from_pylist([], schema=rows.schema)]
    on_failure = null_rows(column.writes, column.failures, offset)
    made = apply(column.function, batch, offset + first, context, on_failure)
    return made.select(schema.names).cast(schema)


def _notes(column: _Column) -> dict[str, Any]:
    table = pa.Table.from_batches(column.chunks)
    plain = [name for name, kind in column.writes.items() if not pa.types.is_nested(kind) and kind != pa.uint64()]
    notes: dict[str, Any] = {
        "histograms": {name: histogram(table.column(name)) for name in plain},
        "failed": len(column.failures.rows),
        "failed_rows": sorted(column.failures.rows),
        "causes": column.failures.causes,
    }
    if "keys" in column.writes:
        notes["keys"] = pc.sum(pc.list_value_length(table.column("keys"))).as_py() or 0
    if "tokens" in column.writes and "ids" in column.writes:
        notes["tokens"] = int(sum(value or 0 for value in table.column("tokens").to_pylist()))
    return notes


def _ask(column: Mapping[str, Any]) -> tuple[str, str, str, str | None, str]:
    rewrite = canonical_json(column.get("rewrite", []))
    return column["kind"], canonical_json(column["spec"]), rewrite, column.get("model"), column.get("inputs", "")


@lru_cache(maxsize=32)
def _load(
    store_url: str, kind: str, spec_json: str, rewrite_json: str, model: str | None, inputs: str
) -> tuple[BatchFunction, tuple[str, ...], Mapping[str, pa.DataType]]:
    """A stage ready to run, kept for the worker's next tasks: models are loaded once."""
    spec = json.loads(spec_json)
    with Store(store_url).as_local(*([model] if model else [])) as paths:
        if kind == "encodings":
            policy = {name: spec[name] for name in ("bos", "eos")}
            return encoder(paths[0], rewriter(json.loads(rewrite_json)), **policy)
        stage = find_stage(STAGE_KIND[kind], spec["stage"])
        config = stage.config(**spec["settings"])
        function = make_stage(stage, config, *paths, pinned=spec.get("files", {}), folder=inputs)
        return function, stage.reads_for(config), stage.writes_for(config)
