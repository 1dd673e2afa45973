"""Trials of a search as arrays: what was measured, what broke down, and whether enough is left to conclude anything.

Rows are sorted by the trials' names: the order in which trainings happened to end makes no difference.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.search import Problem, Proposal, Trial
from factory.mixing.caps import vector

Array = npt.NDArray[np.float64]

FEWEST = 4  # measured mixtures to fit anything to


@dataclass(frozen=True, eq=False)
class Rows:
    """Measured mixtures: `mixtures` has a column for each domain, `values` one for each objective."""

    names: tuple[str, ...]
    mixtures: Array
    values: Array

    def __len__(self) -> int:
        return len(self.names)

    @property
    def scores(self) -> Array:
        return np.asarray(self.values.mean(axis=1), dtype=np.float64)

    def where(self, kept: Sequence[bool] | npt.NDArray[np.bool_]) -> "Rows":
        chosen = np.asarray(kept, dtype=bool)
        names = tuple(name for name, keep in zip(self.names, chosen, strict=True) if keep)
        return Rows(names, self.mixtures[chosen], self.values[chosen])


def objectives_of(problem: Problem, trial: Trial) -> list[float] | None:
    """The objectives of a trial, or None where it broke down or one of them is missing."""
    values = [trial.metrics.get(metric, math.nan) for metric in problem.objectives]
    return values if trial.valid and all(math.isfinite(value) for value in values) else None


def rows_of(problem: Problem, trials: Sequence[Trial], wanted: Callable[[Proposal], bool] = lambda _: True) -> Rows:
    """The valid trials whose proposals are wanted."""
    found = []
    for trial in sorted(trials, key=lambda trial: trial.proposal.name):
        values = objectives_of(problem, trial) if wanted(trial.proposal) else None
        if values is not None:
            found.append((trial.proposal.name, vector(problem.names, trial.proposal.weights), values))
    shape = (0, len(problem.names)), (0, len(problem.objectives))
    return Rows(
        tuple(name for name, _, _ in found),
        np.array([shares for _, shares, _ in found]) if found else np.empty(shape[0]),
        np.array([values for _, _, values in found]) if found else np.empty(shape[1]),
    )


def pending(proposals: Iterable[Proposal], trials: Sequence[Trial]) -> list[Proposal]:
    """Proposals that have no trial yet."""
    done = {trial.proposal.name for trial in trials}
    return [proposal for proposal in proposals if proposal.name not in done]


def check_enough(
    problem: Problem, planned: Sequence[Proposal], trials: Sequence[Trial], share: float
) -> tuple[str, ...]:
    """Raise FactoryError where fewer than `share` of the planned trials can be used; otherwise say which cannot."""
    by_name = {trial.proposal.name: trial for trial in trials}
    good = [p.name for p in planned if p.name in by_name and objectives_of(problem, by_name[p.name]) is not None]
    missing = [proposal.name for proposal in planned if proposal.name not in by_name]
    failed = [p.name for p in planned if p.name in by_name and p.name not in good]
    if len(good) < max(share * len(planned), min(FEWEST, len(planned))):
        reasons = sorted({by_name[name].reason or "an objective is missing" for name in failed})
        raise FactoryError(
            f"search: {len(good)} of {len(planned)} trials can be used, at least {share:.0%} are needed; {len(missing)} were not "
            f"trained, {len(failed)} broke down{': ' + '; '.join(reasons[:3]) if reasons else ''}. "
            "Run the search again to train what is missing; where trials break down, look at their proxies."
        )
    return tuple(failed)


def distinct_labels(values: Sequence[float], digits: int, kind: Literal["f", "g"]) -> list[str]:
    """Numbers as text with as many digits as tell them apart, at least `digits`: two trials never share a name."""
    for places in range(digits, 18):
        labels = [f"{value:.{places}{kind}}" for value in values]
        if len(set(labels)) == len(set(values)):
            return labels
    return [repr(value) for value in values]
