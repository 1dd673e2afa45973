"""How well one ranking of recipes agrees with another: Spearman, Kendall, right decisions, regret, with intervals.

In: a score by recipe on either side (a proxy and its target), or one by recipe and seed. Out: every figure with its interval
of a bootstrap over recipes and, nested, over seeds where there are several. Which proxy score goes with which target is fixed
before looking: an interval cannot know that the best of many proxies was picked.

A resample is how often each recipe was drawn. Every figure is a form in these counts, so that copies of one recipe are ties of
rank and no pair of a decision. Decision accuracy: the share of pairs of recipes that the proxy orders as the target does, ties
of the proxy counting half (DataDecide, arXiv 2504.11393); without ties Kendall's τ_a is twice that less one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.core.errors import InputError
from factory.core.ranks import spearman
from factory.evaluation.statistics import (
    LEVEL,
    RESAMPLES,
    Array,
    Interval,
    percentile_interval,
    random_of,
)

EXACT_BELOW = 8  # recipes; with fewer, all orders are counted
PERMUTATIONS = 5000
TOP = 3

_CELLS = 1 << 22


class Agreement(NamedTuple):
    """A figure and the interval over other recipes (and other seeds)."""

    value: float
    interval: Interval | None  # None where too few resamples can be ranked


@dataclass(frozen=True)
class RankReport:
    """What can be said of a proxy's ranking against its target's."""

    recipes: int
    spearman: Agreement
    kendall: Agreement  # τ_b
    decision_accuracy: Agreement
    p: float  # two-sided, of Spearman's ρ: how often other orders agree as well
    exact: bool  # whether all orders were counted
    regret: Agreement  # what the target loses by taking the proxy's best
    top: int
    overlap: float  # share of the target's best `top` among the proxy's


def kendall(first: Array, second: Array) -> float:
    """τ_b, which takes ties into account."""
    counts = np.ones((1, len(first)))
    return float(_kendall(counts, _signs(first[None]), _signs(second[None]))[0])


def right_decisions(proxy: Array, target: Array) -> float:
    """The share of pairs of recipes in the target's order; pairs that tie there are not asked, ties of the proxy count half."""
    counts = np.ones((1, len(proxy)))
    return float(_decisions(counts, _signs(proxy[None]), _signs(target[None]))[0])


def regret(proxy: Array, target: Array, *, higher_is_better: bool = False) -> float:
    """How much worse the target of the proxy's best recipe is than the best target."""
    sign = 1.0 if higher_is_better else -1.0
    return float((sign * target).max() - (sign * target)[np.argmax(sign * proxy)])


def overlap(proxy: Array, target: Array, top: int = TOP, *, higher_is_better: bool = False) -> float:
    """The share of the target's best `top` recipes that are among the proxy's best."""
    sign = -1.0 if higher_is_better else 1.0
    top = min(top, len(proxy))
    best = [set(np.argsort(sign * scores, kind="stable")[:top].tolist()) for scores in (proxy, target)]
    return len(best[0] & best[1]) / top


