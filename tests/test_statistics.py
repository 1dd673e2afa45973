"""The statistics of verdicts, held to simulations whose truth is known."""

import math

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.core.noise import Noise, pooled_noise
from factory.evaluation.distributions import f_tail, t_cdf, t_quantile
from factory.evaluation.statistics import (
    Scores,
    bootstrap_means,
    holm,
    means,
    minimal_detectable_difference,
    seeds_to_decide,
    t_interval,
    verdict,
)

ITEMS = 90
DOMAINS = np.arange(ITEMS) % 3
WEIGHTS = np.random.default_rng(0).integers(50, 2000, ITEMS).astype(float)


def simulate(
    random: np.random.Generator, seeds: int, *, mean: float = 1.5, seed_sd: float = 0.01, effect: float = 0.0
) -> list[Scores]:
    """Experiments of one recipe on the same items: items differ, seeds shift all of them, and answers wobble.

    The second one's true mean is higher by `effect`, more on some items than on others.
    """
    difficulty = random.normal(mean, 0.3, ITEMS)
    extra = random.normal(effect, abs(effect), ITEMS)
    arms = []
    for arm in range(4):
        shift = random.normal(0, seed_sd, (seeds, 1))
        wobble = random.normal(0, 0.02, (seeds, ITEMS))
        arms.append(Scores(difficulty + shift + wobble + extra * (arm == 1), WEIGHTS, DOMAINS))
    return arms


@pytest.mark.parametrize(
    ("probability", "dof", "value"),
    [(0.975, 1, 12.7062047), (0.975, 2, 4.30265273), (0.975, 4, 2.77644511), (0.8, 8, 0.888889518), (0.975, 1000, 1.96233907)],
)  # fmt: skip
def test_quantiles_of_t_are_those_of_the_tables(probability: float, dof: int, value: float) -> None:
    assert t_quantile(probability, dof) == pytest.approx(value, rel=1e-7)
    assert t_quantile(1 - probability, dof) == pytest.approx(-value, rel=1e-7)
    assert t_cdf(value, dof) == pytest.approx(probability, abs=1e-8)


def test_f_is_t_squared() -> None:
    assert f_tail(2.77644511**2, 1, 4) == pytest.approx(0.05, abs=1e-7)


def test_the_interval_of_seeds_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    runs = random.normal(0, 1, (2000, 3))
    covered = [interval.low <= 0 <= interval.high for interval in map(t_interval, runs) if interval]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_items_drawn_again_cover_the_true_mean() -> None:
    random = np.random.default_rng(2)
    weights, domains = np.ones(60), np.zeros(60, dtype=np.int64)
    covered = []
    for trial in range(300):
        values = random.normal(0, 1, (1, 60))
        drawn = bootstrap_means(values, weights, domains, key=f"{trial}", resamples=400)[:, 0]
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered.append(low <= 0 <= high)
    assert 0.91 <= np.mean(covered) <= 0.98


def test_pairing_by_items_shrinks_the_interval_threefold() -> None:
    base = np.r_[np.ones(400), np.zeros(600)][None]
    other = np.r_[np.ones(450), np.zeros(550)][None]
    arms = [Scores(values, np.ones(1000), np.zeros(1000, dtype=np.int64)) for values in (base, other)]
    low, high = verdict(*arms, resamples=4000).item_interval
    assert [low, high] == pytest.approx([0.036, 0.063], abs=0.003)
    unpaired = math.hypot(*(values.std() / math.sqrt(1000) for values in (base, other)))
    assert unpaired == pytest.approx(0.022, abs=0.001)


def test_both_noises_make_a_wider_interval_than_either() -> None:
    base, other, *_ = simulate(np.random.default_rng(3), 12, seed_sd=0.03, effect=0.05)
    found = verdict(base, other)
    assert found.interval is not None
    assert found.seed_interval is not None
    assert found.interval.low < found.seed_interval.low < found.seed_interval.high < found.interval.high
    assert found.interval.low < found.item_interval.low < found.item_interval.high < found.interval.high


