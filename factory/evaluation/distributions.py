"""Student's t and Fisher's F, by the continued fraction of the incomplete beta function (DLMF 8.17.22)."""

import math
from functools import lru_cache
from statistics import NormalDist


def t_cdf(value: float, dof: float) -> float:
    """P[T ≤ value] for Student's t with `dof` degrees of freedom."""
    tail = two_sided(value, dof) / 2
    return 1 - tail if value > 0 else tail


def two_sided(value: float, dof: float) -> float:
    """P[|T| ≥ |value|]; exact far out, where 1 - cdf would round to nothing."""
    return _beta(dof / (dof + value * value), dof / 2, 0.5)


@lru_cache(maxsize=4096)
def t_quantile(probability: float, dof: float) -> float:
    """The value below which `probability` of Student's t lies."""
    if not 0 < probability < 1 or dof <= 0:
        raise ValueError(f"t_quantile wants 0 < probability < 1 and dof > 0, not {probability} and {dof}")
    if probability < 0.5:
        return -t_quantile(1 - probability, dof)
    low, high = 0.0, 1.0
    while t_cdf(high, dof) < probability:
        high *= 2
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, dof) < probability else (low, middle)
    return (low + high) / 2


def normal_quantile(probability: float) -> float:
    """The value below which `probability` of the standard normal lies."""
    return NormalDist().inv_cdf(probability)


def normal_cdf(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2


def f_tail(value: float, dof_above: float, dof_below: float) -> float:
    """P[F > value]: how often a ratio of two estimates of one variance is at least this large."""
    return _beta(dof_below / (dof_below + dof_above * value), dof_below / 2, dof_above / 2)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    fraction = 0.0
    for step in range(100 + int(4 * math.sqrt(max(a, b))), 0, -1):  # from the far end; it needs about √max(a, b) terms
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + step - 1) * (a + step))
        else:
            term = half * (b - half) * x / ((a + step - 1) * (a + step))
        fraction = term / (1 + fraction)
    return front / (1 + fraction)
