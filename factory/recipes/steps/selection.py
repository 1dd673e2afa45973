"""Selection: the documents an experiment keeps, with their domain and size. The one place where rows disappear.

Where the experiment has a `selection`, each row says how often its document is taken (`repeats`), which the selector learns
from all snapshots at once, and the counts by domain are of copies; `unrepeated` counts documents once. A document that does not
stand for its cluster is taken once at most, whatever the selector says: the one that does is taken for all of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import IntegrityError
from factory.core.fingerprint import canonical_json, fingerprint
from factory.core.ledger import add_counts
from factory.core.links import LINK_COLUMNS
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.execution.tasks import Context, Payload, Task
from factory.mixing.shares import SEPARATOR
from factory.recipes.graph import column_owners
from factory.recipes.references import make_stage
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import find_part, read_aligned, write_part
from factory.storage.store import Store

SELECTION = pa.schema(
    [
        ("part", pa.string()),  # digest of the document part
        ("row", pa.uint32()),
        ("doc_id", pa.string()),
        ("snapshot", pa.string()),
        ("domain", pa.string()),
        ("tokens", pa.uint32()),
    ]
)
SCORE = pa.field("score", pa.float64())  # where the best documents of a domain are taken first
REPEATS = pa.field("repeats", pa.uint16())
ERROR = "error"
COPY_OF = "duplicate_of"  # the links column that is null for a document that stands for its cluster


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Selections of several experiments: a task per document part, and one before them for each that is fitted."""
    items = {work.node.name: list(_items(bench, work)) for work in works}
    fits = [
        Task(
            work.node.name,
            f"{__name__}:fit",
            {"store": bench.store.url, "selection": work.node.spec["selection"], "items": items[work.node.name]},
            work.of("documents")[0].rows if work.of("documents") else 0,
        )
        for work in works
        if "selection" in work.node.spec
    ]
    fitted = {name: result["fitted"] for name, result in bench.run_tasks("fit selection", fits, unit="rows").items()}
    tasks: list[Task] = []
    done: dict[str, list[Part | str]] = {}
    for work in works:
        name = work.node.name
        done[name] = []
        for item in items[name]:
            identity = {key: item[key]["digest"] for key in ("decided", "encoded", "document") if key in item}
            if name in fitted:
                identity["fitted"] = canonical_json(fitted[name])
            if "beside" in item:
                identity["beside"] = canonical_json([part["digest"] for part, _ in item["beside"]])
            part_name = fingerprint(identity)
            found = find_part(bench.store, work.folder, part_name)
            payload = {
                "store": bench.store.url,
                "folder": work.folder,
                "name": part_name,
                "by": work.node.spec["by"],
                "best_first": work.node.spec.get("best_first"),
                "inputs": bench.recipe.folder,
                "selection": work.node.spec.get("selection"),
                "fitted": fitted.get(name),
                **item,
            }
            done[name].append(found or f"{name} {part_name}")
            if found is None:
                tasks.append(Task(f"{name} {part_name}", f"{__name__}:select", payload, item["document"]["rows"]))
    results = bench.run_tasks("selection", tasks, unit="rows")
    return {
        name: _made(
            [Part.from_json(results[part]["part"]) if isinstance(part, str) else part for part in parts],
            fitted.get(name),
        )
        for name, parts in done.items()
    }


def _items(bench: Bench, work: Work) -> Iterator[dict[str, Any]]:
    """Each document part with what was decided on it, its tokens, and the columns a selector reads beside it."""
    documents = {
        part.digest: (manifest.partition, part) for manifest in work.of("documents") for part in manifest.parts
    }
    encodings = {part.name: part for manifest in work.of("encodings") for part in manifest.parts}
    wanted = _wanted(bench, work)
    thin: dict[str, list[tuple[dict[str, Any], dict[str, str]]]] = {}
    for (kind, label), names in sorted(wanted.items()):
        for manifest in work.of(kind):
            for part in manifest.parts if manifest.label == label else ():
                thin.setdefault(part.name, []).append((part.to_json(), names))
    for manifest in work.of("decisions"):
        for decided in manifest.parts:
            snapshot, document = documents[decided.name]
            item: dict[str, Any] = {"snapshot": snapshot, "document": document.to_json(), "decided": decided.to_json()}
            if decided.name in encodings:
                item["encoded"] = encodings[decided.name].to_json()
            if "selection" in work.node.spec or wanted:
                item["beside"] = thin.get(decided.name, [])
            yield item


