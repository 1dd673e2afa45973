"""Evaluated runs made comparable: the same items in the same order, or a reason why a run cannot be ranked.

A run is left out, with its reason, when its training failed, when it gave a number that is not finite, or when it was asked
other questions than the base experiment at its scale. A task that a run lacks is no reason: its row says N/A.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError
from factory.evaluation.statistics import Array
from factory.evaluation.tasks import HIGHER_IS_BETTER

PASSAGE = "passage"  # a column evaluations may have: what several items ask about
_QUESTION = ("task", "task_digest", "metric", "domain", "item", "weight", "gold", "bytes")


@dataclass(frozen=True, eq=False)
class Run:
    """One trained and evaluated proxy; its `record` is what training wrote: `valid` false and a `reason` rule it out."""

    experiment: str
    scale: str
    seed: int
    record: Mapping[str, Any]
    items: pa.Table

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.scale}/seed {self.seed}"


@dataclass(frozen=True)
class Invalid:
    """A run that is not ranked, and why; `failed`: it could not be made at all."""

    experiment: str
    scale: str
    seed: int
    reason: str
    failed: bool = False

    @property
    def outcome(self) -> str:
        """What stands where others have a verdict."""
        return "failed" if self.failed else "invalid"


@dataclass(frozen=True, eq=False)
class Questions:
    """The items of one task; equal `asked` tables mean the same questions."""

    metric: str
    asked: pa.Table
    weights: Array
    domains: npt.NDArray[np.int64]
    names: tuple[str, ...]  # of the domains, by number
    groups: npt.NDArray[np.int64] | None = None  # items of one passage, by number; None: every item for itself

    @property
    def higher_is_better(self) -> bool:
        return HIGHER_IS_BETTER[self.metric]


@dataclass(frozen=True, eq=False)
class Answers:
    """A run and its values by task, each in the order of the task's questions."""

    run: Run
    values: Mapping[str, Array]


def align(runs: Sequence[Run], base: str) -> tuple[dict[str, Questions], list[Answers], list[Invalid]]:
    """The tasks of one scale, the runs that can be compared on them, and those that cannot be."""
    tasks: dict[str, Questions] = {}
    kept: list[Answers] = []
    left_out: list[Invalid] = []
    for run in sorted(runs, key=lambda run: (run.experiment != base, run.experiment, run.seed)):
        found = by_task(run.items)
        reason = _reason(run, found, tasks)
        if reason:
            left_out.append(Invalid(run.experiment, run.scale, run.seed, reason))
            continue
        for label, table in found.items():
            tasks.setdefault(label, _questions(table))
        kept.append(Answers(run, {label: table["value"].to_numpy() for label, table in found.items()}))
    return tasks, kept, left_out


def join(tasks: Mapping[str, Questions], answers: Sequence[Answers], label: str) -> tuple[Questions, list[Answers]]:
    """Several tasks of one metric as a single one called `label`, whose domains are theirs."""
    parts = list(tasks.items())
    several = len(parts) > 1
    names = [f"{task}/{name}" if several else name for task, part in parts for name in part.names]
    first = np.cumsum([0, *(len(part.names) for _, part in parts)])
    domains = [part.domains + offset for offset, (_, part) in zip(first[:-1], parts, strict=True)]
    joined = Questions(
        metric=parts[0][1].metric,
        asked=pa.concat_tables([part.asked for _, part in parts]),
        weights=np.concatenate([part.weights for _, part in parts]),
        domains=np.concatenate(domains),
        names=tuple(names),
        groups=_joined_groups([part for _, part in parts]),
    )
    values = [
        Answers(one.run, {label: np.concatenate([one.values[task] for task, _ in parts])})
        if all(task in one.values for task, _ in parts)
        else Answers(one.run, {})
        for one in answers
    ]
    return joined, values


def by_task(items: pa.Table) -> dict[str, pa.Table]:
    """The items of each task, in one order."""
    missing = [name for name in (*_QUESTION, "value") if name not in items.column_names]
    if missing:
        raise FactoryError(f"An evaluation table lacks {', '.join(missing)}; it has {', '.join(items.column_names)}.")
    ordered = items.sort_by([("task", "ascending"), ("domain", "ascending"), ("item", "ascending")]).combine_chunks()
    labels = list(dict.fromkeys(items["task"].to_pylist()))
    return {label: ordered.filter(pc.equal(ordered["task"], label)) for label in labels}


def _reason(run: Run, found: Mapping[str, pa.Table], tasks: Mapping[str, Questions]) -> str:
    """Why a run cannot be ranked; empty where it can."""
    if not run.record.get("valid", True):
        return str(run.record.get("reason") or "training failed without saying why")
    if not found:
        return "no evaluated item"
    for label, table in found.items():
        metrics = table["metric"].unique().to_pylist()
        unknown = [metric for metric in metrics if metric not in HIGHER_IS_BETTER]
        if unknown or len(metrics) != 1:
            return f"task '{label}' has the metrics {metrics}; one of {', '.join(HIGHER_IS_BETTER)} is wanted"
        lost = table.num_rows - int(pc.sum(pc.is_finite(table["value"]).fill_null(False)).as_py() or 0)
        if lost:
            return f"task '{label}': {lost:,} of {table.num_rows:,} items have no finite score"
        if len(set(table["item"].to_pylist())) < table.num_rows:
            return f"task '{label}': an item occurs twice"
        if label in tasks and not tasks[label].asked.equals(_asked(table)):
            return f"task '{label}' was asked with other items, settings or metric than '{_first(tasks[label])}'"
    return ""


def _first(questions: Questions) -> str:
    return f"{questions.asked['task_digest'][0].as_py()[:8]}…, {questions.asked.num_rows:,} items of the runs before it"


def _asked(table: pa.Table) -> pa.Table:
    return table.select(_QUESTION).replace_schema_metadata(None)


def _questions(table: pa.Table) -> Questions:
    names, domains = np.unique(table["domain"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    return Questions(
        metric=table["metric"][0].as_py(),
        asked=_asked(table).combine_chunks(),
        weights=table["weight"].to_numpy(),
        domains=domains.astype(np.int64),
        names=tuple(str(name) for name in names),
        groups=_groups(table),
    )


def _groups(table: pa.Table) -> npt.NDArray[np.int64] | None:
    """Which items stand on one passage, where the table says so; an item without one stands for itself."""
    if PASSAGE not in table.column_names or not pc.any(pc.is_valid(table[PASSAGE])).as_py():
        return None
    names = [
        own or f"\x1f{item}" for own, item in zip(table[PASSAGE].to_pylist(), table["item"].to_pylist(), strict=True)
    ]
    _, numbers = np.unique(np.array(names, dtype=str), return_inverse=True)
    return numbers.astype(np.int64)


def _joined_groups(parts: Sequence[Questions]) -> npt.NDArray[np.int64] | None:
    if all(part.groups is None for part in parts):
        return None
    numbers, first = [], 0
    for part in parts:
        own = np.arange(part.asked.num_rows) if part.groups is None else part.groups
        numbers.append(own + first)
        first += int(own.max()) + 1 if len(own) else 0
    return np.concatenate(numbers)
