"""Scaling laws of one recipe from runs of several sizes: what a larger run would reach, and how sure that is.

In: final losses by non-embedding parameters N and tokens D (or by compute C). Out: a fit of L = E + A/N^α + B/D^β (Chinchilla,
arXiv 2203.15556) or L = E + A/C^α, by Huber's loss (δ = 1e-3) on residuals of log L from over 100 starts, all parameters as
logs (OLMo ladder, arXiv 2412.04403), with intervals from a bootstrap over runs, never over checkpoints of a run. All starts
descend side by side by Levenberg and Marquardt's steps: the same minimum as L-BFGS-B's, in a twentieth of the time. Task
accuracy follows in a second step: a sigmoid of the loss, fitted on all checkpoints.

What always holds: a residual beyond four deviations of the noise raises an alarm, since points that a law cannot describe
(another mixture, a schedule not decayed) extrapolate to nothing, and there is no telling with less than three runs more than
parameters; accuracy beyond the losses that were seen says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from factory.core.errors import InputError
from factory.evaluation.statistics import LEVEL, Array, Interval, percentile_interval, random_of

Law = Literal["N,D", "C"]

DELTA = 1e-3
ALARM = 4.0  # deviations of the noise
SPARE = 3  # runs more than parameters, below which residuals say nothing
RESAMPLES = 200
FINAL_SHARE, DROPPED_SHARE, MOVING = 0.1, 0.1, 5

# Starts, as published (arXiv 2203.15556, 2404.10102), thinned to what changes the end.
_EXPONENTS = (0.2, 0.35, 0.5)
_FLOORS = (-0.7, -0.1)  # log of the floor, less that of the lowest loss
_SIZES = (3.0, 6.0, 9.0)
_SCREEN, _POLISHED, _POLISH = 40, 4, 300  # steps from every start; the best of them; steps of those
_LEAST_RUNS: Mapping[str, int] = {"N,D": 6, "C": 4}


@dataclass(frozen=True, eq=False)
class Fit:
    """A law with its parameters by name, and whether the points it was fitted on follow it."""

    law: Law
    parameters: Mapping[str, float]
    runs: int  # fitted on points of so many, which are more where checkpoints count
    residual: float  # deviation of the residuals of log loss
    noise: float  # what they are held against: given, else estimated from them
    worst: float  # the largest residual, in deviations of the noise
    theta: Array
    bootstrap: Array  # (resamples, parameters)
    drawn: Array  # (resamples, runs): how often each run was drawn for them

    @property
    def alarm(self) -> bool | None:
        """Whether a run lies where the law and its noise cannot put it; None where the law bends to almost every run."""
        return self.worst > ALARM if self.runs >= len(self.theta) + SPARE else None

    def predict(self, sizes: Array) -> Array:
        """The loss at (N, D) or (C,) of each row."""
        return np.asarray(np.exp(_log_loss(self.theta[None], np.log(_rows(sizes, self.law)))[0]), dtype=np.float64)

    def interval(self, sizes: Array, level: float = LEVEL) -> list[Interval | None]:
        """The interval over other runs for each row; None where nothing was drawn again."""
        logs = np.log(_rows(sizes, self.law))
        if not len(self.bootstrap):
            return [None] * len(logs)
        drawn = np.exp(_log_loss(self.bootstrap, logs))
        return [percentile_interval(drawn[:, at], level) for at in range(len(logs))]


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """Acc(L) = a/(1 + exp(k(L - L0))) + b, and the losses it was fitted on."""

    a: float
    k: float
    middle: float
    b: float
    seen: Interval

    def __call__(self, loss: Array) -> Array:
        return self.a / (1 + np.exp(np.clip(self.k * (np.asarray(loss) - self.middle), -500, 500))) + self.b

    def beyond(self, loss: float) -> bool:
        """Whether this loss is outside those that were seen: what the sigmoid says there is a guess."""
        return not self.seen.low <= loss <= self.seen.high


@dataclass(frozen=True)
class Crossing:
    """Two recipes whose order at the target is not the one that was measured, and how often resamples agree."""

    first: str
    second: str
    probability: float


def fit_law(
    sizes: Array,
    loss: Array,
    *,
    runs: Sequence[int] | None = None,
    noise: float | None = None,
    resamples: int = RESAMPLES,
    key: str = "scaling",
) -> Fit:
    """The law of these points: a row of (N, D), or of (C,), and a loss each. `runs` numbers the run each is of, from 0, where
    some are checkpoints of one: they are drawn together.

    `noise` is the deviation of log loss between seeds; without it the residuals' own median deviation stands in, which a law
    that fits badly everywhere inflates.
    """
    law: Law = "C" if np.ndim(sizes) == 1 or np.shape(sizes)[1] == 1 else "N,D"
    rows, loss = _rows(sizes, law), np.asarray(loss, dtype=np.float64)
    _check(rows, loss, law)
    logs, target = np.log(rows), np.log(loss)
    theta = _best(logs, target, _starts(law, float(target.min())), np.ones((1, len(loss))))[0]
    of = np.arange(len(loss)) if runs is None else np.asarray(runs)
    bootstrap, drawn = _redrawn(logs, target, theta, of, resamples, key)
    residuals = target - _log_loss(theta[None], logs)[0]
    spread = float(np.sqrt((residuals**2).sum() / max(1, len(loss) - len(theta))))
    used = noise if noise is not None else max(1.4826 * float(np.median(np.abs(residuals))), 1e-12)
    return Fit(
        law=law,
        parameters=_named(theta, law),
        runs=int(of.max()) + 1,
        residual=spread,
        noise=used,
        worst=float(np.abs(residuals).max()) / used if used else math.inf,
        theta=theta,
        bootstrap=bootstrap,
        drawn=drawn,
    )


def fit_sigmoid(
    loss: Array,
    accuracy: Array,
    *,
    floor: float | None = None,
    counts: Array | None = None,
    near: Sigmoid | None = None,
) -> Sigmoid:
    """Accuracy as a function of loss; `floor` fixes b where guessing is known. Resamples give the `counts` of the points and the
    sigmoid of all, which theirs is `near`."""
    from scipy.optimize import least_squares

    loss, accuracy = np.asarray(loss, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if len(loss) < 5:
        raise InputError(f"A sigmoid of {len(loss)} checkpoints: at least 5 are wanted.")
    low, high = float(accuracy.min()), float(accuracy.max())
    scale = float(loss.std()) or 1.0

    weights = np.sqrt(np.ones(len(loss)) if counts is None else np.asarray(counts, dtype=np.float64))

    def residuals(theta: Array) -> Array:
        a, k, middle, b = theta
        shown = b if floor is None else floor
        rising = 1 / (1 + np.exp(np.clip(k * (loss - middle), -500, 500)))
        return np.asarray(weights * (a * rising + shown - accuracy))

    def slopes(theta: Array) -> Array:
        a, k, middle, _ = theta
        rising = 1 / (1 + np.exp(np.clip(k * (loss - middle), -500, 500)))
        steep = a * rising * (1 - rising)
        columns = [rising, -steep * (loss - middle), steep * k, np.full(len(loss), float(floor is None))]
        return np.asarray(weights[:, None] * np.stack(columns, axis=1))

    lowest, highest = [0.0, 0.0, loss.min() - 3 * scale, 0.0], [1.5, 1e3 / scale, loss.max() + 3 * scale, 1.0]
    starts: list[list[float]] = [
        [min(max(a, 1e-3), 1.0), k, middle, max(0.0, low)]
        for a, k, middle in product(
            (high - low + 0.05, 1 - low), (1 / scale, 4 / scale), np.quantile(loss, (0.2, 0.5, 0.8))
        )
    ]
    exact = 1e-14 if near is None else 1e-8
    if near is not None:
        starts = [[near.a, near.k, near.middle, near.b]]
    found = [
        least_squares(
            residuals,
            np.clip(start, lowest, highest),
            jac=slopes,
            bounds=(lowest, highest),
            xtol=exact,
            ftol=exact,
            gtol=exact,
        )
        for start in starts
    ]
    a, k, middle, b = min(found, key=lambda one: float(one.cost)).x
    seen = Interval(float(loss.min()), float(loss.max()))
    return Sigmoid(float(a), float(k), float(middle), float(b if floor is None else floor), seen)


def final_value(values: Sequence[float] | Array) -> float:
    """What a run ended with: the mean of its last tenth of checkpoints."""
    array = np.asarray(values, dtype=np.float64)
    return float(array[-max(1, round(FINAL_SHARE * len(array))) :].mean())


def smoothed(values: Sequence[float] | Array) -> Array:
    """A run's checkpoints for the second step: without the first tenth, each the mean of at most five."""
    array = np.asarray(values, dtype=np.float64)[math.floor(DROPPED_SHARE * len(values)) :]
    width = min(MOVING, len(array))
    return np.convolve(array, np.ones(width) / width, mode="valid")


