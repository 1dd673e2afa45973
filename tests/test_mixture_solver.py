"""The best mixture of fitted laws: exact, within bounds, and expanded exactly where an earlier one is reused."""

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.mixing.caps import is_within, moved, rounded, under_caps, without
from factory.mixing.regression import Mean
from factory.mixing.reuse import VIRTUAL, coupled, reuse
from factory.mixing.solver import average_of_best, draw_candidates, solve


def laws(objectives, domains, seed):
    generator = np.random.default_rng(seed)
    return generator.normal(-1, 1, (objectives, domains)), generator.dirichlet(np.ones(domains))


def value(coefficients, prior, strength, shares):
    logs = np.log(np.maximum(shares, 1e-300) / prior)
    return np.exp(coefficients @ shares).mean() + strength * (shares * logs).sum()


@pytest.mark.parametrize("strength", [0.0, 0.01, 0.05, 1.0])
@pytest.mark.parametrize("cap", [1.0, 0.2])
def test_no_mixture_is_better_than_the_solution(strength, cap):
    for seed in range(4):
        coefficients, prior = laws(5, 12, seed)
        caps = np.full(12, cap)
        found = solve(coefficients, prior, strength=strength, caps=caps)
        others = under_caps(np.random.default_rng(seed).dirichlet(np.full(12, 0.5), 300), caps)
        assert found.gap < 1e-6
        assert found.shares.sum() == pytest.approx(1, abs=1e-12)
        assert is_within(found.shares, caps)
        assert found.value == pytest.approx(value(coefficients, prior, strength, found.shares), rel=1e-9)
        assert min(value(coefficients, prior, strength, other) for other in others) >= found.value - 1e-9


def test_no_share_exceeds_four_epochs():
    # N_j / R = 0.01 and k = 4 leave 4 % to each domain.
    for seed in range(5):
        coefficients, prior = laws(8, 40, seed)
        caps = np.full(40, 4 * 0.01)
        assert solve(coefficients, prior, strength=0.05, caps=caps).shares.max() <= 0.04 * (1 + 1e-9)


def test_a_strong_pull_gives_the_prior_and_none_gives_a_corner():
    coefficients, prior = laws(6, 8, 0)
    assert np.abs(solve(coefficients, prior, strength=1e6).shares - prior).sum() < 1e-3
    planted = np.full((1, 8), -0.1)
    planted[0, 3] = -4.0
    corner = solve(planted, prior, strength=0.0).shares
    assert corner[3] == pytest.approx(1, abs=1e-6)
    assert solve(-planted, prior, strength=0.0).shares[3] == pytest.approx(0, abs=1e-6)


def test_a_domain_without_tokens_gets_nothing():
    coefficients, _ = laws(3, 4, 0)
    found = solve(coefficients, np.array([0.5, 0.5, 0.0, 0.0]), strength=0.05)
    assert found.shares[2:].sum() == 0


def test_bounds_that_leave_too_little_room_are_refused():
    with pytest.raises(FactoryError, match=r"room for 80.0% .* raise max_epochs"):
        solve(*laws(2, 4, 0), strength=0.05, caps=np.full(4, 0.2))


def test_reuse_expands_exactly():
    kept = reuse({"a": 0.25, "b": 0.25, "c": 0.5}, ["a", "b", "c", "new"], affected=["new"])
    assert kept.names == (VIRTUAL, "new")
    whole = kept.expand({VIRTUAL: 0.4, "new": 0.6})
    assert whole == pytest.approx({"a": 0.1, "b": 0.1, "c": 0.2, "new": 0.6}, abs=1e-15)
    assert kept.collapse(whole) == pytest.approx({VIRTUAL: 0.4, "new": 0.6}, abs=1e-15)


def test_partial_reuse_opens_domains_that_move_the_same_metrics():
    effects = {"code": {"bash": -0.5, "law": 0.0}, "web/software": {"bash": -0.4}, "web/law": {"law": -0.3}}
    opened = coupled(effects, affected=["code"], unaffected=["web/software", "web/law"])
    assert opened == ("web/software",)
    kept = reuse({"web/software": 0.5, "web/law": 0.5}, ["code", "web/law", "web/software"], [], opened)
    assert kept.open == ("code", "web/software")
    assert kept.frozen == {"web/law": 1.0}


def test_a_virtual_domain_is_bounded_by_its_first_domain_to_be_used_up():
    kept = reuse({"a": 0.2, "b": 0.8}, ["a", "b", "c"], affected=["c"])
    assert kept.cap({"a": 0.1, "b": 1.0, "c": 0.3}) == pytest.approx({VIRTUAL: 0.5, "c": 0.3})


def test_an_unknown_domain_cannot_be_reopened():
    with pytest.raises(FactoryError, match=r"no domain is named 'ab'. Did you mean 'a'"):
        reuse({"a": 1.0}, ["a"], affected=["ab"])
    with pytest.raises(FactoryError, match="nothing to reuse"):
        reuse({"a": 1.0}, ["a", "b"], affected=["a"])


def test_what_exceeds_a_bound_goes_to_the_others_in_proportion():
    caps = np.array([0.4, 1.0, 1.0])
    assert under_caps(np.array([0.7, 0.2, 0.1]), caps) == pytest.approx([0.4, 0.4, 0.2])
    inside = np.array([0.3, 0.3, 0.4])
    assert (under_caps(inside, caps) == inside).all()
    assert under_caps(np.array([1.0, 0.0, 0.0]), caps) == pytest.approx([0.4, 0.3, 0.3])


def test_projected_mixtures_are_within_their_bounds_and_whole():
    generator = np.random.default_rng(0)
    for _ in range(30):
        caps = generator.dirichlet(np.ones(7)) * 1.3
        rows = under_caps(generator.dirichlet(np.full(7, 0.3), 50), caps)
        assert (rows <= caps + 1e-12).all()
        assert np.allclose(rows.sum(axis=1), 1)


def test_rounded_shares_sum_to_one_and_stay_within_bounds():
    generator = np.random.default_rng(1)
    for _ in range(100):
        caps = np.minimum(1, generator.uniform(0.1, 0.6, 6))
        if caps.sum() < 1.01:
            continue
        shares = rounded(under_caps(generator.dirichlet(np.ones(6)), caps), caps)
        assert shares.sum() == pytest.approx(1, abs=1e-12)
        assert is_within(shares, caps)


def test_tokens_are_moved_and_refilled_in_proportion():
    assert moved(np.array([0.5, 0.3, 0.2]), 2, 0.1) == pytest.approx([0.45, 0.27, 0.28])
    assert without(np.array([0.5, 0.3, 0.2]), 0) == pytest.approx([0, 0.6, 0.4])


def test_the_mean_of_the_best_is_within_bounds():
    class Far:
        def predict(self, mixtures):
            return -mixtures[:, 0]

    caps = np.array([0.3, 0.6, 0.6])
    candidates = draw_candidates(np.full(3, 1 / 3), 500, 0, strength=3, caps=caps)
    mean, lowest = average_of_best(Mean((Far(),)), candidates, 50)
    assert is_within(mean, caps)
    assert lowest[0] == pytest.approx(0.3)
