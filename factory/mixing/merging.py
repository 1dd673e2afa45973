"""Models from models: soups, unions of partitions, and ensembles of experts, as arithmetic on scores and likelihoods.

Scores are lower-is-better. Greedy soups follow arXiv:2203.05482, ensembles of domain experts Branch-Train-Merge
(arXiv:2208.03306), and scores of unions from merged models arXiv:2410.15661. What averages parameters is
`factory.training.merging`; here nothing is loaded.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.ranks import spearman
from factory.core.seeds import seed_for
from factory.mixing.simplex import Vector, uniform

Nats = npt.NDArray[np.float64]


def greedy_soup(single: Mapping[str, float], score: Callable[[tuple[str, ...]], float]) -> tuple[str, ...]:
    """The models to average: best first, each kept if the average with it scores no worse than without.

    `single` holds every model's own score, `score(names)` is that of an average. Both on data that is not reported: what is
    chosen by a score is not judged by it.
    """
    if not single:
        raise FactoryError("A soup needs at least one model; none was given.")
    ordered = sorted(single, key=lambda name: (single[name], name))
    chosen: tuple[str, ...] = (ordered[0],)
    best = single[ordered[0]]
    for name in ordered[1:]:
        value = score((*chosen, name))
        if value <= best:
            chosen, best = (*chosen, name), value
    return chosen


def unions(names: Sequence[str], sizes: tuple[int, int], *, limit: int, seed: int) -> list[tuple[str, ...]]:
    """Subsets of the partitions with sizes[0] to sizes[1] members: all, or `limit` of them chosen by the seed."""
    least, most = sizes
    if not 1 <= least <= most <= len(names):
        raise FactoryError(f"unions of {least} to {most} of {len(names)} partitions: there are none.")
    total = sum(math.comb(len(names), size) for size in range(least, most + 1))
    if total <= limit:
        return [subset for size in range(least, most + 1) for subset in itertools.combinations(sorted(names), size)]
    found: set[tuple[str, ...]] = set()
    random = np.random.default_rng(seed_for(seed, "unions"))
    weights = np.array([math.comb(len(names), size) for size in range(least, most + 1)], dtype=np.float64)
    while len(found) < limit:
        size = least + int(random.choice(len(weights), p=weights / weights.sum()))
        found.add(tuple(sorted(random.choice(sorted(names), size=size, replace=False).tolist())))
    return sorted(found, key=lambda subset: (len(subset), subset))


def posteriors(nats: npt.ArrayLike, prior: npt.ArrayLike | None = None) -> Nats:
    """π before every token: `nats[j, t]` is -ln p of token t under expert j; row 0 is the prior, row T what all T tokens say."""
    losses = np.asarray(nats, dtype=np.float64)
    start = uniform(len(losses)) if prior is None else np.asarray(prior, dtype=np.float64)
    if len(start) != len(losses) or abs(float(start.sum()) - 1.0) > 1e-6 or float(start.min()) < 0:
        raise FactoryError(
            f"A prior over {len(losses)} experts sums to 1 and has no negative share; got {start.tolist()}."
        )
    with np.errstate(divide="ignore"):
        scores = np.log(start)[:, None] - np.concatenate([np.zeros((len(losses), 1)), losses.cumsum(axis=1)], axis=1)
    raised = np.exp(scores - scores.max(axis=0))
    result: Nats = (raised / raised.sum(axis=0)).T
    return result


def ensemble_nats(nats: npt.ArrayLike, prior: npt.ArrayLike | None = None) -> Nats:
    """-ln p of every token under Σ_j π_j p_j, π being the posterior of what came before it."""
    losses = np.asarray(nats, dtype=np.float64)
    weights = posteriors(losses, prior)[:-1].T
    least = losses.min(axis=0)
    result: Nats = least - np.log((weights * np.exp(least - losses)).sum(axis=0))
    return result


def cached_prior(found: Sequence[npt.ArrayLike], *, decay: float = 0.3) -> Vector:
    """The prior to keep: a moving average of the posteriors that validation sequences ended with, from a uniform one."""
    if not found:
        raise FactoryError("A prior is estimated from posteriors of at least one validation sequence; none was given.")
    prior = uniform(len(np.asarray(found[0])))
    for posterior in found:
        prior = (1.0 - decay) * prior + decay * np.asarray(posterior, dtype=np.float64)
    return prior


def agreement(predicted: npt.ArrayLike, measured: npt.ArrayLike) -> dict[str, float | None]:
    """Spearman's and Pearson's correlation of predicted with measured scores; None where one of them does not vary."""
    one, other = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return {"spearman": None, "pearson": None}
    return {"spearman": spearman(one, other), "pearson": float(np.corrcoef(one, other)[0, 1])}
