"""What keeps a search from shipping noise: fresh trainings decide, the base stands in doubt, nothing gets worse unseen."""

from functools import cache

import numpy as np
import pytest
from searched_world import problem

from factory.core.noise import pooled_noise
from factory.mixing.baselines import baseline, baseline_proposals, caps_of
from factory.mixing.boosted import BoostedFit, fit_boosted
from factory.mixing.caps import is_within
from factory.mixing.exponential import Exponential
from factory.mixing.guards import Arm, adopt, effects, resamples, shrunk, to_prior_where_unsure
from factory.mixing.regression import Mean
from factory.mixing.shares import raised
from factory.mixing.solver import draw_candidates
from factory.mixing.swarm import draw_swarm
from tests.worlds.w1_markov_domains import NATURAL, markov_domains

REPETITIONS = 20


@cache
def decisions():
    """The true loss of the best prediction, of the best replicated measurement, and of what a guard takes, by repetition."""
    world, rows = markov_domains(), []
    for seed in range(REPETITIONS):
        generator = np.random.default_rng([seed, 9])
        swarm = draw_swarm(NATURAL, 21, seed)
        losses = world.train_all(swarm, 3_000, seed)
        candidates = draw_candidates(np.array(raised(NATURAL, 0.5)), 2_000, seed, strength=6)
        model = fit_boosted(swarm, losses, seed, BoostedFit(300, folds=0))
        predicted = candidates[np.argmin(model.predict(candidates))]
        contenders = [predicted, *swarm[np.argsort(losses)[:5]]]
        fresh = [np.mean([world.train(shares, 3_000, generator) for _ in range(3)]) for shares in contenders]
        true = [world.true_loss(shares) for shares in contenders]
        rows.append((true[0], true[1 + int(np.argmin(fresh[1:]))], true[int(np.argmin(fresh))]))
    return np.array(rows)


def test_the_unguarded_best_prediction_is_no_better_than_the_best_replicated_measurement_in_half_of_the_cases():
    predicted, measured, _ = decisions().T
    assert (predicted > measured).sum() >= REPETITIONS // 2


def test_the_guard_regrets_next_to_nothing():
    predicted, measured, guarded = decisions().T
    regret = guarded - np.minimum(predicted, measured)
    assert regret.max() <= 0.03
    assert regret.mean() <= 0.005


def arm(name, *scores, adoptable=True):
    return Arm(name, np.array(scores, dtype=float).reshape(len(scores), -1), adoptable)


def take(arms, margin=2.0, tolerance=1.0, metrics=("loss",)):
    return adopt(arms, "natural", metrics, margin=margin, tolerance=tolerance)


def test_the_best_mean_is_taken_beyond_the_margin():
    found = take([arm("natural", 3.0, 3.1, 3.2), arm("one", 2.5, 2.6, 2.7), arm("two", 2.4, 2.6, 2.9)])
    assert (found.name, found.degrees) == ("one", 6)
    assert found.gain == pytest.approx(0.5)
    assert found.rows[0]["candidate"] == "one"


def test_within_the_margin_the_base_stands():
    found = take([arm("natural", 3.0, 3.1, 3.2), arm("one", 2.9, 3.0, 3.1)])
    assert (found.name, found.gain) == ("natural", 0.0)
    assert "0.1 better than natural; 2 x seed noise = 0.2" in found.reason


def test_an_arm_that_makes_one_objective_worse_is_not_taken():
    base = Arm("natural", np.array([[3.0, 3.0], [3.02, 3.02]]))
    lopsided = Arm("lopsided", np.array([[1.0, 3.2], [1.02, 3.22]]))
    balanced = Arm("balanced", np.array([[2.8, 2.9], [2.82, 2.92]]))
    found = take([base, lopsided, balanced], metrics=("a", "b"))
    assert found.name == "balanced"
    assert next(row for row in found.rows if row["candidate"] == "lopsided")["worse_than_base_in"] == ["b"]
    assert take([base, lopsided, balanced], metrics=("a", "b"), tolerance=100).name == "lopsided"


def test_an_arm_beyond_its_bounds_is_measured_and_not_taken():
    found = take([arm("natural", 3.0, 3.1), arm("single", 1.0, 1.1, adoptable=False)])
    assert found.name == "natural"
    assert found.rows[0] == found.rows[0] | {"candidate": "single", "within_bounds": False}


def test_nothing_is_taken_where_the_noise_is_unknown_or_the_base_missing():
    assert take([arm("natural", 3.0), arm("one", 1.0)]).noise is None
    assert "base 'natural' was not measured" in take([arm("one", 1.0, 1.1)]).reason


def test_means_that_differ_by_noise_alone_are_shrunk_together():
    noise = np.random.default_rng(0).normal(3, 0.1, 12)
    close = shrunk(noise, np.full(12, 0.01))
    assert np.ptp(close) < 0.5 * np.ptp(noise)
    apart = np.linspace(2, 4, 12)
    assert shrunk(apart, np.full(12, 1e-4)) == pytest.approx(apart, abs=1e-2)


def test_noise_is_pooled_over_mixtures():
    assert pooled_noise([np.array([1.0, 3.0]), np.array([10.0, 12.0]), np.array([5.0])]) == (pytest.approx(2**0.5), 2)
    assert pooled_noise([np.array([1.0])])[1] == 0


def test_domains_whose_interval_spans_the_prior_get_it():
    shares, prior = np.array([0.6, 0.1, 0.3]), np.array([0.4, 0.2, 0.4])
    low, high = np.array([0.5, 0.05, 0.2]), np.array([0.7, 0.3, 0.35])
    settled, unsure = to_prior_where_unsure(shares, prior, low, high)
    assert settled == pytest.approx([0.8 * 6 / 9, 0.2, 0.8 * 3 / 9])
    assert unsure.tolist() == [False, True, False]
    assert to_prior_where_unsure(shares, prior, low * 0, high * 0 + 1)[0] == pytest.approx(prior)


def test_effects_are_what_a_tenth_of_the_tokens_does():
    law = Exponential(0.5, np.array([-2.0, 1.0, 0.0]), 0.0)
    found = effects(Mean((law,)), np.array([0.2, 0.3, 0.5]), ("a", "b", "c"), ("loss",))
    assert found["a"]["loss"] < 0 < found["b"]["loss"]
    start = np.exp(-0.4 + 0.3)
    assert found["c"]["loss"] == pytest.approx(np.exp(0.9 * -0.1) - start)


def test_resamples_are_of_the_seed():
    assert all((a == b).all() for a, b in zip(resamples(3, 9, 1), resamples(3, 9, 1), strict=True))
    assert max(rows.max() for rows in resamples(20, 9, 1)) == 8


def test_baselines_are_within_the_bounds_of_the_target():
    asked = problem(tokens=1_000_000, max_epochs=2.0)
    caps = caps_of(asked)
    assert caps.tolist() == pytest.approx([0.8, 0.5, 0.1, 0.3, 0.1, 0.2])
    assert baseline(asked, "natural") == pytest.approx(NATURAL)
    assert baseline(asked, "unimax") == pytest.approx([0.2, 0.2, 0.1, 0.2, 0.1, 0.2])
    for name in ("natural", "uniform", "unimax"):
        assert is_within(baseline(asked, name), caps)


def test_single_sources_are_references_whatever_their_bounds():
    found = baseline_proposals(problem(max_epochs=2.0), ["natural"], ["largest", "c"])
    assert [proposal.name for proposal in found] == ["natural", "single-a", "single-c"]
    assert found[2].weights["c"] == 1
