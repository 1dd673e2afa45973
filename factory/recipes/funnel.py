"""The funnel: what each rule drops, alone and in its turn, in documents and tokens; and examples of what it dropped."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.decisions import add_funnels
from factory.core.errors import FactoryError, InputError, suggest
from factory.core.fingerprint import hash_ids
from factory.core.ledger import add_counts
from factory.core.manifest import Manifest, Part
from factory.recipes.lookup import Current, Place, bounds, describe_rule
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

ERROR = "error"  # the verdict on records that could not become documents
TEXT_HEAD = 300


def funnels(
    workspace: Workspace, experiments: Sequence[str] = (), snapshots: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The funnel of each experiment (all by default) over its snapshots (all by default)."""
    current = Current(workspace)
    labels = _chosen("experiment", experiments, [item.label for item in workspace.recipe.experiments])
    wanted = _chosen("snapshot", snapshots, current.snapshots) if current.snapshots else list(snapshots)
    made = [
        _funnel(workspace, label, [item for item in found if item is not None])
        for label in labels
        if any(found := [current.find("decisions", label, snapshot) for snapshot in wanted])
    ]
    if not made:
        raise FactoryError(
            "Nothing has been decided yet. 'factory run decisions' does it; 'factory plan' shows why not."
        )
    return made


def _chosen(what: str, asked: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in asked:
        if name not in known:
            raise InputError(f"No {what} is named '{name}'.{suggest(name, known)}")
    return list(asked) or list(known)


def _funnel(workspace: Workspace, label: str, decided: list[Manifest]) -> dict[str, Any]:
    ledgers = [manifest.ledger for manifest in decided]
    rows, errors = sum(item["rows"] for item in ledgers), add_counts(item["errors"] for item in ledgers)
    tokens = sum(manifest.notes["tokens"] for manifest in decided)
    sources = {rule.label: rule.source for rule in workspace.recipe.experiment(label).rules}
    rules = {rule["label"]: (rule, manifest) for manifest in decided for rule in manifest.spec["rules"]}
    left, left_tokens = rows - sum(errors.values()), tokens
    steps = []
    for step in add_funnels([manifest.notes["funnel"] for manifest in decided]):
        left, left_tokens = left - int(step["first"]), left_tokens - int(step["first_tokens"])
        rule, manifest = rules[str(step["rule"])]
        steps.append(
            {
                **step,
                "test": describe_rule(rule, manifest.notes["fitted"].get(rule["label"])),
                "source": sources.get(str(step["rule"]), ""),
                "remaining": left,
                "remaining_tokens": left_tokens,
            }
        )
    return {
        "experiment": label,
        "snapshots": [manifest.partition for manifest in decided],
        "rows": rows,
        "errors": errors,
        "tokens": tokens,
        "rules": steps,
        "kept": sum(item["kept"] for item in ledgers),
        "kept_tokens": sum(manifest.notes["kept_tokens"] for manifest in decided),
        "repeated": _repeated(workspace, label),
    }


def _repeated(workspace: Workspace, label: str) -> dict[str, int] | None:
    """Documents and tokens of all snapshots as often as the selection takes them; None where it takes each once."""
    selection = workspace.find("selection", label)
    if selection is None or "unrepeated" not in selection.notes:
        return None
    return {name: sum(selection.notes[name].values()) for name in ("documents", "tokens")}


def find_rules(found: Sequence[Mapping[str, Any]], name: str) -> tuple[str, list[str]]:
    """The last experiment that has rules of this name, and those rules: one, or all of a preset's.

    Raises FactoryError with the nearest known one.
    """
    known: dict[str, None] = {}
    for funnel in reversed(found):
        own = [ERROR, *(step["rule"] for step in funnel["rules"])]
        matching = [rule for rule in own if rule == name or rule.startswith(f"{name}.")]
        if matching:
            return funnel["experiment"], matching
        known.update(dict.fromkeys([*own, *(rule.split(".")[0] for rule in own)]))
    labels = ", ".join(funnel["experiment"] for funnel in found)
    raise InputError(f"No rule of {labels} is named '{name}'.{suggest(name, known)}")


def examples(
    workspace: Workspace,
    experiment: str,
    rule: str,
    number: int,
    *,
    snapshots: Sequence[str] = (),
    near: bool = False,
    text: bool = False,
) -> list[dict[str, Any]]:
    """Documents that fail a rule: those with the smallest hash (the same every time), or those nearest to its bounds."""
    current = Current(workspace)
    wanted = _chosen("snapshot", snapshots, current.snapshots)
    found: list[tuple[float, Place, dict[str, Any]]] = []
    for snapshot, document in current.documents():
        decisions = current.find("decisions", experiment, snapshot)
        part = current.beside("decisions", experiment, snapshot, document)
        if snapshot in wanted and decisions is not None and part is not None:
            found += _failing(current, decisions, part, rule, Place(snapshot, document, 0), number, near)
            found = sorted(found, key=lambda item: item[0])[:number]
    return [{**shown, **_details(current, place, text)} for _, place, shown in found]


def _failing(
    current: Current, decisions: Manifest, part: Part, rule: str, at: Place, number: int, near: bool
) -> Iterable[tuple[float, Place, dict[str, Any]]]:
    """(order, place, what it failed with) of the first `number` rows of a part that fail the rule."""
    failed = read_part(current.workspace.store, part, ["failed"]).column("failed").combine_chunks()
    rows = np.flatnonzero(holds(failed, rule))
    if not len(rows):
        return []
    spec = next((item for item in decisions.spec["rules"] if item["label"] == rule), None)
    fitted = decisions.notes["fitted"].get(rule)
    columns = {name: current.column(name, at.snapshot, at.part) for name in (spec["reads"] if spec else ("error",))}
    limits = bounds(spec, fitted) if spec else []
    ids = current.ids(at.part).column("doc_id").combine_chunks().take(pa.array(rows))
    order = hash_ids(ids, current.workspace.recipe.seed).astype(np.float64)
    first = next(iter(columns.values()), None)
    if near and limits and first is not None:
        values = first.take(pa.array(rows)).to_numpy().astype(np.float64)
        order = np.nan_to_num(np.min([np.abs(values - limit) for limit in limits], axis=0), nan=np.inf)
    chosen = np.argsort(order, kind="stable")[:number]
    test = describe_rule(spec, fitted) if spec else "the record can be read"
    return [
        (
            float(order[index]),
            Place(at.snapshot, at.part, int(rows[index])),
            {
                "rule": rule,
                "test": test,
                "values": {
                    name: column[int(rows[index])].as_py() for name, column in columns.items() if column is not None
                },
                "also": [other for other in failed[int(rows[index])].as_py() if other != rule],
            },
        )
        for index in chosen
    ]


def holds(lists: pa.ListArray, label: str) -> np.ndarray:
    """Which of the lists hold the label."""
    hits = np.zeros(len(lists), dtype=bool)
    parents = pc.list_parent_indices(lists).to_numpy()
    hits[parents[pc.equal(lists.flatten(), label).to_numpy(zero_copy_only=False)]] = True
    return hits


def _details(current: Current, place: Place, text: bool) -> dict[str, Any]:
    row = current.row(place, ["doc_id", "url", "title", "error", *(["text"] if text else [])])
    shown = {"doc_id": row["doc_id"], "url": row["url"], "title": row["title"], "snapshot": place.snapshot}
    return {**shown, "text": (row["text"] or row["error"] or "")[:TEXT_HEAD]} if text else shown
