"""Boosted trees over mixtures: a metric's value from shares by LightGBM, the regression of RegMix (arXiv:2407.01492) and CLIMB.

How many trees is decided by cross-validation within the rows that are given, and the trees are then grown on all of them; no
row that a caller holds out for testing is ever looked at. Trees are fitted to the logarithm of a value's excess over the lowest
one (losses grow exponentially where a domain is missing; on raw values a few such mixtures decide every split), standardised,
so that penalties mean the same for every metric. One thread, fixed seeds and row-wise histograms: the same rows give the
same trees.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.seeds import generator_for, seed_for

Array = npt.NDArray[np.float64]

BELOW = 0.2  # of the way from the lowest value to the median: how far below the lowest the logarithm's zero lies


@dataclass(frozen=True)
class BoostedFit:
    """At most `rounds` trees; the best number by `folds`-fold validation is taken, or all where `folds` is 0."""

    rounds: int = 300
    rate: float = 0.05
    depth: int = 4
    leaf: int = 5
    l1: float = 0.0
    l2: float = 0.0
    folds: int = 5


@dataclass(frozen=True, eq=False)
class Boosted:
    """Trees on standardised logarithms; without any tree (all values equal) the one value is predicted.

    Predicted is `floor` + exp(`mean` + `scale` · trees), the floor a little below the lowest value that was measured.
    """

    booster: Any
    floor: float
    mean: float
    scale: float
    rounds: int

    def predict(self, mixtures: Array) -> Array:
        if self.booster is None:
            return np.full(len(mixtures), self.floor)
        raw = self.booster.predict(np.ascontiguousarray(mixtures), num_threads=1)
        return np.asarray(self.floor + np.exp(self.mean + self.scale * raw), dtype=np.float64)


def fit_boosted(mixtures: Array, values: Array, seed: int, spec: BoostedFit | None = None) -> Boosted:
    import lightgbm

    spec = spec or BoostedFit()
    lowest = float(values.min())
    if float(values.std()) <= 1e-12 * max(abs(lowest), 1.0):
        return Boosted(None, lowest, 0.0, 0.0, 0)
    half = float(np.median(values)) - lowest
    floor = lowest - BELOW * (half if half > 0 else float(values.std()))
    logs = np.log(values - floor)
    mean, scale = float(logs.mean()), float(logs.std())
    targets = (logs - mean) / scale
    settings = _settings(seed, spec)
    rounds = _best_rounds(mixtures, targets, seed, spec, settings) if spec.folds else spec.rounds
    data = lightgbm.Dataset(mixtures, targets, params={"verbosity": -1})
    return Boosted(lightgbm.train(settings, data, rounds), floor, mean, scale, rounds)


def _settings(seed: int, spec: BoostedFit) -> dict[str, Any]:
    return {
        "objective": "l2",
        "metric": "l2",
        "learning_rate": spec.rate,
        "max_depth": spec.depth,
        "num_leaves": 2**spec.depth,
        "min_data_in_leaf": spec.leaf,
        "lambda_l1": spec.l1,
        "lambda_l2": spec.l2,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed_for(seed, "trees") % 2**31,
        "verbosity": -1,
    }


def _best_rounds(mixtures: Array, targets: Array, seed: int, spec: BoostedFit, settings: dict[str, Any]) -> int:
    """The number of trees with the least error on rows the trees did not see, over all folds together."""
    import lightgbm

    order = generator_for(seed, "folds of trees").permutation(len(targets))
    folds = min(spec.folds, len(targets) // 2)
    if folds < 2:
        return spec.rounds
    errors = np.zeros(spec.rounds)
    for fold in range(folds):
        held = np.zeros(len(targets), dtype=bool)
        held[order[fold::folds]] = True
        seen: dict[str, dict[str, list[float]]] = {}
        lightgbm.train(
            settings,
            lightgbm.Dataset(mixtures[~held], targets[~held], params={"verbosity": -1}),
            spec.rounds,
            valid_sets=[lightgbm.Dataset(mixtures[held], targets[held], params={"verbosity": -1})],
            valid_names=["held"],
            callbacks=[lightgbm.record_evaluation(seen)],
        )
        errors += np.array(seen["held"]["l2"]) * held.sum()
    return int(np.argmin(errors)) + 1
