"""Do small proxies decide like the target: how many pairs of recipes they put in the right order, and what that takes.

In: scores of the same recipes by seed at a small scale and at the target's. Out: decision accuracy (DataDecide, arXiv
2504.11393) with its interval over recipes, the same where seeds that disagree abstain, and what theory expects: with recipes
spread by s and a proxy whose score is off by a deviation n, r = n/s, the share of right decisions is 1/2 + arctan(1/r)/π.
Averaging k seeds divides r by √k, which says how many seeds a share asked for takes.

A target of one seed has noise of its own, and makes every proxy look worse than it is: it is counted and said.

What a decision costs: models of every step and scale against the target's end, one seed at a time, by their share of the
target's compute. The target of a seed are the other seeds, whatever the scale, so that no model is asked about itself, and the
target's own end shows what another training of the same size would say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from factory.core.noise import Noise, pooled_noise
from factory.evaluation.ranks import Agreement, RankReport, rank_report, right_decisions
from factory.evaluation.scores import Score, finals
from factory.evaluation.statistics import RESAMPLES, Array, random_of

ABSTAIN_BELOW = 0.9  # share of seed resamples on one side
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Transfer:
    """What a proxy's decisions are worth at the target."""

    recipes: int
    proxy_seeds: int  # of the recipe with the fewest
    target_seeds: int
    ranks: RankReport
    coverage: float  # share of the pairs that the proxy's seeds decide
    on_decided: float | None  # decision accuracy on those alone
    noise_ratio: float | None  # r of a mean over the seeds; None where no recipe has a second seed
    expected: float | None  # decision accuracy of that r, if nothing but seeds stood between proxy and target
    seeds_for_90: int | None  # of each recipe, for an expected 0.9
    warnings: tuple[str, ...]

    @property
    def decision_accuracy(self) -> Agreement:
        return self.ranks.decision_accuracy


@dataclass(frozen=True)
class Decision:
    """What one seed of each recipe, trained so far, decides as the target's other seeds do."""

    task: str
    scale: str
    tokens: float
    finished: bool
    compute: float  # share of the target's
    accuracy: float  # mean over seeds
    seeds: int
    recipes: int


@dataclass(frozen=True)
class EqualCompute:
    """A finished small model, and the target's scale trained for as much compute."""

    task: str
    scale: str
    compute: float
    finished: float
    on_the_way: float  # between the steps before and after


def decisions_by_compute(scores: Sequence[Score], target: str) -> list[Decision]:
    """Every step of every scale, the cheapest first by task; none where compute is not known or the target has one seed."""
    found = []
    for task in sorted({one.task for one in scores}):
        own = [one for one in scores if one.task == task and one.flops]
        ends = [one for one in own if one.scale == target]
        if not ends:
            continue
        full = max(one.flops or 0.0 for one in ends)
        for scale, tokens in sorted({(one.scale, one.tokens or one.step or 0.0) for one in own}):
            here = [one for one in own if (one.scale, one.tokens or one.step or 0.0) == (scale, tokens)]
            names = sorted({one.experiment for one in here} & {one.experiment for one in ends})
            if len(names) < 2:
                continue
            seeds = sorted({one.seed for one in ends if one.experiment in names})
            asked = _one_seed(here, finals(own, task, target, names), names, seeds)
            if asked:
                last = max(one.tokens or one.step or 0.0 for one in own if one.scale == scale)
                spent = max(one.flops or 0.0 for one in here) / full
                accuracy = float(np.mean(asked))
                found.append(Decision(task, scale, tokens, tokens == last, spent, accuracy, len(asked), len(names)))
    return sorted(found, key=lambda one: (one.task, one.compute, one.scale))


def equal_compute(decisions: Sequence[Decision], target: str) -> list[EqualCompute]:
    """Finished models of smaller scales beside the target's scale on its way, between the steps that were kept."""
    found = []
    for small in decisions:
        way = [one for one in decisions if (one.task, one.scale) == (small.task, target)]
        if small.scale == target or not small.finished or not way:
            continue
        if way[0].compute <= small.compute <= way[-1].compute:
            spent, right = [math.log(one.compute) for one in way], [one.accuracy for one in way]
            there = float(np.interp(math.log(small.compute), spent, right))
            found.append(EqualCompute(small.task, small.scale, small.compute, small.accuracy, there))
    return found


def _one_seed(here: Sequence[Score], ends: Array, names: Sequence[str], seeds: Sequence[int]) -> list[float]:
    """The right decisions of each seed that all recipes have; the target is the mean of its other seeds."""
    values = {(one.experiment, one.seed): one.value for one in here}
    found = []
    for seed in sorted({one.seed for one in here}):
        mine = [values.get((name, seed), math.nan) for name in names]
        others = ends[:, [at for at, other in enumerate(seeds) if other != seed]]
        if np.isfinite(mine).all() and np.isfinite(others).any(1).all():
            right = right_decisions(np.array(mine), np.nanmean(others, 1))
            if math.isfinite(right):
                found.append(right)
    return found


