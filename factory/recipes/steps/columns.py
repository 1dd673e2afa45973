"""Columns beside documents: scores, keys of linkers, token ids. All that is stale of a document part is made in one task."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa

from factory.core.fingerprint import canonical_json
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.core.stage import BatchFunction
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.steps.apply import Failures, apply, batches, null_rows
from factory.recipes.steps.encodings import encoder
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import find_part, read_part, write_thin_part
from factory.storage.store import Store

BATCH_ROWS = 1024
STAGE_KIND = {"scores": "scorer", "keys": "linker"}


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Column datasets of any kind and snapshot: one task per document part, for all of its stale columns."""
    done: dict[str, dict[str, Part]] = {work.node.name: {} for work in works}
    stale: dict[str, tuple[Part, list[dict[str, Any]]]] = {}
    for work in works:
        column = _column(work)
        for document in work.one("documents").parts:
            part = find_part(bench.store, work.folder, document.digest)
            if part is not None and part.ids == document.ids:
                done[work.node.name][document.digest] = part
            else:
                stale.setdefault(document.digest, (document, []))[1].append(column)
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


def _column(work: Work) -> dict[str, Any]:
    """What a worker needs to make one column dataset, as plain data."""
    node = work.node
    models = work.of("models")
    column: dict[str, Any] = {"name": node.name, "kind": node.kind, "folder": work.folder, "spec": dict(node.spec)}
    if models:
        column["model"] = models[0].parts[0].path
    return column


@dataclass
class _Column:
    """A column dataset being made: its function, what it reads and writes, and what went wrong."""

    name: str
    folder: str
    function: BatchFunction
    reads: tuple[str, ...]
    writes: Mapping[str, pa.DataType]
    failures: Failures


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: every stale column beside one document part."""
    store = Store(payload["store"])
    document = Part.from_json(payload["document"])
    columns = [_prepare(store, column) for column in payload["columns"]]
    table = read_part(store, document, sorted({name for column in columns for name in column.reads}))
    made = {}
    for position, column in enumerate(columns):
        chunks = list(_chunks(column, table, position * table.num_rows, context))
        made[column.name] = write_thin_part(
            store, column.folder, document, column.writes, chunks, notes=partial(_notes, column, chunks)
        ).to_json()
    return made


def _chunks(column: _Column, table: pa.Table, offset: int, context: Context) -> list[pa.RecordBatch]:
    schema = pa.schema(list(column.writes.items()))
    on_failure = null_rows(column.writes, column.failures)
    made = [
        apply(column.function, batch, offset + first, context, on_failure)
        for first, batch in batches(table.select(list(column.reads)), BATCH_ROWS)
    ]
    return [batch.select(schema.names).cast(schema) for batch in made]


def _notes(column: _Column, chunks: list[pa.RecordBatch]) -> dict[str, Any]:
    table = pa.Table.from_batches(chunks)
    plain = [name for name, kind in column.writes.items() if not pa.types.is_nested(kind) and kind != pa.uint64()]
    notes: dict[str, Any] = {
        "histograms": {name: histogram(table.column(name)) for name in plain},
        "failed": column.failures.count,
        "causes": column.failures.causes,
    }
    if "tokens" in column.writes and "ids" in column.writes:
        notes["tokens"] = int(sum(value or 0 for value in table.column("tokens").to_pylist()))
    return notes


def _prepare(store: Store, column: Mapping[str, Any]) -> _Column:
    function, reads, writes = _load(store.url, column["kind"], canonical_json(column["spec"]), column.get("model"))
    return _Column(column["name"], column["folder"], function, reads, writes, Failures())


@lru_cache(maxsize=32)
def _load(
    store_url: str, kind: str, spec_json: str, model: str | None
) -> tuple[BatchFunction, tuple[str, ...], Mapping[str, pa.DataType]]:
    """A stage ready to run, kept for the worker's next tasks: models are loaded once."""
    spec = json.loads(spec_json)
    with Store(store_url).as_local(*([model] if model else [])) as paths:
        if kind == "encodings":
            return encoder(paths[0], **spec)
        stage = find_stage(STAGE_KIND[kind], spec["stage"])
        config = stage.config(**spec["settings"])
        return stage.make(config, *paths), stage.reads_for(config), stage.writes_for(config)
