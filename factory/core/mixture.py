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