def crossings(fits: Mapping[str, Fit], small: Array, target: Array) -> list[Crossing]:
    """The pairs of recipes whose order turns between the `small` size and the `target`'s, the surest first."""
    at_small = {name: float(fit.predict(small)[0]) for name, fit in fits.items()}
    at_target = {name: float(fit.predict(target)[0]) for name, fit in fits.items()}
    logs = {name: np.log(_rows(target, fit.law)) for name, fit in fits.items()}
    drawn = {name: _log_loss(fit.bootstrap, logs[name])[:, 0] for name, fit in fits.items()}
    found = []
    for first, second in combinations(fits, 2):
        gap = at_target[first] - at_target[second]
        if gap * (at_small[first] - at_small[second]) >= 0:
            continue
        agree = np.sign(drawn[first][:, None] - drawn[second][None, :]) == math.copysign(1, gap)
        found.append(Crossing(first, second, float(agree.mean()) if agree.size else math.nan))
    return sorted(found, key=lambda one: (-one.probability, one.first, one.second))


def _redrawn(
    logs: Array, target: Array, theta: Array, runs: npt.NDArray[np.int64], resamples: int, key: str
) -> tuple[Array, Array]:
    """The parameters on runs drawn again, and how often each was.

    A resample of fewer different sizes than parameters says nothing and is left out.
    """
    random, count = random_of(key, "runs"), int(runs.max()) + 1
    rows = [np.bincount(random.integers(0, count, count), minlength=count) for _ in range(resamples)]
    kept = [row for row in rows if len(np.unique(logs[row[runs] > 0], axis=0)) >= len(theta)]
    if not kept:
        return np.empty((0, len(theta))), np.empty((0, count))
    # From the fit and from around it: another set of runs may lie in another valley.
    near = theta + np.vstack(
        [np.zeros(len(theta)), random.normal(0, 0.1, (3, len(theta))) * np.maximum(1, np.abs(theta))]
    )
    drawn = np.array(kept, dtype=np.float64)
    return _best(logs, target, near, drawn[:, runs]), drawn