@pytest.mark.parametrize("seed_sd", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("seeds", [2, 3])
def test_the_same_recipe_is_rarely_called_better_or_worse(seeds: int, seed_sd: float) -> None:
    random = np.random.default_rng(4)
    decided = 0
    for trial in range(300):
        base, other, third, fourth = simulate(random, seeds, seed_sd=seed_sd)
        pool = (third.by_seed, fourth.by_seed)
        decided += verdict(base, other, pool=pool, resamples=120, key=f"{trial}").outcome != "undecided"
    assert decided / 300 <= 0.07


def test_one_noisy_experiment_is_not_judged_by_the_calm_of_the_others() -> None:
    random = np.random.default_rng(5)
    decided = 0
    for trial in range(300):
        base, other, third, fourth = simulate(random, 3, seed_sd=0.1)
        calm = [1.5 + (arm.by_seed - 1.5) / 20 for arm in (third, fourth)]
        decided += verdict(base, other, pool=calm, resamples=120, key=f"{trial}").outcome != "undecided"
    assert decided / 300 <= 0.07, "one pooled deviation for all would decide 0.17 of these"


def test_a_real_effect_is_found_and_signed() -> None:
    base, other, third, fourth = simulate(np.random.default_rng(6), 3, effect=-0.1)
    pool = (third.by_seed, fourth.by_seed)
    found = verdict(base, other, pool=pool)
    assert (found.outcome, found.seeds_needed) == ("better", None)
    assert verdict(base, other, pool=pool, higher_is_better=True).outcome == "worse"
    assert verdict(other, base, pool=pool).outcome == "worse"
    assert found.sign_probability > 0.99
    assert found.p is not None
    assert found.p < 0.01


def test_pooling_gives_three_seeds_the_power_they_lack_alone() -> None:
    random = np.random.default_rng(7)
    alone = pooled = 0
    for trial in range(120):
        base, other, *rest = simulate(random, 3, seed_sd=0.02, effect=0.06)
        alone += verdict(base, other, resamples=100, key=f"{trial}").outcome == "worse"
        pool = [arm.by_seed for arm in rest]
        pooled += verdict(base, other, pool=pool, resamples=100, key=f"{trial}").outcome == "worse"
    assert pooled > alone + 5


@pytest.mark.parametrize(("base_seeds", "other_seeds"), [(1, 3), (3, 1), (1, 1)])
def test_one_seed_decides_nothing_and_the_verdict_says_so(base_seeds: int, other_seeds: int) -> None:
    base, other, third, fourth = simulate(np.random.default_rng(8), 3, effect=1.0)
    found = verdict(
        Scores(base.values[:base_seeds], WEIGHTS, DOMAINS),
        Scores(other.values[:other_seeds], WEIGHTS, DOMAINS),
        pool=(third.by_seed, fourth.by_seed),
    )
    assert found.outcome == "undecided"
    assert found.reason.startswith("1 seed: one run cannot be told from luck")
    assert found.seeds_needed == 2


def test_seeds_that_change_nothing_prove_nothing() -> None:
    base, other, *_ = simulate(np.random.default_rng(9), 1, effect=1.0)
    arms = [Scores(np.repeat(arm.values, 3, axis=0), WEIGHTS, DOMAINS) for arm in (base, other)]
    found = verdict(*arms)
    assert found.outcome == "undecided"
    assert "identical" in found.reason


def test_an_undecided_verdict_says_how_many_seeds_would_decide() -> None:
    base, other, *rest = simulate(np.random.default_rng(10), 3, seed_sd=0.05, effect=0.02)
    found = verdict(base, other, pool=[arm.by_seed for arm in rest])
    assert found.outcome == "undecided"
    assert found.seeds_needed is None or found.seeds_needed > 3
    assert "seeds" in found.reason


def test_the_same_scores_give_the_same_verdict_and_the_key_seeds_it() -> None:
    base, other, *_ = simulate(np.random.default_rng(11), 3)
    assert verdict(base, other, key="a") == verdict(base, other, key="a")
    assert verdict(base, other, key="a").item_interval != verdict(base, other, key="b").item_interval


def test_different_items_are_never_compared() -> None:
    base, other, *_ = simulate(np.random.default_rng(12), 3)
    fewer = Scores(other.values[:, 1:], WEIGHTS[1:], DOMAINS[1:])
    with pytest.raises(FactoryError, match=r"different items \(90 and 89\)"):
        verdict(base, fewer)


def test_pooled_noise_finds_the_true_deviation() -> None:
    random = np.random.default_rng(13)
    groups = random.normal(random.normal(0, 5, (25, 1)), 0.4, (25, 5))
    found = pooled_noise(groups)
    assert found.dof == 100
    assert found.sigma == pytest.approx(0.4, rel=0.1 * 1.5)
    assert pooled_noise([[1.0]]).dof == 0


def test_the_macro_mean_gives_each_domain_the_same_say() -> None:
    values = np.array([[1.0, 1.0, 1.0, 5.0]])
    assert means(values, np.array([1.0, 2.0, 3.0, 1.0]), np.array([0, 0, 0, 1]))[0] == pytest.approx(3.0)


@pytest.mark.parametrize(("seeds", "factor"), [(3, 3.035), (5, 2.021)])
def test_the_detectable_difference_has_the_power_it_promises(seeds: int, factor: float) -> None:
    size = minimal_detectable_difference(1.0, seeds)
    assert size == pytest.approx(factor, abs=0.01)
    random = np.random.default_rng(14)
    first, second = random.normal(0, 1, (20_000, seeds)), random.normal(size, 1, (20_000, seeds))
    pooled = np.sqrt((first.var(1, ddof=1) + second.var(1, ddof=1)) / 2)
    t = (second.mean(1) - first.mean(1)) / (pooled * math.sqrt(2 / seeds))
    assert (t > t_quantile(0.975, 2 * seeds - 2)).mean() == pytest.approx(0.8, abs=0.03)


def test_seeds_to_decide_is_the_detectable_difference_turned_round() -> None:
    for seeds in (3, 7, 40):
        assert seeds_to_decide(minimal_detectable_difference(0.3, seeds) * 1.0001, 0.3) == seeds
    assert seeds_to_decide(0.1, 0.3, item_se=0.1) is None
    assert seeds_to_decide(0.0, 0.3) is None


def test_holm_is_the_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_given_noise_makes_an_interval_of_one_seed() -> None:
    assert t_interval([2.0]) is None
    interval = t_interval([2.0], Noise(0.1, 8))
    assert interval is not None
    assert interval.high == pytest.approx(2 + 0.1 * 2.306, abs=1e-4)
