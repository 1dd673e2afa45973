"""Ablations by merging: one expert for each domain, and averages of their parameters instead of trainings on unions (2410.15661).

All experts go on from one seed model for equal budgets, so that the cost grows with the domains and not with their subsets. An
average is worse than a model trained on the union, but the order of unions is nearly the same: some unions are trained, and
the finding says how well the orders agree. The best unions are then trained from the beginning and judged as any other mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.search import Finding, Merge, Problem, Proposal, Searcher, Trial
from factory.mixing.baselines import caps_of
from factory.mixing.caps import named, rounded, rounded_within
from factory.mixing.merging import agreement, unions
from factory.mixing.trials import objectives_of, pending
from factory.stages.searchers.changing import Confirmed, arm_proposals, judged, measured, told

SEED_MODEL = "seed"
LEAST_AGREEMENT = 0.8


class MergeAblation(Confirmed):
    """`expert_tokens` train each expert, `seed_tokens` the seed model (both the trial's budget where not given).

    Unions have `smallest` to `largest` domains, at most `limit` of them; models weigh by the `size` of their domain or
    equally. `checks` unions are trained from the seed model, `confirm` of the best from the beginning. `control` merges
    experts that were initialised independently, which must fail.
    """

    expert_tokens: int | None = Field(None, ge=1)
    seed_tokens: int | None = Field(None, ge=1)
    smallest: int = Field(1, ge=1)
    largest: int | None = Field(None, ge=1)
    limit: int = Field(200, ge=2, le=10_000)
    by: Literal["size", "equal"] = "size"
    checks: int = Field(6, ge=3, le=1000)
    confirm: int = Field(1, ge=1, le=20)
    control: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> "MergeAblation":
        if self.largest is not None and self.largest < self.smallest:
            raise ValueError(f"unions of {self.smallest} to {self.largest} domains: there are none")
        return self


@dataclass(frozen=True)
class MergeAblationSearch:
    config: MergeAblation

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        seed = Proposal(SEED_MODEL, self._shares(problem, problem.names), role="base", tokens=self.config.seed_tokens)
        rounds = [[seed, *arm_proposals(problem, self.config, {})], self._experts(problem), self._merges(problem)]
        for planned in rounds:
            if open_ := pending(planned, trials):
                return open_
        ranked = self._ranked(problem, trials)
        if open_ := pending(self._checks(problem, ranked), trials):
            return open_
        found = {f"found-{place}": self._shares(problem, union) for place, (union, _) in enumerate(self._best(ranked))}
        return pending(arm_proposals(problem, self.config, found), trials)

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        ranked = self._ranked(problem, trials)
        by_name = {trial.proposal.name: trial for trial in trials}
        checked = []
        for union, predicted in ranked:
            trial = by_name.get(_name("check", union))
            values = objectives_of(problem, trial) if trial is not None else None
            if values is not None:
                checked.append((predicted, float(np.mean(values))))
        found = agreement([one for one, _ in checked], [other for _, other in checked])
        best = self._best(ranked)
        adoption, arms, mixtures = judged(
            problem, self.config, trials, [f"found-{place}" for place in range(len(best))]
        )
        warnings = []
        if (found["spearman"] or 0.0) < LEAST_AGREEMENT:
            warnings.append(
                f"Merged models order unions as trained ones do with Spearman {found['spearman']} over {len(checked)} checks: "
                "train experts shorter or at a lower rate, and check more unions, before believing the table."
            )
        if adoption.gain == 0:
            warnings.append(f"The base stands: {adoption.reason}.")
        controls = {}
        if self.config.control:
            merged = by_name.get("strangers-merged")
            alone = [by_name[name] for name in by_name if name.startswith("stranger-")]
            scores = [values for trial in alone if (values := objectives_of(problem, trial)) is not None]
            value = objectives_of(problem, merged) if merged is not None else None
            controls = {
                "strangers_merged": float(np.mean(value)) if value else None,
                "strangers_alone": float(np.mean(scores)) if scores else None,
            }
        return Finding(
            weights=named(problem.names, rounded(mixtures[adoption.name], caps_of(problem))),
            candidates={
                **{
                    name: named(problem.names, rounded_within(shares, caps_of(problem)))
                    for name, shares in mixtures.items()
                },
                **{f"predicted {place}": self._shares(problem, union) for place, (union, _) in enumerate(best)},
            },
            predicted=measured(problem, arms, adoption.name),
            effects=self._effects(problem, trials, ranked),
            notes={
                **told(adoption, self.config.base),
                "unions": [{"domains": list(union), "merged": score} for union, score in ranked],
                "checked": len(checked),
                **found,
                **controls,
            },
            warnings=tuple(warnings),
        )

    def _experts(self, problem: Problem) -> list[Proposal]:
        budget = self.config.expert_tokens
        experts = [
            Proposal(_name("expert", (name,)), {name: 1.0}, role="expert", tokens=budget, init=SEED_MODEL)
            for name in problem.names
        ]
        if not self.config.control:
            return experts
        # Seeds no other trial has, or the strangers would share their initial weights.
        return experts + [
            Proposal(f"stranger-{name}", {name: 1.0}, seed=1000 + place, role="expert", tokens=budget)
            for place, name in enumerate(problem.names)
        ]

    def _merges(self, problem: Problem) -> list[Proposal]:
        merges = []
        for union in self._unions(problem):
            shares = self._shares(problem, union)
            of = Merge(tuple(_name("expert", (name,)) for name in union), tuple(shares[name] for name in union))
            merges.append(Proposal(_name("merge", union), shares, role="merge", merge=of))
        if self.config.control:
            shares = self._shares(problem, problem.names)
            of = Merge(tuple(f"stranger-{name}" for name in shares), tuple(shares.values()))
            merges.append(Proposal("strangers-merged", shares, role="merge", merge=of))
        return merges

    def _checks(self, problem: Problem, ranked: Sequence[tuple[tuple[str, ...], float]]) -> list[Proposal]:
        """Unions from the best to the worst predicted, evenly over the order; single domains are experts already."""
        several = [union for union, _ in ranked if len(union) > 1]
        places = np.unique(np.linspace(0, len(several) - 1, min(self.config.checks, len(several))).round().astype(int))
        return [
            Proposal(
                _name("check", several[place]),
                self._shares(problem, several[place]),
                role="confirm",
                tokens=self.config.expert_tokens,
                init=SEED_MODEL,
            )
            for place in places.tolist()
        ]

    def _unions(self, problem: Problem) -> list[tuple[str, ...]]:
        count = len(problem.names)
        largest = min(self.config.largest or count, count)
        return unions(
            problem.names, (min(self.config.smallest, largest), largest), limit=self.config.limit, seed=problem.seed
        )

    def _ranked(self, problem: Problem, trials: Sequence[Trial]) -> list[tuple[tuple[str, ...], float]]:
        """Unions with the mean of the merged model's objectives, best first."""
        by_name = {trial.proposal.name: trial for trial in trials}
        found = []
        for union in self._unions(problem):
            trial = by_name.get(_name("merge", union))
            values = objectives_of(problem, trial) if trial is not None else None
            if values is not None:
                found.append((union, float(np.mean(values))))
        if len(found) < 2:
            raise FactoryError(
                f"merge_ablation: {len(found)} merged models were measured, at least two are needed. Run the search again; where "
                "experts break down, look at their proxies."
            )
        return sorted(found, key=lambda item: (item[1], item[0]))

    def _best(self, ranked: Sequence[tuple[tuple[str, ...], float]]) -> Sequence[tuple[tuple[str, ...], float]]:
        return ranked[: self.config.confirm]

    def _shares(self, problem: Problem, union: Sequence[str]) -> dict[str, float]:
        sizes = {domain.name: float(domain.tokens) for domain in problem.domains if domain.name in union}
        weights = np.array([sizes[name] if self.config.by == "size" else 1.0 for name in union])
        return named(union, rounded(weights / weights.sum()))

    def _effects(
        self, problem: Problem, trials: Sequence[Trial], ranked: Sequence[tuple[tuple[str, ...], float]]
    ) -> dict[str, dict[str, float]]:
        """How much worse (above 0) or better merged models with a domain are than those without it, on average."""
        by_name = {trial.proposal.name: trial for trial in trials}
        values = {union: objectives_of(problem, by_name[_name("merge", union)]) for union, _ in ranked}
        effects = {}
        for name in problem.names:
            inside = [row for union, row in values.items() if row is not None and name in union]
            outside = [row for union, row in values.items() if row is not None and name not in union]
            if inside and outside:
                change = np.mean(inside, axis=0) - np.mean(outside, axis=0)
                effects[name] = dict(zip(problem.objectives, change.tolist(), strict=True))
        return effects


def _name(what: str, union: Sequence[str]) -> str:
    """`a` with `b` and a domain called `a+b` are two unions, and have two names."""
    escaped = (name.replace("%", "%25").replace("+", "%2B") for name in union)
    return f"{what}-{'+'.join(escaped)}"


@register("merge_ablation", version=1, config=MergeAblation)
def merge_ablation(config: MergeAblation) -> Searcher:
    return MergeAblationSearch(config)
