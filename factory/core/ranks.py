"""Rank correlation: whether one order of things agrees with another."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def ranks(values: Array) -> Array:
    """Places from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places], dtype=np.float64)


def spearman(left: Array, right: Array) -> float:
    """Pearson's correlation of the ranks; NaN where one of the two says nothing (all equal, or fewer than two values)."""
    if len(left) != len(right):
        raise ValueError(f"{len(left)} values against {len(right)}")
    if len(left) < 2:
        return math.nan
    a, b = ranks(left), ranks(right)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan
