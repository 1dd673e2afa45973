"""Documents: input files to rows. Sources create them, extractors give them text, and every record is accounted for."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import InputError
from factory.core.fingerprint import digest_bytes, fingerprint
from factory.core.ledger import documents_ledger, error_kind
from factory.core.manifest import Part, dataset_folder
from factory.core.registry import find_stage
from factory.core.schema import DOCUMENT, RAW, document_id
from factory.core.stage import BatchFunction, InputFile, InputPart
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.graph import Node
from factory.recipes.steps.apply import apply
from factory.recipes.steps.companions import StoredCompanions, keep_files
from factory.recipes.work import Bench, Made, Work
from factory.stages.sources.ranged import open_input
from factory.storage.parts import find_part, write_part
from factory.storage.store import Store

CAUSES_KEPT = 3
EXTRACTED = ("text", "title", "license", "error", "meta")


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Documents of several snapshots: one task for each part of an input file that was not read before."""
    planned = {work.node.name: list(_planned(bench, work.node)) for work in works}
    done: dict[tuple[str, str], Part] = {}
    tasks = []
    for name, payloads in planned.items():
        for payload in payloads:
            part = _find(bench.store, payload)
            if part is not None:
                done[payload["folder"], payload["name"]] = part
            else:
                described = payload["part"]
                # With the label: two sources may hold files of one name.
                called = f"{name} {payload['label']}:{described['file']['name']}+{described['start']}"
                weight = described["stop"] - described["start"]
                tasks.append(Task(called, f"{__name__}:make", payload, weight))
    results = bench.run_tasks("documents", tasks)
    for task in tasks:
        done[task.payload["folder"], task.payload["name"]] = Part.from_json(results[task.name]["part"])
    return {name: _made([done[p["folder"], p["name"]] for p in payloads]) for name, payloads in planned.items()}


def _find(store: Store, payload: Payload) -> Part | None:
    """The finished part of a payload: made without a look at other files, or with one at the files there are now."""
    part = find_part(store, payload["folder"], payload["name"])
    if part is None and payload["among"]:
        part = find_part(store, payload["folder"], _name_among(payload))
    return part


def _name_among(payload: Payload) -> str:
    return digest_bytes(f"{payload['name']}\x1f{payload['among']}".encode())


def _made(parts: list[Part]) -> Made:
    notes = {
        "histograms": merge_histograms([part.notes["histograms"] for part in parts]),
        "text_bytes": sum(part.notes["text_bytes"] for part in parts),
        "causes": [cause for part in parts for cause in part.notes["causes"]][:10],
    }
    # A range in which no record begins is in the books and nowhere else: two such parts would be one and the same.
    filled = tuple(part for part in parts if part.rows)
    return Made(filled, documents_ledger(part.notes for part in parts), notes)


