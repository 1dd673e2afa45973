"""A swarm of mixtures to train small proxies on: Dirichlet draws of many strengths around a prior (RegMix, arXiv:2407.01492).

The prior is the domains' token shares to the power `exponent`. A small strength gives sparse mixtures, a large one mixtures
near the prior. Shares below `minimum` become 0, all are multiples of it, no share exceeds `most` times its prior, and no
two mixtures are nearer than `distinct` (sum of absolute differences). Draws are taken one after the other from the seed's
own stream, so a larger swarm begins with the smaller one and trained proxies stay of use.

Domains named "source/topic" are drawn in two levels (Olmix, arXiv:2602.12237): sources, of which none may vanish, and the
topics within each, which are sparse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.seeds import generator_for
from factory.mixing.shares import raised

Array = npt.NDArray[np.float64]

CHUNK = 256
MOST_DRAWS = 400_000


@dataclass(frozen=True)
class Swarm:
    """How mixtures are drawn; the defaults are RegMix's."""

    exponent: float = 0.5
    weakest: float = 0.1
    strongest: float = 5.0
    strengths: int = 15
    minimum: float = 2e-4
    most: float = 15.0
    distinct: float = 1e-5


def sources_of(names: Sequence[str]) -> list[list[int]]:
    """The places of the domains by what stands before the first slash of their names."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(name.partition("/")[0], []).append(place)
    return list(groups.values())


def draw_swarm(
    shares: Array,
    count: int,
    seed: int,
    *,
    spec: Swarm | None = None,
    names: Sequence[str] = (),
    caps: Array | None = None,
) -> Array:
    """`count` mixtures, a row each. `names` turns the two levels on; `caps` bounds shares from above."""
    spec = spec or Swarm()
    generator = generator_for(seed, "swarm")
    groups = sources_of(names)
    two_levels = 1 < len(groups) < len(names)
    prior = np.array(raised(shares, spec.exponent))
    bounds = np.minimum(1.0, spec.most * prior)
    bounds = bounds if caps is None else np.minimum(bounds, caps)
    found = np.empty((0, len(shares)))
    drawn = 0
    while len(found) < count and drawn < MOST_DRAWS:
        rows = _two_levels(shares, groups, spec, generator) if two_levels else _one_level(prior, spec, generator)
        drawn += CHUNK
        rows = _rounded(rows[(rows <= bounds + 1e-12).all(axis=1) & (rows.sum(axis=1) > 0.5)], spec.minimum)
        # Rounding gives what it leaves to the largest share, which may lift it over its bound.
        for row in rows[(rows <= bounds + spec.minimum / 2).all(axis=1)]:
            if len(found) < count and not (np.abs(found - row).sum(axis=1) < spec.distinct).any():
                found = np.vstack([found, row])
    if len(found) < count:
        raise FactoryError(
            f"search: {count} mixtures asked, {len(found)} found among {drawn:,} draws that differ by {spec.distinct:g} and keep "
            f"every share within {spec.most:g} x its prior{' and the bounds on repetition' if caps is not None else ''}. "
            "Ask for fewer, or widen the bounds."
        )
    return found


def _dirichlet(alphas: Array, generator: np.random.Generator) -> Array:
    """A row for each row of alphas; a row whose draws all vanish is all zero."""
    draws = generator.standard_gamma(alphas)
    return _cleared(draws, 0.0)


def _strengths(spec: Swarm, generator: np.random.Generator) -> Array:
    ladder = np.logspace(np.log10(spec.weakest), np.log10(spec.strongest), spec.strengths)
    return np.asarray(ladder[generator.integers(len(ladder), size=CHUNK)][:, None], dtype=np.float64)


def _one_level(prior: Array, spec: Swarm, generator: np.random.Generator) -> Array:
    return _cleared(_dirichlet(_strengths(spec, generator) * prior, generator), spec.minimum)


def _two_levels(shares: Array, groups: list[list[int]], spec: Swarm, generator: np.random.Generator) -> Array:
    prior = np.array(raised([shares[places].sum() for places in groups], spec.exponent))
    sources = _dirichlet(_strengths(spec, generator) * prior, generator)
    rows = np.zeros((CHUNK, len(shares)))
    for number, places in enumerate(groups):
        topics = _dirichlet(_strengths(spec, generator) * np.array(raised(shares[places], spec.exponent)), generator)
        rows[:, places] = sources[:, [number]] * _cleared(topics, spec.minimum)
    return np.where((sources >= spec.minimum).all(axis=1, keepdims=True), rows, 0.0)


def _cleared(rows: Array, minimum: float) -> Array:
    """Shares below the minimum are none and the others make up for it; a row of which nothing is left is all zero."""
    kept = np.where(rows < minimum, 0.0, rows)
    total = kept.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(kept, total, out=np.zeros_like(kept), where=total > 0), dtype=np.float64)


def _rounded(rows: Array, minimum: float) -> Array:
    """Multiples of the minimum; the largest share takes what is left."""
    parts = round(1 / minimum)
    units = np.rint(rows * parts)
    units[np.arange(len(units)), units.argmax(axis=1)] += parts - units.sum(axis=1)
    return np.asarray(units / parts, dtype=np.float64)
