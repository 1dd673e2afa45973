"""The best mixture of a fitted objective: exactly where it is convex, by search where it is not.

Olmix (arXiv:2602.12237): min_p mean_i exp(a_i·p) + λ KL(p‖p0) over shares with p_j <= cap_j; the constants of the laws do
not move the minimum. The problem is convex, and `gap` certifies the answer: no mixture within the bounds is better by more
(the Frank-Wolfe duality gap). RegMix (arXiv:2407.01492): draw many mixtures around the prior, predict each, and take the
mean of the best ones, which is less of a lucky draw than the best one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.core.seeds import generator_for
from factory.mixing.caps import check_caps, under_caps
from factory.mixing.regression import Predictor

Array = npt.NDArray[np.float64]

TINY = 1e-300
STEPS = 400
ENOUGH = 1e-7  # of the objective, left to gain
TOO_SMALL = 1e-6  # a share whose place programming does not settle


@dataclass(frozen=True, eq=False)
class Solution:
    """Shares, the objective there, and by how much at most something else within the bounds is better."""

    shares: Array
    value: float
    gap: float


def solve(
    coefficients: Array, prior: Array, *, strength: float, caps: Array | None = None, tolerance: float = 1e-9
) -> Solution:
    """`coefficients` has a row for each objective; `strength` is λ. A domain without prior stays without a share if λ > 0."""
    limits = np.minimum(np.ones(len(prior)) if caps is None else caps, 1.0)
    limits = np.where(prior > 0, limits, 0.0) if strength > 0 else limits
    check_caps(limits)
    objective = _Objective(coefficients, prior, strength)
    start = under_caps(prior, limits)
    shares = _descend(objective, start, limits, tolerance, STEPS)
    for _ in range(3):
        shares = _settled(objective, _polish(objective, shares, limits), limits)
        if _gap(objective.slope(shares), shares, limits) <= ENOUGH * (1 + strength):
            break
        shares = _descend(objective, shares, limits, tolerance, 2 * STEPS)
    return Solution(shares, objective.value(shares), _gap(objective.slope(shares), shares, limits))


class _Objective:
    def __init__(self, coefficients: Array, prior: Array, strength: float) -> None:
        self.coefficients, self.prior, self.strength = np.atleast_2d(coefficients), prior, strength

    def laws(self, shares: Array) -> float:
        return float(np.exp(self.coefficients @ shares).mean())

    def value(self, shares: Array) -> float:
        return self.laws(shares) + self.strength * divergence(shares, self.prior)

    def laws_slope(self, shares: Array) -> Array:
        raised = np.exp(self.coefficients @ shares)
        return np.asarray(self.coefficients.T @ raised / len(raised), dtype=np.float64)

    def slope(self, shares: Array) -> Array:
        if self.strength == 0:
            return self.laws_slope(shares)
        pull = np.log(np.maximum(shares, TINY)) - np.log(np.maximum(self.prior, TINY)) + 1
        return np.asarray(self.laws_slope(shares) + self.strength * np.where(self.prior > 0, pull, 0.0))


def divergence(shares: Array, prior: Array) -> float:
    """KL(p‖p0); infinite where a domain without prior has a share."""
    if ((prior <= 0) & (shares > 0)).any():
        return float("inf")
    some = shares > 0
    return float((shares[some] * np.log(shares[some] / prior[some])).sum())


def _descend(objective: _Objective, shares: Array, caps: Array, tolerance: float, steps: int) -> Array:
    """Mirror descent with the divergence kept exact: every step is a closed form, and bounds are met by projection in KL."""
    rate, strength = 1.0, objective.strength
    log_prior = np.log(np.maximum(objective.prior, TINY))
    for _ in range(steps):
        slope, base = objective.laws_slope(shares), objective.laws(shares)
        while True:
            log_next = (np.log(np.maximum(shares, TINY)) * rate + strength * log_prior - slope) / (rate + strength)
            after = np.where(caps > 0, np.exp(log_next - log_next[caps > 0].max()), 0.0)
            after = under_caps(after / after.sum(), caps)
            bound = base + float(slope @ (after - shares)) + rate * divergence(after, np.maximum(shares, TINY))
            if objective.laws(after) <= bound + 1e-13 * (1 + abs(base)) or rate > 1e9:
                break
            rate *= 2
        shares, rate = after, max(rate * 0.5, 1e-6)
        if _gap(objective.slope(shares), shares, caps) < tolerance * (1 + strength):
            break
    return shares


def _polish(objective: _Objective, shares: Array, caps: Array) -> Array:
    """Sequential quadratic programming from there, kept where it is better."""
    from scipy.optimize import minimize

    scale = 1.0 + objective.strength
    found = minimize(
        lambda point: objective.value(np.maximum(point, TINY)) / scale,
        shares,
        jac=lambda point: objective.slope(np.maximum(point, 1e-12)) / scale,
        method="SLSQP",
        bounds=[(0.0, float(cap)) for cap in caps],
        constraints={"type": "eq", "fun": lambda point: point.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 200, "ftol": 1e-14},
    )
    point = np.clip(np.nan_to_num(found.x), 0.0, caps)
    if abs(point.sum() - 1) > 1e-6:
        return shares
    point = under_caps(point / point.sum(), caps)
    return point if objective.value(point) < objective.value(shares) else shares


def _settled(objective: _Objective, shares: Array, caps: Array) -> Array:
    """Tiny shares, which programming leaves where they fell, put where their slope is that of the others.

    The slope of the divergence has no bound at 0, so a share of exactly 0 would look as if everything were to gain there.
    """
    free = (shares > TOO_SMALL) & (shares < caps - 1e-9)
    tiny = (shares <= TOO_SMALL) & (caps > 0)
    if objective.strength == 0 or not free.any() or not tiny.any():
        return shares
    level = float(np.average(objective.slope(shares)[free], weights=shares[free]))
    pull = (level - objective.laws_slope(shares)) / objective.strength - 1
    filled = np.minimum(objective.prior * np.exp(np.clip(pull, -600.0, 0.0)), np.minimum(caps, TOO_SMALL))
    mixed = np.where(tiny, filled, shares)
    mixed[free] *= 1 - (mixed.sum() - 1) / mixed[free].sum()
    return under_caps(mixed, caps)


def _gap(slope: Array, shares: Array, caps: Array) -> float:
    """How much lower the tangent at `shares` goes within the bounds: an upper bound on what is left to gain."""
    order = np.argsort(slope, kind="stable")
    filled = np.minimum(np.cumsum(caps[order]), 1.0)
    lowest = np.zeros(len(caps))
    lowest[order] = np.diff(filled, prepend=0.0)
    return max(float(slope @ (shares - lowest)), 0.0)


def draw_candidates(
    prior: Array, count: int, seed: int, *, strength: float, offset: float = 0.0, caps: Array | None = None
) -> Array:
    """Mixtures ~ Dirichlet(strength · prior + offset), moved within the bounds."""
    alphas = np.where(prior > 0, strength * prior + offset, 0.0)
    draws = generator_for(seed, "candidates").standard_gamma(alphas, size=(count, len(prior)))
    rows = draws / np.maximum(draws.sum(axis=1, keepdims=True), TINY)
    rows = rows[rows.sum(axis=1) > 0.5]
    return rows if caps is None else under_caps(rows, caps)


def average_of_best(predictor: Predictor, candidates: Array, top: int) -> tuple[Array, Array]:
    """The mean of the `top` candidates with the lowest prediction, and the lowest one itself."""
    order = np.argsort(predictor.predict(candidates), kind="stable")
    return np.asarray(candidates[order[:top]].mean(axis=0)), candidates[order[0]]
