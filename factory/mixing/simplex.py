"""Points of the simplex as online methods move them: exponentiated steps, floors, and what a change of shares amounts to.

Vectors of shares come in and leave as float64 arrays that sum to 1. The exponentiated gradient is mirror descent with the
negative entropy (Kivinen and Warmuth 1997); exponents are shifted, so that large ones do not overflow.
"""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def softmax(scores: npt.ArrayLike) -> Vector:
    """Shares in proportion to exp(score)."""
    values = np.asarray(scores, dtype=np.float64)
    raised = np.exp(values - values.max())
    return np.asarray(raised / raised.sum())


def exponentiated(shares: npt.ArrayLike, gains: npt.ArrayLike) -> Vector:
    """Shares after one step: each times exp(gain), then summing to 1. A share of zero stays zero."""
    before, steps = np.asarray(shares, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    raised = before * np.exp(steps - steps[before > 0].max())
    return np.asarray(raised / raised.sum())


def floored(shares: npt.ArrayLike, epsilon: float) -> Vector:
    """Shares mixed with the uniform ones: none is below epsilon / k."""
    values = np.asarray(shares, dtype=np.float64)
    mixed: Vector = (1.0 - epsilon) * values + epsilon / len(values)
    return mixed


def bounded(shares: npt.ArrayLike, epsilon: float) -> Vector:
    """Shares raised to at least epsilon / k where they are lower: what is above is left as it was but for the sum."""
    values = np.asarray(shares, dtype=np.float64)
    raised = np.maximum(values, epsilon / len(values))
    return np.asarray(raised / raised.sum())


def uniform(count: int) -> Vector:
    return np.full(count, 1.0 / count)


def largest_change(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """The L∞ distance of two vectors of shares."""
    return float(np.abs(np.asarray(before) - np.asarray(after)).max())
