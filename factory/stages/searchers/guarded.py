"""A guarded search: mixtures are explored, a model fitted to them proposes some, and fresh trainings decide.

What a method has to say is which mixtures it explores, how it fits them and where it sees the optimum; everything that keeps
noise from being shipped is here and the same for all methods. Nothing is remembered: each call works out from its
arguments where the search stands.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.search import Finding, Problem, Proposal, Trial
from factory.core.seeds import seed_for
from factory.mixing import guards
from factory.mixing.baselines import baseline, baseline_proposals, caps_of
from factory.mixing.caps import is_within, named, rounded, under_caps, vector
from factory.mixing.guards import Adoption, Arm
from factory.mixing.regression import Fit, Mean, fit_each, held_out_rank, shuffled_rank
from factory.mixing.trials import Rows, check_enough, objectives_of, pending, rows_of

Array = npt.NDArray[np.float64]
Base = Literal["natural", "uniform", "unimax"]

SAME = 1e-6  # sum of absolute differences below which two mixtures are one
CONTROLS = 3  # shuffled fits; one alone would be a matter of luck


class Guarded(Config):
    """Settings of every guarded search.

    `single` names domains to train alone (`largest`, `all`). `confirm_seeds` fresh trainings of each candidate, among them the
    `confirm_top` best measured, decide; 0 leaves that out, and what is predicted is recommended unproven. Where the base breaks
    down in them, it stands. `margin` is in standard deviations of one training, `tolerance`
    the same for each objective. `bootstrap` refits give the intervals; with `prior_where_unsure` a domain whose interval
    spans its natural share gets it.
    """

    baselines: tuple[Base, ...] = ("natural", "uniform", "unimax")
    single: tuple[str, ...] = ("largest",)
    base: Base = "natural"
    confirm_seeds: int = Field(default=3, ge=0, le=100)
    confirm_top: int = Field(default=5, ge=0, le=100)
    margin: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    tolerance: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    bootstrap: int = Field(default=20, ge=2, le=1000)
    prior_where_unsure: bool = False
    min_valid: float = Field(default=0.9, gt=0, le=1)

    @field_validator("confirm_seeds")
    @classmethod
    def _shows_noise(cls, seeds: int) -> int:
        if seeds == 1:
            raise ValueError("one training shows no noise; give at least 2, or 0 for no confirmation")
        return seeds


@dataclass(frozen=True)
class Space:
    """The coordinates a search works in: the problem's domains, or fewer where some keep their ratios."""

    names: tuple[str, ...]
    prior: Array
    caps: Array
    expand: Callable[[Array], Array]
    collapse: Callable[[Array], Array]
    bounds: Callable[[Array], Array]  # bounds of the problem's domains as bounds of these coordinates

    def rows(self, rows: Rows) -> Rows:
        """Rows in these coordinates, without those that are not of this space (such as baselines, where ratios are frozen)."""
        if not len(rows):
            return Rows(rows.names, np.empty((0, len(self.names))), rows.values)
        inner = np.array([self.collapse(shares) for shares in rows.mixtures])
        back = np.array([self.expand(shares) for shares in inner])
        return Rows(rows.names, inner, rows.values).where(np.abs(back - rows.mixtures).sum(axis=1) < 1e-4)


def whole_space(problem: Problem) -> Space:
    prior = vector(problem.names, problem.natural)
    return Space(problem.names, prior, caps_of(problem), _same, _same, _same)


def _same(shares: Array) -> Array:
    return shares


@dataclass(frozen=True)
class Family:
    """How a method fits: `quick` refits the same without choosing anything again; `scores` are held-out rank correlations."""

    name: str
    fit: Fit
    quick: Fit
    scores: Mapping[str, float]


