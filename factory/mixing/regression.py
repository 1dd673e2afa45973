"""Metrics over mixtures: one fit for each objective, their mean is what is lowered, and held-out ranks say whether to trust it.

Predictions that are tested are of mixtures the fit did not see, nor anything that was chosen by them. Which family of
functions fits is not known beforehand (the published comparisons disagree), so `choose` fits both and keeps the one that
ranks held-out mixtures better.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from factory.core.ranks import spearman
from factory.core.seeds import generator_for
from factory.mixing.boosted import BoostedFit, fit_boosted
from factory.mixing.exponential import ExponentialFit, fit_exponential

Array = npt.NDArray[np.float64]

FOLDS = 5


class Predictor(Protocol):
    """Values of a metric for mixtures, a row each."""

    def predict(self, mixtures: Array) -> Array: ...


Fit = Callable[[Array, Array, int], Predictor]  # mixtures, values, seed


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean of the objectives' predictions."""

    parts: tuple[Predictor, ...]

    def predict(self, mixtures: Array) -> Array:
        return np.asarray(self.by_objective(mixtures).mean(axis=1), dtype=np.float64)

    def by_objective(self, mixtures: Array) -> Array:
        return np.stack([part.predict(mixtures) for part in self.parts], axis=1)


def fit_each(fit: Fit, mixtures: Array, values: Array, seed: int) -> Mean:
    """One fit for each column of `values`."""
    return Mean(tuple(fit(mixtures, values[:, column], seed) for column in range(values.shape[1])))


def boosted(spec: BoostedFit | None = None) -> Fit:
    return lambda mixtures, values, seed: fit_boosted(mixtures, values, seed, spec)


def exponential(spec: ExponentialFit | None = None) -> Fit:
    return lambda mixtures, values, seed: fit_exponential(mixtures, values, seed, spec)


def held_out(fit: Fit, mixtures: Array, values: Array, seed: int, folds: int = FOLDS) -> Array:
    """Predictions of the mean objective for every mixture, each from a fit that did not see it."""
    order = generator_for(seed, "folds of test").permutation(len(mixtures))
    predicted = np.full(len(mixtures), math.nan)
    folds = min(folds, len(mixtures))
    for fold in range(folds):
        held = np.zeros(len(mixtures), dtype=bool)
        held[order[fold::folds]] = True
        predicted[held] = fit_each(fit, mixtures[~held], values[~held], seed).predict(mixtures[held])
    return predicted


def held_out_rank(fit: Fit, mixtures: Array, values: Array, seed: int) -> float:
    """Spearman's correlation of held-out predictions with what was measured; NaN with fewer than 4 mixtures."""
    if len(mixtures) < 4:
        return math.nan
    return spearman(held_out(fit, mixtures, values, seed), values.mean(axis=1))


def shuffled_rank(fit: Fit, mixtures: Array, values: Array, seed: int) -> float:
    """The same with measurements dealt to other mixtures at random: what a fit of nothing looks like."""
    order = generator_for(seed, "shuffled control").permutation(len(mixtures))
    return held_out_rank(fit, mixtures, values[order], seed)


def choose(fits: Mapping[str, Fit], mixtures: Array, values: Array, seed: int) -> tuple[str, dict[str, float]]:
    """The family with the best held-out rank correlation (the first of equals), and that of each."""
    scores = {name: held_out_rank(fit, mixtures, values, seed) for name, fit in fits.items()}
    known = {name: score for name, score in scores.items() if math.isfinite(score)}
    return (max(known, key=lambda name: known[name]) if known else next(iter(fits))), scores
