"""Olmix: the exponential law of every objective, and the exact optimum that stays near natural shares (2602.12237).

min over shares of mean_i exp(a_i·p) + λ KL(p‖natural), within the bounds on repetition; the published default of this factory
for labelled domains. λ (`strength`) is on the scale of bits per byte: for other metrics it has to be chosen again. With
`solved`, an earlier mixture is reused: unaffected domains keep its ratios and only the others are searched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from factory.core.mixture import check_shares
from factory.core.registry import register
from factory.core.search import Problem, Proposal, Searcher, Trial
from factory.mixing import solver
from factory.mixing.caps import named, vector
from factory.mixing.exponential import Exponential, ExponentialFit
from factory.mixing.regression import Mean
from factory.mixing.reuse import Reuse, reuse
from factory.mixing.trials import Rows, rows_of
from factory.stages.searchers.families import choose_family
from factory.stages.searchers.guarded import Family, Guarded, GuardedSearch, Space, whole_space
from factory.stages.searchers.swarms import SwarmSettings, default_trials, swarm_proposals

Array = npt.NDArray[np.float64]


class Olmix(Guarded, SwarmSettings):
    """`solved` is a mixture found earlier, `affected` the domains that changed since, `reopened` others to search again."""

    exponent: float = Field(default=1.0, ge=0, le=1)
    minimum: float = Field(default=2e-3, gt=0, le=0.1)
    strength: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    huber: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    solved: Mapping[str, float] | None = None
    affected: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_what_it_reuses(self) -> Self:
        if (self.affected or self.reopened) and self.solved is None:
            raise ValueError("affected and reopened domains are those of an earlier mixture; give it as solved")
        if self.solved is not None:
            check_shares(self.solved)
        return self


@dataclass(frozen=True)
class OlmixMethod:
    config: Olmix

    def space(self, problem: Problem) -> Space:
        if self.config.solved is None:
            return whole_space(problem)
        return reduced_space(
            problem, reuse(self.config.solved, problem.names, self.config.affected, self.config.reopened)
        )

    def explore(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> list[Proposal]:
        return swarm_proposals(problem, space, self.config.trials or default_trials(len(space.names)), self.config)

    def prepare(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> Rows:
        return space.rows(rows_of(problem, trials))

    def notes(self, problem: Problem, model: Mean) -> dict[str, Any]:
        return coefficients(self.space(problem).names, problem.objectives, model)

    def family(self, rows: Rows, space: Space, seed: int) -> Family:
        return choose_family("exponential", rows, space, seed, law=ExponentialFit(huber=self.config.huber))

    def optimum(self, model: Mean, space: Space, seed: int, *, quick: bool) -> dict[str, Array]:
        return {"predicted": solve_laws(model, space, self.config.strength)}


def reduced_space(problem: Problem, kept: Reuse) -> Space:
    """The changed domains, and one in the place of all others."""

    def expand(shares: Array) -> Array:
        return vector(problem.names, kept.expand(named(kept.names, shares)))

    def collapse(shares: Array) -> Array:
        return vector(kept.names, kept.collapse(named(problem.names, shares)))

    def bounds(caps: Array) -> Array:
        return vector(kept.names, kept.cap(named(problem.names, caps)))

    natural = vector(problem.names, problem.natural)
    return Space(kept.names, collapse(natural), bounds(vector(problem.names, problem.caps)), expand, collapse, bounds)


def solve_laws(model: Mean, space: Space, strength: float) -> Array:
    """The exact optimum of fitted laws."""
    laws = np.array([part.coefficients for part in model.parts if isinstance(part, Exponential)])
    return solver.solve(laws, space.prior, strength=strength, caps=space.caps).shares


def coefficients(names: Sequence[str], metrics: Sequence[str], model: Mean) -> dict[str, Any]:
    """The laws themselves, by objective."""
    laws = [part for part in model.parts if isinstance(part, Exponential)]
    return {
        "laws": {
            metric: {"floor": law.floor, "coefficients": named(names, law.coefficients)}
            for metric, law in zip(metrics, laws, strict=True)
        }
    }


@register("olmix", version=1, config=Olmix, packages=lambda config: ("scipy",))
def olmix(config: Olmix) -> Searcher:
    return GuardedSearch(OlmixMethod(config), config)
