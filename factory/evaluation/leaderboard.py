"""Experiments ranked by what their proxies can prove, and by nothing else.

In: evaluated runs. Out: for each scale the experiments with their scores, both intervals of each, the difference to the base
experiment and the verdict on it. What always holds:

- A rank is one more than the number of experiments *proven* better, so experiments whose differences lie inside the noise
  share a rank.
- Verdicts against the base are one family and those among the other experiments another; each is corrected by Holm's
  method, so trying many experiments does not make one of them win by luck.
- An experiment none of whose runs can be ranked is listed with the reason, behind the others: never silently absent.
- A task that an experiment lacks in any of its runs is N/A for it, never a mean over fewer runs or fewer domains.
- Without the base experiment at a scale there is no leaderboard of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from factory.core.errors import FactoryError, suggest
from factory.evaluation.field import Estimate, Field, NoiseFloor, corrected
from factory.evaluation.plain import plain
from factory.evaluation.runs import Answers, Invalid, Questions, Run, align, join
from factory.evaluation.statistics import RESAMPLES, Interval, Verdict
from factory.evaluation.tasks import HIGHER_IS_BETTER, BitsPerByte

# What a row tells of the training, and where a run's record has it; the mean over an experiment's runs.
FACTS: Mapping[str, tuple[str, ...]] = {
    "parameters": ("parameters", "non_embedding"),
    "tokens": ("tokens_seen",),
    "unique_tokens": ("unique_tokens",),
    "epochs": ("epochs",),
    "flops": ("flops",),
    "documents_kept": ("documents_kept",),
    "dirty_items": ("dirty_items",),
    "parameters_total": ("parameters", "total"),
    "flops_6nd": ("flops_6nd",),
}
# There only where somebody looked for benchmarks in the corpus, or the record tells.
OPTIONAL_FACTS = ("dirty_items", "parameters_total", "flops_6nd")
SHOWN_FACTS = tuple(FACTS)[:7]  # beside the scores

# What of a training's record may change its last bits, as a sentence names it.
MACHINE: Mapping[str, str] = {
    "torch": "torch releases",
    "threads": "numbers of threads",
    "processes": "numbers of processes",
}
MISSING = "N/A"


@dataclass(frozen=True)
class Row:
    """One experiment at one scale."""

    rank: int | None  # None where the primary metric is missing
    experiment: str
    scale: str
    seeds: tuple[int, ...]
    primary: Estimate | None
    domains: Mapping[str, float]  # of the primary metric
    tasks: Mapping[str, Estimate | None]
    against_base: Verdict | None  # None for the base itself and where the primary metric is missing
    p_holm: float | None
    facts: Mapping[str, float | None]

    @property
    def verdict(self) -> str:
        return MISSING if self.against_base is None else self.against_base.outcome


@dataclass(frozen=True)
class Leaderboard:
    base: str
    primary: str
    primary_tasks: tuple[str, ...]  # what the primary metric is made of
    metric: str
    higher_is_better: bool
    rows: tuple[Row, ...]
    noise: tuple[NoiseFloor, ...]
    invalid: tuple[Invalid, ...]
    metrics: Mapping[str, str]  # task to metric
    warnings: tuple[str, ...] = ()

    @property
    def unranked(self) -> list[Invalid]:
        """One for each experiment and scale that has no row: its first run, whose reason stands for all."""
        there = {(row.experiment, row.scale) for row in self.rows}
        found: dict[tuple[str, str], Invalid] = {}
        for one in self.invalid:
            if (place := (one.experiment, one.scale)) not in there:
                found.setdefault(place, one)
        return list(found.values())

    def to_json(self) -> dict[str, Any]:
        """Plain data: no NaN, only what JSON knows."""
        data = plain(self)
        for row, shown in zip(self.rows, data["rows"], strict=True):
            shown["verdict"] = row.verdict
        return dict(data)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """A header and rows of text, best first."""
        # A primary metric that is one task is that task's column already.
        tasks = [task for task in self.metrics if (task,) != self.primary_tasks]
        header = ["rank", "experiment", "scale", "seeds", self.primary, "difference", "verdict", *tasks]
        facts = [fact for fact in SHOWN_FACTS if any(fact in row.facts for row in self.rows)]
        header += [fact.replace("_", " ") for fact in facts]
        rows = [_cells(row, tasks, facts, row.experiment == self.base) for row in self.rows]
        for one in self.unranked:
            cells = [MISSING, one.experiment, one.scale, "0", MISSING, "", one.outcome]
            rows.append([*cells, *(MISSING for _ in header[len(cells) :])])
        return header, rows


def leaderboard(
    runs: Sequence[Run],
    base: str,
    primary: str | None = None,
    *,
    failed: Sequence[Invalid] = (),
    resamples: int = RESAMPLES,
) -> Leaderboard:
    """The leaderboard of all scales. `primary` is a task; None means the bits per byte of all held-out domains.

    `failed` are runs that are not there, with what they failed with: they are listed with those that cannot be ranked.
    """
    _check(runs, base)
    rows: list[Row] = []
    floors: list[NoiseFloor] = []
    invalid: list[Invalid] = []
    metrics: dict[str, str] = {}
    name, metric, labels = "", "", list[str]()
    for scale in dict.fromkeys(run.scale for run in runs):
        tasks, answers, left_out = align([run for run in runs if run.scale == scale], base)
        invalid += left_out
        if not any(one.run.experiment == base for one in answers):
            reasons = "; ".join(f"seed {one.seed}: {one.reason}" for one in left_out if one.experiment == base)
            raise FactoryError(f"No run of the base experiment '{base}' at scale '{scale}' can be ranked ({reasons}).")
        name, labels = primary_of(tasks, primary)
        joined, whole = join({label: tasks[label] for label in labels}, answers, name)
        metric = joined.metric
        metrics |= {label: questions.metric for label, questions in tasks.items()}
        fields = {label: Field(label, questions, answers, scale, resamples) for label, questions in tasks.items()}
        top = Field(name, joined, whole, scale, resamples)
        if base not in top.samples:
            raise FactoryError(
                f"The base experiment '{base}' lacks the primary metric ({', '.join(labels)}) in a run at scale '{scale}'. "
                "Evaluate all its runs on it."
            )
        rows += _rows(scale, base, answers, fields, top)
        floors += [field.floor() for field in ([top, *fields.values()] if len(labels) > 1 else fields.values())]
    return Leaderboard(
        base,
        name,
        tuple(labels),
        metric,
        HIGHER_IS_BETTER[metric],
        tuple(rows),
        tuple(floors),
        (*invalid, *failed),
        metrics,
        tuple(machine_warnings([run for run in runs if run.record["valid"]])),
    )


def machine_warnings(runs: Sequence[Run]) -> list[str]:
    """What of the machine differs between runs that are compared: their trainings are not alike bit by bit then."""
    warnings = []
    for name, what in MACHINE.items():
        known = {str(run.record[name]) for run in runs if run.record.get(name) is not None}
        if len(known) > 1:
            warnings.append(
                f"compared runs were trained with {what} {', '.join(sorted(known))}: equal data would not give equal bytes."
            )
    return warnings


def _rows(scale: str, base: str, answers: Sequence[Answers], fields: Mapping[str, Field], top: Field) -> list[Row]:
    names = list(dict.fromkeys(one.run.experiment for one in answers))
    ranked = [name for name in names if name in top.samples]
    others = [name for name in ranked if name != base]
    versus_base, adjusted = corrected({name: top.compare(base, name, f"{scale}/{base}/{name}") for name in others})
    pairs, _ = corrected({pair: top.compare(*pair, f"{scale}/{'/'.join(pair)}") for pair in combinations(others, 2)})
    beaten: dict[str, int] = dict.fromkeys(ranked, 0)
    for (first, second), verdict in [*pairs.items(), *(((base, name), one) for name, one in versus_base.items())]:
        if verdict.outcome != "undecided":
            beaten[first if verdict.outcome == "better" else second] += 1
    rows = []
    for name in names:
        runs = [one.run for one in answers if one.run.experiment == name]
        rows.append(
            Row(
                rank=beaten[name] + 1 if name in beaten else None,
                experiment=name,
                scale=scale,
                seeds=tuple(run.seed for run in runs),
                primary=top.estimate(name),
                domains=top.domain_scores(name),
                tasks={label: field.estimate(name) for label, field in fields.items()},
                against_base=versus_base.get(name),
                p_holm=adjusted.get(name),
                facts=_facts(runs),
            )
        )
    sign = -1 if top.questions.higher_is_better else 1
    return sorted(
        rows,
        key=lambda row: (
            row.rank is None,
            row.rank or 0,
            sign * row.primary.value if row.primary else 0.0,
            row.experiment,
        ),
    )


def _check(runs: Sequence[Run], base: str) -> None:
    names = {run.experiment for run in runs}
    if base not in names:
        raise FactoryError(
            f"The base experiment '{base}' has no run, so there is nothing to compare with.{suggest(base, names)}"
        )
    for scale in dict.fromkeys(run.scale for run in runs):
        if not any(run.experiment == base and run.scale == scale for run in runs):
            others = sorted({run.experiment for run in runs if run.scale == scale})
            raise FactoryError(
                f"Scale '{scale}' has runs of {', '.join(others)} but none of the base experiment '{base}'. "
                f"Train '{base}' at that scale, or leave the scale out."
            )
    seen: set[tuple[str, str, int]] = set()
    for run in runs:
        key = (run.experiment, run.scale, run.seed)
        if key in seen:
            raise FactoryError(f"Two runs are {run.name}: the same training must not count twice.")
        seen.add(key)


def primary_of(tasks: Mapping[str, Questions], primary: str | None) -> tuple[str, list[str]]:
    """The primary metric's name and the tasks it is made of."""
    if primary is not None:
        if primary not in tasks:
            raise FactoryError(
                f"No task of these runs is named '{primary}', the primary metric.{suggest(primary, tasks)}"
            )
        return primary, [primary]
    # A label of a recipe has no dot: what has one is a part of a task that counts already.
    labels = [label for label, item in tasks.items() if item.metric == BitsPerByte.metric and "." not in label]
    if not labels:
        raise FactoryError(
            "No held-out set was evaluated, so there is no primary metric. Add a task with `use: bits_per_byte`, or name one "
            f"of {', '.join(tasks)} as primary."
        )
    return BitsPerByte.metric, labels


