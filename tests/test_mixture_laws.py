"""Laws of tokens, size and one domain's share: recovered from tables that were made by them."""

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.core.ranks import spearman
from factory.mixing.exponential import fit_exponential
from factory.mixing.laws import extrapolate, extrapolate_nested, fit_decay
from tests.worlds import w6_law_table as table

STEPS = [500, 1_000, 2_000, 4_000]
MODELS = [1e6, 4e6, 16e6, 64e6]


def test_a_power_law_is_recovered_exactly():
    sizes = np.array([1e3, 3e3, 1e4, 3e4, 1e5])
    law = fit_decay(sizes, 1.7 + 25 * sizes**-0.43)
    assert (law.offset, *law.scales, *law.powers) == pytest.approx((1.7, 25, -0.43), rel=1e-4)
    assert float(law(1e7)) == pytest.approx(1.7 + 25 * 1e7**-0.43, rel=1e-5)


def test_a_law_of_two_sizes_is_refused():
    with pytest.raises(FactoryError, match="needs 3 different sizes"):
        fit_decay([100.0, 100.0, 200.0], [3.0, 3.1, 2.0])


def test_mixtures_are_extrapolated_to_a_larger_model_and_longer_training():
    limits = np.linspace(2.0, 2.6, 8)
    losses = table.step_and_size_losses(limits, STEPS, MODELS, 0)
    told = extrapolate_nested(STEPS, MODELS, losses, (100_000, 1e9))
    true = table.step_and_size_losses(limits, [100_000], [1e9], 0)[:, 0, 0]
    assert np.abs(told - true).max() < 0.02
    assert spearman(told, true) == 1


def test_the_mixing_law_of_extrapolated_losses_ranks_mixtures():
    law = table.mixing_law(5, 3)
    generator = np.random.default_rng(3)
    mixtures, unseen = generator.dirichlet(np.ones(5), 18), generator.dirichlet(np.ones(5), 100)
    losses = table.step_and_size_losses(law.loss(mixtures), STEPS, MODELS[:1], 3, noise=2e-4)[:, 0]
    at_end = extrapolate(STEPS, losses, 100_000)
    ranked = spearman(fit_exponential(mixtures, at_end, 0).predict(unseen), law.loss(unseen))
    assert ranked >= 0.9
    shuffled = fit_exponential(mixtures, generator.permutation(at_end), 0)
    assert spearman(shuffled.predict(unseen), law.loss(unseen)) < 0.7