def expected_accuracy(ratio: float) -> float:
    """The share of right decisions of a proxy with noise `ratio` times the spread of the recipes."""
    return 0.5 + math.atan2(1.0, ratio) / math.pi


def ratio_for(accuracy: float) -> float:
    """The noise, in spreads of the recipes, at which this share of decisions is right."""
    return 1.0 / math.tan(math.pi * (accuracy - 0.5))


def seeds_for(accuracy: float, sigma: float, spread: float) -> int | None:
    """Seeds of each recipe for this share of right decisions; None where no number would do."""
    if not spread or not math.isfinite(sigma) or not math.isfinite(spread):
        return None
    wanted = math.ceil((sigma / spread / ratio_for(accuracy)) ** 2 - 1e-9)
    return max(1, wanted) if wanted <= _MOST_SEEDS else None


def true_spread(scores: Array, noise: Noise) -> float:
    """The deviation between recipes, without what the noise of their seed means adds to it (never below 0)."""
    counts = np.isfinite(scores).sum(1)
    seen = float(np.var(np.nanmean(scores, 1), ddof=1))
    return math.sqrt(max(0.0, seen - noise.sigma**2 * float(np.mean(1 / counts)))) if noise.dof else math.sqrt(seen)


def transfer(
    proxy: Array,
    target: Array,
    *,
    higher_is_better: bool = False,
    proxy_higher_is_better: bool | None = None,
    key: str = "transfer",
    resamples: int = RESAMPLES,
) -> Transfer:
    """What the proxy's scores, (recipes, seeds), decide at the target."""
    proxy, target = (side[:, None] if side.ndim == 1 else side for side in (np.asarray(proxy), np.asarray(target)))
    turned = proxy_higher_is_better is not None and proxy_higher_is_better != higher_is_better
    proxy = -proxy if turned else proxy
    ranks = rank_report(proxy, target, higher_is_better=higher_is_better, key=key, resamples=resamples)
    noise = pooled_noise([row[np.isfinite(row)] for row in proxy])
    spread = true_spread(proxy, noise)
    ratio = None
    if noise.dof:
        fewest = np.isfinite(proxy).sum(1)
        ratio = noise.sigma * math.sqrt(float(np.mean(1 / fewest))) / spread if spread else math.inf
    coverage, decided = _abstaining(proxy, target, key, resamples)
    return Transfer(
        recipes=len(proxy),
        proxy_seeds=int(np.isfinite(proxy).sum(1).min()),
        target_seeds=int(np.isfinite(target).sum(1).min()),
        ranks=ranks,
        coverage=coverage,
        on_decided=decided,
        noise_ratio=ratio,
        expected=None if ratio is None else expected_accuracy(ratio),
        seeds_for_90=seeds_for(0.9, noise.sigma, spread) if noise.dof else None,
        warnings=tuple(_warnings(proxy, target)),
    )


def _abstaining(proxy: Array, target: Array, key: str, resamples: int) -> tuple[float, float | None]:
    """The share of pairs whose order at least 0.9 of the seed resamples agree on, and how many of those are right."""
    count = len(proxy)
    if np.isfinite(proxy).sum(1).min() < 2:
        return 0.0, None  # one seed cannot tell its own luck
    random = random_of(key, "abstain")
    drawn = np.empty((resamples, count))
    for recipe, row in enumerate(proxy):
        own = row[np.isfinite(row)]
        drawn[:, recipe] = own[random.integers(0, len(own), (resamples, len(own)))].mean(1)
    goal = np.nanmean(target, 1)
    asked = decided = right = 0
    for first in range(count):
        for second in range(first + 1, count):
            if goal[first] == goal[second]:
                continue
            asked += 1
            above = float((drawn[:, first] > drawn[:, second]).mean())
            below = float((drawn[:, first] < drawn[:, second]).mean())
            if max(above, below) >= ABSTAIN_BELOW:  # a tie is on neither side
                decided += 1
                right += (above > below) == (goal[first] > goal[second])
    return (decided / asked if asked else 0.0), (right / decided if decided else None)


def _warnings(proxy: Array, target: Array) -> list[str]:
    found = []
    if np.isfinite(target).sum(1).min() < 2:
        found.append("a target has one seed: its own luck counts as error of the proxy")
    if np.isfinite(proxy).sum(1).min() < 2:
        found.append("a proxy has one seed: it cannot abstain, and its noise is unknown")
    if len(proxy) < 7:
        found.append(f"{len(proxy)} recipes: so few can hardly give a significant rank correlation")
    return found