class Method(Protocol):
    """What is a search's own."""

    def space(self, problem: Problem) -> Space: ...

    def explore(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> list[Proposal]:
        """All rounds that follow from what was measured, the first incomplete one included; always the same for the same."""

    def prepare(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> Rows:
        """The rows to fit, in the coordinates of the space."""

    def notes(self, problem: Problem, model: Mean) -> dict[str, Any]:
        """Anything else a finding should tell."""

    def family(self, rows: Rows, space: Space, seed: int) -> Family:
        """How these rows are fitted."""

    def optimum(self, model: Mean, space: Space, seed: int, *, quick: bool) -> dict[str, Array]:
        """Candidates by name, the one the method stands for first; `quick` may search less thoroughly."""


@dataclass(frozen=True, eq=False)
class Study:
    """What the exploration shows."""

    rows: Rows  # in the problem's coordinates
    fitted: Rows  # in the space's
    family: Family
    model: Mean
    candidates: dict[str, Array]  # in the problem's coordinates, within the bounds
    optima: Array  # of the bootstrap's refits, in the problem's coordinates
    refits: list[Mean]
    unsure: tuple[str, ...]


@dataclass(frozen=True)
class GuardedSearch:
    """The searcher made of a method and the guards."""

    method: Method
    guards: Guarded

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        space = self.method.space(problem)
        planned = self._exploration(problem, space, trials)
        waiting = pending(planned, trials)
        if waiting or not self.guards.confirm_seeds:
            return waiting
        rows = rows_of(problem, trials, _is_among(planned))
        if len(rows) < self.guards.min_valid * len(planned):
            return []
        study = self._study(problem, space, planned, trials, intervals=self.guards.prior_where_unsure)
        return pending(self._confirmations(problem, study), trials)

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        space = self.method.space(problem)
        planned = self._exploration(problem, space, trials)
        failed = check_enough(problem, planned, trials, self.guards.min_valid)
        study = self._study(problem, space, planned, trials, intervals=True)
        arms, dropped = self._arms(problem, study, trials)
        adoption = guards.adopt(
            arms, self.guards.base, problem.objectives, margin=self.guards.margin, tolerance=self.guards.tolerance
        )
        return self._finding(problem, space, study, adoption, (*failed, *dropped), len(planned))

    def _exploration(self, problem: Problem, space: Space, trials: Sequence[Trial]) -> list[Proposal]:
        names = dict.fromkeys([self.guards.base, *self.guards.baselines])
        return baseline_proposals(problem, list(names), self.guards.single) + self.method.explore(
            problem, space, trials
        )

    def _study(
        self, problem: Problem, space: Space, planned: Sequence[Proposal], trials: Sequence[Trial], *, intervals: bool
    ) -> Study:
        explored = [trial for trial in trials if _is_among(planned)(trial.proposal)]
        # Trials of another budget (of a step law) are no measurement of their mixture at this one.
        rows = rows_of(problem, explored, lambda proposal: proposal.tokens in (None, problem.trial_tokens))
        fitted = self.method.prepare(problem, space, explored)
        family = self.method.family(fitted, space, problem.seed)
        model = fit_each(family.fit, fitted.mixtures, fitted.values, problem.seed)
        found = self.method.optimum(model, space, problem.seed, quick=False)
        optima: Array = np.empty((0, len(problem.names)))
        refits: list[Mean] = []
        if intervals:
            optima, refits = self._bootstrap(fitted, space, family, problem.seed)
        candidates = {name: space.expand(shares) for name, shares in found.items()}
        unsure: tuple[str, ...] = ()
        if self.guards.prior_where_unsure:
            low, high = guards.percentile_interval(optima)
            first, natural = next(iter(candidates)), vector(problem.names, problem.natural)
            shares, which = guards.to_prior_where_unsure(candidates[first], natural, low, high)
            candidates[first] = under_caps(shares, caps_of(problem))
            unsure = tuple(name for name, is_unsure in zip(problem.names, which, strict=True) if is_unsure)
        candidates = {name: rounded(shares, caps_of(problem)) for name, shares in candidates.items()}
        return Study(rows, fitted, family, model, candidates, optima, refits, unsure)

    def _bootstrap(self, fitted: Rows, space: Space, family: Family, seed: int) -> tuple[Array, list[Mean]]:
        def refit(chosen: npt.NDArray[np.int64]) -> tuple[Array, Mean]:
            model = fit_each(family.quick, fitted.mixtures[chosen], fitted.values[chosen], seed)
            return space.expand(next(iter(self.method.optimum(model, space, seed, quick=True).values()))), model

        return guards.bootstrap(refit, self.guards.bootstrap, len(fitted), seed)

    def _contenders(self, problem: Problem, study: Study) -> dict[str, Array]:
        """The mixtures that are trained again: the base, what is predicted, and the best measured; equal ones once."""
        caps = caps_of(problem)
        wanted = {self.guards.base: baseline(problem, self.guards.base), **study.candidates}
        inside = [is_within(shares, caps) for shares in study.rows.mixtures]
        best = study.rows.where(inside)
        for place in np.argsort(best.scores, kind="stable")[: self.guards.confirm_top]:
            wanted[best.names[place]] = best.mixtures[place]
        distinct: dict[str, Array] = {}
        for name, shares in wanted.items():
            if all(np.abs(shares - other).sum() >= SAME for other in distinct.values()):
                distinct[name] = shares
        return distinct

    def _confirmations(self, problem: Problem, study: Study) -> list[Proposal]:
        """Fresh seeds alone: the measurement by which a mixture was picked would flatter it."""
        return [
            Proposal(_confirmation(name, seed), named(problem.names, shares), seed=seed, role="confirm")
            for name, shares in self._contenders(problem, study).items()
            for seed in range(1, self.guards.confirm_seeds + 1)
        ]

    def _arms(self, problem: Problem, study: Study, trials: Sequence[Trial]) -> tuple[list[Arm], list[str]]:
        by_name = {trial.proposal.name: trial for trial in trials}
        arms, failed = [], []
        for name, shares in self._contenders(problem, study).items():
            tried = [_confirmation(name, seed) for seed in range(1, self.guards.confirm_seeds + 1)]
            measured = {key: objectives_of(problem, by_name[key]) for key in tried if key in by_name}
            failed += [key for key, values in measured.items() if values is None]
            good = [values for values in measured.values() if values is not None]
            if len(good) >= 2:
                arms.append(Arm(name, np.array(good), is_within(shares, caps_of(problem))))
        return arms, failed

    def _finding(
        self,
        problem: Problem,
        space: Space,
        study: Study,
        adoption: Adoption,
        failed: Sequence[str],
        planned: int,
    ) -> Finding:
        contenders = self._contenders(problem, study)
        first = next(iter(study.candidates))
        rank, shuffled = self._trust(study, problem.seed)
        chance = 2 / math.sqrt(max(len(study.fitted) - 1, 1))
        trusted = math.isfinite(rank) and rank > max(chance, shuffled)
        confirmed = adoption.noise is not None
        # Fresh trainings that were asked for and show nothing leave the base standing, as a gain that is too small does.
        asked = self.guards.confirm_seeds > 0
        taken = adoption.name if confirmed or asked or not trusted else first
        chosen = contenders.get(taken, study.candidates[first])
        warnings = _warnings(study, adoption, rank, chance, trusted, confirmed, failed, taken, asked)
        low, high = guards.percentile_interval(study.optima)
        return Finding(
            weights=named(problem.names, rounded(chosen, caps_of(problem))),
            candidates=self._candidates(problem, study),
            predicted=_predicted(problem, space, study, chosen),
            intervals={name: (float(a), float(b)) for name, a, b in zip(problem.names, low, high, strict=True)},
            effects=guards.effects(study.model, space.prior, space.names, problem.objectives),
            notes={
                "taken": taken,
                "reason": adoption.reason,
                "gain_over_base": adoption.gain if confirmed else None,
                "shrunk_gain_over_base": adoption.shrunk_gain if confirmed else None,
                "seed_noise": adoption.noise,
                "seed_noise_degrees": adoption.degrees,
                "regression": study.family.name,
                "held_out_rank_correlation": _number(rank),
                "shuffled_rank_correlation": _number(shuffled),
                "rank_correlations": {name: _number(score) for name, score in study.family.scores.items()},
                "trials_planned": planned,
                "trials_used": len(study.rows),
                "trials_failed": sorted(failed),
                "set_to_natural": list(study.unsure),
                "confirmed": [dict(row) for row in adoption.rows],
                "measured": _measured(study.rows),
                "base": self.guards.base,
                **self.method.notes(problem, study.model),
            },
            warnings=warnings,
        )

    def _trust(self, study: Study, seed: int) -> tuple[float, float]:
        """Held-out rank correlation, and the mean of it where measurements were dealt at random."""
        mixtures, values = study.fitted.mixtures, study.fitted.values
        known = study.family.scores.get(study.family.name)
        rank = known if known is not None else held_out_rank(study.family.fit, mixtures, values, seed)
        controls = [
            shuffled_rank(study.family.quick, mixtures, values, seed_for(seed, f"control {number}"))
            for number in range(CONTROLS)
        ]
        finite = [value for value in controls if math.isfinite(value)]
        return rank, (sum(finite) / len(finite) if finite else 0.0)

    def _candidates(self, problem: Problem, study: Study) -> dict[str, dict[str, float]]:
        """Everything an experiment may take: what is predicted, the best measured, and the baselines."""
        found = dict(study.candidates)
        best = study.rows.where([is_within(shares, caps_of(problem)) for shares in study.rows.mixtures])
        if len(best):
            found["best_measured"] = best.mixtures[int(np.argmin(best.scores))]
        found |= {name: baseline(problem, name) for name in dict.fromkeys([self.guards.base, *self.guards.baselines])}
        return {name: named(problem.names, rounded(shares, caps_of(problem))) for name, shares in found.items()}


def _is_among(planned: Sequence[Proposal]) -> Callable[[Proposal], bool]:
    names = {proposal.name for proposal in planned}
    return lambda proposal: proposal.name in names


def _confirmation(name: str, seed: int) -> str:
    return f"confirm-{name}-{seed}"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _measured(rows: Rows) -> list[dict[str, Any]]:
    order = np.argsort(rows.scores, kind="stable")
    return [{"trial": rows.names[place], "mean": float(rows.scores[place])} for place in order[:10]]


def _predicted(problem: Problem, space: Space, study: Study, shares: Array) -> dict[str, tuple[float, float, float]]:
    """What the model expects of each objective at the recommended mixture, with the bootstrap's interval."""
    at = space.collapse(shares)[None]
    middle = study.model.by_objective(at)[0]
    low, high = guards.percentile_interval(np.array([refit.by_objective(at)[0] for refit in study.refits]))
    rows = zip(problem.objectives, middle, low, high, strict=True)
    return {metric: (float(value), float(under), float(over)) for metric, value, under, over in rows}


def _warnings(
    study: Study,
    adoption: Adoption,
    rank: float,
    chance: float,
    trusted: bool,
    confirmed: bool,
    failed: Sequence[str],
    taken: str,
    asked: bool,
) -> tuple[str, ...]:
    said = []
    if failed:
        said.append(f"{len(failed)} trials broke down and were left out: {', '.join(sorted(failed)[:5])}.")
    if not trusted:
        said.append(
            f"The regression ranks held-out mixtures no better than chance (Spearman {rank:.2f}; chance reaches "
            f"{chance:.2f} with {len(study.fitted)} trials): its predictions and effects say nothing. Give more or longer trials."
        )
    if not confirmed and asked:
        said.append(
            f"Nothing was confirmed by fresh trainings: {adoption.reason}. The base stands, as it was measured before; "
            "what is predicted is a candidate."
        )
    elif not confirmed:
        said.append(f"Nothing was confirmed by fresh trainings: {adoption.reason}. '{taken}' is recommended unproven.")
    elif taken == adoption.name and adoption.gain == 0:
        said.append(f"The base stands: {adoption.reason}.")
    best = next((row for row in adoption.rows if not row["within_bounds"]), None)
    if best is not None and adoption.rows[0] is best:
        said.append(f"'{best['candidate']}' was best and repeats a domain beyond its bound; it cannot be taken.")
    return tuple(said)
