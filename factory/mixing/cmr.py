"""Critical Mixture Ratio (arXiv:2407.17467): the largest share of new data that continual pretraining stands.

Losses of runs with several ratios R of domain data at several budgets T come in (changes against the start, lower is
better); laws and CMR(T) go out. ΔL_general(T; R) = a T^s + c T^u + b rises and falls.
A ratio is feasible at T if the general loss is within the tolerance; between two ratios the crossing is interpolated, and
CMR(T) = a T^s + b. Every run needs the same schedule, else its end is compared and not its data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.seeds import seed_for
from factory.mixing.laws import PowerLaw, fit_power_law

Array = npt.NDArray[np.float64]

DRAWS = 200


def fit_general(budgets: npt.ArrayLike, changes: npt.ArrayLike) -> PowerLaw:
    """ΔL_general(T; R) of one ratio."""
    return fit_power_law(budgets, changes, terms=2)


def is_falling(law: PowerLaw, budget: float) -> bool:
    """Whether the loss goes down at this budget: what a run still forgets is not within any tolerance."""
    step = 1e-4 * budget
    return bool(law(budget) <= law(budget - step))


def critical_ratio(ratios: npt.ArrayLike, changes: npt.ArrayLike, tolerance: float) -> float | None:
    """The ratio at which the general loss has risen by the tolerance, between the last feasible one and the next.

    `changes` are of the general loss at one budget, for rising ratios. None where even the least ratio is too much; the
    largest measured where none is.
    """
    x, y = np.asarray(ratios, dtype=np.float64), np.asarray(changes, dtype=np.float64)
    if bool((np.diff(x) <= 0).any()):
        raise FactoryError(f"cmr: ratios must rise; got {x.tolist()}.")
    over = np.flatnonzero(y > tolerance)
    if not len(over):
        return float(x[-1])
    place = int(over[0])
    if place == 0:
        return None
    share = (tolerance - y[place - 1]) / (y[place] - y[place - 1])
    return float(x[place - 1] + share * (x[place] - x[place - 1]))


def critical_ratios(ratios: npt.ArrayLike, changes: npt.ArrayLike, tolerance: float) -> list[float | None]:
    """CMR at every budget; `changes` has a row for each budget and a column for each ratio."""
    return [critical_ratio(ratios, row, tolerance) for row in np.asarray(changes, dtype=np.float64)]


@dataclass(frozen=True)
class Critical:
    """CMR at each budget, its law, and the value at the last budget with its interval.

    None where even the least ratio is too much. `falling` says of each ratio whether its general loss goes down at the last
    budget; None where there are too few budgets to tell.
    """

    budgets: tuple[float, ...]
    ratios: tuple[float | None, ...]
    law: PowerLaw | None
    at_most: float | None
    interval: tuple[float, float] | None
    falling: tuple[bool, ...] | None


def critical_law(
    budgets: Sequence[float],
    ratios: npt.ArrayLike,
    changes: npt.ArrayLike,
    tolerance: float,
    *,
    noise: float = 0.0,
    seed: int = 0,
) -> Critical:
    """CMR(T) of a table of general losses, and 95 % of what it would be with other noise of this deviation.

    With budgets enough (six), each ratio's losses are smoothed by their own law first, and a ratio whose loss still rises at
    the last budget is not feasible there. With four crossings or more, CMR(T) is smoothed by its law.
    """
    table, falling = _smoothed(budgets, np.asarray(changes, dtype=np.float64))
    found = critical_ratios(ratios, table, tolerance)
    law, last = _law(budgets, found)
    if last is not None and falling is not None:
        settled = [ratio for ratio, falls in zip(np.asarray(ratios).tolist(), falling, strict=True) if falls]
        last = min(last, max(settled)) if settled else None
    interval = None
    if last is not None and noise > 0:
        random = np.random.default_rng(seed_for(seed, "cmr noise"))
        rows = table[-1] + random.normal(0.0, noise, (DRAWS, table.shape[1]))
        low, high = np.quantile([ratio or 0.0 for ratio in critical_ratios(ratios, rows, tolerance)], [0.025, 0.975])
        interval = (float(min(low, last)), float(max(high, last)))
    return Critical(tuple(budgets), tuple(found), law, last, interval, falling)


def _smoothed(budgets: Sequence[float], table: Array) -> tuple[Array, tuple[bool, ...] | None]:
    if len(budgets) < 6:
        return table, None
    laws = [fit_general(budgets, column) for column in table.T]
    smooth = np.stack([law(budgets) for law in laws], axis=1)
    return smooth, tuple(is_falling(law, float(budgets[-1])) for law in laws)


def _law(budgets: Sequence[float], found: Sequence[float | None]) -> tuple[PowerLaw | None, float | None]:
    known = [(budget, ratio) for budget, ratio in zip(budgets, found, strict=True) if ratio is not None]
    if found[-1] is None:
        return None, None
    if len(known) < 4:
        return None, found[-1]
    law = fit_power_law([budget for budget, _ in known], [ratio for _, ratio in known])
    return law, float(np.clip(law(budgets[-1]), 0.0, 1.0))
