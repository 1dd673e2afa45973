"""What other thresholds would do: rules of an experiment with changed settings, judged on the scores that are there.

Nothing is scored and nothing is written. A change is `rule.setting=value`, or `rule=off`; a sweep is
`rule.setting=from:to:step`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from factory.core.config import config_problems
from factory.core.errors import FactoryError, InputError, suggest
from factory.core.registry import find_stage
from factory.recipes.graph import column_owners
from factory.recipes.lookup import Current, Place, describe_rule
from factory.recipes.recipe import Rule
from factory.recipes.references import pin_stage
from factory.recipes.steps.decisions import fit_rules, verdicts, with_failures
from factory.recipes.workspace import Workspace

OFF = "off"
MOST_STEPS = 200
_CHANGE = re.compile(r"([a-z0-9_.]+)=(.+)")


@dataclass(frozen=True)
class Snapshot:
    """One snapshot's columns that rules read, with `doc_id`, `error` and, where counted, `tokens`; and where rows lie."""

    name: str
    table: pa.Table
    places: list[Place]  # of the first row of each part


def what_if(
    workspace: Workspace,
    experiment: str,
    changes: Sequence[str],
    *,
    snapshots: Sequence[str] = (),
    examples: int = 3,
) -> dict[str, Any]:
    """Documents kept before and after, what is gained and lost, rule by rule and by source, with examples."""
    before = _rules(workspace, experiment)
    after = changed(before, changes)
    current = Current(workspace)
    found: dict[str, Any] = {"kept_before": 0, "kept_after": 0, "gained": 0, "lost": 0, "rows": 0}
    tokens = {"tokens_before": 0, "tokens_after": 0}
    sources: dict[str, list[int]] = {}
    shown: dict[str, list[dict[str, Any]]] = {"gained": [], "lost": []}
    failing = {rule["label"]: [0, 0] for rule in before}
    for snapshot in _tables(current, [*before, *after], snapshots):
        sound = snapshot.table.column("error").is_null().to_numpy(zero_copy_only=False)
        own_before, own_after = (_keeps(snapshot.table, rules) for rules in (before, after))
        was, now = own_before.all(axis=0) & sound, own_after.all(axis=0) & sound
        for side, (rules, keeps) in enumerate(((before, own_before), (after, own_after))):
            for rule, keep in zip(rules, keeps, strict=True):
                failing[rule["label"]][side] += int((~keep & sound).sum())
        found["rows"] += snapshot.table.num_rows
        for name, mask in (("kept_before", was), ("kept_after", now), ("gained", now & ~was), ("lost", was & ~now)):
            found[name] += int(mask.sum())
        if "tokens" in snapshot.table.column_names:
            counted = snapshot.table.column("tokens").fill_null(0).to_numpy().astype(np.int64)
            tokens["tokens_before"] += int(counted[was].sum())
            tokens["tokens_after"] += int(counted[now].sum())
        origin = snapshot.table.column("source").to_numpy(zero_copy_only=False)
        for name in np.unique(origin[was | now]) if (was | now).any() else ():
            counts = sources.setdefault(str(name), [0, 0])
            counts[0] += int((was & (origin == name)).sum())
            counts[1] += int((now & (origin == name)).sum())
        for kind, mask in (("gained", now & ~was), ("lost", was & ~now)):
            rows = np.flatnonzero(mask)[: examples - len(shown[kind])]
            shown[kind] += [_example(current, snapshot, int(row), before, after) for row in rows]
    gone = {rule["label"] for rule in before} - {rule["label"] for rule in after}
    rules = [
        {
            "rule": rule["label"],
            "before": describe_rule(rule),
            "after": "off"
            if rule["label"] in gone
            else describe_rule(next(r for r in after if r["label"] == rule["label"])),
            "fails_before": failing[rule["label"]][0],
            "fails_after": 0 if rule["label"] in gone else failing[rule["label"]][1],
        }
        for rule in before
    ]
    return {"experiment": experiment, **found, **tokens, "rules": rules, "sources": sources, "examples": shown}


def sweep(workspace: Workspace, experiment: str, asked: str, *, snapshots: Sequence[str] = ()) -> dict[str, Any]:
    """Documents kept for each value of one setting, from `rule.setting=from:to:step`."""
    name, _, span = asked.partition("=")
    pieces = span.split(":")
    try:
        first, last, step = (float(piece) for piece in pieces)
    except ValueError:
        raise InputError(
            f"'{asked}': a sweep is written rule.setting=from:to:step, such as gopher.words.min=10:200:10."
        ) from None
    count = int(np.floor((last - first) / step + 1e-9)) + 1 if step else 0
    if count < 1 or count > MOST_STEPS:
        raise InputError(f"'{asked}' asks for {max(count, 0):,} values; from 1 to {MOST_STEPS} are meant.")
    values = [first + index * step for index in range(count)]
    rules = _rules(workspace, experiment)
    ways = [changed(rules, [f"{name}={value:.12g}"]) for value in values]
    kept, fails, rows = [0] * count, [0] * count, 0
    label = _split(name, rules)[0]
    for snapshot in _tables(Current(workspace), [rule for way in ways for rule in way], snapshots):
        sound = snapshot.table.column("error").is_null().to_numpy(zero_copy_only=False)
        rows += snapshot.table.num_rows
        for index, way in enumerate(ways):
            keeps = _keeps(snapshot.table, way)
            kept[index] += int((keeps.all(axis=0) & sound).sum())
            own = next(position for position, rule in enumerate(way) if rule["label"] == label)
            fails[index] += int((~keeps[own] & sound).sum())
    steps = [{"value": v, "kept": k, "fails": f} for v, k, f in zip(values, kept, fails, strict=True)]
    return {"experiment": experiment, "setting": name, "rows": rows, "steps": steps}


