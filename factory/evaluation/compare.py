"""Two experiments: better, worse or undecided, on every task, and what it would cost to decide.

In: runs of both (and of others at the same scale, for the noise they share), or scores by seed where items are not at hand.
Out: a verdict on the primary metric, one on each task with p-values corrected for their number (Holm), and one on each metric
over all its tasks, with tasks drawn again as well as items. The second experiment is judged against the first.

The primary metric is fixed before looking and is not one of the family. Where items are not at hand they cannot be paired:
both experiments' item noises add up, the interval is the wider for it, and `paired` says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from factory.core.errors import FactoryError, suggest
from factory.evaluation.costs import Cost, Price, price_of_more
from factory.evaluation.field import Field, corrected
from factory.evaluation.leaderboard import primary_of
from factory.evaluation.plain import plain
from factory.evaluation.runs import Invalid, Run, align, join
from factory.evaluation.statistics import RESAMPLES, Array, Sample, Verdict, judge, power, random_of

PARTS = (".clean", ".dirty")  # of a task that counts already


@dataclass(frozen=True)
class Arm:
    """One experiment's scores on one task: by seed, and the same on resampled items."""

    value: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class TaskVerdict:
    """What can be said on one task, or on all tasks of one metric together."""

    task: str
    metric: str
    higher_is_better: bool
    items: int | None
    base: Arm
    other: Arm
    verdict: Verdict
    p_holm: float | None  # None for the primary metric, which is no member of the family
    power: float | None  # the chance that these seeds decide a difference of this size


@dataclass(frozen=True)
class Comparison:
    """`other` against `base` at one scale."""

    base: str
    other: str
    scale: str
    paired: bool
    primary: TaskVerdict
    tasks: tuple[TaskVerdict, ...]
    metrics: tuple[TaskVerdict, ...]  # over all tasks of a metric that has several
    decided_with: int | None  # seeds of each from which on the verdict on the primary metric did not change any more
    flops_to_decision: float | None  # of both experiments up to there
    cost: Price  # of the runs that are there
    to_decide: Price | None  # of the runs that are missing; None: decided, or no number of seeds would do
    invalid: tuple[Invalid, ...] = ()
    missing: tuple[str, ...] = ()  # tasks one of them lacks: N/A

    @property
    def outcome(self) -> str:
        return self.primary.verdict.outcome

    @property
    def sentence(self) -> str:
        one = self.primary.verdict
        if one.outcome == "undecided":
            return f"undecided whether '{self.other}' or '{self.base}' is better: {one.reason}"
        return f"'{self.other}' is {one.outcome} than '{self.base}': {one.reason}"

    def to_json(self) -> dict[str, Any]:
        return {**plain(self), "outcome": self.outcome, "sentence": self.sentence}


def compare(
    runs: Sequence[Run],
    base: str,
    other: str,
    *,
    primary: str | None = None,
    costs: Sequence[Cost] = (),
    resamples: int = RESAMPLES,
) -> Comparison:
    """The comparison at the one scale of these runs; those of other experiments tell of the noise."""
    names = {run.experiment for run in runs}
    for name in (base, other):
        if name not in names:
            raise FactoryError(f"No run of '{name}' is there to compare.{suggest(name, names)}")
    if base == other:
        raise FactoryError(f"'{base}' is compared with itself. Name two experiments.")
    tasks, answers, left_out = align(runs, base)
    for name in (base, other):
        if not any(one.run.experiment == name for one in answers):
            reasons = "; ".join(f"seed {one.seed}: {one.reason}" for one in left_out if one.experiment == name)
            raise FactoryError(f"No run of '{name}' can be compared ({reasons}).")
    scale = runs[0].scale
    label, parts = primary_of(tasks, primary)
    joined, whole = join({task: tasks[task] for task in parts}, answers, label)
    top = Field(label, joined, whole, scale, resamples)
    fields = {task: Field(task, questions, answers, scale, resamples) for task, questions in tasks.items()}
    lacking = [name for name in (base, other) if name not in top.samples]
    if lacking:
        raise FactoryError(
            f"'{lacking[0]}' lacks the primary metric ({', '.join(parts)}) in a run. Evaluate all runs on it."
        )
    both = {task: field for task, field in fields.items() if {base, other} <= set(field.samples)}
    first = _task(top, base, other)
    found = tuple(_task(field, base, other) for task, field in both.items() if [task] != parts)
    count = _decided_with(top, base, other, first.verdict)
    own = [one for one in costs if one.experiment in (base, other)]
    return Comparison(
        base=base,
        other=other,
        scale=scale,
        paired=True,
        primary=first,
        tasks=_family(found),
        metrics=tuple(_over_tasks(both, base, other)),
        decided_with=count,
        flops_to_decision=_flops_up_to(own, base, other, count),
        cost=price_of_more(own, len(own)),
        to_decide=_missing_runs(first, own),
        invalid=tuple(one for one in left_out if one.experiment in (base, other)),
        missing=tuple(task for task in tasks if task not in both),
    )


