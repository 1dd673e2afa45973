"""Shares of domains by fixed rules: from their sizes, from the shares of several taxonomies, and under caps.

Sizes are tokens, shares are of training tokens. Every function is exact arithmetic over a map of domains; the order of the
map makes no difference.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

SEPARATOR = "/"  # between the parts of a cell's name: source/topic, topic/format


def tempered(sizes: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Sizes to the power of 1 / temperature, as shares; what has nothing gets nothing."""
    return dict(zip(sizes, raised(sizes.values(), 1.0 / temperature), strict=True))


def raised(sizes: Iterable[float], exponent: float) -> list[float]:
    """Sizes to a power, as shares: 1 leaves their ratios, 0 makes all equal that have anything."""
    values = [float(size) for size in sizes]
    total = math.fsum(values)
    powers = [(size / total) ** exponent if size > 0 else 0.0 for size in values]
    whole = math.fsum(powers)
    return [power / whole for power in powers]


def tempered_by_parent(
    sizes: Mapping[str, float], source_temperature: float, topic_temperature: float
) -> dict[str, float]:
    """The same in two levels, for names `source/topic`: of the sources, and of the topics within each source."""
    sources: dict[str, dict[str, float]] = {}
    for name, size in sizes.items():
        sources.setdefault(parent(name), {})[name] = size
    outer = tempered({source: math.fsum(own.values()) for source, own in sources.items()}, source_temperature)
    shares = dict.fromkeys(sizes, 0.0)
    for source, own in sources.items():
        if outer[source] > 0:
            shares |= {name: outer[source] * share for name, share in tempered(own, topic_temperature).items()}
    return shares


def parent(name: str) -> str:
    """What stands before the first `/` of a domain's name; the name itself where there is none."""
    return name.partition(SEPARATOR)[0]


def product_shares(factors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The shares of all cells, if a cell's is the product of the shares of its labels (WebOrganizer, arXiv:2502.10341)."""
    return {
        SEPARATOR.join(cell): math.prod(shares[label] for shares, label in zip(factors, cell, strict=True))
        for cell in itertools.product(*factors)
    }


def fill_evenly(caps: Mapping[str, float], tokens: float) -> dict[str, float]:
    """UniMax (arXiv:2304.09151, algorithm 1): tokens of each domain, as equal as caps allow.

    From the smallest cap on, each gets an equal part of what is left, or its cap. Where all caps together are less than the
    budget, all are filled: the caller says so.
    """
    order = sorted(caps, key=lambda name: (caps[name], name))
    filled: dict[str, float] = {}
    left = float(tokens)
    for place, name in enumerate(order):
        filled[name] = min(left / (len(order) - place), caps[name])
        left -= filled[name]
    return filled


def fill_by_shares(shares: Mapping[str, float], caps: Mapping[str, float], tokens: float) -> dict[str, float]:
    """Tokens of each domain by its share; what exceeds a cap goes to the others in proportion to their shares.

    The shares may sum to less than 1. Where the caps of all that have a share are less than the budget, all are filled.
    """
    filled = dict.fromkeys(shares, 0.0)
    left, open_ = float(tokens), {name for name, share in shares.items() if share > 0 and caps[name] > 0}
    while open_:
        whole = math.fsum(shares[name] for name in open_)
        full = {name for name in open_ if shares[name] / whole * left >= caps[name]}
        if not full:
            return filled | {name: shares[name] / whole * left for name in open_}
        filled |= {name: caps[name] for name in full}
        left = max(0.0, tokens - math.fsum(filled.values()))
        open_ -= full
    return filled


def total_variation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Half the sum of differences between two maps of shares: 0 where they are the same, 1 where they share nothing."""
    return 0.5 * math.fsum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {*one, *other})
