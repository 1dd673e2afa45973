"""Budgets: what repeated tokens are worth by the published law, and how trials repeat what the target will."""

from itertools import pairwise

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.mixing.budget import effective_tokens, loss, match_repetition, matched_pool, plan


def test_the_law_gives_its_authors_check_values():
    assert loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, abs=1e-12)
    assert loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, abs=1e-12)


@pytest.mark.parametrize(
    ("epochs", "worth"), [(0.5, 0.5), (1, 1), (2, 1.968), (4, 3.7257), (8, 6.624), (16, 10.58), (40, 15.17)]
)
def test_epochs_are_worth_what_the_table_says(epochs, worth):
    assert effective_tokens(1e9, epochs * 1e9) / 1e9 == pytest.approx(worth, abs=5e-3 if worth > 10 else 5e-4)


def test_four_epochs_are_worth_3_7257_to_four_digits():
    assert effective_tokens(1.0, 4.0) == pytest.approx(3.7257, abs=1e-4)
    assert effective_tokens(1.0, 1e9) == pytest.approx(16.387756)


def test_more_tokens_are_never_worth_less():
    worth = [effective_tokens(100, tokens) for tokens in np.linspace(0, 10_000, 200)]
    assert all(small < large for small, large in pairwise(worth))


def test_a_plan_carries_what_every_domain_is_worth():
    made = plan({"web": 0.5, "code": 4.0, "books": 20.0}, {"web": 1000, "code": 100, "books": 10, "none": 50})
    assert [made.domains[name].grade for name in ("web", "code", "books", "none")] == [
        "green",
        "green",
        "amber",
        "green",
    ]
    assert made.domains["code"].repeat_efficiency == pytest.approx(0.9314, abs=1e-4)
    assert made.domains["none"].repeat_efficiency is None
    assert made.effective_tokens == pytest.approx(500 + 372.57 + 119.1, abs=0.5)
    assert made.repeat_efficiency == pytest.approx(made.effective_tokens / 1100)
    assert made.notes == ("books: 20 epochs (amber), worth 60% of fresh tokens",)


def test_more_than_forty_epochs_are_rejected_unless_the_recipe_says_so():
    with pytest.raises(FactoryError, match=r"more than 40 epochs of books 41: .* `allow_red: true`"):
        plan({"books": 41.0}, {"books": 10})
    assert plan({"books": 41.0}, {"books": 10}, allow_red=True).domains["books"].grade == "red"
    assert plan({"books": 40.0}, {"books": 10}).domains["books"].grade == "amber"


@pytest.mark.parametrize("target", [2_000_000, 12_000_000])
def test_a_trial_on_a_matched_pool_repeats_every_domain_as_often_as_the_target(target):
    random = np.random.default_rng(0)
    tokens, domains = random.integers(50, 900, 6_000), random.integers(0, 3, 6_000)
    hashes = random.integers(0, 2**64, 6_000, dtype=np.uint64)
    trial = 200_000
    seen = match_repetition(hashes, tokens, domains, matched_pool(target, trial))
    for domain, share in enumerate((0.5, 0.3, 0.2)):
        whole, pool = tokens[domains == domain].sum(), tokens[(domains == domain) & seen].sum()
        assert share * trial / pool == pytest.approx(share * target / whole, rel=900 / pool)


def test_a_larger_matched_pool_contains_the_smaller_one():
    random = np.random.default_rng(1)
    tokens, domains = random.integers(50, 900, 1_000), random.integers(0, 3, 1_000)
    hashes = random.integers(0, 2**64, 1_000, dtype=np.uint64)
    small, large = (match_repetition(hashes, tokens, domains, share) for share in (0.1, 0.4))
    assert (small <= large).all()
    assert set(domains[small]) == {0, 1, 2}


def test_a_trial_longer_than_its_target_cannot_be_matched():
    with pytest.raises(FactoryError, match="must not be longer"):
        matched_pool(1_000, 2_000)
