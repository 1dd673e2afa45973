"""Better, worse or not yet decided: differences between experiments against the noise of seeds and of items.

Two noises, never confused. *Seed noise*: the same recipe trained again gives another score on the same items. *Item noise*:
other items of the same kind would give another difference. A claim about data must stand against both:

- Seed noise is one standard deviation per metric and scale, pooled over all experiments there (assumption: recipes differ
  in their mean, not in how much a seed moves them). Two or three seeds alone know next to nothing about it; k experiments
  of n seeds give k(n - 1) degrees of freedom. Where the pair at hand is noisier than the others could explain (F test at
  5 %), its own deviation is used with its own few degrees of freedom.
- Seeds are treated as independent between experiments, even where they bear the same number. A shared seed shares the
  initial weights but not the data, so how much it would help is unknown; if it helps, the interval is too wide, not too
  narrow. Items are paired: all models answer the same ones, and a resample takes the same ones for all.
- The interval of a difference adds both variances and takes Student's t at the degrees of freedom of the seeds, so it always
  covers the interval of the seeds alone.

Randomness is seeded by a hash of the caller's key: the same scores give the same intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from factory.core.errors import FactoryError
from factory.core.noise import Noise, pooled_noise
from factory.evaluation.distributions import f_tail, normal_cdf, t_quantile, two_sided

Array = npt.NDArray[np.float64]
Outcome = Literal["better", "worse", "undecided"]

LEVEL = 0.95
POWER = 0.8
RESAMPLES = 2000

_CELLS = 1 << 22  # resampled items held at a time
_MOST_SEEDS = 10_000


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one experiment: a row per seed, a column per item; its mean is over domains of weighted means.

    Items of one of the `groups` (questions on one passage) are drawn together: they are no independent evidence.
    """

    values: Array
    weights: Array
    domains: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None

    @property
    def by_seed(self) -> Array:
        return means(self.values, self.weights, self.domains)


@dataclass(frozen=True)
class Verdict:
    """What can be said of `difference` = other - base, and what it would take to say more."""

    outcome: Outcome
    difference: float
    interval: Interval | None  # of both noises; None when no experiment has a second seed
    seed_interval: Interval | None
    item_interval: Interval
    p: float | None  # two-sided, of both noises
    sign_probability: float  # share of resamples (of seeds and items) on the side of the difference
    noise: Noise
    item_se: float
    seeds_needed: (
        int | None
    )  # of each experiment, for a difference of this size at 80 % power; None: decided, or no number
    reason: str


@dataclass(frozen=True, eq=False)
class Sample:
    """The scores of one experiment by seed, and the same on resampled items (a row per resample, a column per seed)."""

    seeds: Array
    resampled: Array = field(repr=False)


def means(values: Array, weights: Array, domains: npt.NDArray[np.int64]) -> Array:
    """The macro mean of each row."""
    return np.asarray(values @ _shares(weights, domains), dtype=np.float64)


def t_interval(values: Sequence[float] | Array, noise: Noise | None = None, level: float = LEVEL) -> Interval | None:
    """The interval of a mean over seeds, with their own noise or one that is given; None where neither is known."""
    array = np.asarray(values, dtype=np.float64)
    used = noise or pooled_noise([array])
    if not used.dof:
        return None
    return _around(float(array.mean()), used.sigma / math.sqrt(len(array)), used.dof, level)