def _facts(runs: Sequence[Run]) -> dict[str, float | None]:
    found = {fact: _mean_fact(runs, path) for fact, path in FACTS.items()}
    return {fact: value for fact, value in found.items() if value is not None or fact not in OPTIONAL_FACTS}


def _mean_fact(runs: Sequence[Run], path: Sequence[str]) -> float | None:
    numbers = [_fact(run.record, path) for run in runs]
    known = [number for number in numbers if number is not None]
    return float(np.mean(known)) if len(known) == len(numbers) else None


def _fact(record: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def _cells(row: Row, tasks: Sequence[str], facts: Sequence[str], is_base: bool) -> list[str]:
    verdict = row.against_base
    difference = MISSING
    if verdict is not None:
        difference = f"{verdict.difference:+.4f}" + _half(verdict.interval, verdict.difference)
    return [
        MISSING if row.rank is None else str(row.rank),
        row.experiment,
        row.scale,
        str(len(row.seeds)),
        _shown(row.primary),
        "" if is_base else difference,
        "base" if is_base else _verdict_shown(row),
        *(_shown(row.tasks.get(task)) for task in tasks),
        *(_number(row.facts.get(fact)) for fact in facts),
    ]


def _verdict_shown(row: Row) -> str:
    one = row.against_base
    if one is not None and one.outcome == "undecided" and one.seeds_needed is not None:
        return f"undecided ({one.seeds_needed} seeds would do)"
    return row.verdict


def _shown(estimate: Estimate | None) -> str:
    return MISSING if estimate is None else f"{estimate.value:.4f}" + _half(estimate.seed_interval, estimate.value)


def _half(interval: Interval | None, centre: float) -> str:
    return "" if interval is None else f" ± {interval.high - centre:.4f}"


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:.3g}"
