"""Selection: the documents an experiment keeps, with their domain and size. The one place where rows disappear."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import fingerprint
from factory.core.ledger import add_counts
from factory.core.manifest import Part
from factory.execution.tasks import Context, Payload, Task
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


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Selections of several experiments: a task per document part."""
    tasks: list[Task] = []
    done: dict[str, list[Part | str]] = {}
    for work in works:
        done[work.node.name] = []
        documents = {
            part.digest: (manifest.partition, part) for manifest in work.of("documents") for part in manifest.parts
        }
        encodings = {part.name: part for manifest in work.of("encodings") for part in manifest.parts}
        for manifest in work.of("decisions"):
            for decided in manifest.parts:
                snapshot, document = documents[decided.name]
                name = fingerprint(
                    {"decided": decided.digest, "encoded": encodings[decided.name].digest, "document": document.digest}
                )
                found = find_part(bench.store, work.folder, name)
                payload = {
                    "store": bench.store.url,
                    "folder": work.folder,
                    "name": name,
                    "by": work.node.spec["by"],
                    "snapshot": snapshot,
                    "document": document.to_json(),
                    "decided": decided.to_json(),
                    "encoded": encodings[decided.name].to_json(),
                }
                done[work.node.name].append(found or f"{work.node.name} {name}")
                if found is None:
                    tasks.append(Task(f"{work.node.name} {name}", f"{__name__}:select", payload, document.rows))
    results = bench.run_tasks("selection", tasks, unit="rows")
    return {
        name: _made([Part.from_json(results[part]["part"]) if isinstance(part, str) else part for part in parts])
        for name, parts in done.items()
    }


def _made(parts: list[Part]) -> Made:
    domains = {name: add_counts(part.notes[name] for part in parts) for name in ("documents", "tokens")}
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, domains)


def select(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the kept rows of one document part."""
    store = Store(payload["store"])
    document = Part.from_json(payload["document"])
    beside = [
        (Part.from_json(payload["decided"]), {"failed": "failed"}),
        (Part.from_json(payload["encoded"]), {"tokens": "tokens"}),
    ]
    table = read_aligned(store, document, beside, own=sorted({"doc_id", payload["by"]}))
    kept = pc.equal(pc.list_value_length(table.column("failed")), 0)
    rows = np.flatnonzero(kept.to_numpy())
    table = table.filter(kept).combine_chunks()
    domains = table.column(payload["by"]).cast(pa.string()).fill_null("unknown")
    columns = {
        "part": pa.repeat(pa.scalar(document.digest), len(rows)),
        "row": pa.array(rows, pa.uint32()),
        "doc_id": table.column("doc_id"),
        "snapshot": pa.repeat(pa.scalar(payload["snapshot"]), len(rows)),
        "domain": domains,
        "tokens": table.column("tokens").fill_null(0),
    }
    chosen = pa.table(columns).select(SELECTION.names).cast(SELECTION)
    counts: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for item in chosen.group_by("domain").aggregate([("tokens", "sum"), ("tokens", "count")]).to_pylist():
        counts[item["domain"]], tokens[item["domain"]] = item["tokens_count"], item["tokens_sum"]
    notes = {"documents": dict(sorted(counts.items())), "tokens": dict(sorted(tokens.items()))}
    batches = chosen.combine_chunks().to_batches()
    return {
        "part": write_part(
            store, payload["folder"], payload["name"], SELECTION, batches, ids="", notes=lambda: notes
        ).to_json()
    }