def percentile_interval(resamples: Array, level: float = LEVEL) -> Interval:
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap_means(
    values: Array,
    weights: Array,
    domains: npt.NDArray[np.int64],
    *,
    key: str,
    resamples: int = RESAMPLES,
    groups: npt.NDArray[np.int64] | None = None,
) -> Array:
    """The macro mean of every row on resampled items: (resamples, rows). Items, or groups of them, are drawn within domains.

    One draw serves all rows, so differences of columns are paired by item.
    """
    result = np.zeros((resamples, values.shape[0]))
    names = np.unique(domains)
    for domain in names:
        own = np.flatnonzero(domains == domain)
        random = random_of(key, str(domain))
        weighted, sizes = values[:, own] * weights[own], weights[own]
        if groups is not None:
            weighted, sizes = _by_group(weighted, sizes, groups[own])
        count = len(sizes)
        step = max(1, _CELLS // count)
        for begin in range(0, resamples, step):
            rows = min(step, resamples - begin)
            drawn = random.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
            counts = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
            result[begin : begin + rows] += (counts @ weighted.T) / (counts @ sizes)[:, None]
    return result / len(names)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family, adjusted so that its chance of any false claim stays at the level (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = running
    return adjusted


def minimal_detectable_difference(sigma: float, seeds: int, power: float = POWER, level: float = LEVEL) -> float:
    """The true difference that two arms of `seeds` seeds each would decide with this power, seed noise alone."""
    return _quantiles(seeds, power, level) * sigma * math.sqrt(2 / seeds)


def power(
    difference: float,
    sigma: float,
    seeds: int,
    item_se: float = 0.0,
    base_seeds: int | None = None,
    level: float = LEVEL,
) -> float:
    """The chance that arms of so many seeds decide a true difference of this size, on its right side."""
    base_seeds = base_seeds or seeds
    dof = seeds + base_seeds - 2
    if dof < 1:
        return 0.0
    seed_se = sigma * math.sqrt(1 / seeds + 1 / base_seeds)
    se = math.hypot(seed_se, item_se)
    if not se:
        return float(difference != 0)
    # The deviation is estimated, too: averaged over what it may turn out to be (σ√(χ²/dof), on a grid).
    seen = np.linspace(1e-3, 1 + 8 / math.sqrt(2 * dof), 400)
    density = np.exp((dof - 1) * np.log(seen) - dof * seen**2 / 2 + dof / 2)
    bar = t_quantile((1 + level) / 2, dof) * np.hypot(seed_se * seen, item_se)
    found = np.array([normal_cdf((abs(difference) - one) / se) for one in bar])
    return float((found * density).sum() / density.sum())


def seeds_to_decide(
    difference: float, sigma: float, item_se: float = 0.0, power: float = POWER, level: float = LEVEL
) -> int | None:
    """Seeds of each arm that decide a true difference of this size; None where item noise alone hides it."""

    def enough(seeds: int) -> bool:
        se = math.sqrt(2 * sigma * sigma / seeds + item_se * item_se)
        return _quantiles(seeds, power, level) * se <= abs(difference)

    if not math.isfinite(difference) or not math.isfinite(sigma) or not enough(_MOST_SEEDS):
        return None
    low, high = 1, _MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def verdict(
    base: Scores,
    other: Scores,
    *,
    pool: Sequence[Sequence[float] | Array] = (),
    higher_is_better: bool = False,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    key: str = "verdict",
) -> Verdict:
    """Whether `other` is better than `base`; `pool` holds the scores by seed of further experiments at the same scale."""
    first, second = _samples(base, other, key, resamples)
    return judge(first, second, pool=pool, higher_is_better=higher_is_better, level=level, key=key)


def judge(
    base: Sample,
    other: Sample,
    *,
    pool: Sequence[Sequence[float] | Array] = (),
    higher_is_better: bool = False,
    level: float = LEVEL,
    key: str = "verdict",
) -> Verdict:
    """The verdict on samples that were resampled together."""
    difference = float(other.seeds.mean() - base.seeds.mean())
    by_items = other.resampled.mean(1) - base.resampled.mean(1)
    item_se = float(by_items.std())
    noise = _noise_of_pair(base.seeds, other.seeds, pool)
    seed_se = noise.sigma * math.sqrt(1 / len(base.seeds) + 1 / len(other.seeds))
    se = math.hypot(seed_se, item_se)
    known = noise.dof > 0
    interval = _around(difference, se, noise.dof, level) if known else None
    p = two_sided(difference / se, noise.dof) if known and se > 0 else None
    wanted = _seeds_needed(base, other, difference, noise, item_se, level)
    reason = _undecided(base, other, difference, interval, item_se, wanted, level)
    better = (difference > 0) == higher_is_better
    redrawn = _redraw_seeds(base, other, key)
    return Verdict(
        outcome="undecided" if reason else "better" if better else "worse",
        difference=difference,
        interval=interval,
        seed_interval=_around(difference, seed_se, noise.dof, level) if known else None,
        item_interval=percentile_interval(by_items, level),
        p=p,
        sign_probability=float((redrawn * math.copysign(1, difference) > 0).mean()),
        noise=noise,
        item_se=item_se,
        seeds_needed=wanted if reason else None,
        reason=reason or f"the {level:.0%} interval of seeds and items lies on one side of 0",
    )


SAME = "both gave the same scores, seed by seed and item by item: there is nothing to decide"


def _undecided(
    base: Sample,
    other: Sample,
    difference: float,
    interval: Interval | None,
    item_se: float,
    wanted: int | None,
    level: float,
) -> str:
    """Why nothing is claimed; empty where something is."""
    fewest = min(len(base.seeds), len(other.seeds))
    if fewest < 2:
        return f"{fewest} seed: one run cannot be told from luck, at least 2 of each experiment are needed"
    largest = max(float(np.abs(base.seeds).max()), float(np.abs(other.seeds).max()))
    if interval is None or pooled_noise([base.seeds, other.seeds]).sigma <= 1e-12 * largest:
        return "the seeds gave identical scores, so nothing is known about their noise"
    if interval.low > 0 or interval.high < 0:
        return ""
    if _same(base.seeds, other.seeds) and item_se <= 1e-12 * largest:
        return SAME
    if wanted is None:
        return (
            f"difference {difference:.4g}: lost in the noise of these items (se {item_se:.2g}) at any number of seeds"
        )
    return (
        f"difference {difference:.4g} ± {interval.high - difference:.2g} at {level:.0%}: "
        f"{wanted} seeds each would decide one of this size (now {fewest})"
    )


def _same(base: Array, other: Array) -> bool:
    return len(base) == len(other) and np.allclose(base, other, rtol=1e-12, atol=0)


def _seeds_needed(
    base: Sample, other: Sample, difference: float, noise: Noise, item_se: float, level: float
) -> int | None:
    fewest = min(len(base.seeds), len(other.seeds))
    if not noise.dof:
        return max(2, fewest + 1)
    needed = seeds_to_decide(difference, noise.sigma, item_se, level=level)
    return None if needed is None else max(needed, fewest + 1)


def _noise_of_pair(base: Array, other: Array, pool: Sequence[Sequence[float] | Array]) -> Noise:
    own, rest = pooled_noise([base, other]), pooled_noise(pool)
    if not own.dof or not rest.dof or not rest.sigma:
        return pooled_noise([base, other, *pool])
    noisier = f_tail((own.sigma / rest.sigma) ** 2, own.dof, rest.dof) < 1 - LEVEL
    return own if noisier else pooled_noise([base, other, *pool])


def _redraw_seeds(base: Sample, other: Sample, key: str) -> Array:
    """Differences on resampled items and, independently for each arm, resampled seeds."""
    random = random_of(key, "seeds")
    rows = len(base.resampled)
    drawn = []
    for sample in (base, other):
        picks = random.integers(0, len(sample.seeds), (rows, len(sample.seeds)))
        drawn.append(np.take_along_axis(sample.resampled, picks, 1).mean(1))
    return np.asarray(drawn[1] - drawn[0])


def _samples(base: Scores, other: Scores, key: str, resamples: int) -> tuple[Sample, Sample]:
    same = np.array_equal(base.weights, other.weights) and np.array_equal(base.domains, other.domains)
    if not same or (base.groups is None) != (other.groups is None):
        raise FactoryError(
            f"Two experiments were evaluated on different items ({base.values.shape[1]:,} and {other.values.shape[1]:,}): "
            "they cannot be compared. Evaluate both on the same task files."
        )
    both = np.concatenate([base.values, other.values])
    drawn = bootstrap_means(both, base.weights, base.domains, key=key, resamples=resamples, groups=base.groups)
    count = len(base.values)
    return Sample(base.by_seed, drawn[:, :count]), Sample(other.by_seed, drawn[:, count:])


def _by_group(weighted: Array, sizes: Array, groups: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Sums over the items of each group: (rows, groups) and (groups,)."""
    _, place = np.unique(groups, return_inverse=True)
    return np.stack([np.bincount(place, row) for row in weighted]), np.bincount(place, sizes).astype(np.float64)


def _shares(weights: Array, domains: npt.NDArray[np.int64]) -> Array:
    """What each item contributes to the macro mean; sums to 1."""
    _, place = np.unique(domains, return_inverse=True)
    totals = np.bincount(place, weights)
    return np.asarray(weights / totals[place] / len(totals), dtype=np.float64)


def _around(centre: float, se: float, dof: int, level: float) -> Interval:
    half = t_quantile((1 + level) / 2, dof) * se
    return Interval(centre - half, centre + half)


def _quantiles(seeds: int, power: float, level: float) -> float:
    dof = 2 * seeds - 2
    return t_quantile((1 + level) / 2, dof) + t_quantile(power, dof)


def random_of(*parts: str) -> np.random.Generator:
    """Random numbers that follow from a key and nothing else."""
    return np.random.default_rng(xxhash.xxh3_64_intdigest("\x1f".join(parts).encode()))
