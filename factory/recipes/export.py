"""The corpus an experiment decides on, as files for others: kept documents, their texts rewritten as the recipe says.

One file for each document part that keeps something, and `corpus.json`, written last: what the corpus was made of, the rules, and
the books. What is there already is not written again. Where the experiment has a selection, each document has the column
`repeats`: how often a training is to take it.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from factory.core.errors import FactoryError, InputError, IntegrityError, suggest
from factory.core.fingerprint import fingerprint
from factory.core.manifest import Manifest, Part
from factory.core.schema import DOCUMENT
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.graph import column_owners
from factory.recipes.steps.apply import batches
from factory.recipes.steps.rewriting import rewriter
from factory.recipes.workspace import Workspace
from factory.storage.parts import find_part, finish_part, read_aligned, read_part, write_file, write_part
from factory.storage.store import TEMPORARY, Store

FORMATS = ("parquet", "jsonl")
CORPUS = "corpus.json"
EXPORTED = pa.schema([field for field in DOCUMENT if field.name != "error"])
REPEATED = EXPORTED.append(pa.field("repeats", pa.uint16()))
BATCH_ROWS = 1024


def export(workspace: Workspace, experiment: str, to: str, form: str = "parquet") -> dict[str, Any]:
    """Write the kept documents of an experiment below `to` (a folder or URL); what `corpus.json` then says.

    Raises FactoryError for an unknown experiment or form, when something has not been made yet, and when another corpus
    lies there.
    """
    recipe = workspace.recipe
    labels = [item.label for item in recipe.experiments]
    if experiment not in labels:
        raise InputError(f"No experiment is named '{experiment}'.{suggest(experiment, labels)}")
    if form not in FORMATS:
        raise InputError(f"No format is named '{form}'.{suggest(form, FORMATS)}")
    target = Store(to if "://" in to else os.path.abspath(to))
    parts = [
        payload
        for snapshot in workspace.snapshots
        for payload in _planned(workspace, experiment, snapshot, target.url, form)
    ]
    described = _described(workspace, experiment, form)
    _refuse_other(target, described)
    done = {payload["name"]: find_part(target, payload["folder"], payload["name"]) for payload in parts}
    tasks = [
        Task(payload["name"], f"{__name__}:write", payload, payload["document"]["rows"])
        for payload in parts
        if done[payload["name"]] is None
    ]
    results = workspace.run_tasks("export", tasks, unit="rows")
    made = [done[p["name"]] or Part.from_json(results[p["name"]]["part"]) for p in parts]
    corpus = {
        **described,
        "documents": sum(part.notes["documents"] for part in made),
        "text_bytes": sum(part.notes["text_bytes"] for part in made),
        "emptied": sum(part.notes["emptied"] for part in made),
        **({"copies": sum(part.notes["copies"] for part in made)} if "selection" in described else {}),
        "rows": sum(payload["document"]["rows"] for payload in parts),
        "files": [
            {"path": part.path, "bytes": part.bytes, "documents": part.notes["documents"], "digest": part.digest}
            for part in made
        ],
    }
    if target.local:  # the folder in which files were written
        target.delete_temporaries([f"{target.root}/{TEMPORARY}scratch/part"])
    target.put(CORPUS, json.dumps(corpus, indent=1, sort_keys=True).encode())
    return {**corpus, "to": target.url, "written": len(tasks)}


def _described(workspace: Workspace, experiment: str, form: str) -> dict[str, Any]:
    decided = [workspace.need("decisions", experiment, snapshot) for snapshot in workspace.snapshots]
    return {
        "recipe": workspace.recipe.name,
        "experiment": experiment,
        "format": form,
        "snapshots": workspace.snapshots,
        "rules": list(decided[0].spec["rules"]) if decided else [],
        "rewrite": [use.identity for use in workspace.recipe.rewrite],
        "decisions": [manifest.digest for manifest in decided],
        **_selected(workspace, experiment, decided),
    }


def _selected(workspace: Workspace, experiment: str, decided: list[Manifest]) -> dict[str, Any]:
    """What a corpus of repeated documents was made of, besides."""
    if workspace.recipe.experiment(experiment).selection is None:
        return {}
    selection = workspace.need("selection", experiment)
    if any(selection.inputs.get(manifest.name) != manifest.digest for manifest in decided):
        raise FactoryError(
            f"selection/{experiment} was made from other decisions than the current ones. "
            f"'factory run selection/{experiment}' makes it again."
        )
    return {"selection": {**selection.spec["selection"], "digest": selection.digest}}


def _refuse_other(target: Store, described: Mapping[str, Any]) -> None:
    try:
        there = json.loads(target.read(CORPUS))
    except FileNotFoundError:
        return
    except ValueError:
        there = {}
    other = [key for key, value in described.items() if there.get(key) != json.loads(json.dumps(value))]
    if other:
        raise FactoryError(
            f"{target.url} holds another corpus ({there.get('recipe')}, {there.get('experiment')}, "
            f"{there.get('format')}); it differs in its {', '.join(other)}. Export to a folder of its own, or remove that one."
        )


def _planned(workspace: Workspace, experiment: str, snapshot: str, to: str, form: str) -> Iterator[dict[str, Any]]:
    documents = workspace.need("documents", "", snapshot)
    decided = {part.name: part for part in workspace.need("decisions", experiment, snapshot).parts}
    thin = _columns(workspace, snapshot)
    rewrite = [use.identity for use in workspace.recipe.rewrite]
    repeats = {}
    if workspace.recipe.experiment(experiment).selection is not None:
        repeats = {part.notes["document"]: part.to_json() for part in workspace.need("selection", experiment).parts}
    for document in documents.parts:
        beside = [(decided[document.digest].to_json(), {"failed": "failed"})]
        for manifest, names in thin:
            beside.append((next(part.to_json() for part in manifest.parts if part.name == document.digest), names))
        identity = {"document": document.digest, "beside": [part["digest"] for part, _ in beside], "rewrite": rewrite}
        if repeats:
            identity["repeats"] = repeats[document.digest]["digest"]
        yield {
            "repeats": repeats.get(document.digest),
            "store": workspace.store.url,
            "to": to,
            "folder": snapshot,
            "name": fingerprint({**identity, "format": form}),
            "form": form,
            "document": document.to_json(),
            "beside": beside,
            "rewrite": rewrite,
        }


def _columns(workspace: Workspace, snapshot: str) -> list[tuple[Manifest, dict[str, str]]]:
    """The scores and links that rewriters read, with the names they know them by."""
    owners = column_owners(workspace.recipe)
    wanted: dict[tuple[str, str], dict[str, str]] = {}
    for use in workspace.recipe.rewrite:
        for name in use.stage.reads_for(use.config):
            if name in owners:
                wanted.setdefault(owners[name][:2], {})[owners[name][2]] = name
    return [(workspace.need(kind, label, snapshot), names) for (kind, label), names in sorted(wanted.items())]


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the kept documents of one part, as one file."""
    target = Store(payload["to"])
    counts = {"documents": 0, "text_bytes": 0, "emptied": 0}
    schema = EXPORTED
    if payload["repeats"] is not None:
        counts["copies"] = 0
        schema = REPEATED

    def counted() -> Iterator[pa.RecordBatch]:
        for whole in _kept(payload):
            # Where a rewriter took all there was, nothing is left to learn from.
            filled = pc.greater(pc.binary_length(pc.utf8_trim_whitespace(whole.column("text"))), 0)
            batch = whole.filter(filled)
            counts["emptied"] += whole.num_rows - batch.num_rows
            counts["documents"] += batch.num_rows
            if "copies" in counts:
                counts["copies"] += pc.sum(batch.column("repeats")).as_py() or 0
            counts["text_bytes"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
            yield batch

    folder, name = payload["folder"], payload["name"]
    if payload["form"] == "parquet":
        part = write_part(target, folder, name, schema, counted(), notes=lambda: counts)
        return {"part": part.to_json()}
    with target.scratch() as scratch:
        local = os.path.join(scratch, "part")
        with open(local, "wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as stream:
            for batch in counted():
                stream.write(_lines(batch))
        file = write_file(target, folder, f"{name}.jsonl.zst", local, notes=counts)
    part = Part(name, file.path, counts["documents"], file.bytes, file.digest, notes=dict(counts))
    finish_part(target, folder, part)
    return {"part": part.to_json()}


def _kept(payload: Payload) -> Iterator[pa.RecordBatch]:
    store, document = Store(payload["store"]), Part.from_json(payload["document"])
    beside = [(Part.from_json(part), names) for part, names in payload["beside"]]
    rewrite = rewriter(payload["rewrite"])
    table = read_aligned(store, document, beside, own=EXPORTED.names)
    table = table.filter(pc.equal(pc.list_value_length(table.column("failed")), 0))
    names = EXPORTED.names
    if payload["repeats"] is not None:
        selected = read_part(store, Part.from_json(payload["repeats"]), ["repeats"])
        if selected.num_rows != table.num_rows:
            raise IntegrityError(
                f"{payload['repeats']['path']}: {selected.num_rows:,} documents selected, {table.num_rows:,} kept"
            )
        table = table.append_column("repeats", selected.column("repeats"))
        names = REPEATED.names
    for _, batch in batches(table, BATCH_ROWS):
        texts = rewrite.texts(batch.select(list(rewrite.reads)))
        position = batch.schema.get_field_index("text")
        yield batch.set_column(position, EXPORTED.field("text"), texts).select(names)


def _lines(batch: pa.RecordBatch) -> bytes:
    """A JSON object a line; dates in ISO 8601, `meta` as the object it is, what is null left out."""
    stream = io.StringIO()
    for row in batch.to_pylist():
        if row["date"] is not None:
            row["date"] = row["date"].isoformat()
        if row["meta"] is not None:
            row["meta"] = json.loads(row["meta"])
        filled = {key: value for key, value in row.items() if value is not None}
        stream.write(json.dumps(filled, ensure_ascii=False) + "\n")
    return stream.getvalue().encode()
