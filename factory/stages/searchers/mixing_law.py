"""Data mixing laws: c + k exp(t·p) for every objective, fitted to what short trials foretell of the target (2403.16952).

With `budgets` (shares of a trial's tokens, at least 3) every mixture is trained at each of them, a power law over tokens is
fitted for each mixture and objective, and the mixing law is fitted to what these say of the target's tokens, or of
`target_tokens`. Without, trials are compared as they are.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from factory.core.registry import register
from factory.core.search import Problem, Proposal, Searcher, Trial
from factory.mixing.caps import vector
from factory.mixing.exponential import ExponentialFit
from factory.mixing.laws import extrapolate
from factory.mixing.regression import Mean
from factory.mixing.trials import Rows, distinct_labels, objectives_of, rows_of
from factory.stages.searchers.families import choose_family
from factory.stages.searchers.guarded import Family, Guarded, GuardedSearch, Space, whole_space
from factory.stages.searchers.olmix import coefficients, solve_laws
from factory.stages.searchers.swarms import SwarmSettings, default_trials, swarm_proposals

Array = npt.NDArray[np.float64]


class MixingLaw(Guarded, SwarmSettings):
    """`huber` is the residual beyond which errors count linearly; `strength` draws the optimum towards natural shares."""

    huber: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    strength: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    budgets: tuple[float, ...] = ()
    target_tokens: int | None = Field(default=None, gt=0)

    @field_validator("budgets")
    @classmethod
    def _make_a_law(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if budgets and (len(set(budgets)) < 3 or not all(0 < share <= 1 for share in budgets) or max(budgets) != 1):
            raise ValueError("a law over tokens needs at least 3 shares of a trial, the largest of them 1")
        return tuple(sorted(set(budgets)))


@dataclass(frozen=True)
class MixingLawMethod:
    config: MixingLaw

    def space(self, problem: Problem) -> Space:
        return whole_space(problem)

    def explore(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> list[Proposal]:
        swarm = swarm_proposals(problem, space, self.config.trials or default_trials(len(space.names)), self.config)
        labels = distinct_labels(self.config.budgets, 6, "g")
        shorter = [
            replace(proposal, name=f"{proposal.name}-at-{label}", tokens=max(1, round(share * problem.trial_tokens)))
            for proposal in swarm
            for share, label in zip(self.config.budgets, labels, strict=True)
            if share < 1
        ]
        return swarm + shorter

    def prepare(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> Rows:
        return extrapolated(problem, trials, self._target(problem)) if self.config.budgets else rows_of(problem, trials)

    def notes(self, problem: Problem, model: Mean) -> dict[str, Any]:
        at = self._target(problem) if self.config.budgets else problem.trial_tokens
        return {**coefficients(problem.names, problem.objectives, model), "predicted_at_tokens": at}

    def family(self, rows: Rows, space: Space, seed: int) -> Family:
        return choose_family("exponential", rows, space, seed, law=ExponentialFit(huber=self.config.huber))

    def optimum(self, model: Mean, space: Space, seed: int, *, quick: bool) -> dict[str, Array]:
        return {"predicted": solve_laws(model, space, self.config.strength)}

    def _target(self, problem: Problem) -> int:
        return self.config.target_tokens or problem.tokens


def extrapolated(problem: Problem, trials: Sequence[Trial], target: int) -> Rows:
    """Each mixture with three budgets or more, and what their power law says of the target."""
    groups: dict[str, list[tuple[int, list[float], Trial]]] = defaultdict(list)
    for trial in sorted(trials, key=lambda trial: trial.proposal.name):
        values = objectives_of(problem, trial)
        if values is not None and trial.proposal.role == "swarm":
            tokens = trial.proposal.tokens or problem.trial_tokens
            groups[trial.proposal.name.partition("-at-")[0]].append((tokens, values, trial))
    names, mixtures, rows = [], [], []
    for name, found in sorted(groups.items()):
        if len({tokens for tokens, _, _ in found}) >= 3:
            sizes = [float(tokens) for tokens, _, _ in found]
            names.append(name)
            mixtures.append(vector(problem.names, found[0][2].proposal.weights))
            rows.append(extrapolate(sizes, np.array([values for _, values, _ in found]).T, float(target)))
    empty = (0, len(problem.names)), (0, len(problem.objectives))
    return Rows(
        tuple(names),
        np.array(mixtures) if mixtures else np.empty(empty[0]),
        np.array(rows) if rows else np.empty(empty[1]),
    )


@register("mixing_law", version=1, config=MixingLaw, packages=lambda config: ("scipy",))
def mixing_law(config: MixingLaw) -> Searcher:
    return GuardedSearch(MixingLawMethod(config), config)