def changed(rules: Sequence[dict[str, Any]], changes: Sequence[str]) -> list[dict[str, Any]]:
    """The rules with other settings. Raises InputError for what is no rule, no setting, or no value of it."""
    made = [dict(rule) for rule in rules]
    for change in changes:
        match = _CHANGE.fullmatch(change.strip())
        if match is None:
            raise InputError(f"'{change}': a change is written rule.setting=value, or rule=off.")
        name, value = match.groups()
        if value == OFF and any(rule["label"] == name or rule["label"].startswith(f"{name}.") for rule in made):
            made = [rule for rule in made if rule["label"] != name and not rule["label"].startswith(f"{name}.")]
            continue
        label, setting = _split(name, made)
        index = next(position for position, rule in enumerate(made) if rule["label"] == label)
        made[index] = _with_setting(made[index], setting, value, change)
    return made


def _split(name: str, rules: Sequence[dict[str, Any]]) -> tuple[str, str]:
    label, _, setting = name.rpartition(".")
    known = [rule["label"] for rule in rules]
    if label not in known:
        if name in known:
            settings = next(rule for rule in rules if rule["label"] == name)["settings"]
            raise InputError(
                f"'{name}' is a rule; name a setting of it: {', '.join(f'{name}.{key}' for key in settings)}."
            )
        raise InputError(f"No rule of the experiment is named '{label or name}'.{suggest(label or name, known)}")
    return label, setting


def _with_setting(rule: dict[str, Any], setting: str, value: str, change: str) -> dict[str, Any]:
    config = rule["config"]
    if setting not in config.model_fields:
        raise InputError(
            f"'{change}': {rule['stage']} has no setting '{setting}'.{suggest(setting, config.model_fields)}"
        )
    try:
        parsed = None if value in ("none", "null") else json.loads(value)
    except ValueError:
        parsed = value
    try:
        made = config(**{**rule["settings"], setting: parsed})
    except ValidationError as error:
        raise InputError(f"'{change}': " + "; ".join(config_problems(rule["label"], error, config))) from None
    stage = find_stage("filter", rule["stage"])
    reads = [name for name in stage.reads_for(made) if name != "doc_id"]
    pinned = pin_stage(stage, made, rule["inputs"])
    return {**rule, "settings": made.model_dump(mode="json"), "reads": reads, "files": pinned}


def _rules(workspace: Workspace, experiment: str) -> list[dict[str, Any]]:
    labels = [item.label for item in workspace.recipe.experiments]
    if experiment not in labels:
        raise InputError(f"No experiment is named '{experiment}'.{suggest(experiment, labels)}")
    folder = workspace.recipe.folder
    return [_plain(rule, folder) for rule in workspace.recipe.experiment(experiment).rules]


def _plain(rule: Rule, folder: str) -> dict[str, Any]:
    pinned = {"files": pin_stage(rule.stage, rule.config, folder), "inputs": folder}
    return {"label": rule.label, "reads": list(rule.reads), "config": rule.stage.config, **rule.identity, **pinned}


def _keeps(table: pa.Table, rules: list[dict[str, Any]]) -> np.ndarray:
    return verdicts(table, rules, fit_rules(table, rules))


def _tables(current: Current, rules: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[Snapshot]:
    """The snapshots' columns. Raises FactoryError for an unknown snapshot, and where a column is not there yet."""
    for name in wanted:
        if name not in current.snapshots:
            raise InputError(f"No snapshot is named '{name}'.{suggest(name, current.snapshots)}")
    names = sorted({name for rule in rules for name in rule["reads"]} - {"doc_id", "error", "source"})
    owners = column_owners(current.workspace.recipe)
    owned = {owners[name][:2] for name in names if name in owners} | {("encodings", "")}
    read = sorted(owned | {("keys", label) for kind, label in owned if kind == "links"})
    tables: dict[str, list[pa.Table]] = {}
    places: dict[str, list[Place]] = {}
    for snapshot, part in current.documents():
        if wanted and snapshot not in wanted:
            continue
        columns = {name: current.column(name, snapshot, part) for name in ["doc_id", "error", "source", *names]}
        missing = [name for name, column in columns.items() if column is None]
        if missing:
            raise FactoryError(
                f"The column '{missing[0]}' of {snapshot} is not there yet. 'factory run decisions' makes it."
            )
        encoded = current.beside("encodings", "", snapshot, part)
        if encoded is not None:
            columns["tokens"] = current.thin(encoded, "tokens")
        stands = [current.beside(*dataset, snapshot, part) for dataset in read]
        table = with_failures(pa.table(columns).combine_chunks(), [beside for beside in stands if beside is not None])
        tables.setdefault(snapshot, []).append(table)
        places.setdefault(snapshot, []).append(Place(snapshot, part, 0))
    return [Snapshot(name, pa.concat_tables(found).combine_chunks(), places[name]) for name, found in tables.items()]


def _example(
    current: Current, snapshot: Snapshot, row: int, before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    place, left = snapshot.places[0], row
    for place in snapshot.places:
        if left < place.part.rows:
            break
        left -= place.part.rows
    shown = current.row(Place(snapshot.name, place.part, left), ["doc_id", "url", "title"])
    other = [rule for rule in (*before, *after) if sum(rule == known for known in (*before, *after)) == 1]
    values = {name: snapshot.table.column(name)[row].as_py() for rule in other for name in rule["reads"]}
    return {**shown, "snapshot": snapshot.name, "values": values}
