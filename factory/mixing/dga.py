"""Dynamic gradient alignment (arXiv:2410.02498): more of the domains whose gradient points where the target's does.

Inner products of gradients come in, shares go out: α_i ← α_i exp(η ⟨∇ℓ(domain i), ∇ℓ(target)⟩), which is a step of mirror
descent on the target's loss through one training step. What is sampled from is the moving average of α. For thousands of
domains the same step moves the weights of a few histograms, whose mixture the shares are.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.mixing.simplex import Vector, bounded, exponentiated, uniform

LARGEST_STEP = 0.5  # an update may change a share by e^0.5 and no more


class DgaSettings(Config):
    """`every` steps the gradients are compared; `beta` is the weight of the newest α in what is sampled from.

    Without `eta` it is calibrated: such that the first update changes no share by more than e^0.5. No α is below
    epsilon / k. `target` is the mixture of the pool's domains the run is for, unless a token file of its own is given.
    `batches` gradients, each of a batch of sequences, are averaged for each domain and for the target; `gradients: last`
    takes those of the last block and the head alone. A target taken from the pool's domains is read from `held_out`
    sequences of each, which are never trained on.
    """

    every: int = Field(100, ge=1)
    beta: float = Field(0.1, gt=0, le=1)
    eta: float | None = Field(None, gt=0)
    epsilon: float = Field(1e-3, ge=0, lt=1)
    target: dict[str, float] | None = None
    gradients: Literal["full", "last"] = "full"
    batches: int = Field(4, ge=1)
    held_out: int = Field(16, ge=1)
    basis: tuple[tuple[float, ...], ...] | None = None
    take: Literal["average", "final"] = "final"


def calibrated_eta(alignments: npt.ArrayLike) -> float:
    """The step at which the largest change of a share is about e^0.5; what all domains have in common changes none."""
    products = np.asarray(alignments, dtype=np.float64)
    largest = float(np.abs(products - products.mean()).max())
    if not np.isfinite(largest) or largest == 0.0:
        raise FactoryError(
            f"dga: the inner products of the domains' gradients with the target's are {products.tolist()}: no step has a size. "
            "Are the domains different, and the target none of them all?"
        )
    return LARGEST_STEP / largest


class Alignment:
    """The state of a run: α, its moving average, and the step. With a `basis` (rows are histograms) α weighs its rows."""

    def __init__(self, count: int, settings: DgaSettings, start: npt.ArrayLike | None = None) -> None:
        self.settings = settings
        self.basis = None if settings.basis is None else np.asarray(settings.basis, dtype=np.float64)
        if self.basis is not None and (
            self.basis.shape[1] != count or not np.allclose(self.basis.sum(axis=1), 1.0, atol=1e-6)
        ):
            raise FactoryError(
                f"dga: the basis has rows of {self.basis.shape[1]} shares that sum to {self.basis.sum(axis=1).round(4)}; "
                f"{count} shares that sum to 1 are needed."
            )
        rows = count if self.basis is None else len(self.basis)
        self.alpha = uniform(rows) if start is None else np.array(start, dtype=np.float64)
        self.smoothed = self.alpha.copy()
        self.eta = settings.eta

    @property
    def shares(self) -> Vector:
        """What is sampled from."""
        return self.smoothed if self.basis is None else self.smoothed @ self.basis

    def update(self, alignments: npt.ArrayLike) -> Vector:
        """Take the inner products of every row's gradient with the target's. Returns what to sample from."""
        products = np.asarray(alignments, dtype=np.float64)
        if self.eta is None:
            self.eta = calibrated_eta(products)
        self.alpha = bounded(exponentiated(self.alpha, self.eta * products), self.settings.epsilon)
        self.smoothed = (1.0 - self.settings.beta) * self.smoothed + self.settings.beta * self.alpha
        return self.shares

    def to_json(self) -> dict[str, object]:
        return {"alpha": self.alpha.tolist(), "smoothed": self.smoothed.tolist(), "eta": self.eta}

    def restore(self, state: dict[str, object]) -> None:
        self.alpha, self.smoothed = np.asarray(state["alpha"]), np.asarray(state["smoothed"])
        self.eta = None if state["eta"] is None else float(str(state["eta"]))


def alignments(gradients: npt.ArrayLike, target: npt.ArrayLike) -> Vector:
    """⟨g_i, g_target⟩ for gradients as rows."""
    rows, along = np.asarray(gradients, dtype=np.float64), np.asarray(target, dtype=np.float64)
    products: Vector = rows.reshape(len(rows), -1) @ along.ravel()
    return products
