"""The critical ratio of continual pretraining, on a law whose answer is known."""

import numpy as np
import pytest
from scipy.optimize import brentq

from factory.core.errors import FactoryError
from factory.mixing import cmr

RATIOS = np.array([1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4])
BUDGETS = np.arange(10.0, 101.0, 10.0)
TOLERANCE = 0.05


def general(ratio, budget):
    return 0.35 * ratio**1.5 * budget**0.12 - 0.008 * (1 - ratio) * budget**0.5


TRUE = np.array([brentq(lambda ratio, at=budget: general(ratio, at) - TOLERANCE, 0.01, 1.0) for budget in BUDGETS])
TABLE = np.array([[general(ratio, budget) for ratio in RATIOS] for budget in BUDGETS])


def test_interpolation_between_ratios_finds_the_crossing():
    assert TRUE[[0, -1]] == pytest.approx([0.279, 0.310], abs=1e-3)
    found = np.array(cmr.critical_ratios(RATIOS, TABLE, TOLERANCE))
    assert np.abs(found - TRUE).max() <= 0.0014


def test_the_ratios_follow_a_power_law_of_the_budget():
    law = cmr.fit_power_law(BUDGETS, TRUE)
    assert law.rmse <= 3.5e-4
    assert (np.diff(law(BUDGETS)) > 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_with_noise_the_ratio_is_within_a_hundredth_and_grows_with_the_budget(seed):
    noisy = TABLE + np.random.default_rng(seed).normal(0.0, 0.003, TABLE.shape)
    found = cmr.critical_law(BUDGETS.tolist(), RATIOS, noisy, TOLERANCE, noise=0.003, seed=seed)
    assert np.abs(found.law(BUDGETS) - TRUE).max() <= 0.01
    assert (np.diff(found.law(BUDGETS)) > 0).all()
    assert found.interval[0] <= TRUE[-1] <= found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.03


def test_both_laws_are_recovered_and_predict_a_budget_that_was_not_run():
    law = cmr.fit_general(BUDGETS, TABLE[:, 2])
    assert law([200.0]) == pytest.approx([general(0.25, 200.0)], abs=1e-3)
    domain = cmr.fit_power_law(BUDGETS, 0.8 * BUDGETS**-0.3 - 1.0)
    assert domain.powers == pytest.approx([-0.3], abs=1e-2)
    assert domain([200.0]) == pytest.approx([0.8 * 200.0**-0.3 - 1.0], abs=1e-3)


def test_laws_do_not_depend_on_the_unit_of_tokens():
    small, large = cmr.fit_power_law(BUDGETS, TRUE), cmr.fit_power_law(BUDGETS * 2e8, TRUE)
    assert large(BUDGETS * 2e8) == pytest.approx(small(BUDGETS), abs=1e-6)


def test_a_ratio_whose_loss_still_rises_is_not_feasible():
    rising = np.array([[0.001 * ratio * budget for ratio in RATIOS] for budget in BUDGETS])
    found = cmr.critical_law(BUDGETS.tolist(), RATIOS, rising, tolerance=1.0)
    assert found.falling == (False,) * len(RATIOS)
    assert found.at_most is None


def test_too_much_and_not_enough_are_told_apart():
    assert cmr.critical_ratio([0.1, 0.2], [0.3, 0.4], 0.05) is None
    assert cmr.critical_ratio([0.1, 0.2], [0.01, 0.02], 0.05) == 0.2
    assert cmr.critical_ratio([0.1, 0.2], [0.0, 0.1], 0.05) == pytest.approx(0.15)
    with pytest.raises(FactoryError, match="ratios must rise"):
        cmr.critical_ratio([0.2, 0.1], [0.0, 0.1], 0.05)
    with pytest.raises(FactoryError, match="5 parameters, and there are 3 budgets"):
        cmr.fit_general([1, 2, 3], [1, 2, 3])
