"""The exponential law of a metric over mixtures: f(p) = exp(c) + exp(a·p), fitted to measured mixtures.

One law under two names. Olmix (arXiv:2602.12237) writes it as above, Data Mixing Laws (arXiv:2403.16952) as c + k exp(t·p);
shares sum to 1, so k goes into the coefficients (a_j = t_j + ln k). Both fit it by Huber loss from hundreds of starts, because it
has local minima. Here the starts are c on a grid, each with the coefficients that linear least squares gives for ln(y - exp(c))
and with these disturbed; the best are refined together by Gauss-Newton steps with damping and Huber's weights, which
end in the same minima as the published L-BFGS after a tenth of its steps. The law is wrong where a domain is essential (its
metric grows without bound as the share goes to 0): compare it with boosted trees on held-out mixtures (`regression.choose`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.seeds import generator_for

Array = npt.NDArray[np.float64]

FEWEST_SHARES = 3  # different shares a domain must have had, or its coefficient is free
STEEPEST = 50.0  # bound on coefficients and exponents while fitting: exp(50) is no loss


@dataclass(frozen=True)
class ExponentialFit:
    """`huber` is the residual beyond which errors count linearly, in the metric's own unit."""

    huber: float = 0.02
    floors: int = 10
    draws: int = 29
    refined: int = 30
    steps: int = 100


@dataclass(frozen=True, eq=False)
class Exponential:
    """A fitted law: `floor` is exp(c), what is left whatever the mixture; `coefficients` are a, one for each domain."""

    floor: float
    coefficients: Array
    loss: float

    def predict(self, mixtures: Array) -> Array:
        return np.asarray(self.floor + np.exp(np.clip(mixtures @ self.coefficients, -STEEPEST, STEEPEST)))


def check_spread(mixtures: Array, names: Sequence[str]) -> None:
    """Raise FactoryError where a domain's share was hardly varied: nothing could be said of it."""
    counts = [len(np.unique(np.round(mixtures[:, place], 6))) for place in range(mixtures.shape[1])]
    poor = [f"'{name}' ({count})" for name, count in zip(names, counts, strict=True) if count < FEWEST_SHARES]
    if poor:
        raise FactoryError(
            f"search: the law needs at least {FEWEST_SHARES} different shares of every domain among the trials; "
            f"too few of {', '.join(poor)}. Give more trials, or leave the domain out."
        )


def fit_exponential(mixtures: Array, values: Array, seed: int, spec: ExponentialFit | None = None) -> Exponential:
    """The law with the least mean Huber loss among all starts."""
    spec = spec or ExponentialFit()
    starts = _starts(mixtures, values, seed, spec)
    losses = _huber(_laws(starts, mixtures)[1], values, spec.huber)
    points, losses = _refined(starts[np.argsort(losses, kind="stable")[: spec.refined]], mixtures, values, spec)
    best = int(np.argmin(losses))
    return Exponential(float(np.exp(points[best, 0])), points[best, 1:], float(losses[best]))


def _laws(points: Array, mixtures: Array) -> tuple[Array, Array]:
    """The exponentials and the whole laws of each point (c, a), a column for each mixture."""
    raised = np.exp(np.clip(points[:, 1:] @ mixtures.T, -STEEPEST, STEEPEST))
    return raised, np.exp(points[:, :1]) + raised


def _huber(predicted: Array, values: Array, delta: float) -> Array:
    size = np.abs(predicted - values)
    return np.asarray(np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).mean(axis=1))


def _refined(points: Array, mixtures: Array, values: Array, spec: ExponentialFit) -> tuple[Array, Array]:
    """Levenberg-Marquardt steps of all points at once; a step that does not lower the loss is not taken."""
    damping = np.full(len(points), 1e-3)
    raised, predicted = _laws(points, mixtures)
    losses = _huber(predicted, values, spec.huber)
    diagonal = np.arange(points.shape[1])
    for _ in range(spec.steps):
        residual = predicted - values
        weight = np.minimum(1.0, spec.huber / np.maximum(np.abs(residual), 1e-300))
        slopes = np.empty((*raised.shape, points.shape[1]))
        slopes[:, :, 0] = np.exp(points[:, :1])
        slopes[:, :, 1:] = raised[:, :, None] * mixtures
        weighted = slopes * weight[:, :, None]
        normal = np.matmul(weighted.transpose(0, 2, 1), slopes)
        scale = normal[:, diagonal, diagonal]
        # A coefficient that no measurement depends on keeps still: damping has a floor of the others' size.
        normal[:, diagonal, diagonal] += damping[:, None] * np.maximum(
            scale, 1e-6 * scale.max(axis=1, keepdims=True) + 1e-12
        )
        gradient = np.einsum("kij,ki->kj", weighted, residual)
        tried = np.clip(points - np.linalg.solve(normal, gradient[:, :, None])[:, :, 0], -STEEPEST, STEEPEST)
        tried_raised, tried_predicted = _laws(tried, mixtures)
        tried_losses = _huber(tried_predicted, values, spec.huber)
        better = tried_losses < losses
        small = losses - tried_losses <= 1e-10 * losses
        points, losses = np.where(better[:, None], tried, points), np.where(better, tried_losses, losses)
        raised = np.where(better[:, None], tried_raised, raised)
        predicted = np.where(better[:, None], tried_predicted, predicted)
        if (small & (damping > 1e6)).all() or (small & better).all():
            break
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e9)
    return points, losses


def _starts(mixtures: Array, values: Array, seed: int, spec: ExponentialFit) -> Array:
    generator = generator_for(seed, "exponential law")
    lowest, spread = float(values.min()), max(float(np.ptp(values)), 1e-6)
    # Floors from almost nothing to just below the lowest value, the nearer the denser.
    floors = np.maximum(lowest - spread * np.logspace(-2, 2, spec.floors), 1e-6)
    rows = []
    for floor in np.unique(floors):
        targets = np.log(np.maximum(values - floor, spread * 1e-3))
        linear = np.linalg.lstsq(mixtures, targets, rcond=None)[0]
        noise = generator.normal(size=(spec.draws, len(linear)))
        rows += [
            np.concatenate([[np.log(floor)], np.clip(start, -STEEPEST, STEEPEST)])
            for start in [linear, *(linear + noise)]
        ]
    return np.array(rows)
