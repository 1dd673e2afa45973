"""Tables of losses from laws that are known: exponential mixing laws, and power laws of steps and size.

Noise is normal on the exponential law (its published form) and log-normal on the others.
"""

from dataclasses import dataclass

import numpy as np

FLOOR = 0.6


@dataclass(frozen=True)
class MixingLaw:
    """Loss = floor + exp(coefficients · shares); coefficients ~ N(-1, 1)."""

    coefficients: np.ndarray

    def loss(self, mixtures):
        return FLOOR + np.exp(np.atleast_2d(mixtures) @ self.coefficients)

    def table(self, trials, seed, noise=0.01):
        """Mixtures drawn evenly from the simplex, and their measured losses."""
        generator = np.random.default_rng([seed, 1])
        mixtures = generator.dirichlet(np.ones(len(self.coefficients)), trials)
        return mixtures, self.loss(mixtures) + generator.normal(0, noise, trials)


def mixing_law(domains, seed):
    return MixingLaw(np.random.default_rng([seed, 0]).normal(-1, 1, domains))


def step_and_size_losses(limits, steps, models, seed, noise=0.0):
    """Mixture x model x step: L = limit + 50 / N^0.3 + 20 / S^0.4, where `limits` are what the mixtures end at."""
    generator = np.random.default_rng(seed)
    table = (
        np.asarray(limits)[:, None, None]
        + 50 / np.asarray(models, float)[None, :, None] ** 0.3
        + 20 / np.asarray(steps, float)[None, None, :] ** 0.4
    )
    return table * np.exp(generator.normal(0, noise, table.shape))
