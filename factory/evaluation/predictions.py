"""What smaller trainings say of a larger one: a law of each experiment and task, held against what was measured there.

In: scores by experiment, scale, seed and step. Out, for each task and experiment, the law fitted without the target's scale, its
prediction with an interval over runs, and the measured end. Where three sizes of model and three numbers of tokens are there,
the law is E + A/N^α + B/D^β (Chinchilla, arXiv 2203.15556): on the ends of trainings if those are enough, else with models kept
on the way, whose rates had not come down yet (`points` says which); with four amounts of compute it is E + A/C^α of the ends.

A metric of which more is better is predicted in two steps (OLMo ladder, arXiv 2412.04403): the law is one of the task's loss,
bits per byte of its right answers, and a sigmoid over all steps of all small trainings turns the loss into the metric.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from factory.core.errors import InputError
from factory.evaluation.scaling import (
    DROPPED_SHARE,
    Crossing,
    Fit,
    Law,
    Sigmoid,
    crossings,
    final_value,
    fit_law,
    fit_sigmoid,
    smoothed,
)
from factory.evaluation.scores import Score
from factory.evaluation.statistics import Array, Interval, percentile_interval

LEAST = 3  # different sizes, and numbers of tokens, for a law of both
LEAST_POINTS = {"N,D": 6, "C": 4}
RESAMPLED = 60  # sigmoids for the interval of a metric

Points = Literal["ends", "steps"]


@dataclass(frozen=True)
class Step2:
    """The metric as a function of the loss, and what that makes of the predicted loss."""

    sigmoid: Sigmoid
    loss: float  # predicted
    loss_measured: float | None
    beyond: bool  # outside the losses that were seen: a guess


@dataclass(frozen=True)
class Prediction:
    """One experiment's law on one task, and the target's end beside it."""

    law: Law
    points: Points
    fit: Fit
    predicted: float
    interval: Interval | None
    measured: float
    step2: Step2 | None

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1 if self.measured else math.nan


@dataclass(frozen=True)
class Predictions:
    """By experiment; `crossings` are pairs whose order turns between the smallest size and the target's."""

    task: str
    higher_is_better: bool
    experiments: dict[str, Prediction]
    crossings: list[Crossing]


def predictions(scores: Sequence[Score], target: str) -> list[Predictions]:
    """One for each task for which some experiment has points enough."""
    found = []
    for task in sorted({one.task for one in scores}):
        own = [one for one in scores if one.task == task]
        made: dict[str, Prediction] = {}
        edges: dict[str, tuple[Array, Array]] = {}
        for name in sorted({one.experiment for one in own}):
            told = _predict([one for one in own if one.experiment == name], target, f"{task}/{name}")
            if told is not None:
                made[name], edges[name] = told
        if made:
            found.append(Predictions(task, own[0].higher_is_better, made, _crossings(made, edges)))
    return found


def _predict(scores: Sequence[Score], target: str, key: str) -> tuple[Prediction, tuple[Array, Array]] | None:
    """An experiment's law, and the smallest size and the target's."""
    turned = [_of_loss(one) for one in scores] if scores[0].higher_is_better else list(scores)
    lossy = [one for one in turned if one is not None]
    small = _runs([one for one in lossy if one.scale != target])
    large = _runs([one for one in lossy if one.scale == target])
    ends = _runs([one for one in scores if one.scale == target])
    if not small or not large:
        return None
    chosen = _chosen(small)
    if chosen is None:
        return None
    law, points = chosen
    used = _ends(small) if points == "ends" else [run[math.floor(DROPPED_SHARE * len(run)) :] for run in small]
    sizes = np.array([_size(one, law) for run in used for one in run])
    values = np.array([one.value for run in used for one in run])
    of = [number for number, run in enumerate(used) for _ in run]
    try:
        fit = fit_law(sizes, values, runs=of, key=key)
    except InputError:  # losses that are not above 0
        return None
    at = np.array([_mean([_size(run[-1], law) for run in large])])
    predicted, interval = float(fit.predict(at)[0]), fit.interval(at)[0]
    measured = float(np.mean([final_value([one.value for one in run]) for run in ends]))
    step2 = None
    if scores[0].higher_is_better:
        told = _second_step(scores, small, target, fit, at)
        if told is None:
            return None
        told_loss = float(np.mean([run[-1].value for run in large]))
        step2 = Step2(told[0], predicted, told_loss, told[0].beyond(predicted))
        predicted, interval = told[1], told[2]
    made = Prediction(law, points, fit, predicted, interval, measured, step2)
    least = np.array([min((_size(run[-1], law) for run in small), key=lambda size: size[0])])
    return made, (least, at)


