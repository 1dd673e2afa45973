"""What a corpus supports: for how many questions it has documents that hold both what is asked about and the answer.

In: what a scorer `support` stored beside the documents, decisions, and the token index of each experiment that has one. Out:
plain data, without training anything (arXiv:2211.08411). *Coverage* at a threshold is how many items have at least so many
documents: in the *pool*, of those *kept* by an experiment's rules, of those its mixture takes (*trained*, each once), and
counting the times they are read (*reads*). An item *fell* where the pool has enough and the experiment has not. For those, each
rule has the supporting documents it drops, those it *alone* drops, and the items that would be *back* without it.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, InputError, suggest
from factory.core.fingerprint import canonical_json, hash_ids
from factory.core.manifest import Part
from factory.recipes.contamination import shown_span
from factory.recipes.domains import cells_of, domain_columns
from factory.recipes.graph import SUPPORT
from factory.recipes.lookup import Current, Place
from factory.recipes.recipe import Use
from factory.recipes.references import pin_stage
from factory.recipes.steps.items import load_items
from factory.recipes.steps.supported import by_row, pairs_of
from factory.recipes.workspace import Workspace
from factory.stages.scorers.support import Index
from factory.storage.parts import read_part

THRESHOLDS = (1, 10)
POOL, KEPT, TRAINED, READS = "pool", "kept", "trained", "reads"
SHOWN_ITEMS = 10  # that fell, of each experiment and threshold
SHOWN_QUESTION = 200

Counts = npt.NDArray[np.int64]


@dataclass
class _Experiment:
    """By item: supporting documents that an experiment keeps, trains on, and reads; by domain and item those it keeps."""

    label: str
    kept: Counts
    trained: Counts | None
    reads: Counts | None
    index: Mapping[str, Counts]  # reads by document part and row
    domains: dict[str, Counts] = field(default_factory=dict)


@dataclass
class _Scored:
    """A scorer's items and the parts it wrote, with the documents they stand beside."""

    use: Use
    index: Index
    parts: list[tuple[str, Part, Part]]  # snapshot, documents, scores

    @property
    def size(self) -> int:
        return len(self.index.items)


def scorers(workspace: Workspace) -> list[Use]:
    """The recipe's scorers of support; raises InputError when there is none."""
    found = [use for use in workspace.recipe.scorers if use.stage.name == SUPPORT]
    if not found:
        raise InputError(
            "No scorer of the recipe looks for what questions ask about. Add one: "
            "scorers: {known: {use: support, benchmarks: {trivia: eval/trivia.jsonl}}}."
        )
    return found


