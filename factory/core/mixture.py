"""Repeating documents: how many epochs of a domain become how many copies of each document, and the bounds on that."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError


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
