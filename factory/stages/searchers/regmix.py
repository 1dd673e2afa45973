"""RegMix: a swarm of small proxies, a regression over their mixtures, and the mean of the best predicted ones (2407.01492).

Boosted trees and the exponential law are both fitted and the one that ranks held-out mixtures better is kept
(`regression: auto`). Published: 512 proxies; here at least 64, and 3 for each domain and one more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from factory.core.registry import register
from factory.core.search import Problem, Proposal, Searcher, Trial
from factory.mixing import solver
from factory.mixing.regression import Mean
from factory.mixing.shares import raised
from factory.mixing.trials import Rows, rows_of
from factory.stages.searchers.families import choose_family
from factory.stages.searchers.guarded import Family, Guarded, GuardedSearch, Space, whole_space
from factory.stages.searchers.swarms import SwarmSettings, default_trials, swarm_proposals

Array = npt.NDArray[np.float64]

QUICK = 10_000  # candidates of a bootstrap's refit


class RegMix(Guarded, SwarmSettings):
    """`candidates` are drawn ~ Dirichlet(strength · prior), by default with the number of domains as the strength."""

    regression: Literal["auto", "boosted", "exponential"] = "auto"
    candidates: int = Field(default=100_000, ge=100, le=1_000_000)
    candidate_strength: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    top: int = Field(default=128, ge=1, le=10_000)


@dataclass(frozen=True)
class RegMixMethod:
    config: RegMix

    def space(self, problem: Problem) -> Space:
        return whole_space(problem)

    def explore(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> list[Proposal]:
        count = self.config.trials or max(default_trials(len(space.names)), 64)
        return swarm_proposals(problem, space, count, self.config)

    def prepare(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> Rows:
        return space.rows(rows_of(problem, trials))

    def notes(self, problem: Problem, model: Mean) -> dict[str, Any]:
        return {}

    def family(self, rows: Rows, space: Space, seed: int) -> Family:
        return choose_family(self.config.regression, rows, space, seed)

    def optimum(self, model: Mean, space: Space, seed: int, *, quick: bool) -> dict[str, Array]:
        count = min(self.config.candidates, QUICK) if quick else self.config.candidates
        candidates = solver.draw_candidates(
            np.array(raised(space.prior, self.config.exponent)),
            count,
            seed,
            strength=self.config.candidate_strength or float(len(space.names)),
            caps=space.caps,
        )
        # A smaller draw has as large a part of it averaged.
        top = max(1, round(self.config.top * count / self.config.candidates))
        mean, lowest = solver.average_of_best(model, candidates, top)
        return {"predicted": mean, "predicted_best": lowest}


@register("regmix", version=1, config=RegMix, packages=lambda c: () if c.regression == "exponential" else ("lightgbm",))
def regmix(config: RegMix) -> Searcher:
    return GuardedSearch(RegMixMethod(config), config)
