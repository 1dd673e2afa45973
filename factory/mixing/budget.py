"""What repeated tokens are worth, and whether a plan of training tokens repeats its domains too often.

The law is the data-constrained one of Muennighoff et al. (arXiv:2305.16264, constants of huggingface/datablations): the value of
a repetition decays exponentially, so D tokens from U unique ones are worth U + U R* (1 - exp(-R / R*)) fresh ones, R = D/U - 1.
It was fitted to runs on web text of up to 900 billion tokens; small sources of low entropy bear less repetition than it
says, and it knows nothing of near duplicates: count tokens after removing them. A domain is graded by its epochs: `green` up
to 4, `fair` up to 16, `amber` up to 40, and `red` above; read off that curve (0.93, 0.66 and 0.38 of fresh tokens).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.mixture import repeats

TOKEN_DECAY = 15.387756  # R_D*, in repetitions
PARAMETER_DECAY = 5.309743  # R_N*
A, B, E = math.exp(6.255414), math.exp(7.3049974), math.exp(0.6254804)
ALPHA = BETA = 0.3526596

Grade = Literal["green", "fair", "amber", "red"]


@dataclass(frozen=True)
class Policy:
    """The most epochs of a domain that is `green` (as good as fresh), that goes unnoted, and that is not rejected."""

    green: float = 4.0
    amber: float = 16.0
    red: float = 40.0


@dataclass(frozen=True)
class DomainPlan:
    """One domain of a plan: what it has, what is asked of it, and what that is worth in fresh tokens."""

    available: int
    tokens: float
    epochs: float
    effective_tokens: float
    repeat_efficiency: float | None  # None where nothing is read
    grade: Grade


@dataclass(frozen=True)
class Plan:
    """A whole plan; `repeat_efficiency` is the effective tokens of all domains for each token that is read."""

    domains: Mapping[str, DomainPlan]
    tokens: float
    effective_tokens: float
    repeat_efficiency: float | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def effective_tokens(unique: float, tokens: float) -> float:
    """What `tokens` read from so many unique ones are worth in fresh ones."""
    return _effective(unique, tokens, TOKEN_DECAY)


def effective_parameters(unique: float, parameters: float) -> float:
    """The same of a model's parameters beyond those the unique tokens are enough for."""
    return _effective(unique, parameters, PARAMETER_DECAY)


def loss(parameters: float, tokens: float, unique: float) -> float:
    """The loss in nats the law expects of a model after so many tokens, of which so many are unique."""
    enough = min(parameters, _parameters_for(unique))
    of_parameters = math.pow(effective_parameters(enough, parameters), -ALPHA)
    return E + A * of_parameters + B * math.pow(effective_tokens(unique, tokens), -BETA)


def plan(
    epochs: Mapping[str, float], available: Mapping[str, int], policy: Policy | None = None, *, allow_red: bool = False
) -> Plan:
    """What these epochs are worth. Raises FactoryError where a domain is red, with all that are, unless `allow_red`."""
    policy = policy or Policy()
    domains = {name: _domain(available[name], epochs.get(name, 0.0), policy) for name in sorted(available)}
    red = [f"{name} {domain.epochs:.3g}" for name, domain in domains.items() if domain.grade == "red"]
    if red and not allow_red:
        raise FactoryError(
            f"mix: more than {policy.red:g} epochs of {', '.join(red)}: so often repeated, tokens teach next to nothing more "
            "(2305.16264). Give these domains less, lower the budget, or write `allow_red: true` into the mixture."
        )
    tokens = math.fsum(domain.tokens for domain in domains.values())
    effective = math.fsum(domain.effective_tokens for domain in domains.values())
    notes = tuple(
        f"{name}: {domain.epochs:.3g} epochs ({domain.grade}), worth {domain.repeat_efficiency:.0%} of fresh tokens"
        for name, domain in domains.items()
        if domain.grade in ("amber", "red")
    )
    return Plan(domains, tokens, effective, effective / tokens if tokens else None, notes)


def matched_pool(target_tokens: float, trial_tokens: float) -> float:
    """The share of every domain a trial may see, so that it repeats each as often as the target will: trial / target.

    A trial that reads a tenth of a domain which the target reads six times judges it as if it were endless.
    """
    if not 0 < trial_tokens <= target_tokens:
        raise FactoryError(
            f"a trial of {trial_tokens:,.0f} tokens for a target of {target_tokens:,.0f}: repetition is matched by leaving out "
            "documents, so a trial must not be longer than the target."
        )
    return trial_tokens / target_tokens


def match_repetition(
    hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64], domains: npt.NDArray[np.integer], share: float
) -> npt.NDArray[np.bool_]:
    """Which documents such a trial may see: of each domain those of the smallest hashes, `share` of its tokens, to a document.

    A larger share contains the smaller one, and no domain that has anything is left with nothing.
    """
    chosen = np.zeros(len(tokens), np.bool_)
    for domain in np.unique(domains):
        own = np.flatnonzero(domains == domain)
        chosen[own] = repeats(share, hashes[own], tokens[own]) > 0
    return chosen


def _effective(unique: float, read: float, decay: float) -> float:
    if unique <= 0 or read <= 0:
        return 0.0
    repeated = max(read / unique - 1.0, 0.0)
    return min(unique, read) - unique * decay * math.expm1(-repeated / decay)


def _parameters_for(tokens: float) -> float:
    """The parameters so many unique tokens are enough for, if compute is spent best."""
    balance = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    return float((tokens * balance) ** (BETA / ALPHA) * balance)


def _domain(available: int, epochs: float, policy: Policy) -> DomainPlan:
    tokens = epochs * available
    effective = effective_tokens(available, tokens)
    bounds: tuple[tuple[float, Grade], ...] = ((policy.green, "green"), (policy.amber, "fair"), (policy.red, "amber"))
    grade: Grade = next((name for bound, name in bounds if epochs <= bound * (1 + 1e-9)), "red")
    return DomainPlan(available, tokens, epochs, effective, effective / tokens if tokens else None, grade)
