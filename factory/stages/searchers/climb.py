"""CLIMB: the search is bootstrapped in rounds, each trained where the rounds before predict the best mixtures (2504.13161).

The first round is drawn around natural shares. Before every other one, trees are fitted to all rounds before it, many
mixtures are predicted, and the round is drawn from the best max(M², 128) of them, M the round's size. The candidate is the
best prediction over a fresh draw; with it, as in every guarded search, the best measured ones are trained again, because
the best prediction alone is optimistic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from factory.core.registry import register
from factory.core.search import Problem, Proposal, Searcher, Trial
from factory.core.seeds import generator_for, seed_for
from factory.mixing import solver
from factory.mixing.boosted import BoostedFit
from factory.mixing.caps import named, rounded
from factory.mixing.regression import Mean, boosted, fit_each
from factory.mixing.shares import raised
from factory.mixing.trials import Rows, pending, rows_of
from factory.stages.searchers.families import choose_family
from factory.stages.searchers.guarded import Family, Guarded, GuardedSearch, Space, whole_space

Array = npt.NDArray[np.float64]

QUICK = 10_000
SMALLEST_POOL = 128
DIGITS = 4  # by which a mixture counts as seen


class Climb(Guarded):
    """`rounds` sizes; all draws are ~ Dirichlet(strength · natural ^ exponent + offset), the strength by default the domains."""

    rounds: tuple[int, ...] = (64, 32, 16)
    candidates: int = Field(default=100_000, ge=100, le=1_000_000)
    candidate_strength: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    candidate_offset: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    exponent: float = Field(default=0.5, ge=0, le=1)

    @field_validator("rounds")
    @classmethod
    def _are_enough(cls, rounds: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(rounds) <= 20 or rounds[0] < 8 or not all(1 <= size <= 10_000 for size in rounds):
            raise ValueError("1 to 20 rounds of 1 to 10,000 trials, the first of at least 8, are meant")
        return rounds


@dataclass(frozen=True)
class ClimbMethod:
    config: Climb

    def space(self, problem: Problem) -> Space:
        return whole_space(problem)

    def explore(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> list[Proposal]:
        planned = self._round(problem, space, 0, np.empty((0, len(space.names))), None)
        for number in range(1, len(self.config.rounds)):
            if pending(planned, trials):
                break
            # All rounds before this one, and nothing of it: however far it has come, it stays the same round.
            before = {proposal.name for proposal in planned}
            rows = rows_of(problem, trials, lambda proposal, before=before: proposal.name in before)  # type: ignore[misc]
            if len(rows) < self.config.min_valid * len(planned):
                break
            model = fit_each(
                boosted(BoostedFit()), rows.mixtures, rows.values, seed_for(problem.seed, f"round {number}")
            )
            planned += self._round(problem, space, number, rows.mixtures, model)
        return planned

    def prepare(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> Rows:
        return space.rows(rows_of(problem, trials))

    def notes(self, problem: Problem, model: Mean) -> dict[str, Any]:
        return {"rounds": list(self.config.rounds)}

    def family(self, rows: Rows, space: Space, seed: int) -> Family:
        return choose_family("boosted", rows, space, seed)

    def optimum(self, model: Mean, space: Space, seed: int, *, quick: bool) -> dict[str, Array]:
        count = min(self.config.candidates, QUICK) if quick else self.config.candidates
        candidates = self._draw(space, count, seed_for(seed, "final"), bounded=True)
        return {"predicted": candidates[int(np.argmin(model.predict(candidates)))]}

    def _draw(self, space: Space, count: int, seed: int, *, bounded: bool) -> Array:
        return solver.draw_candidates(
            np.array(raised(space.prior, self.config.exponent)),
            count,
            seed,
            strength=self.config.candidate_strength or float(len(space.names)),
            offset=self.config.candidate_offset,
            caps=space.caps if bounded else None,
        )

    def _round(self, problem: Problem, space: Space, number: int, known: Array, model: Mean | None) -> list[Proposal]:
        """The mixtures of one round: the first is a plain draw, the others are from the best predicted and unseen."""
        size, seed = self.config.rounds[number], seed_for(problem.seed, f"round {number}")
        # The first round may repeat as it likes and so sees the whole simplex; later ones go where a target may.
        if model is None:
            chosen = [rounded(row) for row in self._draw(space, size, seed, bounded=False)]
        else:
            drawn = self._draw(space, self.config.candidates, seed, bounded=True)
            seen = {key.tobytes() for key in _keys(known)}
            unseen = drawn[[key.tobytes() not in seen for key in _keys(drawn)]]
            pool = np.argsort(model.predict(unseen), kind="stable")[: max(size * size, SMALLEST_POOL)]
            places = np.sort(generator_for(seed, "choice").permutation(pool)[:size])
            chosen = [rounded(row, space.caps) for row in unseen[places]]
        return [
            Proposal(f"round-{number}-{place:04d}", named(problem.names, space.expand(shares)))
            for place, shares in enumerate(chosen)
        ]


def _keys(rows: Array) -> npt.NDArray[np.int64]:
    """What makes two mixtures the same: shares to four digits."""
    return np.asarray(np.rint(rows * 10**DIGITS), dtype=np.int64)


@register("climb", version=1, config=Climb, packages=lambda config: ("lightgbm",))
def climb(config: Climb) -> Searcher:
    return GuardedSearch(ClimbMethod(config), config)
