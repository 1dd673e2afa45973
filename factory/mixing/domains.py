"""What is true of domains beyond their sizes: errors of the labels, how far two taxonomies overlap, what a filter does to shares.

A filter that says nothing of domains still changes their shares: documents drawn at random with the shares that FineWeb-Edu's
classifier leaves have 84 % of its gain (WebOrganizer, arXiv:2502.10341, table 2). So a filter is never only about quality, and
its mixture is to be looked at.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.mixing.shares import SEPARATOR, total_variation

_ROUNDS = 10_000
_SETTLED = 1e-12


def correct_shares(
    observed: Mapping[str, float], labels: Sequence[str], confusion: Sequence[Sequence[float]]
) -> dict[str, float]:
    """True shares of labels, from those a classifier gives and how often it takes each (row) for each (column).

    The most likely shares under the confusions, by expectation maximisation (Saerens et al., 2002): they stay shares where
    solving the equations would give some below 0. A label without any document in the confusions is an error.
    """
    counts = np.asarray(confusion, np.float64)
    sizes = counts.sum(axis=1)
    if counts.shape != (len(labels), len(labels)) or not (sizes > 0).all():
        raise FactoryError(
            f"the confusions of {len(labels)} labels are a row and a column for each, none of them empty; these are "
            f"{' x '.join(map(str, counts.shape))}."
        )
    unknown = sorted(set(observed) - set(labels))
    if unknown:
        raise FactoryError(f"'{unknown[0]}' is none of the {len(labels)} labels whose confusions are known.")
    chances = counts / sizes[:, None]
    seen = np.array([observed.get(label, 0.0) for label in labels])
    seen = seen / seen.sum()
    shares: npt.NDArray[np.float64] = np.full(len(labels), 1 / len(labels))
    for _ in range(_ROUNDS):
        expected = shares @ chances
        ratio = np.divide(seen, expected, out=np.zeros_like(seen), where=expected > 0)
        moved = shares * (chances @ ratio)
        moved /= moved.sum()
        change = float(np.abs(moved - shares).max())
        shares = moved
        if change < _SETTLED:
            break
    return {label: float(share) for label, share in zip(labels, shares, strict=True)}


def implicit_mixture(before: Mapping[str, float], kept: Mapping[str, float]) -> dict[str, Any]:
    """Shares of tokens by domain before and after a filter, and how much more often than others it keeps each.

    `factor` is the share kept over the share before: 1 where the filter is indifferent to the domain.
    """
    all_before, all_kept = math.fsum(before.values()), math.fsum(kept.values())
    shares_before = {name: size / all_before if all_before else 0.0 for name, size in before.items()}
    shares_kept = {name: kept.get(name, 0.0) / all_kept if all_kept else 0.0 for name in before}
    rows = [
        {
            "domain": name,
            "before": before[name],
            "kept": kept.get(name, 0.0),
            "share_before": shares_before[name],
            "share_kept": shares_kept[name] if all_kept else None,
            "factor": shares_kept[name] / shares_before[name] if all_kept and shares_before[name] else None,
        }
        for name in sorted(before, key=lambda name: (-before[name], name))
    ]
    return {
        "before": all_before,
        "kept": all_kept,
        "total_variation": total_variation(shares_before, shares_kept) if all_kept else None,
        "domains": rows,
    }


def mutual_information(cells: Mapping[str, float]) -> float | None:
    """Normalised mutual information of the two labels of cells `topic/format`, by tokens: 0 where they are independent.

    A product of shares is a fair target where it is small (0.10 for WebOrganizer's topics and formats). The norm is the
    mean of both entropies; None where one taxonomy has a single label.
    """
    firsts = sorted({cell.partition(SEPARATOR)[0] for cell in cells})
    seconds = sorted({cell.partition(SEPARATOR)[2] for cell in cells})
    joint = np.zeros((len(firsts), len(seconds)))
    for cell, size in cells.items():
        first, _, second = cell.partition(SEPARATOR)
        joint[firsts.index(first), seconds.index(second)] += size
    joint /= joint.sum()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    held = joint > 0
    information = float((joint[held] * np.log((joint / np.outer(rows, columns))[held])).sum()) if held.any() else 0.0
    norm = 0.5 * (_entropy(rows) + _entropy(columns))
    return information / norm if min(_entropy(rows), _entropy(columns)) > 0 else None


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    held = shares[shares > 0]
    return float(-(held * np.log(held)).sum())