def _rows(sizes: Any, law: Law) -> Array:
    array = np.asarray(sizes, dtype=np.float64)
    width = 1 if law == "C" else 2
    return array.reshape(-1, width)


def _check(rows: Array, loss: Array, law: Law) -> None:
    least = _LEAST_RUNS[law]
    different = len(np.unique(rows, axis=0))
    if len(rows) != len(loss) or different < least:
        raise InputError(
            f"A law in {law} of {len(loss)} runs at {different} different sizes: at least {least} sizes are wanted. "
            "Train smaller runs, or fit in compute alone (C)."
        )
    if not (np.isfinite(rows).all() and (rows > 0).all() and np.isfinite(loss).all() and (loss > 0).all()):
        raise InputError("A law is fitted on positive, finite sizes and losses. Leave failed runs out.")


def _starts(law: Law, lowest: float) -> Array:
    floors = [lowest + floor for floor in _FLOORS]
    if law == "C":
        exponents = (0.02, 0.05, 0.1, *_EXPONENTS, 0.7, 1.0)
        return np.array(list(product(floors, (0.0, *_SIZES, 12.0, 16.0, 20.0), exponents)))
    starts = [
        (floor, a, alpha, b, beta)
        for floor, a, b, alpha, beta in product(floors, _SIZES, _SIZES, _EXPONENTS, _EXPONENTS)
        if abs(alpha - beta) < 0.2
    ]
    return np.array(starts)


