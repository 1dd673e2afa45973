"""Laws of a loss over steps and size, and extrapolation of every mixture before mixtures are compared.

Data Mixing Laws (arXiv:2403.16952) nest them: for each mixture L(S) = E + B/S^β over steps (or tokens) at each model size, then
L(N) = E + A/N^α over sizes, and the mixing law is fitted to what they say of the target.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError

Array = npt.NDArray[np.float64]

EXPONENTS = (0.01, 3.0)  # of a decay
LEAST_POWER, MOST_POWER = -1.5, 1.5


@dataclass(frozen=True)
class PowerLaw:
    """offset + Σ scale · x^power; `rmse` is over the points it was fitted on."""

    scales: tuple[float, ...]
    powers: tuple[float, ...]
    offset: float
    rmse: float

    def __call__(self, sizes: npt.ArrayLike) -> Array:
        values = np.asarray(sizes, dtype=np.float64)
        terms = [scale * values**power for scale, power in zip(self.scales, self.powers, strict=True)]
        return np.asarray(self.offset + np.sum(terms, axis=0), dtype=np.float64)


def fit_power_law(budgets: npt.ArrayLike, values: npt.ArrayLike, *, terms: int = 1) -> PowerLaw:
    """Least squares over `terms` powers of any sign and an offset: powers from several starts, the rest in closed form.

    Raises FactoryError where there are fewer points than parameters.
    """
    from scipy.optimize import minimize

    x, y = np.asarray(budgets, dtype=np.float64), np.asarray(values, dtype=np.float64)
    needed = 2 * terms + 1
    if len(np.unique(x)) < needed:
        raise FactoryError(
            f"search: a law of {terms} powers has {needed} parameters, and there are {len(np.unique(x))} budgets. Measure more."
        )
    unit = float(
        x.max()
    )  # powers of T / T_max lie in [0, 1]: the search is the same for tokens and for billions of them

    def solved(powers: Array) -> tuple[Array, float]:
        design = np.stack([*((x / unit) ** power for power in powers), np.ones(len(x))], axis=1)
        found, *_ = np.linalg.lstsq(design, y, rcond=1e-10)
        return found, float(np.mean((design @ found - y) ** 2))

    bounds = [(LEAST_POWER, MOST_POWER)] * terms
    starts = np.linspace(LEAST_POWER, MOST_POWER, 8)[[1, 3, 5, 6]]
    best, error = None, np.inf
    for first in starts:
        start = np.array([first, *(first / 3 + 0.1 * place for place in range(1, terms))])
        found = minimize(lambda powers: solved(powers)[1], start, method="Nelder-Mead", bounds=bounds)
        if float(found.fun) < error:
            best, error = np.asarray(found.x), float(found.fun)
    assert best is not None
    coefficients, error = solved(best)
    scales = tuple(float(value / unit**power) for value, power in zip(coefficients[:-1], best, strict=True))
    return PowerLaw(scales, tuple(float(power) for power in best), float(coefficients[-1]), float(np.sqrt(error)))


def fit_decay(sizes: npt.ArrayLike, losses: npt.ArrayLike) -> PowerLaw:
    """E + B/x^β with E, B and β >= 0 by least squares: for each β the other two are linear, so the search is along one line."""
    from scipy.optimize import minimize_scalar

    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(np.unique(x)) < 3 or (x <= 0).any():
        raise FactoryError(f"search: a power law needs 3 different sizes above 0; given {np.unique(x).tolist()}.")
    unit = float(np.exp(np.log(x).mean()))  # of size, so that no exponent overflows

    def error(log_exponent: float) -> float:
        return _linear(x / unit, y, float(np.exp(log_exponent)))[2]

    low, high = np.log(EXPONENTS)
    grid = np.linspace(low, high, 60)
    best = grid[int(np.argmin([error(point) for point in grid]))]
    step = grid[1] - grid[0]
    found = minimize_scalar(
        error, bounds=(max(low, best - step), min(high, best + step)), method="bounded", options={"xatol": 1e-10}
    )
    exponent = float(np.exp(found.x))
    floor, scale, squares = _linear(x / unit, y, exponent)
    return PowerLaw((scale * unit**exponent,), (-exponent,), floor, float(np.sqrt(squares / len(x))))


def _linear(x: Array, y: Array, exponent: float) -> tuple[float, float, float]:
    """Floor and scale, both at least 0, and the squared error they leave."""
    power = x**-exponent
    centred = power - power.mean()
    scale = max(float(centred @ y) / max(float(centred @ centred), 1e-300), 0.0)
    floor = float(y.mean() - scale * power.mean())
    if floor < 0:
        floor, scale = 0.0, max(float(power @ y) / float(power @ power), 0.0)
    return floor, scale, float(((floor + scale * power - y) ** 2).sum())


def extrapolate(sizes: npt.ArrayLike, losses: Array, target: float) -> Array:
    """The loss of each mixture (a row of `losses`, a column for each size) at `target`."""
    return np.array([float(fit_decay(sizes, row)(target)) for row in np.atleast_2d(losses)])


def extrapolate_nested(
    steps: npt.ArrayLike, models: npt.ArrayLike, losses: Array, target: tuple[float, float]
) -> Array:
    """The loss of each mixture at (steps, model size): `losses` has an axis for mixtures, one for models, one for steps."""
    at_steps = np.stack([extrapolate(steps, losses[:, place], target[0]) for place in range(losses.shape[1])], axis=1)
    return extrapolate(models, at_steps, target[1])
