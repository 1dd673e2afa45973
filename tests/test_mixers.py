"""Mixers: shares become epochs, budgets are held, and a fraction of an epoch is chosen by hash."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from factory.core.errors import FactoryError
from factory.core.mixture import repeats
from factory.core.registry import find_stage

AVAILABLE = {"web": 1_000, "code": 100, "books": 10}


def mixer(name, **settings):
    stage = find_stage("mixer", name)
    return stage.make(stage.config(**settings))


def hashes(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_natural_reads_every_domain_equally_often():
    assert mixer("natural", tokens=2_220)(AVAILABLE) == {"books": 2.0, "code": 2.0, "web": 2.0}


def test_natural_refuses_more_than_max_epochs_and_names_both_ways_out():
    with pytest.raises(FactoryError, match=r"5,000 tokens asked, 4,440 possible .* raise max_epochs to 4\.6"):
        mixer("natural", tokens=5_000)(AVAILABLE)


def test_a_budget_of_exactly_max_epochs_is_possible():
    assert mixer("natural", tokens=4_440)(AVAILABLE)["web"] == pytest.approx(4)
    assert mixer("weights", weights={"code": 1.0}, tokens=400)(AVAILABLE)["code"] == pytest.approx(4)


def test_no_tokens_at_all_is_an_error():
    with pytest.raises(FactoryError, match="none available"):
        mixer("natural", tokens=10)({"web": 0})


def test_weights_become_epochs():
    mix = mixer("weights", weights={"web": 0.5, "code": 0.45, "books": 0.05}, tokens=400)
    assert mix(AVAILABLE) == pytest.approx({"web": 0.2, "code": 1.8, "books": 2.0})


def test_a_domain_without_weight_is_not_read():
    assert mixer("weights", weights={"web": 1.0}, tokens=100)(AVAILABLE) == {"books": 0.0, "code": 0.0, "web": 0.1}


def test_the_domain_that_limits_a_budget_is_named_with_what_would_help():
    available = {"code": 2_140_000_000, "web": 10**12}
    mix = mixer("weights", weights={"code": 0.4, "web": 0.6}, tokens=30_000_000_000)
    with pytest.raises(FactoryError) as error:
        mix(available)
    assert str(error.value) == (
        "mix: 30,000,000,000 tokens asked, 21,400,000,000 possible. 'code' limits it (max_epochs 4). "
        "Lower the budget, or raise code's max_epochs to 5.7."
    )


def test_following_the_advice_makes_the_budget_possible():
    weights = {"web": 0.4, "code": 0.5, "books": 0.1}
    with pytest.raises(FactoryError, match=r"raise books's max_epochs to 10\."):
        mixer("weights", weights=weights, tokens=1_000)(AVAILABLE)
    with pytest.raises(FactoryError, match=r"800 possible\. 'code' limits it .* raise code's max_epochs to 5\."):
        mixer("weights", weights=weights, tokens=1_000, max_epochs={"books": 10})(AVAILABLE)
    mix = mixer("weights", weights=weights, tokens=1_000, max_epochs={"books": 10, "code": 5})
    assert mix(AVAILABLE)["books"] == pytest.approx(10)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"web": 0.5, "code": 0.4}, "sum to 1; these sum to 0.9"),
        ({"web": 1.5, "code": -0.5}, "at least 0; code: -0.5"),
        ({"web": float("nan")}, "at least 0"),
    ],
)
def test_weights_that_are_no_shares_are_refused(weights, message):
    with pytest.raises(ValidationError, match=message):
        mixer("weights", weights=weights, tokens=10)


def test_an_unknown_domain_is_refused_with_the_nearest_name():
    with pytest.raises(FactoryError, match=r"no domain is named 'cod'\. Did you mean 'code'"):
        mixer("weights", weights={"cod": 1.0}, tokens=10)(AVAILABLE)


def test_a_domain_without_tokens_is_refused():
    with pytest.raises(FactoryError, match=r"'books' should be 50\.00% of the tokens and has none"):
        mixer("weights", weights={"web": 0.5, "books": 0.5}, tokens=10)({**AVAILABLE, "books": 0})


@pytest.mark.parametrize("epochs", [0.0, 0.25, 1.0, 2.5, 3.999])
def test_repeats_reach_the_budget_by_less_than_one_document(epochs):
    lengths = np.random.default_rng(1).integers(1, 900, 2_000)
    counts = repeats(epochs, hashes(2_000), lengths)
    assert counts.dtype == np.uint32
    assert set(np.unique(counts)) <= {int(epochs), int(epochs) + 1}
    assert 0 <= (counts * lengths).sum() - epochs * lengths.sum() < 900


def test_a_larger_budget_contains_the_smaller_one():
    lengths = np.random.default_rng(1).integers(1, 900, 1_000)
    grids = [repeats(epochs, hashes(1_000), lengths) for epochs in np.linspace(0, 3, 25)]
    assert all((small <= large).all() for small, large in pairwise(grids))


def test_the_order_of_the_documents_does_not_change_their_repeats():
    keys, lengths = hashes(1_000), np.random.default_rng(1).integers(1, 900, 1_000)
    order = np.random.default_rng(2).permutation(1_000)
    assert np.array_equal(repeats(1.37, keys, lengths)[order], repeats(1.37, keys[order], lengths[order]))
