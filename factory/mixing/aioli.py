"""Aioli (arXiv:2411.05735): shares from probes of the running model, of how much training on each domain lowers all losses.

Every mixing law says L_j after a step is L_j - Σ_i A_ji p_i; what differs is how good the estimate of A is. Short probes
train on one domain mostly (`probe`), the drops of all losses are collected, and A is solved from them, since no probe was
pure. Then p_i ← p_i exp(η Σ_j A_ji). Long probes measure later domains on another model than earlier ones.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.mixing.simplex import Matrix, Vector, exponentiated


class AioliSettings(Config):
    """A round is `every` steps; it begins with `sweeps` over all domains of `probe_steps` each, on the smoothed one-hot
    mixture with `focus` on one domain. `eta` is the step; `smooth`, where given, the weight of the newest shares in a moving
    average. `held_out` sequences of each domain measure the losses.
    """

    every: int = Field(250, ge=1)
    sweeps: int = Field(4, ge=1)
    probe_steps: int = Field(4, ge=1)
    focus: float = Field(0.625, gt=0, le=1)
    eta: float = Field(0.2, gt=0)
    smooth: float | None = Field(None, gt=0, le=1)
    held_out: int = Field(16, ge=1)
    take: Literal["average", "final"] = "average"


def probe_mixtures(count: int, focus: float = 0.625) -> Matrix:
    """The mixtures probes train on, as rows: `focus` of one domain and the rest spread evenly over the others."""
    if count < 2:
        raise FactoryError(f"aioli: {count} domains; at least two are needed for a mixture.")
    rest = (1.0 - focus) / (count - 1)
    return np.asarray(rest + (focus - rest) * np.eye(count), dtype=np.float64)


def solve_law(drops: npt.ArrayLike, mixtures: npt.ArrayLike) -> Matrix:
    """A from M = A Qᵀ: `drops[j, i]` is how much probe i lowered loss j, row i of `mixtures` what it trained on."""
    measured, shares = np.asarray(drops, dtype=np.float64), np.asarray(mixtures, dtype=np.float64)
    return np.asarray(np.linalg.solve(shares, measured.T).T, dtype=np.float64)


def normalised(law: npt.ArrayLike) -> Matrix:
    """A without negative entries (shifted by the least, where it is negative) and summing to 1; zeros stay zeros."""
    values = np.array(law, dtype=np.float64)
    values -= min(0.0, float(values.min()))
    total = float(values.sum())
    return values / total if total > 0 else values


def step(shares: npt.ArrayLike, law: npt.ArrayLike, *, eta: float = 0.2) -> Vector:
    """p_i exp(η Σ_j A_ji): column sums of the normalised law are what training on a domain is worth."""
    return exponentiated(shares, eta * normalised(law).sum(axis=0))


class Probes:
    """The drops of one round, collected probe by probe."""

    def __init__(self, count: int, settings: AioliSettings) -> None:
        self.settings = settings
        self.mixtures = probe_mixtures(count, settings.focus)
        self.drops = np.zeros((count, count))

    def add(self, domain: int, before: npt.ArrayLike, after: npt.ArrayLike) -> None:
        self.drops[:, domain] += np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)

    @property
    def law(self) -> Matrix:
        return solve_law(self.drops / self.settings.sweeps, self.mixtures)

    def next_shares(self, shares: npt.ArrayLike) -> Vector:
        """The shares of the rest of the round."""
        moved = step(shares, self.law, eta=self.settings.eta)
        weight = self.settings.smooth
        return moved if weight is None else (1 - weight) * np.asarray(shares, dtype=np.float64) + weight * moved


def probe_share(count: int, settings: AioliSettings) -> float:
    """The share of a round that its probes take."""
    return count * settings.sweeps * settings.probe_steps / settings.every
