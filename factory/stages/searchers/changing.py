"""What searches with shares that change during one training have in common: a base, the run, and trainings on what it found.

A method's shares are what one run happened to pass through. They are therefore trained on from the beginning, as every other
candidate is, and taken only where they beat the base by more than seed noise (see `factory.mixing.guards`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.noise import pooled_noise
from factory.core.search import Finding, Online, Problem, Proposal, Trial
from factory.mixing.baselines import baseline, caps_of
from factory.mixing.caps import is_within, named, rounded, rounded_within, under_caps, vector
from factory.mixing.guards import Adoption, Arm, adopt, half_width
from factory.mixing.trials import objectives_of, pending

Array = npt.NDArray[np.float64]
ONLINE = "online"


class Confirmed(Config):
    """Base and found mixture are trained with `seeds` seeds; the found one is taken where it is better by `margin` standard
    deviations between seeds, and no objective worse than the base's by more than `tolerance` of them.
    """

    seeds: int = Field(2, ge=2, le=100)
    base: Literal["natural", "uniform", "unimax"] = "natural"
    margin: float = Field(2.0, ge=0, allow_inf_nan=False)
    tolerance: float = Field(1.0, ge=0, allow_inf_nan=False)


@dataclass(frozen=True)
class ChangingSearch:
    """One online run by `method`, which begins at the base's shares; `references` are trials it needs first."""

    config: Confirmed
    method: str
    settings: Mapping[str, Any]
    check: Callable[[Problem], None] = lambda problem: None

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        self.check(problem)
        first = [*arm_proposals(problem, self.config, {}), self._run(problem)]
        open_ = pending(first, trials)
        if open_:
            return open_
        found = found_by(trials, ONLINE)
        return [] if found is None else pending(arm_proposals(problem, self.config, {"found": found}), trials)

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        return conclude(problem, self.config, trials, self.method, ONLINE)

    def _run(self, problem: Problem) -> Proposal:
        shares = named(problem.names, rounded(baseline(problem, self.config.base)))
        return Proposal(ONLINE, shares, role="online", online=Online(self.method, self.settings))


def found_by(trials: Sequence[Trial], name: str) -> dict[str, float] | None:
    """The shares a run found; None where it broke down. FactoryError where there is no such run."""
    run = next((trial for trial in trials if trial.proposal.name == name), None)
    if run is None:
        raise FactoryError(f"search: the run '{name}' was not trained. Run the search again.")
    return {key: float(share) for key, share in run.record["weights"].items()} if run.valid else None


def arm_proposals(
    problem: Problem, config: Confirmed, found: Mapping[str, Mapping[str, float]], *, role: str = "baseline"
) -> list[Proposal]:
    """The trainings that decide: those of the base and of mixtures that were found, within the bounds on repetition.

    `role` is the base's: `base` keeps its models for what goes on from them.
    """
    arms: dict[str, tuple[str, Array]] = {config.base: (role, baseline(problem, config.base))}
    for name, weights in found.items():
        arms[name] = ("confirm", under_caps(vector(problem.names, weights), caps_of(problem)))
    return [
        Proposal(f"{name}-{seed}", named(problem.names, rounded(shares, caps_of(problem))), seed=seed, role=what)
        for name, (what, shares) in arms.items()
        for seed in range(config.seeds)
    ]


def judged(
    problem: Problem, config: Confirmed, trials: Sequence[Trial], names: Sequence[str]
) -> tuple[Adoption, dict[str, Arm], dict[str, Array]]:
    """Which mixture is taken; the arms that were measured, and the shares of each."""
    by_name = {trial.proposal.name: trial for trial in trials}
    arms, mixtures = {}, {}
    for name in (config.base, *names):
        tried = [by_name[f"{name}-{seed}"] for seed in range(config.seeds) if f"{name}-{seed}" in by_name]
        values = [value for trial in tried if (value := objectives_of(problem, trial)) is not None]
        if values:
            mixtures[name] = vector(problem.names, tried[0].proposal.weights)
            arms[name] = Arm(name, np.array(values), is_within(mixtures[name], caps_of(problem)))
    mixtures.setdefault(config.base, baseline(problem, config.base))
    found = adopt(
        list(arms.values()), config.base, problem.objectives, margin=config.margin, tolerance=config.tolerance
    )
    return found, arms, mixtures


def conclude(
    problem: Problem,
    config: Confirmed,
    trials: Sequence[Trial],
    method: str,
    run: str,
    notes: Mapping[str, Any] | None = None,
) -> Finding:
    """The finding of an online search, from its run and the trainings that decide."""
    found = found_by(trials, run)
    adoption, arms, mixtures = judged(problem, config, trials, ["found"])
    record = next(trial for trial in trials if trial.proposal.name == run).record
    warnings = []
    if found is None:
        warnings.append(f"The {method} run broke down, so nothing was found; the base stands.")
    elif not is_within(vector(problem.names, found), caps_of(problem)):
        warnings.append("What was found repeats a domain beyond max_epochs; the nearest mixture within was trained.")
    if found is not None and adoption.gain == 0:
        warnings.append(f"The base stands: {adoption.reason}.")
    kept = ("weights_average", "weights_final", "take", "accounting", "domains")
    return Finding(
        weights=named(problem.names, rounded(mixtures[adoption.name], caps_of(problem))),
        candidates={
            **{
                name: named(problem.names, rounded_within(shares, caps_of(problem)))
                for name, shares in mixtures.items()
            },
            **({"unbounded": named(problem.names, rounded(vector(problem.names, found)))} if found else {}),
        },
        predicted=measured(problem, arms, adoption.name),
        notes={
            "method": method,
            **told(adoption, config.base),
            "run": {name: record[name] for name in kept if name in record},
            **(notes or {}),
        },
        warnings=tuple(warnings),
    )


def told(adoption: Adoption, base: str) -> dict[str, Any]:
    return {
        "taken": adoption.name,
        "reason": adoption.reason,
        "base": base,
        "gain_over_base": adoption.gain,
        "seed_noise": adoption.noise,
        "seed_noise_degrees": adoption.degrees,
        "confirmed": [dict(row) for row in adoption.rows],
    }


def measured(problem: Problem, arms: Mapping[str, Arm], taken: str) -> dict[str, tuple[float, float, float]]:
    """What was measured of the mixture that is taken, with the interval of its mean over seeds."""
    if taken not in arms:
        return {}
    predicted = {}
    for place, metric in enumerate(problem.objectives):
        values = arms[taken].values[:, place]
        noise, degrees = pooled_noise([arm.values[:, place] for arm in arms.values()])
        if degrees:
            width = half_width(noise, degrees, len(values) ** -0.5)
            predicted[metric] = (float(values.mean()), float(values.mean()) - width, float(values.mean()) + width)
    return predicted
