"""A search for a mixture: what a searcher is told, what it proposes to train, and what it finds.

A searcher is a pure function of the problem and of the trials measured so far, so that a search that was stopped goes on
where it was. Shares are of training tokens and sum to 1; metrics are lower-is-better, whatever a task calls them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

Weights = Mapping[str, float]


@dataclass(frozen=True)
class Domain:
    """A part of the pool that a mixture can weigh: its unique tokens and documents."""

    name: str
    tokens: int
    documents: int


@dataclass(frozen=True)
class Problem:
    """What is searched: domains (sorted by name), and the target the mixture is for.

    `tokens` is the budget of the target and `max_epochs` how often it may repeat each domain; `trial_tokens` the budget of a
    trial, which may repeat as it likes. `objectives` are the metrics to lower: `task` or `task/domain of the task`.
    """

    domains: tuple[Domain, ...]
    tokens: int
    max_epochs: Mapping[str, float]
    trial_tokens: int
    objectives: tuple[str, ...]
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(domain.name for domain in self.domains)

    @property
    def natural(self) -> dict[str, float]:
        """Shares as the domains were collected."""
        total = sum(domain.tokens for domain in self.domains)
        return {domain.name: domain.tokens / total for domain in self.domains}

    @property
    def caps(self) -> dict[str, float]:
        """The largest share of each domain that does not repeat it beyond `max_epochs` in the target."""
        return {d.name: min(1.0, self.max_epochs[d.name] * d.tokens / self.tokens) for d in self.domains}


@dataclass(frozen=True)
class Merge:
    """A model that is no training of its own: the weighted average of the parameters of other trials' models."""

    of: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Online:
    """A training whose shares change while it runs, by `method` with these settings; the trial's record has the shares."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposal:
    """One trial to be: a proxy trained on a mixture. `name` is unique in the search; `seed` numbers repetitions.

    `role` says what for (swarm, baseline, confirm, probe, expert, merge, online). `init` names the trial whose model it goes
    on from; `tokens` is its budget where it is not the problem's.
    """

    name: str
    weights: Weights
    seed: int = 0
    role: str = "swarm"
    tokens: int | None = None
    init: str | None = None
    merge: Merge | None = None
    online: Online | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trial:
    """A proposal that was trained and measured. A trial that broke down is not `valid` and has no metrics."""

    proposal: Proposal
    metrics: Mapping[str, float]
    valid: bool = True
    reason: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a search found: the mixture it recommends, and why.

    `candidates` holds mixtures by name (`predicted`, `best_measured`, …) that an experiment may take instead; `predicted` the
    metrics of the recommended one as (value, low, high); `intervals` those of its shares; `effects` the change of each metric
    for each domain where the method has such. `notes` are plain numbers and texts about the fit, `warnings` sentences.
    """

    weights: Weights
    candidates: Mapping[str, Weights] = field(default_factory=dict)
    predicted: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    effects: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Searcher(Protocol):
    """What a searcher stage's factory returns."""

    def ask(self, problem: Problem, trials: Sequence[Trial]) -> list[Proposal]:
        """The next round, given all that was measured; empty when there is nothing left to ask."""

    def finish(self, problem: Problem, trials: Sequence[Trial]) -> Finding:
        """What the trials show; raises FactoryError where they are too few."""
