"""Given mixtures, such as a grid, each trained with several seeds.

The best is taken where it beats the base by enough; otherwise the base stands. No fresh trainings confirm it: what picks the
best also measures it, so its gain is optimistic, and the finding says so beside the gain shrunk towards the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.noise import pooled_noise
from factory.core.registry import register
from factory.core.search import Finding, Problem, Proposal, Searcher, Trial
from factory.mixing.baselines import baseline, caps_of
from factory.mixing.caps import is_within, named, rounded, rounded_within, vector
from factory.mixing.guards import Arm, adopt, half_width
from factory.mixing.trials import check_enough, objectives_of, pending

Array = npt.NDArray[np.float64]
Base = Literal["natural", "uniform", "unimax"]


class Fixed(Config):
    """`mixtures` by name, as shares of domains; the `baselines`, among them the `base`, are trained with them."""

    mixtures: Mapping[str, Mapping[str, float]] = Field(min_length=1, max_length=10_000)
    seeds: int = Field(default=2, ge=2, le=100)
    baselines: tuple[Base, ...] = ("natural",)
    base: Base = "natural"
    margin: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    tolerance: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    min_valid: float = Field(default=0.9, gt=0, le=1)

    @field_validator("mixtures")
    @classmethod
    def _are_shares(cls, mixtures: Mapping[str, Mapping[str, float]]) -> Mapping[str, Mapping[str, float]]:
        for name, shares in mixtures.items():
            total = sum(shares.values())
            if not all(0 <= share <= 1 for share in shares.values()) or abs(total - 1) > 1e-6:
                raise ValueError(f"shares must be at least 0 and sum to 1; those of '{name}' sum to {total:.7g}")
        taken = sorted(set(mixtures) & {"natural", "uniform", "unimax"})
        if taken:
            raise ValueError(
                f"'{taken[0]}' is a baseline's name; list it under baselines, or name the mixture otherwise"
            )
        return mixtures


@dataclass(frozen=True)
class FixedSearch:
    config: Fixed

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        return pending(self._proposals(problem), trials)

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        failed = check_enough(problem, self._proposals(problem), trials, self.config.min_valid)
        mixtures, caps = self._mixtures(problem), caps_of(problem)
        by_name = {trial.proposal.name: trial for trial in trials}
        arms = []
        for name, shares in mixtures.items():
            tried = [f"{name}-{seed}" for seed in range(self.config.seeds)]
            found = [objectives_of(problem, by_name[key]) for key in tried if key in by_name]
            good = [values for values in found if values is not None]
            if good:
                arms.append(Arm(name, np.array(good), is_within(shares, caps)))
        margin, tolerance = self.config.margin, self.config.tolerance
        adoption = adopt(arms, self.config.base, problem.objectives, margin=margin, tolerance=tolerance)
        taken = next((arm for arm in arms if arm.name == adoption.name), None)
        warnings = (
            [] if not failed else [f"{len(failed)} trials broke down and were left out: {', '.join(failed[:5])}."]
        )
        if adoption.gain == 0:
            warnings.append(f"The base stands: {adoption.reason}.")
        elif adoption.name != self.config.base:
            warnings.append(
                f"'{adoption.name}' was picked by the trainings that measured it, so its gain of {adoption.gain:.4g} over "
                f"{self.config.base} and what is predicted of it are optimistic; drawn towards the other mixtures the gain is "
                f"{adoption.shrunk_gain:.4g}. Train both with other seeds to know."
            )
        return Finding(
            weights=named(problem.names, rounded(mixtures[adoption.name], caps)),
            candidates={name: named(problem.names, rounded_within(shares, caps)) for name, shares in mixtures.items()},
            predicted=_measured(problem, taken, arms) if taken is not None else {},
            notes={
                "taken": adoption.name,
                "reason": adoption.reason,
                "base": self.config.base,
                "gain_over_base": adoption.gain,
                "shrunk_gain_over_base": adoption.shrunk_gain,
                "fresh_trainings": False,  # those that picked it measured it
                "seed_noise": adoption.noise,
                "seed_noise_degrees": adoption.degrees,
                "confirmed": [dict(row) for row in adoption.rows],
                "trials_failed": list(failed),
            },
            warnings=tuple(warnings),
        )

    def _mixtures(self, problem: Problem) -> dict[str, Array]:
        names: list[str] = [self.config.base, *self.config.baselines]
        found = {name: baseline(problem, name) for name in dict.fromkeys(names)}
        for name, shares in self.config.mixtures.items():
            unknown = sorted(set(shares) - set(problem.names))
            if unknown:
                raise FactoryError(
                    f"search: mixture '{name}' names '{unknown[0]}', which is no domain.{suggest(unknown[0], problem.names)}"
                )
            found[name] = vector(problem.names, shares)
        return found

    def _proposals(self, problem: Problem) -> list[Proposal]:
        roles = {"natural", "uniform", "unimax"}
        return [
            Proposal(
                f"{name}-{seed}",
                named(problem.names, shares),
                seed=seed,
                role="baseline" if name in roles else "probe",
            )
            for name, shares in self._mixtures(problem).items()
            for seed in range(self.config.seeds)
        ]


def _measured(problem: Problem, arm: Arm, arms: Sequence[Arm]) -> dict[str, tuple[float, float, float]]:
    """What was measured of the mixture that is taken, with the interval of its mean over seeds."""
    found = {}
    for place, metric in enumerate(problem.objectives):
        noise, degrees = pooled_noise([other.values[:, place] for other in arms])
        value = float(arm.values[:, place].mean())
        width = half_width(noise, degrees, len(arm.values) ** -0.5)
        if degrees:
            found[metric] = (value, value - width, value + width)
    return found


@register("fixed", version=1, config=Fixed)
def fixed(config: Fixed) -> Searcher:
    return FixedSearch(config)
