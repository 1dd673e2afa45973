"""Decisions: every rule of an experiment on every document of a snapshot, every verdict kept."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.decisions import DECISION, add_funnels, failed_labels, funnel_counts
from factory.core.fingerprint import canonical_json, fingerprint
from factory.core.ledger import decisions_ledger, error_kind
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.graph import column_owners
from factory.recipes.references import make_stage
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import find_part, read_aligned, write_thin_part
from factory.storage.store import Store

FAILED = "crashed: a column that decides about it could not be computed"


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Decisions of several experiments and snapshots. Rules that compare documents are fitted first, per snapshot."""
    fits = [
        Task(work.node.name, f"{__name__}:fit", _payload(bench, work), sum(p.rows for p in work.one("documents").parts))
        for work in works
    ]
    needed = [task for task in fits if any(find_stage("filter", rule["stage"]).fit for rule in task.payload["rules"])]
    fitted = bench.run_tasks("fit thresholds", needed, unit="rows")
    tasks, done = [], {work.node.name: dict[str, Part]() for work in works}
    for work, whole in zip(works, fits, strict=True):
        name = work.node.name
        for item in whole.payload["parts"]:
            found = fitted.get(name, {}).get("fitted", {})
            # A row that failed and one that has no value look the same in a column, and so in its digest.
            failures = [part["notes"].get("failed_rows", []) for part, _ in item["beside"]]
            beside = {
                "beside": [part["digest"] for part, _ in item["beside"]],
                "failed": failures if any(failures) else [],
                "fitted": canonical_json(found),
            }
            folder = f"{work.folder}/{fingerprint(beside)}"
            document = Part.from_json(item["document"])
            part = find_part(bench.store, folder, document.digest)
            if part is not None and part.ids == document.ids:
                done[name][document.digest] = part
                continue
            payload = {
                **{key: whole.payload[key] for key in ("store", "rules")},
                **item,
                "folder": folder,
                "fitted": found,
            }
            tasks.append(Task(f"{name} {document.digest}", f"{__name__}:decide", payload, document.rows))
    results = bench.run_tasks("decisions", tasks, unit="rows")
    for task in tasks:
        name, digest = task.name.split(" ")
        done[name][digest] = Part.from_json(results[task.name]["part"])
    return {
        work.node.name: _made(
            [done[work.node.name][part.digest] for part in work.one("documents").parts], fitted.get(work.node.name, {})
        )
        for work in works
    }


def _made(parts: list[Part], fitted: Mapping[str, Any]) -> Made:
    notes: dict[str, Any] = {
        "funnel": add_funnels([part.notes["funnel"] for part in parts]),
        "fitted": dict(fitted.get("fitted", {})),
    }
    for count in ("tokens", "kept_tokens"):
        notes[count] = sum(part.notes[count] for part in parts)
    return Made(tuple(parts), decisions_ledger(part.notes for part in parts), notes)


def _payload(bench: Bench, work: Work) -> dict[str, Any]:
    """The rules, and for each document part the thin parts whose columns they read."""
    owners = column_owners(bench.recipe)
    experiment = bench.recipe.experiment(work.node.label)
    wanted: dict[tuple[str, str], dict[str, str]] = {}
    for rule in experiment.rules:
        for name in rule.reads:
            if name in owners:
                kind, label, stored = owners[name]
                wanted.setdefault((kind, label), {})[stored] = name
    # Not for their columns: a document that could not be linked, or cannot be rewritten, is not to be kept.
    for manifest in (*work.of("scores"), *work.of("keys")):
        wanted.setdefault((manifest.kind, manifest.label), {})
    documents = work.one("documents")
    own = sorted({name for rule in experiment.rules for name in rule.reads if name not in owners})
    beside: dict[str, list[tuple[dict[str, Any], dict[str, str]]]] = {part.digest: [] for part in documents.parts}
    if bench.recipe.tokenizer is not None:
        wanted["encodings", ""] = {"tokens": "tokens"}
    for (kind, label), names in sorted(wanted.items()):
        for part in work.one(kind, label).parts:
            beside[part.name].append((part.to_json(), names))
    inputs = bench.recipe.folder
    rules = [{**rule, "reads": list(rule["reads"]), "inputs": inputs} for rule in work.node.spec["rules"]]
    parts = [{"document": part.to_json(), "own": own, "beside": beside[part.digest]} for part in documents.parts]
    return {"store": bench.store.url, "rules": rules, "parts": parts}


