"""Shares of training tokens become epochs, and epochs become copies of documents, within the bounds on repetition.

A mixture is the share of the training's tokens each domain has: epochs = share x tokens / available. A domain too small for
its share is repeated up to `max_epochs`, and beyond that the mixture is refused, with what would be possible.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest

DEFAULT_MAX_EPOCHS = 4.0  # up to 4 repetitions cost next to nothing (2305.16264)


class Budget(Config):
    """Settings of every mixer. `max_epochs` bounds every domain, or those it names; the others keep 4.

    `allow_red` lets a domain be repeated more than 40 times, where repeating has stopped to teach anything.
    """

    tokens: int = Field(gt=0)
    max_epochs: float | dict[str, float] = DEFAULT_MAX_EPOCHS
    allow_red: bool = False

    @field_validator("max_epochs")
    @classmethod
    def _is_positive(cls, bound: float | dict[str, float]) -> float | dict[str, float]:
        bounds = bound.values() if isinstance(bound, dict) else [bound]
        if not all(math.isfinite(value) and value > 0 for value in bounds):
            raise ValueError("max_epochs must be above 0")
        return bound

    def bounds(self, available: Mapping[str, int]) -> dict[str, float]:
        """The most epochs of each domain; raises FactoryError where it bounds one that is not there."""
        named = self.max_epochs if isinstance(self.max_epochs, dict) else {}
        check_known(named, available)
        other = DEFAULT_MAX_EPOCHS if isinstance(self.max_epochs, dict) else self.max_epochs
        return {domain: named.get(domain, other) for domain in available}


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise ValueError where these are no shares: numbers of at least 0 that sum to 1."""
    bad = {domain: share for domain, share in shares.items() if not (math.isfinite(share) and share >= 0)}
    if bad:
        raise ValueError(f"a weight must be a number of at least 0; {', '.join(f'{k}: {v:g}' for k, v in bad.items())}")
    total = math.fsum(shares.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"weights must sum to 1; these sum to {total:.7g}")


def check_known(named: Mapping[str, float], available: Mapping[str, int]) -> None:
    """Raise FactoryError for a domain that is not there."""
    unknown = sorted(set(named) - set(available))
    if unknown:
        raise FactoryError(f"mix: no domain is named '{unknown[0]}'.{suggest(unknown[0], available)}")


def check_not_empty(tokens: int, available: Mapping[str, int]) -> int:
    """All tokens there are; raises FactoryError where there are none."""
    total = sum(available.values())
    if not total:
        raise FactoryError(
            f"mix: {tokens:,} tokens asked, none available in {', '.join(sorted(available)) or 'no domain'}. "
            "Look at `factory funnel` for the rule that drops everything."
        )
    return total


def epochs_of(shares: Mapping[str, float], available: Mapping[str, int], budget: Budget) -> dict[str, float]:
    """The epochs of every domain; 0 of those without a share. Raises FactoryError where one cannot fill its share."""
    bounds = budget.bounds(available)
    check_known(shares, available)
    asked = {domain: share for domain, share in shares.items() if share > 0}
    empty = sorted(domain for domain in asked if not available[domain])
    if empty:
        raise FactoryError(
            f"mix: '{empty[0]}' should be {asked[empty[0]]:.2%} of the tokens and has none. "
            "Remove it from the weights, or look at `factory funnel` for the rule that drops it."
        )
    epochs = {domain: share * budget.tokens / available[domain] for domain, share in asked.items()}
    check_epochs(budget.tokens, epochs, bounds)
    return {domain: epochs.get(domain, 0.0) for domain in sorted(available)}


def check_possible(tokens: int, caps: Mapping[str, float], available: Mapping[str, int]) -> None:
    """Raise FactoryError where all domains together, each up to its cap in tokens, do not fill the budget."""
    possible = math.fsum(caps.values())
    if possible >= tokens * (1 - 1e-9):
        return
    total = check_not_empty(tokens, available)
    raise FactoryError(
        f"mix: {tokens:,} tokens asked, {math.floor(possible):,} possible with every domain up to its max_epochs "
        f"({total:,} tokens available). Lower the budget, or raise max_epochs to {round_up(tokens / total):g} for all."
    )


def repeats(epochs: float, hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """How often each document of a domain is taken: the whole epochs, and once more by rising hash until the rest is full.

    `hashes` is hash(seed, doc_id) and `tokens` the documents' sizes. A larger budget contains the smaller one, nothing
    depends on sharding, and what is taken reaches epochs x sum(tokens) and exceeds it by less than one document.
    """
    whole = math.floor(epochs)
    counts = np.full(len(tokens), whole, dtype=np.uint32)
    rest = (epochs - whole) * float(tokens.sum())
    order = np.argsort(hashes, kind="stable")
    before = np.cumsum(tokens[order]) - tokens[order]
    counts[order[before < rest - 1e-6]] += 1
    return counts


def best_first(scores: npt.NDArray[np.floating], hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Numbers to give `repeats` in place of hashes, so that the highest scores come first: a quota filled by quality.

    Equal scores come by rising hash, and documents without a score (NaN) last.
    """
    known = ~np.isnan(scores)
    order = np.lexsort((hashes, -np.where(known, scores, 0.0), ~known))
    ranks = np.empty(len(order), np.uint64)
    ranks[order] = np.arange(len(order), dtype=np.uint64)
    return ranks


def copy_hashes(hashes: npt.NDArray[np.uint64], copies: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """hash(seed, doc_id, copy number) from hash(seed, doc_id): the first copy's is the document's own."""
    value = hashes + copies.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    # SplitMix64's finaliser (Steele, Lea, Flood 2014).
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(copies > 0, value ^ (value >> np.uint64(31)), hashes)


def numbered_copies(counts: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For so many copies of each document: which document each copy is of, and its number among them, from 0."""
    documents = np.repeat(np.arange(len(counts)), counts)
    firsts = np.cumsum(counts, dtype=np.int64) - counts
    return documents, np.arange(len(documents)) - firsts[documents]


def check_epochs(tokens: int, epochs: Mapping[str, float], bounds: Mapping[str, float]) -> None:
    """Raise FactoryError when a domain would be repeated beyond its bound: with the largest budget that fits."""
    over = {domain: value for domain, value in epochs.items() if value > bounds[domain] * (1 + 1e-9)}
    if not over:
        return
    worst = max(sorted(over), key=lambda domain: over[domain] / bounds[domain])
    possible = math.floor(tokens * bounds[worst] / over[worst])
    raise FactoryError(
        f"mix: {tokens:,} tokens asked, {possible:,} possible. '{worst}' limits it (max_epochs {bounds[worst]:g}). "
        f"Lower the budget, or raise {worst}'s max_epochs to {round_up(over[worst]):g}."
    )


def round_up(value: float) -> float:
    """The next number with two digits: 5.61 becomes 5.7."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step
