"""Mixers: shares become epochs, budgets are held, and a fraction of an epoch is chosen by hash."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.core.errors import FactoryError
from factory.core.mixture import best_first, repeats
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


# --- rules that need no search


SIZES = {"a": 1000, "b": 100, "c": 10, "d": 1}


def tokens_of(epochs, available):
    return {domain: epochs[domain] * available[domain] for domain in available}


@pytest.mark.parametrize(("max_epochs", "filled"), [(4, [178, 178, 40, 4]), (1, [289, 100, 10, 1])])
def test_unimax_gives_its_published_shares(max_epochs, filled):
    made = tokens_of(mixer("unimax", tokens=400, max_epochs=max_epochs)(SIZES), SIZES)
    assert list(made.values()) == pytest.approx(filled, abs=1e-9)


@given(
    st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 10**9), min_size=1),
    st.floats(0.01, 1),
    st.integers(1, 8),
)
def test_unimax_repeats_nothing_beyond_its_bound_and_gives_a_larger_domain_no_less(sizes, part, max_epochs):
    budget = int(part * max_epochs * sum(sizes.values()))
    if not budget:
        return
    mix = mixer("unimax", tokens=budget, max_epochs=max_epochs)
    epochs = mix(sizes)
    made = tokens_of(epochs, sizes)
    assert max(epochs.values()) <= max_epochs * (1 + 1e-9)
    assert sum(made.values()) == pytest.approx(budget, rel=1e-9)
    by_size = [made[domain] for domain in sorted(sizes, key=sizes.get)]
    assert all(small <= large * (1 + 1e-9) for small, large in pairwise(by_size))
    assert mix(dict(reversed(sizes.items()))) == epochs


def test_unimax_refuses_what_the_pool_cannot_fill_and_says_what_is_possible():
    with pytest.raises(FactoryError, match=r"5,000 tokens asked, 4,444 possible .* raise max_epochs to 4\.6 for all"):
        mixer("unimax", tokens=5_000)(SIZES)
    assert sum(tokens_of(mixer("unimax", tokens=4_444)(SIZES), SIZES).values()) == pytest.approx(4_444)


def test_a_bound_of_one_domain_leaves_more_of_the_budget_to_the_others():
    made = tokens_of(mixer("unimax", tokens=400, max_epochs={"a": 0.05, "c": 10})(SIZES), SIZES)
    assert list(made.values()) == pytest.approx([50, 246, 100, 4])


def test_uniform_gives_every_domain_the_same_tokens():
    made = tokens_of(mixer("uniform", tokens=12)(AVAILABLE), AVAILABLE)
    assert list(made.values()) == pytest.approx([4, 4, 4])
    with pytest.raises(FactoryError, match="'books' limits it"):
        mixer("uniform", tokens=1_000)(AVAILABLE)


def test_a_temperature_of_one_is_natural_and_a_high_one_uniform():
    natural = mixer("natural", tokens=1_000)(AVAILABLE)
    assert mixer("temperature", tokens=1_000, temperature=1)(AVAILABLE) == pytest.approx(natural, rel=1e-12)
    flat = tokens_of(mixer("temperature", tokens=12, temperature=1e9)(AVAILABLE), AVAILABLE)
    assert list(flat.values()) == pytest.approx([4, 4, 4])


def test_a_temperature_of_two_takes_the_square_root_of_the_sizes():
    made = tokens_of(mixer("temperature", tokens=100, temperature=2)({"a": 900, "b": 100}), {"a": 900, "b": 100})
    assert made == pytest.approx({"a": 75, "b": 25})


def test_sources_and_topics_have_temperatures_of_their_own():
    sizes = {"web/health": 800, "web/sport": 100, "books/health": 90, "books/sport": 10}
    made = tokens_of(mixer("temperature", tokens=40, source_temperature=2, topic_temperature=1)(sizes), sizes)
    assert made == pytest.approx({"web/health": 80 / 3, "web/sport": 10 / 3, "books/health": 9, "books/sport": 1})
    with pytest.raises(FactoryError, match="'web' has no source and topic"):
        mixer("temperature", tokens=40, topic_temperature=2)({"web": 10})
    with pytest.raises(ValidationError, match="either `temperature`"):
        mixer("temperature", tokens=40, temperature=2, topic_temperature=2)


FACTORS = ({"health": 0.6, "sport": 0.4}, {"article": 0.5, "forum": 0.5})
CELLS = {"health/article": 1_000, "health/forum": 50, "sport/article": 1_000, "sport/forum": 1_000, "law/forum": 9}


def test_cells_have_the_product_of_the_shares_of_their_labels():
    made = tokens_of(mixer("product", factors=FACTORS, tokens=100)(CELLS), CELLS)
    assert list(made.values()) == pytest.approx([30, 30, 20, 20, 0])


def test_a_cell_that_runs_out_is_refused_unless_the_recipe_says_rescale():
    with pytest.raises(FactoryError, match="'health/forum' limits it"):
        mixer("product", factors=FACTORS, tokens=1_000, max_epochs=1)(CELLS)
    made = mixer("product", factors=FACTORS, tokens=1_000, max_epochs=1, when_short="rescale")(CELLS)
    assert made["health/forum"] == 1
    left = 950 / 0.7
    assert list(tokens_of(made, CELLS).values()) == pytest.approx([0.3 * left, 50, 0.2 * left, 0.2 * left, 0])


def test_what_the_cells_cannot_fill_together_is_refused():
    with pytest.raises(FactoryError, match="3,050 possible"):
        mixer("product", factors=FACTORS, tokens=4_000, max_epochs=1, when_short="rescale")(CELLS)


@pytest.mark.parametrize("name", ["natural", "uniform", "unimax", "temperature"])
def test_every_mixer_refuses_a_bound_on_a_domain_that_is_not_there(name):
    settings = {"temperature": 2.0} if name == "temperature" else {}
    with pytest.raises(FactoryError, match=r"no domain is named 'cod'\. Did you mean 'code'"):
        mixer(name, tokens=10, max_epochs={"cod": 2}, **settings)(AVAILABLE)
    with pytest.raises(FactoryError, match="none available"):
        mixer(name, tokens=10, **settings)({"web": 0})


def test_the_best_documents_come_first_and_those_without_a_score_last():
    scores = np.array([0.5, np.nan, 0.9, 0.5, -np.inf])
    ranks = best_first(scores, np.array([7, 1, 9, 3, 2], np.uint64))
    assert ranks.tolist() == [2, 4, 0, 1, 3]
    taken = repeats(0.5, ranks, np.full(5, 10))
    assert taken.tolist() == [1, 0, 1, 1, 0]


def test_a_quota_is_filled_to_a_document_and_nothing_left_out_is_better_than_what_was_taken():
    random = np.random.default_rng(0)
    lengths, scores = random.integers(1, 900, 2_000), random.integers(1, 6, 2_000).astype(float)
    taken = repeats(0.3, best_first(scores, hashes(2_000)), lengths) > 0
    assert 0 <= lengths[taken].sum() - 0.3 * lengths.sum() < 900
    assert scores[~taken].max() <= scores[taken].min()
