"""Leave one domain out: what each adds to a mixture, by trainings of the same size without it (2305.13169).

m + 1 plans of `seeds` trainings each: the base, and the base without each domain, its tokens refilled from the others in
proportion. What comes out is domain x metric, with intervals. It says whether a domain's *present share* is too high, not
whether the domain is useful: one with far too large a share helps when it goes. `add_share` therefore adds plans that give a
small share more to each domain, and is to be read beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.noise import pooled_noise
from factory.core.registry import register
from factory.core.search import Finding, Problem, Proposal, Searcher, Trial
from factory.mixing.baselines import baseline, caps_of
from factory.mixing.caps import moved, named, rounded_within, vector, without
from factory.mixing.guards import half_width
from factory.mixing.trials import check_enough, objectives_of, pending

Array = npt.NDArray[np.float64]
Kind = Literal["without", "with more"]

BASE = "base"


class LeaveOneOut(Config):
    """`base` is a baseline's name, or shares; `domains` are those to judge (none named: all)."""

    base: Literal["natural", "uniform", "unimax"] | dict[str, float] = "natural"
    domains: tuple[str, ...] = ()
    seeds: int = Field(default=3, ge=2, le=100)
    add_share: float | None = Field(default=None, gt=0, lt=1)
    min_valid: float = Field(default=0.9, gt=0, le=1)


@dataclass(frozen=True)
class Plan:
    name: str
    shares: Array
    domain: str | None = None
    kind: Kind = "without"


@dataclass(frozen=True)
class LeaveOneOutSearch:
    config: LeaveOneOut

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        return pending(self._proposals(problem), trials)

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        failed = check_enough(problem, self._proposals(problem), trials, self.config.min_valid)
        plans = self._plans(problem)
        values = {plan.name: self._values(problem, plan, trials) for plan in plans}
        if not len(values[BASE]):
            raise FactoryError("search: no training of the base is valid, so there is nothing to compare with.")
        rows = _compare(problem, plans, values)
        caps = caps_of(problem)
        removed = [row for row in rows if row["kind"] == "without"]
        warnings = (
            [] if not failed else [f"{len(failed)} trials broke down and were left out: {', '.join(failed[:5])}."]
        )
        if self.config.add_share is None:
            warnings.append(
                "Leaving a domain out says whether its present share is too high, not whether it is useful; set add_share to see "
                "what a little more of each does."
            )
        return Finding(
            weights=named(problem.names, rounded_within(plans[0].shares, caps)),
            candidates={plan.name: named(problem.names, rounded_within(plan.shares, caps)) for plan in plans},
            effects={
                name: {row["metric"]: row["change"] for row in removed if row["domain"] == name}
                for name in problem.names
                if any(row["domain"] == name for row in removed)
            },
            notes={"changes": rows, "trials_failed": list(failed), "seeds": self.config.seeds},
            warnings=tuple(warnings),
        )

    def _plans(self, problem: Problem) -> list[Plan]:
        base = _base(problem, self.config.base)
        unknown = sorted(set(self.config.domains) - set(problem.names))
        if unknown:
            raise FactoryError(f"search: no domain is named '{unknown[0]}'.{suggest(unknown[0], problem.names)}")
        wanted = [name for name in problem.names if not self.config.domains or name in self.config.domains]
        places = {name: problem.names.index(name) for name in wanted}
        plans = [Plan(BASE, base)]
        plans += [
            Plan(f"without-{name}", without(base, place), name) for name, place in places.items() if base[place] > 0
        ]
        if self.config.add_share is not None:
            share = self.config.add_share
            plans += [
                Plan(f"more-{name}", moved(base, place, share), name, "with more") for name, place in places.items()
            ]
        return plans

    def _proposals(self, problem: Problem) -> list[Proposal]:
        return [
            Proposal(f"{plan.name}-{seed}", named(problem.names, plan.shares), seed=seed, role="probe")
            for plan in self._plans(problem)
            for seed in range(self.config.seeds)
        ]

    def _values(self, problem: Problem, plan: Plan, trials: Sequence[Trial]) -> Array:
        by_name = {trial.proposal.name: trial for trial in trials}
        names = [f"{plan.name}-{seed}" for seed in range(self.config.seeds)]
        found = [objectives_of(problem, by_name[name]) for name in names if name in by_name]
        good = [values for values in found if values is not None]
        return np.array(good) if good else np.empty((0, len(problem.objectives)))


def _base(problem: Problem, base: str | dict[str, float]) -> Array:
    if isinstance(base, str):
        return baseline(problem, base)
    unknown = sorted(set(base) - set(problem.names))
    if unknown:
        raise FactoryError(f"search: no domain is named '{unknown[0]}'.{suggest(unknown[0], problem.names)}")
    shares = vector(problem.names, base)
    if not ((shares >= 0).all() and abs(shares.sum() - 1) <= 1e-6):
        raise FactoryError(
            f"search: the base's shares must be at least 0 and sum to 1; these sum to {shares.sum():.7g}."
        )
    return shares


def _compare(problem: Problem, plans: Sequence[Plan], values: dict[str, Array]) -> list[dict[str, Any]]:
    """Change of each metric against the base; below 0 is better than the base. The noise is pooled over all plans."""
    rows = []
    start = values[BASE]
    for place, metric in enumerate(problem.objectives):
        noise, degrees = pooled_noise([value[:, place] for value in values.values()])
        for plan in plans[1:]:
            own = values[plan.name]
            if not len(own):
                continue
            change = float(own[:, place].mean() - start[:, place].mean())
            width = half_width(noise, degrees, math.sqrt(1 / len(own) + 1 / len(start)))
            rows.append(
                {
                    "domain": plan.domain,
                    "kind": plan.kind,
                    "metric": metric,
                    "change": change,
                    "low": change - width if degrees else None,
                    "high": change + width if degrees else None,
                    "in_seed_deviations": change / noise if noise > 0 else None,
                }
            )
    return rows


@register("leave_one_out", version=1, config=LeaveOneOut)
def leave_one_out(config: LeaveOneOut) -> Searcher:
    return LeaveOneOutSearch(config)