def _wanted(bench: Bench, work: Work) -> dict[tuple[str, str], dict[str, str]]:
    """The stored columns a selector and the domains read, by the names they are known by; of links, also who is a copy."""
    owners = column_owners(bench.recipe)
    wanted: dict[tuple[str, str], dict[str, str]] = {}
    for name in _domain_columns(work.node.spec):
        if name in owners:
            kind, label, stored = owners[name]
            wanted.setdefault((kind, label), {})[stored] = name
    for name in work.node.spec.get("selection", {}).get("reads", ()):
        if name in owners:
            kind, label, stored = owners[name]
            wanted.setdefault((kind, label), {})[stored] = name
            if kind == "links" and COPY_OF in LINK_COLUMNS[bench.recipe.linker(label).stage.links]:
                wanted[kind, label][COPY_OF] = f"{label}_{COPY_OF}"
    return wanted


def _made(parts: list[Part], fitted: Mapping[str, Any] | None) -> Made:
    notes: dict[str, Any] = {name: add_counts(part.notes[name] for part in parts) for name in ("documents", "tokens")}
    if fitted is not None:
        notes["unrepeated"] = {
            name: add_counts(part.notes["unrepeated"][name] for part in parts) for name in ("documents", "tokens")
        }
        notes["fitted"] = dict(fitted)
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