def _planned(bench: Bench, node: Node) -> Iterator[dict[str, Any]]:
    for label, files in bench.inputs[node.partition].items():
        use = next(source for source in bench.recipe.sources if source.label == label)
        made_as = fingerprint({"source": node.spec["sources"][label]})
        made = use.stage.make(use.config)
        folder = dataset_folder("documents", label, made_as, node.partition)
        among = keep_files(bench.store, folder, files) if made.read_among else None
        for file in files:
            for part in made.split(file, use.part_bytes):
                yield {
                    "store": bench.store.url,
                    "folder": folder,
                    "among": among,
                    "name": digest_bytes(f"{file.name}\x1f{part.identity}".encode()),
                    "part": asdict(part),
                    "label": label,
                    "snapshot": node.partition,
                    "source": use.identity,
                    "extract": [extractor.identity for extractor in bench.recipe.extract],
                }


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one part of an input file to one part of documents."""
    described = payload["part"]
    file = InputFile(**described["file"])
    part = InputPart(file, described["start"], described["stop"])
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    books: dict[str, Any] = {"rows": 0, "text_bytes": 0, "causes": []}
    tallies: list[dict[str, dict[str, int]]] = []
    store = Store(payload["store"])
    companions = StoredCompanions(store, payload["folder"], payload["among"]) if payload["among"] else None

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in read_documents(payload, part, counts, context, companions):
            books["rows"] += batch.num_rows
            found = [error for error in batch.column("error").to_pylist() if error is not None]
            errors.update(error_kind(error) for error in found)
            if found and len(books["causes"]) < CAUSES_KEPT:
                books["causes"] = [*books["causes"], *_causes(batch)][:CAUSES_KEPT]
            sizes = pc.binary_length(batch.column("text"))
            books["text_bytes"] += pc.sum(sizes).as_py() or 0
            tallies.append({"text_bytes": histogram(sizes), "host": histogram(batch.column("host"))})
            yield batch

    def notes() -> dict[str, Any]:
        return {
            **books,
            "records": books["rows"] + sum(counts.values()),
            "skipped": dict(sorted(counts.items())),
            "errors": dict(sorted(errors.items())),
            "histograms": merge_histograms(list(tallies)),
        }

    def name() -> str:
        return _name_among(payload) if companions is not None and companions.asked else payload["name"]

    return {"part": write_part(store, payload["folder"], name, DOCUMENT, counted(), notes=notes).to_json()}


def _causes(batch: pa.RecordBatch) -> list[str]:
    """The errors of a batch, with the place of each record."""
    wrong = batch.filter(pc.is_valid(batch.column("error"))).select(["error", "locator"]).slice(0, CAUSES_KEPT)
    return [
        row["error"] + (f" ({row['locator']['file']} at byte {row['locator']['offset']:,})" if row["locator"] else "")
        for row in wrong.to_pylist()
    ]


def read_documents(
    payload: Payload,
    part: InputPart,
    skipped: Counter[str],
    context: Context,
    companions: StoredCompanions | None = None,
    opened: Callable[[InputFile], BinaryIO] = open_input,
) -> Iterator[pa.RecordBatch]:
    """The documents of one part of an input, batch by batch; what is left out is counted in `skipped`."""
    source = _stage("source", payload["source"])
    extractors = [_stage("extractor", identity) for identity in payload["extract"]]
    row = 0
    before = _mark(part.file)
    with opened(part.file) as stream:
        for raw in source.read(stream, part) if companions is None else source.read_among(stream, part, companions):
            skipped.update(json.loads((raw.schema.metadata or {}).get(b"skipped", b"{}")))
            batch = _identified(raw, payload["label"], payload["snapshot"])
            for extract in extractors:
                batch = _extracted(extract, batch, row, context)
            row += batch.num_rows
            yield _finished(batch)
    if companions is not None:
        companions.check()
    if _mark(part.file) != before or not _as_found(part.file, before):
        raise InputError(f"{part.file.uri} changed while it was read. Run again when whoever writes it is done.")


def _stage(kind: str, identity: dict[str, Any]) -> Any:
    stage = find_stage(kind, identity["stage"])
    return stage.make(stage.config(**identity["settings"]))


def _mark(file: InputFile) -> Any:
    if "://" in file.uri or os.path.isdir(file.uri):
        return None
    stat = os.stat(file.uri)
    return stat.st_size, stat.st_mtime_ns


def _as_found(file: InputFile, mark: Any) -> bool:
    """Whether a file is still the one whose identity was taken: other bytes must never be kept under that identity."""
    return mark is None or (mark[0] == file.size and file.modified in (0, mark[1]))


def _identified(raw: pa.RecordBatch, source: str, snapshot: str) -> pa.RecordBatch:
    """A source's batch with all RAW columns, its identity filled in."""
    ids = [document_id(source, snapshot, key) for key in raw.column("key").to_pylist()]
    given = {
        "doc_id": pa.array(ids, pa.string()),
        "source": pa.repeat(pa.scalar(source), raw.num_rows),
        "snapshot": pa.repeat(pa.scalar(snapshot), raw.num_rows),
    }
    names = set(raw.schema.names)
    columns = [
        given[field.name]
        if field.name in given
        else raw.column(field.name).cast(field.type)
        if field.name in names
        else pa.nulls(raw.num_rows, field.type)
        for field in RAW
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RAW)


def _extracted(extract: BatchFunction, batch: pa.RecordBatch, row: int, context: Context) -> pa.RecordBatch:
    schema = pa.schema([RAW.field(name) for name in EXTRACTED])

    def whole(rows: pa.RecordBatch) -> pa.RecordBatch:
        made = extract(rows)
        columns = [
            (made if field.name in made.schema.names else rows).column(field.name).cast(field.type) for field in schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def failed(one: pa.RecordBatch, number: int, cause: str) -> pa.RecordBatch:
        meta = one.column("meta")[0].as_py()
        row = {"text": None, "title": None, "license": None, "error": cause, "meta": meta}
        return pa.RecordBatch.from_pylist([row], schema=schema)

    made = apply(whole, batch, row, context, failed)
    for field in schema:
        batch = batch.set_column(batch.schema.get_field_index(field.name), field, made.column(field.name))
    return batch


def _finished(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Document columns only. A row has text or an error, never both, never neither."""
    text, error = batch.column("text"), batch.column("error")
    empty = pc.fill_null(pc.equal(pc.binary_length(pc.utf8_trim_whitespace(text)), 0), True)
    error = pc.if_else(pc.and_(empty, pc.is_null(error)), "no_text: nothing to read in the record", error)
    text = pc.if_else(pc.is_valid(error), pa.scalar(None, pa.large_string()), text)
    batch = batch.set_column(batch.schema.get_field_index("text"), RAW.field("text"), text)
    batch = batch.set_column(batch.schema.get_field_index("error"), RAW.field("error"), error.cast(pa.string()))
    return batch.select(DOCUMENT.names).cast(DOCUMENT)