def _second_step(
    scores: Sequence[Score], small: Sequence[Sequence[Score]], target: str, fit: Fit, at: Array
) -> tuple[Sigmoid, float, Interval | None] | None:
    """The sigmoid of an experiment's small trainings and what it makes of the law; None where the steps are too few."""
    values = {(one.scale, one.seed, one.step): one.value for one in scores if one.scale != target}
    losses, metric, of = [], [], []
    for number, run in enumerate(small):
        own = [(one.value, values[(one.scale, one.seed, one.step)]) for one in run]
        loss, measured = (smoothed([pair[side] for pair in own]) for side in (0, 1))
        losses += loss.tolist()
        metric += measured.tolist()
        of += [number] * len(loss)
    known = [one.baseline for one in scores if one.baseline is not None]
    floor = float(np.mean(known)) if known else None
    try:
        sigmoid = fit_sigmoid(np.array(losses), np.array(metric), floor=floor)
    except InputError:  # too few steps
        return None
    drawn = []
    for theta, counts in list(zip(fit.bootstrap, fit.drawn, strict=True))[:RESAMPLED]:
        weights = counts[np.array(of)]
        if len(np.unique(np.array(losses)[weights > 0])) < 5:
            continue
        redrawn = fit_sigmoid(np.array(losses), np.array(metric), floor=floor, counts=weights, near=sigmoid)
        drawn.append(float(redrawn(replace(fit, theta=theta).predict(at))[0]))
    interval = percentile_interval(np.array(drawn)) if drawn else None
    return sigmoid, float(sigmoid(fit.predict(at))[0]), interval


def _chosen(runs: Sequence[Sequence[Score]]) -> tuple[Law, Points] | None:
    """The law that the points are enough for, and which points."""
    ends = _ends(runs)
    if _enough(ends):
        return "N,D", "ends"
    if _enough(runs):
        return "N,D", "steps"
    if len({one.flops for run in ends for one in run}) >= LEAST_POINTS["C"]:
        return "C", "ends"
    return None


def _enough(runs: Sequence[Sequence[Score]]) -> bool:
    sizes = {(one.parameters, one.tokens) for run in runs for one in run}
    if any(not parameters or not tokens for parameters, tokens in sizes):
        return False
    different = (len({parameters for parameters, _ in sizes}), len({tokens for _, tokens in sizes}))
    return min(different) >= LEAST and len(sizes) >= LEAST_POINTS["N,D"]


def _runs(scores: Sequence[Score]) -> list[list[Score]]:
    """The scores of each training by step, of those whose compute is known."""
    found: dict[tuple[str, int], list[Score]] = {}
    for one in scores:
        if one.flops:
            found.setdefault((one.scale, one.seed), []).append(one)
    return [sorted(own, key=lambda one: one.step or 0.0) for own in found.values()]


def _ends(runs: Sequence[Sequence[Score]]) -> list[list[Score]]:
    """One point of each training: where it ended, with the mean of its last tenth."""
    return [[replace(run[-1], value=final_value([one.value for one in run]))] for run in runs]


def _of_loss(score: Score) -> Score | None:
    return None if score.loss is None else replace(score, value=score.loss)


def _size(score: Score, law: Law) -> tuple[float, ...]:
    return (score.flops or 0.0,) if law == "C" else (score.parameters or 0.0, score.tokens or 0.0)


def _mean(sizes: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(math.fsum(side) / len(sizes) for side in zip(*sizes, strict=True))


def _crossings(made: dict[str, Prediction], edges: dict[str, tuple[Array, Array]]) -> list[Crossing]:
    """Pairs of experiments that change places, where all follow laws of one kind."""
    if len(made) < 2 or len({one.law for one in made.values()}) > 1:
        return []
    small, large = next(iter(edges.values()))
    return crossings({name: one.fit for name, one in made.items()}, small, large)