@dataclass(frozen=True)
class Told:
    """Scores of one experiment as a leaderboard tells them: by task, by seed, with the deviation over items."""

    name: str
    scale: str
    primary: str
    metric: str
    higher_is_better: Mapping[str, bool]  # by task
    metrics: Mapping[str, str]
    scores: Mapping[str, tuple[tuple[float, ...], float]]  # task to (by seed, standard error over items)
    pool: Mapping[str, Sequence[Sequence[float]]]  # other experiments' scores by seed, by task


def compare_told(base: Told, other: Told, *, resamples: int = RESAMPLES) -> Comparison:
    """The comparison of two rows of leaderboards; items are not paired."""
    if base.primary != other.primary or base.metric != other.metric:
        raise FactoryError(
            f"'{base.name}' is judged by {base.primary} ({base.metric}), '{other.name}' by {other.primary} ({other.metric}): "
            "numbers of different metrics or versions are not compared."
        )
    both = [task for task in base.scores if task in other.scores and base.metrics[task] == other.metrics[task]]
    if base.primary not in both:
        raise FactoryError(f"The primary metric {base.primary} is missing in '{base.name}' or '{other.name}'.")
    verdicts = {task: _told_task(task, base, other, resamples) for task in both}
    missing = [task for task in {**base.scores, **other.scores} if task not in both]
    first = verdicts[base.primary]
    return Comparison(
        base=base.name,
        other=other.name,
        scale=base.scale if base.scale == other.scale else f"{base.scale} and {other.scale}",
        paired=False,
        primary=first,
        tasks=_family(tuple(one for task, one in verdicts.items() if task != base.primary)),
        metrics=(),
        decided_with=None,
        flops_to_decision=None,
        cost=Price(len(first.base.by_seed) + len(first.other.by_seed), None, None, None, None),
        to_decide=_missing_runs(first, ()),
        missing=tuple(missing),
    )


def _task(field: Field, base: str, other: str) -> TaskVerdict:
    verdict = field.compare(base, other, f"{field.scale}/{base}/{other}")
    samples = field.samples
    return TaskVerdict(
        task=field.label,
        metric=field.questions.metric,
        higher_is_better=field.questions.higher_is_better,
        items=field.questions.asked.num_rows,
        base=_arm(samples[base]),
        other=_arm(samples[other]),
        verdict=verdict,
        p_holm=None,
        power=_power(verdict, len(samples[other].seeds), len(samples[base].seeds)),
    )


def _told_task(task: str, base: Told, other: Told, resamples: int) -> TaskVerdict:
    arms = [
        _drawn(np.array(told.scores[task][0]), told.scores[task][1], f"{side}/{task}", resamples)
        for side, told in (("base", base), ("other", other))
    ]
    pool = [np.array(seeds) for told in (base, other) for seeds in told.pool.get(task, ())]
    verdict = judge(*arms, pool=pool, higher_is_better=base.higher_is_better[task], key=task)
    return TaskVerdict(
        task=task,
        metric=base.metrics[task],
        higher_is_better=base.higher_is_better[task],
        items=None,
        base=_arm(arms[0]),
        other=_arm(arms[1]),
        verdict=verdict,
        p_holm=None,
        power=_power(verdict, len(arms[1].seeds), len(arms[0].seeds)),
    )


def _drawn(seeds: Array, item_se: float, key: str, resamples: int) -> Sample:
    """A sample whose items moved all its seeds alike, as items do."""
    shifts = random_of(key, "items").normal(0, item_se, (resamples, 1))
    return Sample(seeds, seeds[None, :] + shifts)


