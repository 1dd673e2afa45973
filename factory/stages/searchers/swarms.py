"""The settings of a swarm, and its mixtures as proposals."""

from dataclasses import replace

import numpy as np
from pydantic import Field

from factory.core.config import Config
from factory.core.search import Problem, Proposal
from factory.mixing.caps import named
from factory.mixing.swarm import Swarm, draw_swarm
from factory.stages.searchers.guarded import Space

PUBLISHED = Swarm()


class SwarmSettings(Config):
    """`trials` mixtures (0: as many as the method needs for the number of domains), drawn around natural shares ^ `exponent`.

    `trial_epochs` bounds how often a trial repeats a domain; without it only the target is bounded, which was measured to
    be better (2602.12237, table 4). Domains named source/topic are drawn in `two_levels`.
    """

    trials: int = Field(default=0, ge=0, le=100_000)
    exponent: float = Field(default=0.5, ge=0, le=1)
    weakest: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    strongest: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    minimum: float = Field(default=2e-4, gt=0, le=0.1)
    most: float = Field(default=PUBLISHED.most, ge=1, allow_inf_nan=False)
    distinct: float = Field(default=PUBLISHED.distinct, gt=0, le=1)
    two_levels: bool = True
    trial_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)


def default_trials(domains: int) -> int:
    """Three for each coefficient of a law: one for each domain, and one more (arXiv:2602.12237)."""
    return 3 * (domains + 1)


def swarm_proposals(problem: Problem, space: Space, count: int, settings: SwarmSettings) -> list[Proposal]:
    """The swarm in the coordinates of the space; names are numbers, so that a larger swarm goes on where a smaller ended."""
    spec = replace(
        PUBLISHED,
        exponent=settings.exponent,
        weakest=settings.weakest,
        strongest=max(settings.weakest, settings.strongest),
        minimum=settings.minimum,
        most=settings.most,
        distinct=settings.distinct,
    )
    caps = None
    if settings.trial_epochs is not None:
        tokens = {domain.name: domain.tokens for domain in problem.domains}
        bounds = {name: min(1.0, settings.trial_epochs * size / problem.trial_tokens) for name, size in tokens.items()}
        caps = space.bounds(np.array([bounds[name] for name in problem.names]))
    names = space.names if settings.two_levels else ()
    found = draw_swarm(space.prior, count, problem.seed, spec=spec, names=names, caps=caps)
    return [
        Proposal(f"swarm-{number:05d}", named(problem.names, space.expand(shares)))
        for number, shares in enumerate(found)
    ]
