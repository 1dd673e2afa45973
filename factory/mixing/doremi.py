"""DoReMi (arXiv:2305.10429): more of the domains where a model is worse than a reference model of its size could be.

Losses per token of both models come in, shares go out. The excess is clipped at 0 token by token, then averaged per domain:
a domain that is noise to both has none, and neither has one that is easy for both. Without a reference the same step is
plain group DRO, which runs after noise. The mixture is the average of the shares over all steps.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from factory.core.config import Config
from factory.mixing.simplex import Vector, exponentiated, floored, uniform


class DoReMiSettings(Config):
    """`eta` is the step, `epsilon` the share that is spread evenly. `reference` false is plain group DRO: a control."""

    eta: float = Field(1.0, gt=0)
    epsilon: float = Field(1e-3, ge=0, lt=1)
    reference: bool = True


def clipped_excess(
    losses: npt.ArrayLike, reference: npt.ArrayLike, domains: npt.ArrayLike, last: npt.ArrayLike
) -> Vector:
    """λ of every domain: the mean over its tokens of max(loss - reference, 0); a domain without tokens keeps its `last`."""
    excess = np.maximum(np.asarray(losses, dtype=np.float64) - np.asarray(reference, dtype=np.float64), 0.0)
    result = np.array(last, dtype=np.float64)
    owners = np.asarray(domains, dtype=np.int64)
    tokens = np.bincount(owners, minlength=len(result))
    sums = np.bincount(owners, weights=excess, minlength=len(result))
    present = tokens > 0
    result[present] = sums[present] / tokens[present]
    return result


def step(shares: npt.ArrayLike, excess: npt.ArrayLike, *, eta: float = 1.0, epsilon: float = 1e-3) -> Vector:
    """The shares after one step: w · exp(η λ), summing to 1, then (1 - ε) w + ε / k."""
    return floored(exponentiated(shares, eta * np.asarray(excess, dtype=np.float64)), epsilon)


class GroupDro:
    """The state of a run: shares, last excess, and the sum that becomes the average."""

    def __init__(self, count: int, settings: DoReMiSettings) -> None:
        self.settings = settings
        self.shares = uniform(count)
        self.excess = np.zeros(count)
        self.total = np.zeros(count)
        self.steps = 0

    def update(self, losses: npt.ArrayLike, reference: npt.ArrayLike, domains: npt.ArrayLike) -> Vector:
        """Take one batch: losses per token, the reference's, and whose each token is. Returns the new shares."""
        self.excess = clipped_excess(losses, reference, domains, self.excess)
        self.shares = step(self.shares, self.excess, eta=self.settings.eta, epsilon=self.settings.epsilon)
        self.total = self.total + self.shares
        self.steps += 1
        return self.shares

    @property
    def average(self) -> Vector:
        return self.total / self.steps if self.steps else self.shares

    def to_json(self) -> dict[str, object]:
        return {
            "shares": self.shares.tolist(),
            "excess": self.excess.tolist(),
            "total": self.total.tolist(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, object]) -> None:
        self.shares, self.excess, self.total = (np.asarray(state[key]) for key in ("shares", "excess", "total"))
        self.steps = int(str(state["steps"]))