def _over_tasks(fields: Mapping[str, Field], base: str, other: str) -> list[TaskVerdict]:
    """For each metric of several tasks, the mean over tasks, which are drawn again like items."""
    groups: dict[str, list[Field]] = {}
    for task, field in fields.items():
        if not task.endswith(PARTS):
            groups.setdefault(field.questions.metric, []).append(field)
    found = []
    for metric, own in groups.items():
        counts = {len(field.samples[name].seeds) for field in own for name in (base, other)}
        if len(own) < 2 or any(len({len(field.samples[name].seeds) for field in own}) > 1 for name in (base, other)):
            continue
        rows = len(own[0].samples[base].resampled)
        picks = random_of(metric, base, other).integers(0, len(own), (rows, len(own)))
        arms = [_mean_sample([field.samples[name] for field in own], picks) for name in (base, other)]
        pool = [
            np.mean([field.samples[name].seeds for field in own], axis=0)
            for name in own[0].samples
            if name not in (base, other)
            and all(name in field.samples for field in own)
            and len({len(field.samples[name].seeds) for field in own}) == 1
        ]
        higher = own[0].questions.higher_is_better
        verdict = judge(*arms, pool=pool, higher_is_better=higher, key=f"{metric}/tasks")
        name = f"{metric} over {len(own)} tasks"
        items = sum(field.questions.asked.num_rows for field in own)
        chance = _power(verdict, max(counts), max(counts))
        found.append(TaskVerdict(name, metric, higher, items, _arm(arms[0]), _arm(arms[1]), verdict, None, chance))
    return found


def _mean_sample(samples: Sequence[Sample], picks: Any) -> Sample:
    resampled = np.stack([sample.resampled for sample in samples])  # (tasks, resamples, seeds)
    drawn = np.mean([resampled[picks[:, at], np.arange(len(picks))] for at in range(picks.shape[1])], axis=0)
    return Sample(np.mean([sample.seeds for sample in samples], axis=0), drawn)


def _family(found: tuple[TaskVerdict, ...]) -> tuple[TaskVerdict, ...]:
    """The tasks' verdicts after Holm's correction; a part of a task is no further member."""
    verdicts, adjusted = corrected({one.task: one.verdict for one in found if not one.task.endswith(PARTS)})
    return tuple(
        replace(one, verdict=verdicts.get(one.task, one.verdict), p_holm=adjusted.get(one.task)) for one in found
    )


def _decided_with(field: Field, base: str, other: str, final: Verdict) -> int | None:
    """The seeds of each from which on the verdict was the final one; None while it is undecided."""
    if final.outcome == "undecided":
        return None
    samples = field.samples
    most = max(len(samples[base].seeds), len(samples[other].seeds))
    pool = [sample.seeds for name, sample in samples.items() if name not in (base, other)]
    first = most
    for count in range(most - 1, 1, -1):
        arms = [_first_seeds(samples[name], count) for name in (base, other)]
        higher = field.questions.higher_is_better
        one = judge(*arms, pool=pool, higher_is_better=higher, key=f"{field.scale}/{base}/{other}")
        if one.outcome != final.outcome:
            break
        first = count
    return first


def _first_seeds(sample: Sample, count: int) -> Sample:
    return Sample(sample.seeds[:count], sample.resampled[:, :count])


def _flops_up_to(costs: Sequence[Cost], base: str, other: str, seeds: int | None) -> float | None:
    if seeds is None:
        return None
    spent = 0.0
    for name in (base, other):
        known = [one.flops for one in costs if one.experiment == name and one.flops is not None]
        if not known:
            return None
        spent += sum(known) / len(known) * min(seeds, len(known))
    return spent


def _missing_runs(first: TaskVerdict, costs: Sequence[Cost]) -> Price | None:
    wanted = first.verdict.seeds_needed
    if first.verdict.outcome != "undecided" or wanted is None:
        return None
    missing = sum(max(0, wanted - len(arm.by_seed)) for arm in (first.base, first.other))
    return price_of_more(costs, missing)


def _power(verdict: Verdict, seeds: int, base_seeds: int) -> float | None:
    if not verdict.noise.dof:
        return None
    return power(verdict.difference, verdict.noise.sigma, seeds, verdict.item_se, base_seeds)


def _arm(sample: Sample) -> Arm:
    return Arm(float(sample.seeds.mean()), tuple(float(one) for one in sample.seeds))