def fit(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the cuts of rules that compare documents, among those no other rule drops."""
    store = Store(payload["store"])
    tables = [_columns(store, item) for item in payload["parts"]]
    return {"fitted": fit_rules(pa.concat_tables(tables).combine_chunks(), payload["rules"])}


def fit_rules(table: pa.Table, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """What rules that compare documents learn from a snapshot's table (the columns they read, `doc_id` and `error`)."""
    wanted = [rule for rule in rules if find_stage("filter", rule["stage"]).fit is not None]
    if not wanted:
        return {}
    keeps = verdicts(table, [rule for rule in rules if rule not in wanted], {})
    candidates = table.filter(pa.array(keeps.all(axis=0) & table.column("error").is_null().to_numpy()))
    fitted = {}
    for rule in wanted:
        stage = find_stage("filter", rule["stage"])
        assert stage.fit is not None
        columns = [*rule["reads"], "doc_id"]
        fitted[rule["label"]] = stage.fit(stage.config(**rule["settings"]), candidates.select(columns))
    return fitted


def decide(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the verdicts beside one document part."""
    store = Store(payload["store"])
    document = Part.from_json(payload["document"])
    table = _columns(store, payload)
    labels = [rule["label"] for rule in payload["rules"]]
    keeps = verdicts(table, payload["rules"], payload["fitted"])
    wrong = ~table.column("error").is_null().to_numpy()
    tokens = np.zeros(table.num_rows, np.int64)  # without a tokenizer nobody counts them
    if "tokens" in table.column_names:
        tokens = table.column("tokens").fill_null(0).to_numpy().astype(np.int64)
    kept = keeps.all(axis=0) & ~wrong
    funnel = funnel_counts(labels, keeps, wrong, tokens)
    notes = {
        "rows": table.num_rows,
        "kept": int(kept.sum()),
        "dropped": {row["rule"]: row["first"] for row in funnel if row["first"]},
        "errors": dict(
            sorted(Counter(error_kind(error) for error in table.column("error").to_pylist() if error).items())
        ),
        "funnel": funnel,
        "tokens": int(tokens.sum()),
        "kept_tokens": int(tokens[kept].sum()),
    }
    failed = failed_labels(["error", *labels], np.vstack([~wrong, keeps | wrong]))
    batch = pa.RecordBatch.from_arrays([failed], schema=pa.schema(list(DECISION.items())))
    part = write_thin_part(store, payload["folder"], document, DECISION, [batch], notes=lambda: notes)
    return {"part": part.to_json()}


def _columns(store: Store, item: Mapping[str, Any]) -> pa.Table:
    document = Part.from_json(item["document"])
    beside = [(Part.from_json(part), names) for part, names in item["beside"]]
    table = read_aligned(store, document, beside, own=sorted({"doc_id", "error", *item["own"]})).combine_chunks()
    return with_failures(table, [part for part, _ in beside])


def with_failures(table: pa.Table, beside: Iterable[Part]) -> pa.Table:
    """The table, with an `error` where a column of the parts beside it could not be computed.

    That is no verdict: null would pass a rule that asks for absence.
    """
    failed = np.zeros(table.num_rows, np.bool_)
    for part in beside:
        failed[part.notes.get("failed_rows", [])] = True
    if not failed.any():
        return table
    error = pc.if_else(pa.array(failed), FAILED, table.column("error").combine_chunks())
    return table.set_column(table.schema.get_field_index("error"), "error", error)


def verdicts(table: pa.Table, rules: list[dict[str, Any]], fitted: Mapping[str, Any]) -> np.ndarray:
    """(rules, documents) of bool: True where the document passes."""
    keeps = np.ones((len(rules), table.num_rows), dtype=bool)
    if not table.num_rows:
        return keeps
    for index, rule in enumerate(rules):
        stage = find_stage("filter", rule["stage"])
        config = stage.config(**rule["settings"])
        made = [fitted[rule["label"]]] if stage.fit else []
        function = make_stage(stage, config, *made, pinned=rule.get("files", {}), folder=rule["inputs"])
        (batch,) = table.select(list(dict.fromkeys([*rule["reads"], "doc_id"]))).to_batches()
        keeps[index] = function(batch).column("keep").to_numpy(zero_copy_only=False)
    return keeps
