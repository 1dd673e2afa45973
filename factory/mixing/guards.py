"""Decision rules that keep a search from shipping noise: replicated confirmation, margins, non-regression, bootstrap, effects.

The best of many noisy measurements is optimistic, and the best of many predictions more so. What is adopted is therefore the
best *mean of fresh trainings* among a few candidates, and only where it beats the base by `margin` standard deviations of a
single training and makes no objective worse than the base by more than `tolerance` of them; otherwise the base stands.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.noise import pooled_noise
from factory.core.seeds import generator_for
from factory.mixing.caps import moved
from factory.mixing.regression import Mean

Array = npt.NDArray[np.float64]

STEP = 0.1  # of the tokens, moved to a domain to see what it does
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Arm:
    """A mixture that was trained several times: `values` has a row for each seed and a column for each objective."""

    name: str
    values: Array
    adoptable: bool = True

    @property
    def scores(self) -> Array:
        return np.asarray(self.values.mean(axis=1), dtype=np.float64)

    @property
    def mean(self) -> float:
        return float(self.values.mean())


@dataclass(frozen=True)
class Adoption:
    """The arm that is taken, by how much it is better than the base, and why; `rows` tells of every arm."""

    name: str
    gain: float
    shrunk_gain: float
    noise: float | None
    degrees: int
    reason: str
    rows: tuple[dict[str, Any], ...] = field(default=())


def half_width(deviation: float, degrees: int, scale: float, level: float = LEVEL) -> float:
    """Student's t at the degrees of freedom, times the standard error; NaN where the noise is unknown."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2)) * deviation * scale if degrees else math.nan


def shrunk(means: Array, variances: Array) -> Array:
    """Means moved towards their own average by as much as their spread is noise (James and Stein, positive part).

    With fewer than four there is nothing to estimate the spread from, and they stay.
    """
    if len(means) < 4 or not np.isfinite(variances).all():
        return means
    centre = means.mean()
    spread = float(((means - centre) ** 2).sum())
    kept = max(0.0, 1 - (len(means) - 3) * float(variances.mean()) / spread) if spread > 0 else 0.0
    return np.asarray(centre + kept * (means - centre), dtype=np.float64)


def adopt(arms: Sequence[Arm], base: str, metrics: Sequence[str], *, margin: float, tolerance: float) -> Adoption:
    """The best of the arms, or the base. Arms that a bound forbids are measured and never taken."""
    by_name = {arm.name: arm for arm in arms}
    noise, degrees = pooled_noise([arm.scores for arm in arms])
    by_metric = [pooled_noise([arm.values[:, place] for arm in arms])[0] for place in range(len(metrics))]
    if base not in by_name or not degrees:
        why = f"the base '{base}' was not measured" if base not in by_name else "no mixture was trained twice"
        return Adoption(
            base, 0.0, 0.0, None, degrees, f"{why}, so nothing can be shown to be better", _rows(arms, {}, {})
        )
    ground = by_name[base].values.mean(axis=0)
    worse = {
        arm.name: [
            metric
            for metric, value, start, deviation in zip(metrics, arm.values.mean(axis=0), ground, by_metric, strict=True)
            if value > start + tolerance * deviation
        ]
        for arm in arms
    }
    means = np.array([arm.mean for arm in arms])
    after = shrunk(means, np.array([noise**2 / len(arm.values) for arm in arms]))
    shrunk_by_name = {arm.name: float(value) for arm, value in zip(arms, after, strict=True)}
    allowed = [arm for arm in arms if arm.name == base or (arm.adoptable and not worse[arm.name])]
    best = min(allowed, key=lambda arm: (arm.mean, arm.name != base, arm.name))
    gain = by_name[base].mean - best.mean
    rows = _rows(arms, worse, shrunk_by_name)
    needed = margin * noise
    if best.name != base and gain >= needed:
        reason = f"{gain:.4g} better than {base}, with {margin:g} x seed noise = {needed:.4g} asked"
        return Adoption(best.name, gain, shrunk_by_name[base] - shrunk_by_name[best.name], noise, degrees, reason, rows)
    if best.name == base:
        reason = f"no candidate that may be taken is better than {base}"
    else:
        reason = f"'{best.name}' is {gain:.4g} better than {base}; {margin:g} x seed noise = {needed:.4g} are asked"
    return Adoption(base, 0.0, 0.0, noise, degrees, reason, rows)


def _rows(
    arms: Sequence[Arm], worse: Mapping[str, list[str]], shrunk_means: Mapping[str, float]
) -> tuple[dict[str, Any], ...]:
    noise, degrees = pooled_noise([arm.scores for arm in arms])
    rows = []
    for arm in sorted(arms, key=lambda arm: (arm.mean, arm.name)):
        width = half_width(noise, degrees, 1 / math.sqrt(len(arm.values)))
        rows.append(
            {
                "candidate": arm.name,
                "seeds": len(arm.values),
                "mean": arm.mean,
                "low": arm.mean - width if degrees else None,
                "high": arm.mean + width if degrees else None,
                "shrunk": shrunk_means.get(arm.name),
                "worse_than_base_in": worse.get(arm.name, []),
                "within_bounds": arm.adoptable,
            }
        )
    return tuple(rows)


def resamples(count: int, rows: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Rows drawn with replacement, one set for each refit."""
    generator = generator_for(seed, "bootstrap")
    return [generator.integers(rows, size=rows) for _ in range(count)]


def bootstrap(
    refit: Callable[[npt.NDArray[np.int64]], tuple[Array, Mean]], count: int, rows: int, seed: int
) -> tuple[Array, list[Mean]]:
    """The optimum of each refit (a row each), and the refits."""
    found = [refit(chosen) for chosen in resamples(count, rows, seed)]
    return np.array([shares for shares, _ in found]), [model for _, model in found]


def percentile_interval(values: Array, level: float = LEVEL) -> tuple[Array, Array]:
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def to_prior_where_unsure(shares: Array, prior: Array, low: Array, high: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Domains whose interval spans the prior get the prior's share; the others divide the rest as they did."""
    unsure = (low <= prior) & (prior <= high)
    rest, others = 1 - float(prior[unsure].sum()), float(shares[~unsure].sum())
    if unsure.all() or others <= 0:
        return prior.copy(), np.ones(len(prior), dtype=bool)
    return np.where(unsure, prior, shares * rest / others), unsure


def effects(model: Mean, at: Array, names: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """What a model expects of each metric when a tenth of the tokens moves to one domain: below 0 is better."""
    start = model.by_objective(at[None])[0]
    changed = model.by_objective(np.stack([moved(at, place, STEP) for place in range(len(names))]))
    return {
        name: {metric: float(value) for metric, value in zip(metrics, row - start, strict=True)}
        for name, row in zip(names, changed, strict=True)
    }