def support(
    workspace: Workspace,
    experiments: Sequence[str] = (),
    *,
    by: Sequence[str] = (),
    thresholds: Sequence[int] = THRESHOLDS,
    snapshots: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Coverage of each scorer's tasks by experiment (all by default) and domain; raises FactoryError where nothing was scored."""
    labels = _experiments(workspace, experiments)
    current, levels = Current(workspace), sorted(set(thresholds))
    names = domain_columns(workspace, labels[0], by)
    return [_report(current, scored, labels, names, levels) for scored in _all_scored(workspace, current, snapshots)]


def item_rows(
    workspace: Workspace, experiments: Sequence[str] = (), *, snapshots: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A row an item: its names, and its supporting documents in the pool and in every experiment."""
    labels = _experiments(workspace, experiments)
    current = Current(workspace)
    rows = []
    for scored in _all_scored(workspace, current, snapshots):
        pool, found, _ = _count(current, scored, labels, [])
        for number, (item, asked) in enumerate(zip(scored.index.items, scored.index.asked, strict=True)):
            row: dict[str, Any] = {"scorer": scored.use.label, "task": item.task, "item": item.name}
            row |= {"entity": " | ".join(asked.entity), "answer": " | ".join(asked.answers), "untested": asked.why}
            row[POOL] = None if asked.why else int(pool[number])
            for one in found:
                counts = ((KEPT, one.kept), (TRAINED, one.trained), (READS, one.reads))
                row |= {
                    f"{one.label} {name}": None if asked.why or column is None else int(column[number])
                    for name, column in counts
                }
            rows.append(row)
    return rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with a header; None is an empty field."""
    made = io.StringIO()
    writer = csv.DictWriter(made, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def coverage_rows(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The coverage of all reports, a row for every task, place and threshold."""
    return [
        {
            "scorer": report["scorer"],
            "task": task["task"],
            "items": task["items"],
            "testable": task["testable"],
            "experiment": row["experiment"],
            "of": row["of"],
            "at_least": level,
            "covered": row["covered"][str(level)],
            "fell": row["fell"][str(level)],
        }
        for report in reports
        for task in report["tasks"]
        for row in task["coverage"]
        for level in report["thresholds"]
    ]


def item_documents(
    workspace: Workspace,
    name: str,
    experiments: Sequence[str] = (),
    *,
    number: int = 10,
    snapshots: Sequence[str] = (),
) -> dict[str, Any]:
    """The documents that support an item: how many, and some by hash with the names in them, rules they fail, and reads."""
    labels = _experiments(workspace, experiments)
    current = Current(workspace)
    known = _all_scored(workspace, current, snapshots)
    scored, at = _find(known, name)
    item, asked = scored.index.items[at], scored.index.asked[at]
    places: list[tuple[int, Place]] = []
    total = 0
    for snapshot, document, part in scored.parts:
        rows, items = pairs_of(workspace.store, part)
        own = rows[items == at]
        total += len(own)
        if len(own):
            order = hash_ids(current.ids(document).column("doc_id").combine_chunks(), 0)
            places += [(int(order[row]), Place(snapshot, document, int(row))) for row in own.tolist()]
            places = sorted(places, key=lambda one: one[0])[:number]
    indexes = {label: _index_of(current, label) for label in labels}
    return {
        "scorer": scored.use.label,
        "item": item.name,
        "question": item.question[:SHOWN_QUESTION],
        "entity": list(asked.entity),
        "answers": list(asked.answers),
        "by": asked.by,
        "untested": asked.why,
        "documents": total,
        "shown": [_document(current, place, asked.entity, asked.answers, indexes) for _, place in places],
    }


# --- counting


def _experiments(workspace: Workspace, asked: Sequence[str]) -> list[str]:
    labels = [item.label for item in workspace.recipe.experiments]
    for name in asked:
        if name not in labels:
            raise InputError(f"No experiment is named '{name}'.{suggest(name, labels)}")
    return list(dict.fromkeys(asked)) or labels


def _all_scored(workspace: Workspace, current: Current, snapshots: Sequence[str]) -> list[_Scored]:
    for name in snapshots:
        if name not in current.snapshots:
            raise InputError(f"No snapshot is named '{name}'.{suggest(name, current.snapshots)}")
    made = []
    for use in scorers(workspace):
        files = pin_stage(use.stage, use.config, workspace.recipe.folder)
        parts = []
        for snapshot, document in current.documents():
            if snapshots and snapshot not in snapshots:
                continue
            manifest = current.find("scores", use.label, snapshot)
            part = current.beside("scores", use.label, snapshot, document)
            stale = manifest is None or manifest.spec.get("files") != files
            if part is None or stale or (manifest and manifest.spec["settings"] != use.identity["settings"]):
                raise FactoryError(
                    f"scores/{use.label}@{snapshot} was not made, or its benchmarks or settings have changed since. "
                    f"'factory run scores/{use.label}' makes it."
                )
            parts.append((snapshot, document, part))
        spec = canonical_json({**use.identity, "files": files})
        made.append(_Scored(use, load_items(spec, workspace.recipe.folder), parts))
    return made


def _index_of(current: Current, label: str) -> dict[str, Counts] | None:
    """How often an experiment's mixture reads documents, by part and row; None where it has no token index."""
    tokens = current.find("tokens", label)
    if tokens is None:
        return None
    index = next(part for part in tokens.parts if part.name == "index")
    table = read_part(current.workspace.store, index, ["part", "row", "repeats"])
    return by_row(table.column("part"), table.column("row"), table.column("repeats").to_numpy())


def _count(
    current: Current, scored: _Scored, labels: Sequence[str], names: Sequence[str]
) -> tuple[Counts, list[_Experiment], dict[str, Counts]]:
    """Documents by item: in the pool, in each experiment, and in the pool by domain (as keys of domain and item)."""
    size = scored.size
    pool = np.zeros(size, np.int64)
    found = []
    for label in labels:
        index = _index_of(current, label)
        trained, reads = (None if index is None else np.zeros(size, np.int64) for _ in range(2))
        found.append(_Experiment(label, np.zeros(size, np.int64), trained, reads, index or {}))
    by_domain: dict[str, Counts] = {}
    for snapshot, document, part in scored.parts:
        rows, items = pairs_of(current.workspace.store, part)
        if not len(rows):
            continue
        pool += np.bincount(items, minlength=size)
        cells = _cells(current, names, snapshot, document)
        if cells is not None:
            _add_cells(by_domain, cells, rows, items, size)
        for one in found:
            kept = ~_any_failed(current, one.label, snapshot, document)[rows]
            one.kept += np.bincount(items[kept], minlength=size)
            if cells is not None:
                _add_cells(one.domains, cells, rows[kept], items[kept], size)
            own = one.index.get(document.digest)
            if own is not None and one.trained is not None and one.reads is not None:
                times = np.where(rows < len(own), own[np.minimum(rows, len(own) - 1)], 0)
                one.trained += np.bincount(items[times > 0], minlength=size)
                one.reads += np.bincount(items, weights=times, minlength=size).astype(np.int64)
    return pool, found, by_domain


def _failed(current: Current, label: str, snapshot: str, document: Part) -> pa.ListArray:
    part = current.beside("decisions", label, snapshot, document)
    if part is None:
        raise FactoryError(f"decisions/{label}@{snapshot} are not there yet. 'factory run decisions' makes them.")
    return current.thin(part, "failed").combine_chunks()


def _any_failed(current: Current, label: str, snapshot: str, document: Part) -> npt.NDArray[np.bool_]:
    failed = _failed(current, label, snapshot, document)
    found: npt.NDArray[np.bool_] = pc.greater(pc.list_value_length(failed), 0).to_numpy(zero_copy_only=False)
    return found


def _cells(current: Current, names: Sequence[str], snapshot: str, document: Part) -> pa.DictionaryArray | None:
    columns = [current.column(name, snapshot, document) for name in names]
    if not columns:
        return None
    if any(column is None for column in columns):
        raise FactoryError(f"{', '.join(names)} of {snapshot} are not there yet. 'factory run scores' makes them.")
    return cells_of([column for column in columns if column is not None]).combine_chunks().dictionary_encode()


def _add_cells(known: dict[str, Counts], cells: pa.DictionaryArray, rows: Counts, items: Counts, size: int) -> None:
    """Adds to each domain's counts: two columns, of items that have any document there and how many."""
    numbers = cells.indices.to_numpy()[rows].astype(np.int64)
    keys, counts = np.unique(numbers * size + items, return_counts=True)
    for number in np.unique(keys // size).tolist():
        own = keys // size == number
        name = cells.dictionary[number].as_py()
        fresh = np.stack([keys[own] % size, counts[own]], axis=1)
        every = np.concatenate([known[name], fresh]) if name in known else fresh
        held, place = np.unique(every[:, 0], return_inverse=True)
        totals = np.bincount(place, weights=every[:, 1]).astype(np.int64)
        known[name] = np.stack([held, totals], axis=1)


# --- the report


def _report(
    current: Current, scored: _Scored, labels: Sequence[str], names: Sequence[str], levels: Sequence[int]
) -> dict[str, Any]:
    pool, found, by_domain = _count(current, scored, labels, names)
    tested = np.array([not why for why in scored.index.untested])
    tasks = np.array([item.task for item in scored.index.items], dtype=object)
    return {
        "scorer": scored.use.label,
        "thresholds": list(levels),
        "documents": sum(document.rows for _, document, _ in scored.parts),
        "experiments": list(labels),
        "tasks": [
            _task(scored.index, task, np.flatnonzero(tasks == task), tested, pool, found, levels)
            for task in dict.fromkeys(tasks.tolist())
        ],
        "by": list(names),
        "domains": _domains(by_domain, found, levels),
        "fallen": [row for one in found for row in _fallen(current, scored, one, pool, tested, levels)],
    }


def _task(
    index: Index,
    task: str,
    own: Counts,
    tested: npt.NDArray[np.bool_],
    pool: Counts,
    found: Sequence[_Experiment],
    levels: Sequence[int],
) -> dict[str, Any]:
    mine = own[tested[own]]
    asked = [index.asked[number] for number in own.tolist()]
    columns: list[tuple[str | None, str, Counts | None]] = [(None, POOL, pool)]
    for one in found:
        columns += [(one.label, KEPT, one.kept), (one.label, TRAINED, one.trained), (one.label, READS, one.reads)]
    return {
        "task": task,
        "items": len(own),
        "testable": len(mine),
        "untested": dict(Counter(one.why for one in asked if one.why).most_common()),
        "entities": dict(Counter(one.by for one in asked if not one.why).most_common()),
        "coverage": [
            {
                "experiment": label,
                "of": of,
                "covered": {str(level): int((counts[mine] >= level).sum()) for level in levels},
                "fell": {str(level): int(((pool[mine] >= level) & (counts[mine] < level)).sum()) for level in levels},
            }
            for label, of, counts in columns
            if counts is not None
        ],
    }


def _domains(
    by_domain: Mapping[str, Counts], found: Sequence[_Experiment], levels: Sequence[int]
) -> list[dict[str, Any]]:
    rows = []
    for name, pool in by_domain.items():
        row: dict[str, Any] = {"domain": name, POOL: _covered(pool, levels), "experiments": {}}
        for one in found:
            row["experiments"][one.label] = _covered(one.domains.get(name), levels)
        rows.append(row)
    return sorted(rows, key=lambda row: ([-n for n in row[POOL].values()], row["domain"]))


def _covered(counts: Counts | None, levels: Sequence[int]) -> dict[str, int]:
    return {str(level): 0 if counts is None else int((counts[:, 1] >= level).sum()) for level in levels}


def _fallen(
    current: Current,
    scored: _Scored,
    one: _Experiment,
    pool: Counts,
    tested: npt.NDArray[np.bool_],
    levels: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """By threshold: the items that an experiment's rules, and then its mixture, take below it, and which rules did."""
    fell = {level: tested & (pool >= level) & (one.kept < level) for level in levels}
    lost = np.flatnonzero(np.logical_or.reduce(list(fell.values()))) if levels else np.zeros(0, np.int64)
    dropped, alone = _dropped(current, scored, one.label, lost)
    for level, mask in fell.items():
        items = np.flatnonzero(mask)
        own = np.searchsorted(lost, items)
        rules = [
            {
                "rule": rule,
                "items": int((counts[own] > 0).sum()),
                "documents": int(counts[own].sum()),
                "alone": int(alone[rule][own].sum()),
                "back": int((one.kept[items] + alone[rule][own] >= level).sum()),
            }
            for rule, counts in dropped.items()
            if counts[own].any()
        ]
        shown = items[np.lexsort((items, -pool[items]))][:SHOWN_ITEMS]
        mixed = None
        if one.trained is not None:
            mixed = int((tested & (one.kept >= level) & (one.trained < level)).sum())
        yield {
            "experiment": one.label,
            "at_least": level,
            "items": len(items),
            "by_mixture": mixed,
            "rules": sorted(rules, key=lambda row: (-row["back"], -row["items"], -row["documents"], row["rule"])),
            "examples": [
                _example(scored.index, int(at), int(pool[at]), int(one.kept[at]), lost, dropped) for at in shown
            ],
        }


def _example(
    index: Index, at: int, pool: int, kept: int, lost: Counts, dropped: Mapping[str, Counts]
) -> dict[str, Any]:
    place = int(np.searchsorted(lost, at))
    rules = {rule: int(counts[place]) for rule, counts in dropped.items() if counts[place]}
    item = index.items[at]
    return {
        "item": item.name,
        "question": item.question[:SHOWN_QUESTION],
        POOL: pool,
        KEPT: kept,
        "rules": dict(sorted(rules.items(), key=lambda pair: (-pair[1], pair[0]))),
    }


def _dropped(
    current: Current, scored: _Scored, label: str, lost: Counts
) -> tuple[dict[str, Counts], dict[str, Counts]]:
    """By rule, for these items: the supporting documents that fail it, and those that fail it alone. A second reading."""
    dropped: dict[str, Counts] = {}
    alone: dict[str, Counts] = {}
    if not len(lost):
        return dropped, alone
    for snapshot, document, part in scored.parts:
        rows, items = pairs_of(current.workspace.store, part)
        places = np.minimum(np.searchsorted(lost, items), len(lost) - 1)
        wanted = lost[places] == items
        rows, places = rows[wanted], places[wanted]
        if not len(rows):
            continue
        failed = _failed(current, label, snapshot, document)
        lengths = pc.list_value_length(failed).to_numpy(zero_copy_only=False)
        parents, rules = pc.list_parent_indices(failed).to_numpy(), failed.flatten().dictionary_encode()
        for number, rule in enumerate(rules.dictionary.to_pylist()):
            fails = np.zeros(len(failed), np.bool_)
            fails[parents[rules.indices.to_numpy() == number]] = True
            for known, mask in ((dropped, fails[rows]), (alone, fails[rows] & (lengths[rows] == 1))):
                known.setdefault(rule, np.zeros(len(lost), np.int64))
                known[rule] += np.bincount(places[mask], minlength=len(lost))
    return dropped, alone


# --- one item


def _find(known: Sequence[_Scored], name: str) -> tuple[_Scored, int]:
    for scored in known:
        for number, item in enumerate(scored.index.items):
            if item.name == name:
                return scored, number
    names: dict[str, list[str]] = {}
    for item in (item for scored in known for item in scored.index.items):
        names.setdefault(item.task, []).append(item.name)
    tasks = "; ".join(f"{own[0]} to {own[-1]}" for own in names.values())
    raise InputError(f"No item is named '{name:.200}'. Items are TASK:LINE, lines counted from 0: {tasks:.2000}.")


def _document(
    current: Current,
    place: Place,
    entity: Sequence[str],
    answers: Sequence[str],
    indexes: Mapping[str, Mapping[str, Counts] | None],
) -> dict[str, Any]:
    row = current.row(place, ["doc_id", "url", "text"])
    text = row["text"] or ""
    shown: dict[str, Any] = {"doc_id": row["doc_id"], "url": row["url"], "snapshot": place.snapshot, "experiments": {}}
    for role, names in (("entity", entity), ("answer", answers)):
        span = first_span(text, names)
        shown[role] = None if span is None else shown_span(text, *span)
    for label, index in indexes.items():
        failed = _failed(current, label, place.snapshot, place.part)[place.row].as_py()
        own = None if index is None else index.get(place.part.digest, np.zeros(0, np.int64))
        reads = None if own is None else int(own[place.row]) if place.row < len(own) else 0
        shown["experiments"][label] = {"failed": failed, "reads": reads}
    return shown


def first_span(text: str, names: Sequence[str]) -> tuple[int, int] | None:
    """The bytes of the first of the names in a text, as the scorer finds them."""
    from factory.kernels import overlap
    from factory.kernels.text import view_text

    words = overlap.split(view_text(pa.array([text, *names], pa.large_string())), overlap.PLAIN)
    first, last = words.firsts[0], words.firsts[1]
    found = []
    for name in range(1, len(words.firsts) - 1):
        wanted = words.hashes[words.firsts[name] : words.firsts[name + 1]]
        size = len(wanted)
        if not size or last - first < size:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(words.hashes[first:last], size)
        places = np.flatnonzero((windows == wanted).all(axis=1))
        if len(places):
            found.append((int(words.starts[places[0]]), int(words.ends[places[0] + size - 1])))
    return min(found, default=None)