def fit(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: what the selector learns of the documents that stand for their clusters, in all snapshots."""
    store, chosen = Store(payload["store"]), payload["selection"]
    stage = find_stage("selector", chosen["stage"])
    if stage.fit is None:
        return {"fitted": {}}
    tables = [_learned(store, chosen, item) for item in payload["items"]]
    return {"fitted": stage.fit(stage.config(**chosen["settings"]), pa.concat_tables(tables).combine_chunks())}


def _learned(store: Store, chosen: Mapping[str, Any], item: Mapping[str, Any]) -> pa.Table:
    """The columns the selector reads and `removed`, of one part: without records that are no documents, and copies."""
    own = [name for name in chosen["reads"] if not any(name in names.values() for _, names in item["beside"])]
    table = _read(store, item, own)
    failed = table.column("failed").combine_chunks()
    removed, wrong = np.zeros(table.num_rows, np.bool_), np.zeros(table.num_rows, np.bool_)
    parents = pc.list_parent_indices(failed).to_numpy()
    labels = failed.flatten()
    ignored = pa.array([ERROR, *chosen["ignores"]], pa.string())
    removed[parents[~pc.is_in(labels, value_set=ignored).to_numpy(zero_copy_only=False)]] = True
    wrong[parents[pc.equal(labels, ERROR).to_numpy(zero_copy_only=False)]] = True
    stands = ~wrong & _stands(table, item)
    table = table.select(list(chosen["reads"])).append_column("removed", pa.array(removed))
    return table.filter(pa.array(stands))


def _stands(table: pa.Table, item: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Which documents stand for their cluster, for every linker whose columns the selector reads."""
    stands = np.ones(table.num_rows, np.bool_)
    for _, names in item.get("beside", ()):
        if COPY_OF in names:
            stands &= table.column(names[COPY_OF]).is_null().to_numpy(zero_copy_only=False)
    return stands


def _read(store: Store, item: Mapping[str, Any], own: list[str]) -> pa.Table:
    """Document columns, verdicts and what else stands beside one part."""
    beside = [(Part.from_json(item["decided"]), {"failed": "failed"})]
    if "encoded" in item:
        beside.append((Part.from_json(item["encoded"]), {"tokens": "tokens"}))
    beside += [(Part.from_json(part), names) for part, names in item.get("beside", ())]
    return read_aligned(store, Part.from_json(item["document"]), beside, own=own)


def select(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the kept rows of one document part."""
    store = Store(payload["store"])
    document, chosen = Part.from_json(payload["document"]), payload["selection"]
    reads = list(chosen["reads"]) if chosen else []
    stored = {name for _, names in payload.get("beside", ()) for name in names.values()}
    table = _read(store, payload, sorted({"doc_id", *_domain_columns(payload), *reads} - stored))
    kept = pc.equal(pc.list_value_length(table.column("failed")), 0)
    rows = np.flatnonzero(kept.to_numpy())
    table = table.filter(kept).combine_chunks()
    columns = {
        "part": pa.repeat(pa.scalar(document.digest), len(rows)),
        "row": pa.array(rows, pa.uint32()),
        "doc_id": table.column("doc_id"),
        "snapshot": pa.repeat(pa.scalar(payload["snapshot"]), len(rows)),
        "domain": _domains(table, payload["by"]),
        # Without a tokenizer nobody counts them.
        "tokens": table.column("tokens").fill_null(0) if "encoded" in payload else pa.nulls(len(rows), pa.uint32()),
    }
    schema = SELECTION
    if payload.get("best_first"):
        schema = schema.append(SCORE)
        columns[SCORE.name] = table.column(payload["best_first"])
    if chosen:
        schema = schema.append(REPEATS)
        repeats = _repeats(payload, table.select(list(dict.fromkeys([*reads, "doc_id"])))).to_numpy(
            zero_copy_only=False
        )
        columns["repeats"] = pa.array(np.where(_stands(table, payload), repeats, np.minimum(repeats, 1)))
    made = pa.table(columns).select(schema.names).cast(schema)
    notes = _notes(document, made)
    batches = made.combine_chunks().to_batches()
    return {
        "part": write_part(
            store, payload["folder"], payload["name"], schema, batches, ids="", notes=lambda: notes
        ).to_json()
    }


def _domain_columns(spec: Mapping[str, Any]) -> list[str]:
    """The columns that say which domain a document is of, and which of its documents come first."""
    by = [spec["by"]] if isinstance(spec["by"], str) else list(spec["by"])
    return [*by, spec["best_first"]] if spec.get("best_first") else by


def _domains(table: pa.Table, by: str | list[str]) -> pa.ChunkedArray:
    """The domain of each document: the value of a column, or those of several, as source/topic."""
    named = [
        table.column(name).cast(pa.string()).fill_null("unknown") for name in ([by] if isinstance(by, str) else by)
    ]
    return named[0] if len(named) == 1 else pc.binary_join_element_wise(*named, SEPARATOR)


def _repeats(payload: Payload, table: pa.Table) -> pa.Array:
    """How often each of the kept documents is taken."""
    chosen = payload["selection"]
    stage = find_stage("selector", chosen["stage"])
    fitted = [payload["fitted"]] if stage.fit is not None else []
    function = make_stage(
        stage, stage.config(**chosen["settings"]), *fitted, pinned=chosen.get("files", {}), folder=payload["inputs"]
    )
    (batch,) = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    made = function(batch).column("repeats")
    if len(made) != table.num_rows or made.null_count:
        raise IntegrityError(
            f"selector {stage.name} gave {len(made) - made.null_count} counts for {table.num_rows} rows"
        )
    return made


def _notes(document: Part, made: pa.Table) -> dict[str, Any]:
    """Documents and tokens by domain: of copies, where documents are repeated."""
    domains = made.column("domain")
    tokens = made.column("tokens").fill_null(0).cast(pa.int64())
    once = _counts(domains, pa.chunked_array([pa.repeat(pa.scalar(1, pa.int64()), made.num_rows)]), tokens)
    if "repeats" not in made.column_names:
        return once
    repeats = made.column("repeats").cast(pa.int64())
    return {**_counts(domains, repeats, pc.multiply(repeats, tokens)), "unrepeated": once, "document": document.digest}


def _counts(domains: pa.ChunkedArray, documents: pa.ChunkedArray, tokens: pa.ChunkedArray) -> dict[str, dict[str, int]]:
    table = pa.table({"domain": domains, "documents": documents, "tokens": tokens})
    sums = table.group_by("domain").aggregate([("documents", "sum"), ("tokens", "sum")]).to_pylist()
    return {
        name: {row["domain"]: row[f"{name}_sum"] for row in sorted(sums, key=lambda row: row["domain"])}
        for name in ("documents", "tokens")
    }