def _best(logs: Array, target: Array, starts: Array, counts: Array) -> Array:
    """The lowest end over all starts, for each row of `counts` (how often each run was drawn): (resamples, parameters)."""
    each = np.repeat(counts, len(starts), axis=0)
    theta, cost = _descend(logs, target, np.tile(starts, (len(counts), 1)), each, _SCREEN)
    order = np.argsort(cost.reshape(len(counts), -1), axis=1, kind="stable")[:, :_POLISHED]
    chosen = theta.reshape(len(counts), len(starts), -1)[np.arange(len(counts))[:, None], order]
    width = chosen.shape[1]
    ends, cost = _descend(
        logs, target, chosen.reshape(len(counts) * width, -1), np.repeat(counts, width, axis=0), _POLISH
    )
    best = cost.reshape(-1, width).argmin(1)
    return np.asarray(ends.reshape(len(counts), width, -1)[np.arange(len(counts)), best])


def _descend(logs: Array, target: Array, theta: Array, counts: Array, steps: int) -> tuple[Array, Array]:
    """Levenberg and Marquardt's steps on Huber's loss, from all starts side by side; ends and their losses."""
    low, high = (np.array(side) for side in zip(*_bounds(logs.shape[1]), strict=True))
    theta = np.clip(theta, low, high)
    cost, damping = _huber(theta, logs, target, counts), np.full(len(theta), 1e-2)
    for _ in range(steps):
        terms = _terms(theta, logs)  # (terms, starts, runs)
        predicted = np.logaddexp.reduce(terms, axis=0)
        residuals = predicted - target
        weights = counts * np.minimum(1.0, DELTA / np.maximum(np.abs(residuals), 1e-300))
        slopes = _jacobian(terms, predicted, logs)  # (parameters, starts, runs)
        weighted = slopes * weights
        curvature = np.einsum("isn,jsn->sij", weighted, slopes)
        gradient = np.einsum("isn,sn->si", weighted, residuals)
        at = np.arange(theta.shape[1])
        curvature[:, at, at] += damping[:, None] * curvature[:, at, at] + 1e-14
        moved = np.clip(theta - np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], low, high)
        reached = _huber(moved, logs, target, counts)
        better = reached < cost
        theta, cost = np.where(better[:, None], moved, theta), np.where(better, reached, cost)
        damping = np.clip(np.where(better, damping / 4, damping * 5), 1e-12, 1e12)
        if not better.any() and damping.min() > 1e8:
            break
    return theta, cost


def _huber(theta: Array, logs: Array, target: Array, counts: Array) -> Array:
    residuals = _log_loss(theta, logs) - target
    size = np.abs(residuals)
    loss = np.where(size <= DELTA, 0.5 * residuals**2, DELTA * (size - 0.5 * DELTA))
    return np.asarray((loss * counts).sum(1), dtype=np.float64)


def _bounds(powers: int) -> list[tuple[float, float]]:
    """Of log E, then of a log factor and an exponent for each power."""
    return [(-20.0, 10.0), *[(-10.0, 60.0), (1e-3, 3.0)] * powers]


def _log_loss(theta: Array, logs: Array) -> Array:
    """(starts, runs)"""
    return np.asarray(np.logaddexp.reduce(_terms(theta, logs), axis=0), dtype=np.float64)


def _terms(theta: Array, logs: Array) -> Array:
    """log E, log A - α log N and log B - β log D: (terms, starts, runs)."""
    floor = np.broadcast_to(theta[:, :1], (len(theta), len(logs)))
    powers = [
        theta[:, at, None] - theta[:, at + 1, None] * logs[None, :, number]
        for number, at in enumerate(range(1, theta.shape[1], 2))
    ]
    return np.stack([floor, *powers])


def _jacobian(terms: Array, predicted: Array, logs: Array) -> Array:
    shares = np.exp(terms - predicted)
    columns = [shares[0]]
    for number in range(logs.shape[1]):
        columns += [shares[number + 1], -shares[number + 1] * logs[None, :, number]]
    return np.stack(columns)


def _named(theta: Array, law: Law) -> dict[str, float]:
    names = ("E", "A", "alpha") if law == "C" else ("E", "A", "alpha", "B", "beta")
    return {
        name: float(np.exp(value)) if name in ("E", "A", "B") else float(value)
        for name, value in zip(names, theta, strict=True)
    }
