"""The noise floor: how much a score moves when nothing but the seed changes, and what can be seen above it.

In: scores by experiment and seed (see `scores`). Out, for each task and scale: σ, the deviation between seeds of one
experiment, from a control of at least five seeds or pooled over experiments; the spread of the experiments' means; their
ratio; and the smallest difference that the seeds at hand would decide with 80 % power. A σ of n seeds is itself off by about
1/√(2(n - 1)), a third at five, so its interval (χ²) stands beside it.

Two σ where checkpoints are kept: of the last one, and of the mean of the last three. Where the first is much larger, a
score should be read as such a mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from factory.core.noise import Noise, pooled_noise
from factory.evaluation.distributions import normal_quantile
from factory.evaluation.scores import Curves, Score, curves
from factory.evaluation.statistics import LEVEL, Array, Interval, minimal_detectable_difference

CONTROL_SEEDS = 5
LAST = 3
USABLE_SNR = 2.0  # spread of the experiments over σ of a mean of the seeds at hand
ABOVE_CHANCE = 3.0  # σ


@dataclass(frozen=True)
class Floor:
    """One task at one scale."""

    task: str
    scale: str
    higher_is_better: bool
    control: str | None  # the experiment whose seeds gave σ; None: pooled over all
    seeds: int  # of the experiment with the fewest
    sigma: Noise  # of the last checkpoint
    sigma_interval: Interval | None
    sigma_last: Noise | None  # of the mean of the last three checkpoints; None where they are not kept
    mean: float
    baseline: float | None
    spread: float | None  # deviation of the experiments' means
    snr: float | None  # spread / σ of one seed
    detectable: float | None  # by two arms of the seeds at hand, 80 % power
    usable: bool | None  # None where it cannot be known
    why: str


def noise_floors(scores: Sequence[Score], control: str | None = None) -> list[Floor]:
    """A floor for each task and scale, those with the clearest signal first."""
    found = [noise_floor(curve, control) for curve in curves(scores)]
    return sorted(found, key=lambda one: (one.scale, -(one.snr if one.snr is not None else -1), one.task))


def noise_floor(curve: Curves, control: str | None = None) -> Floor:
    last, averaged = _last(curve.values, 1), _last(curve.values, LAST)
    own = last[[curve.experiments.index(control)]] if control in curve.experiments else last
    alone = int(np.isfinite(own).sum(1).max()) >= CONTROL_SEEDS and control in curve.experiments
    sigma = _pooled(own if alone else last)
    sigma_last = _pooled(averaged) if curve.values.shape[2] >= LAST else None
    middle = np.array([row[np.isfinite(row)].mean() for row in last if np.isfinite(row).any()])
    spread = float(middle.std(ddof=1)) if len(middle) > 1 else None
    seeds = int(np.isfinite(last).sum(1).min())
    known = sigma.dof > 0 and sigma.sigma > 0
    snr = spread / sigma.sigma if known and spread is not None else None
    best = float(middle.max() if curve.higher_is_better else middle.min())
    usable, why = _usable(curve, sigma, best, snr, max(1, seeds))
    return Floor(
        task=curve.task,
        scale=curve.scale,
        higher_is_better=curve.higher_is_better,
        control=control if alone else None,
        seeds=seeds,
        sigma=sigma,
        sigma_interval=sigma_interval(sigma),
        sigma_last=sigma_last,
        mean=float(middle.mean()),
        baseline=curve.baseline,
        spread=spread,
        snr=snr,
        detectable=minimal_detectable_difference(sigma.sigma, max(2, seeds)) if sigma.dof else None,
        usable=usable,
        why=why,
    )


def sigma_interval(noise: Noise, level: float = LEVEL) -> Interval | None:
    """Where the true deviation lies, for normal scores (χ² by Wilson and Hilferty's cube root, good to 1 % from 4 on)."""
    if not noise.dof:
        return None
    z, spread = normal_quantile((1 + level) / 2), 2 / (9 * noise.dof)
    low, high = (max(1e-12, 1 - spread + side * z * math.sqrt(spread)) ** 3 for side in (1, -1))
    return Interval(noise.sigma / math.sqrt(low), noise.sigma / math.sqrt(high))


def _usable(curve: Curves, sigma: Noise, best: float, snr: float | None, seeds: int) -> tuple[bool | None, str]:
    if not sigma.dof:
        return None, "no experiment has a second seed: its noise is unknown"
    if curve.baseline is not None and sigma.sigma > 0:
        above = (best - curve.baseline) * (1 if curve.higher_is_better else -1) / sigma.sigma
        if above < ABOVE_CHANCE:
            return False, f"at chance: the best is {above:.1f} σ above guessing, {ABOVE_CHANCE:g} wanted"
    if snr is None:
        return None, "a single experiment has no spread" if sigma.sigma else "the seeds gave identical scores"
    reached = snr * math.sqrt(seeds)
    if reached < USABLE_SNR:
        return False, f"experiments differ by {reached:.1f} σ of a mean over {seeds} seeds, {USABLE_SNR:g} wanted"
    return True, f"experiments differ by {reached:.1f} σ of a mean over {seeds} seeds"


def _last(values: Array, count: int) -> Array:
    """The mean of the last `count` checkpoints there are, by experiment and seed."""
    result = np.full(values.shape[:2], np.nan)
    for place in np.ndindex(*values.shape[:2]):
        own = values[place][np.isfinite(values[place])]
        if len(own):
            result[place] = own[-count:].mean()
    return result


def _pooled(values: Array) -> Noise:
    return pooled_noise([row[np.isfinite(row)] for row in values])
