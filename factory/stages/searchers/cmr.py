"""Critical Mixture Ratio: how much of a new domain continual pretraining stands before it forgets (2407.17467).

A base model goes on with several ratios of the domain and several budgets; what the general loss has risen by decides. The
finding is the largest ratio within the tolerance at the full budget, with its interval, and the law by which it grows. Every
budget is a training with a schedule of its own: losses on the way through one run's schedule would compare rates, not data.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.noise import pooled_noise
from factory.core.registry import register
from factory.core.search import Finding, Problem, Proposal, Searcher, Trial
from factory.mixing.caps import named, rounded
from factory.mixing.cmr import Critical, critical_law
from factory.mixing.guards import half_width
from factory.mixing.trials import distinct_labels, pending

Array = npt.NDArray[np.float64]
BASE = "base"


class Cmr(Config):
    """`domain` is new; all others are general, in their natural shares. `general` and `special` are metrics: what must not
    rise by more than `tolerance` (in the metric's unit), and what the domain is for (the first and second objective where not
    given). `budgets` are shares of a trial's tokens. A base model is trained on the general domains with `base_tokens`; where
    the recipe's proxies go on from a checkpoint, `start` gives its metrics instead.
    """

    domain: str
    ratios: tuple[float, ...] = (0.125, 0.25, 1 / 3, 0.5, 2 / 3)
    budgets: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    tolerance: float = Field(0.05, gt=0, allow_inf_nan=False)
    general: str | None = None
    special: str | None = None
    base_tokens: int | None = Field(None, ge=1)
    start: dict[str, float] | None = None
    seeds: int = Field(2, ge=1, le=100)

    @field_validator("ratios", "budgets")
    @classmethod
    def _rise(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or list(values) != sorted(set(values)) or not 0 < values[0] <= values[-1] <= 1:
            raise ValueError("rising numbers above 0 and up to 1 are meant")
        return values

    @field_validator("ratios")
    @classmethod
    def _are_several(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) < 2:
            raise ValueError("at least two ratios are needed: the critical one lies between two")
        return values


@dataclass(frozen=True)
class CmrSearch:
    config: Cmr

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        self._check(problem)
        if self.config.start is None:
            base = Proposal(BASE, self._shares(problem, 0.0), role="base", tokens=self.config.base_tokens)
            if open_ := pending([base], trials):
                return open_
            if not next(trial for trial in trials if trial.proposal.name == BASE).valid:
                return []
        return pending(self._grid(problem), trials)

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        general, special = self._metrics(problem)
        table, noise, degrees = self._table(problem, trials, general)
        budgets = [share * problem.trial_tokens for share in self.config.budgets]
        changes = table - self._start(trials, general)
        found = critical_law(
            budgets,
            self.config.ratios,
            changes,
            self.config.tolerance,
            noise=noise if degrees else 0.0,
            seed=problem.seed,
        )
        share = 0.0 if found.at_most is None else found.at_most
        labels = distinct_labels(self.config.ratios, 4, "g")
        candidates = {
            f"ratio {label}": self._shares(problem, ratio)
            for label, ratio in zip(labels, self.config.ratios, strict=True)
        }
        predicted = {}
        if found.at_most is not None:
            value = float(np.interp(share, self.config.ratios, table[-1]))
            if degrees:
                width = half_width(noise, degrees, 1.0)  # the noise is that of a mean over seeds
                predicted[general] = (value, value - width, value + width)
        return Finding(
            weights=self._shares(problem, share),
            candidates=candidates,
            predicted=predicted,
            intervals={self.config.domain: found.interval} if found.interval is not None else {},
            notes=self._notes(problem, trials, found, changes, special, noise if degrees else None),
            warnings=self._warnings(found, changes, noise if degrees else None),
        )

    def _check(self, problem: Problem) -> None:
        if self.config.domain not in problem.names:
            raise FactoryError(
                f"cmr: no domain is named '{self.config.domain}'.{suggest(self.config.domain, problem.names)}"
            )
        general, special = self._metrics(problem)
        known = {objective.partition("/")[0] for objective in problem.objectives}
        for metric in (general, special):
            if metric is not None and metric.partition("/")[0] not in known:
                raise FactoryError(
                    f"cmr: '{metric}' is of no task that the trials are asked. Add it to the search's objectives, or name one "
                    f"of {', '.join(problem.objectives)}."
                )
        if self.config.start is not None and general not in self.config.start:
            raise FactoryError(
                f"cmr: start has no '{general}', which is what must not rise. It has {sorted(self.config.start)}."
            )

    def _metrics(self, problem: Problem) -> tuple[str, str | None]:
        rest = [metric for metric in problem.objectives if metric != self.config.general]
        general = self.config.general or problem.objectives[0]
        others = [metric for metric in rest if metric != general]
        return general, self.config.special or (others[0] if others else None)

    def _grid(self, problem: Problem) -> list[Proposal]:
        return [
            Proposal(
                self._name(budget, ratio, seed),
                self._shares(problem, ratio),
                seed=seed,
                role="probe",
                tokens=round(budget * problem.trial_tokens),
                init=BASE if self.config.start is None else None,
            )
            for budget in self.config.budgets
            for ratio in self.config.ratios
            for seed in range(self.config.seeds)
        ]

    def _table(self, problem: Problem, trials: Sequence[Trial], metric: str) -> tuple[Array, float, int]:
        """A row for each budget and a column for each ratio, averaged over seeds; noise of such a mean, and its degrees."""
        by_name = {trial.proposal.name: trial for trial in trials}
        groups, missing = [], []
        for budget in self.config.budgets:
            for ratio in self.config.ratios:
                own = [by_name.get(self._name(budget, ratio, seed)) for seed in range(self.config.seeds)]
                values = [trial.metrics[metric] for trial in own if trial and trial.valid and metric in trial.metrics]
                groups.append(np.array(values))
                if not values:
                    missing.append(f"ratio {ratio:.4g} at {budget:.4g}")
        if missing:
            raise FactoryError(
                f"cmr: '{metric}' was not measured for {', '.join(missing[:3])} ({len(missing)} of {len(groups)}). Run the "
                "search again; where trials break down, look at their proxies."
            )
        deviation, degrees = pooled_noise(groups)
        means = np.array([group.mean() for group in groups])
        noise = deviation / self.config.seeds**0.5
        return means.reshape(len(self.config.budgets), -1), noise, degrees

    def _start(self, trials: Sequence[Trial], metric: str) -> float:
        if self.config.start is not None:
            return self.config.start[metric]
        base = next((trial for trial in trials if trial.proposal.name == BASE), None)
        if base is None or not base.valid or metric not in base.metrics:
            raise FactoryError(f"cmr: the base model has no '{metric}'. Run the search again, or look at its proxy.")
        return base.metrics[metric]

    def _name(self, budget: float, ratio: float, seed: int) -> str:
        of_ratio, of_budget = (
            distinct_labels(values, 4, "f")[values.index(value)]
            for values, value in ((self.config.ratios, ratio), (self.config.budgets, budget))
        )
        return f"ratio-{of_ratio}-at-{of_budget}-{seed}"

    def _shares(self, problem: Problem, ratio: float) -> dict[str, float]:
        general = {name: share for name, share in problem.natural.items() if name != self.config.domain}
        total = sum(general.values())
        shares = {name: (1 - ratio) * share / total for name, share in general.items()} | {self.config.domain: ratio}
        return named(problem.names, rounded(np.array([shares[name] for name in problem.names])))

    def _notes(
        self,
        problem: Problem,
        trials: Sequence[Trial],
        found: Critical,
        changes: Array,
        special: str | None,
        noise: float | None,
    ) -> dict[str, Any]:
        gains = None
        # Without a start there is nothing to tell the change from.
        if special is not None and (self.config.start is None or special in self.config.start):
            gains = (self._table(problem, trials, special)[0] - self._start(trials, special)).tolist()
        return {
            "ratio": found.at_most,
            "tolerance": self.config.tolerance,
            "budgets": list(found.budgets),
            "ratios": list(self.config.ratios),
            "critical_ratios": list(found.ratios),
            "law": asdict(found.law) if found.law is not None else None,
            "general_change": changes.tolist(),
            "special_change": gains,
            "general_is_falling": list(found.falling) if found.falling is not None else None,
            "noise": noise,
        }

    def _warnings(self, found: Critical, changes: Array, noise: float | None) -> tuple[str, ...]:
        warnings = []
        if found.at_most is None:
            warnings.append(
                f"Even a share of {self.config.ratios[0]:.4g} raises the general loss by {changes[-1][0]:.4g}, and "
                f"{self.config.tolerance:g} is tolerated: lower the ratios, or replay more. No share is recommended."
            )
        elif bool((changes[-1] <= self.config.tolerance).all()):
            warnings.append(
                f"No ratio is too much: the critical one lies above {self.config.ratios[-1]:.4g}. Add larger ratios."
            )
        if noise is None:
            warnings.append("Every run has one seed, so the ratio has no interval.")
        return tuple(warnings)


@register("cmr", version=1, config=Cmr, packages=lambda config: ("scipy",))
def cmr(config: Cmr) -> Searcher:
    return CmrSearch(config)
