"""All experiments on one task at one scale: their scores, both intervals of each, and verdicts between any two.

They are resampled together, so that every comparison is paired by item, and have one noise, pooled over their seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from factory.core.noise import Noise, pooled_noise
from factory.evaluation.runs import Answers, Questions
from factory.evaluation.statistics import (
    LEVEL,
    Array,
    Interval,
    Sample,
    Verdict,
    bootstrap_means,
    holm,
    judge,
    means,
    minimal_detectable_difference,
    percentile_interval,
    t_interval,
)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with the interval over other seeds and the one over other items."""

    value: float
    by_seed: tuple[float, ...]
    seed_interval: Interval | None
    item_interval: Interval


@dataclass(frozen=True)
class NoiseFloor:
    """How much of a task's spread is seeds: below `detectable`, a difference between two experiments is not seen."""

    scale: str
    task: str
    metric: str
    noise: Noise
    spread: float | None  # standard deviation of the experiments' means
    detectable: float | None  # at 80 % power, with the fewest seeds any experiment has (at least 2)


class Field:
    """All experiments on one task at one scale: resampled together, and with one noise."""

    def __init__(self, label: str, questions: Questions, answers: Sequence[Answers], scale: str, resamples: int):
        self.label, self.questions, self.scale = label, questions, scale
        by_experiment: dict[str, list[Array | None]] = {}
        for one in answers:
            by_experiment.setdefault(one.run.experiment, []).append(one.values.get(label))
        complete = {
            name: np.stack([array for array in arrays if array is not None])
            for name, arrays in by_experiment.items()
            if all(array is not None for array in arrays)
        }
        self.samples: dict[str, Sample] = {}
        self.values = complete
        if not complete:
            return
        stacked = np.concatenate(list(complete.values()))
        scores = means(stacked, questions.weights, questions.domains)
        drawn = bootstrap_means(
            stacked,
            questions.weights,
            questions.domains,
            key=f"{scale}/{label}",
            resamples=resamples,
            groups=questions.groups,
        )
        at = 0
        for name, array in complete.items():
            self.samples[name] = Sample(scores[at : at + len(array)], drawn[:, at : at + len(array)])
            at += len(array)

    @property
    def noise(self) -> Noise:
        return pooled_noise(sample.seeds for sample in self.samples.values())

    def estimate(self, experiment: str) -> Estimate | None:
        sample = self.samples.get(experiment)
        if sample is None:
            return None
        noise = self.noise
        return Estimate(
            float(sample.seeds.mean()),
            tuple(float(score) for score in sample.seeds),
            t_interval(sample.seeds, noise) if noise.dof else None,
            percentile_interval(sample.resampled.mean(1)),
        )

    def domain_scores(self, experiment: str) -> dict[str, float]:
        if experiment not in self.values:
            return {}
        weights, mean = self.questions.weights, self.values[experiment].mean(0)
        own = [self.questions.domains == number for number in range(len(self.questions.names))]
        return {
            name: float(np.average(mean[mask], weights=weights[mask]))
            for name, mask in zip(self.questions.names, own, strict=True)
        }

    def compare(self, base: str, other: str, key: str) -> Verdict:
        pool = [sample.seeds for name, sample in self.samples.items() if name not in (base, other)]
        higher = self.questions.higher_is_better
        return judge(self.samples[base], self.samples[other], pool=pool, higher_is_better=higher, key=key)

    def floor(self) -> NoiseFloor:
        noise = self.noise
        middle = [float(sample.seeds.mean()) for sample in self.samples.values()]
        fewest = max(2, min((len(sample.seeds) for sample in self.samples.values()), default=2))
        return NoiseFloor(
            self.scale,
            self.label,
            self.questions.metric,
            noise,
            float(np.std(middle, ddof=1)) if len(middle) > 1 else None,
            minimal_detectable_difference(noise.sigma, fewest) if noise.dof else None,
        )


def corrected(found: Mapping[Any, Verdict]) -> tuple[dict[Any, Verdict], dict[Any, float]]:
    """The verdicts of one family after Holm's correction, and their adjusted p-values."""
    known = {key: one.p for key, one in found.items() if one.p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    verdicts = {}
    for key, one in found.items():
        p = adjusted.get(key)
        if one.outcome != "undecided" and p is not None and p >= 1 - LEVEL:
            reason = f"p = {one.p:.2g}, and {p:.2g} as one of {len(found)} comparisons (Holm)"
            one = replace(one, outcome="undecided", reason=reason)
        verdicts[key] = one
    return verdicts, adjusted
