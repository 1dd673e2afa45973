"""DoReMi: more of the domains where a small model is worse than a reference model of its size (2305.10429).

A reference is trained on the base's mixture; a second model's losses are weighed, and the weights moved at every step (see
`factory.mixing.doremi`). With more `rounds`, what was found is the mixture of the next reference, until shares move less than
`settled`. The finding is the average of the weights, where it holds when trained on anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from factory.core.registry import register
from factory.core.search import Finding, Online, Problem, Proposal, Searcher, Trial
from factory.mixing.baselines import baseline
from factory.mixing.caps import named, rounded, vector
from factory.mixing.doremi import DoReMiSettings
from factory.mixing.simplex import largest_change
from factory.mixing.trials import pending
from factory.stages.searchers.changing import Confirmed, arm_proposals, conclude, found_by


class DoReMi(DoReMiSettings, Confirmed):
    """The settings of the method, how often it is repeated, and of the trainings that confirm what it found."""

    rounds: int = Field(1, ge=1, le=20)
    settled: float = Field(1e-3, gt=0)


@dataclass(frozen=True)
class DoReMiSearch:
    config: DoReMi

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        shares = named(problem.names, rounded(baseline(problem, self.config.base)))
        role = "base" if self.config.reference else "baseline"
        if open_ := pending(arm_proposals(problem, self.config, {}, role=role), trials):
            return open_
        for number in range(self.config.rounds):
            # The weighed model is compared with its reference, so that has to be there first.
            for proposal in self._round(problem, number, shares):
                if pending([proposal], trials):
                    return [proposal]
            found = found_by(trials, f"online-{number}")
            if found is None:
                return []
            change = largest_change(vector(problem.names, shares), vector(problem.names, found))
            if change < self.config.settled or number + 1 == self.config.rounds:
                return pending(arm_proposals(problem, self.config, {"found": found}), trials)
            shares = named(problem.names, rounded(vector(problem.names, found)))
        return []

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        runs = sorted(
            (trial.proposal.name for trial in trials if trial.proposal.role == "online"),
            key=lambda name: int(name.rpartition("-")[2]),
        )
        last = runs[-1] if runs else "online-0"
        return conclude(problem, self.config, trials, "doremi", last, {"rounds": len(runs)})

    def _round(self, problem: Problem, number: int, shares: dict[str, float]) -> list[Proposal]:
        settings = self.config.model_dump(mode="json", include=set(DoReMiSettings.model_fields))
        # The base has been trained on the first round's shares: its first model is their reference.
        reference = f"reference-{number}" if number else f"{self.config.base}-0"
        run = Proposal(
            f"online-{number}",
            shares,
            role="online",
            init=reference if self.config.reference else None,
            online=Online("doremi", settings),
        )
        return [Proposal(reference, shares, role="base"), run] if number and self.config.reference else [run]


@register("doremi", version=1, config=DoReMi)
def doremi(config: DoReMi) -> Searcher:
    return DoReMiSearch(config)