def rank_report(
    proxy: Array,
    target: Array,
    *,
    higher_is_better: bool = False,
    proxy_higher_is_better: bool | None = None,
    top: int = TOP,
    key: str = "ranks",
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> RankReport:
    """Every figure of a comparison. Scores are (recipes,) or (recipes, seeds), NaN where a recipe has fewer seeds."""
    proxy, target = _checked(proxy, target)
    turned = proxy_higher_is_better is not None and proxy_higher_is_better != higher_is_better
    proxy = -proxy if turned else proxy
    ours, theirs = np.nanmean(proxy, 1), np.nanmean(target, 1)
    drawn: dict[str, list[Array]] = {"spearman": [], "kendall": [], "decisions": [], "regret": []}
    for counts, one, other in _draws(proxy, target, key, resamples):
        signs = _signs(one), _signs(other)
        drawn["spearman"].append(_spearman(counts, *signs))
        drawn["kendall"].append(_kendall(counts, *signs))
        drawn["decisions"].append(_decisions(counts, *signs))
        drawn["regret"].append(_regrets(counts, one, other, higher_is_better))
    found = {name: np.concatenate(parts) for name, parts in drawn.items()}
    p, exact = _permutation_p(ours, theirs, key)
    return RankReport(
        recipes=len(proxy),
        spearman=_agreement(spearman(ours, theirs), found["spearman"], level),
        kendall=_agreement(kendall(ours, theirs), found["kendall"], level),
        decision_accuracy=_agreement(right_decisions(ours, theirs), found["decisions"], level),
        p=p,
        exact=exact,
        regret=_agreement(regret(ours, theirs, higher_is_better=higher_is_better), found["regret"], level),
        top=min(top, len(ours)),
        overlap=overlap(ours, theirs, top, higher_is_better=higher_is_better),
    )


def _checked(proxy: Array, target: Array) -> tuple[Array, Array]:
    """Both as (recipes, seeds)."""
    sides = [np.asarray(side, dtype=np.float64) for side in (proxy, target)]
    sides = [side[:, None] if side.ndim == 1 else side for side in sides]
    if len(sides[0]) != len(sides[1]) or len(sides[0]) < 2:
        raise InputError(
            f"Rankings of {len(sides[0])} and {len(sides[1])} recipes: the same recipes are wanted on both sides, at least 2."
        )
    if any(np.isnan(side).all(1).any() for side in sides):
        raise InputError("A recipe has no score on one side. Leave it out, or evaluate it.")
    return sides[0], sides[1]


def _draws(proxy: Array, target: Array, key: str, resamples: int) -> Iterator[tuple[Array, Array, Array]]:
    """(how often each recipe was drawn, its proxy score, its target score): a row each per resample, in blocks."""
    recipes = len(proxy)
    random = random_of(key, "recipes")
    blocks = zip(
        _seed_draws(proxy, key, "proxy seeds", resamples),
        _seed_draws(target, key, "target seeds", resamples),
        strict=True,
    )
    for own, other in blocks:
        rows = len(own)
        picks = random.integers(0, recipes, (rows, recipes)) + np.arange(rows)[:, None] * recipes
        counts = np.bincount(picks.ravel(), minlength=rows * recipes).reshape(rows, recipes).astype(np.float64)
        yield counts, _means(proxy, own), _means(target, other)


def _seed_draws(scores: Array, key: str, name: str, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Seeds drawn again for every recipe: (rows, recipes, seeds) of indices, in blocks."""
    recipes, seeds = scores.shape
    random = random_of(key, name)
    there = np.isfinite(scores)
    order = np.argsort(~there, axis=1, kind="stable")  # the seeds a recipe has come first
    fewest = there.sum(1)
    step = max(1, _CELLS // (recipes * recipes))
    for begin in range(0, resamples, step):
        rows = min(step, resamples - begin)
        picks = (random.random((rows, recipes, seeds)) * fewest[:, None]).astype(np.int64)
        yield np.take_along_axis(np.broadcast_to(order, (rows, recipes, seeds)), picks, 2)


def _means(scores: Array, picks: npt.NDArray[np.int64]) -> Array:
    return np.asarray(np.take_along_axis(np.broadcast_to(scores, picks.shape), picks, 2).mean(2), dtype=np.float64)


def _signs(scores: Array) -> Array:
    """For every row the sign of every difference: (rows, recipes, recipes)."""
    return np.sign(scores[:, :, None] - scores[:, None, :])


def _spearman(counts: Array, first: Array, second: Array) -> Array:
    # A mid-rank is half the sum of the signs of its differences, apart from a constant.
    ranks = [
        np.einsum("bj,bij->bi", counts, np.broadcast_to(signs, (len(counts), *signs.shape[1:])))
        for signs in (first, second)
    ]
    total = counts.sum(1, keepdims=True)
    centred = [rank - (counts * rank).sum(1, keepdims=True) / total for rank in ranks]
    spread = [(counts * rank * rank).sum(1) for rank in centred]
    return _ratio((counts * centred[0] * centred[1]).sum(1), np.sqrt(spread[0] * spread[1]))


def _kendall(counts: Array, first: Array, second: Array) -> Array:
    return _ratio(_form(counts, first * second), np.sqrt(_form(counts, first**2) * _form(counts, second**2)))


def _decisions(counts: Array, proxy: Array, target: Array) -> Array:
    return 0.5 + 0.5 * _ratio(_form(counts, proxy * target), _form(counts, target**2))


def _form(counts: Array, matrix: Array) -> Array:
    """Σ over pairs of counts times the matrix."""
    matrix = np.broadcast_to(matrix, (len(counts), *matrix.shape[1:]))
    return np.asarray(np.einsum("bi,bij,bj->b", counts, matrix, counts, optimize=True), dtype=np.float64)


def _regrets(counts: Array, proxy: Array, target: Array, higher: bool) -> Array:
    sign = 1.0 if higher else -1.0
    there = counts > 0
    ours, theirs = (np.where(there, sign * scores, -np.inf) for scores in (proxy, target))
    taken = np.take_along_axis(theirs, ours.argmax(1)[:, None], 1)[:, 0]
    return np.asarray(theirs.max(1) - taken, dtype=np.float64)


def _ratio(above: Array, below: Array) -> Array:
    return np.asarray(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0), dtype=np.float64)


def _agreement(value: float, drawn: Array, level: float) -> Agreement:
    known = drawn[np.isfinite(drawn)]
    return Agreement(value, percentile_interval(known, level) if 2 * len(known) > len(drawn) else None)


def _permutation_p(first: Array, second: Array, key: str) -> tuple[float, bool]:
    """How often an order by chance has a |ρ| as large; all orders where they are few, the given one among them."""
    count = len(first)
    exact = count < EXACT_BELOW
    if exact:
        orders = np.array(list(islice(permutations(range(count)), math.factorial(count))))
    else:
        orders = random_of(key, "orders").permuted(np.tile(np.arange(count), (PERMUTATIONS, 1)), axis=1)
    one, other = (_signs(side[None])[0].sum(1) for side in (first, second))
    spread = math.sqrt(float((one**2).sum() * (other**2).sum()))
    if not spread:
        return math.nan, exact
    found = np.abs(one[orders] @ other) / spread
    own = abs(float(one @ other)) / spread
    hits = int((found >= own - 1e-12).sum())
    return (hits / len(orders) if exact else (hits + 1) / (len(orders) + 1)), exact
