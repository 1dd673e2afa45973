"""Learning rates with their golden values, ladders of scales, and what schedules and averages do on world W4."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.training.averaging import average_steps
from factory.training.flops import exact_flops, measured, peak_flops, simple_flops, utilisation
from factory.training.scales import SCALES, ladder_recipe
from factory.training.schedule import annealed_steps, check_steps, infinite_rate, learning_rate, phase_of
from tests.worlds import w4_shared_bigram as w4

ONE = replace(SCALES["nano"], peak_lr=1.0, floor_lr=0.0, warmup_steps=100, decay_share=0.1, schedule="wsd")


def rates(scale, at, steps=1000):
    return [learning_rate(scale, step, steps) for step in at]


# --- golden values


@pytest.mark.parametrize(
    ("decay", "golden"),
    [
        ("linear", [0.01, 1, 1, 1, 0.5, 0.01]),
        ("sqrt", [0.01, 1, 1, 1, 1 - 0.5**0.5, 1 - 0.99**0.5]),
        ("cosine", [0.01, 1, 1, 1, 0.5, (1 + np.cos(np.pi * 0.99)) / 2]),
    ],
)
def test_every_decay_of_wsd_has_its_golden_values(decay, golden):
    assert rates(replace(ONE, decay=decay), (0, 99, 500, 900, 950, 999)) == pytest.approx(golden, abs=1e-12)


def test_the_infinite_schedule_has_the_values_of_its_equation():
    paper = {"peak": 3e-4, "constant": 3.75e-5, "floor": 1e-8, "warmup": 100, "cooldown": 400, "stable": 1500}
    golden = {50: 1.5e-4, 100: 3e-4, 300: 1.6875e-4, 500: 3.75e-5, 1000: 3.75e-5, 1500: 3.75e-5, 1700: 1e-8}
    for step, rate in golden.items():
        assert infinite_rate(step, anneal=200, **paper) == pytest.approx(rate, rel=1e-9)
    assert infinite_rate(1600, anneal=200, **paper) == pytest.approx(6.1237e-7, rel=1e-4)


def test_the_infinite_schedule_of_a_scale_counts_from_step_one_and_goes_on_for_ever_without_an_end():
    scale = replace(ONE, schedule="infinite", floor_lr=1e-4, cooldown_share=0.4, decay_share=0.2)
    assert rates(scale, (0, 99, 299, 499, 799, 999)) == pytest.approx([0.01, 1, 0.5625, 0.125, 0.125, 1e-4], rel=1e-9)
    endless = replace(scale, warmup_steps=0, cooldown_share=0.0, decay_share=0.0)
    assert set(rates(endless, range(1000))) == {0.125}


def test_re_warming_rises_over_one_percent_and_falls_to_a_tenth():
    scale = replace(ONE, schedule="rewarm")
    assert rates(scale, (0, 9, 10, 505, 1000)) == pytest.approx([0.1, 1, 1, 0.55, 0.1], abs=1e-12)
    assert rates(replace(scale, warmup_share=0.1), (0, 99, 100)) == pytest.approx([0.01, 1, 1], abs=1e-12)


def test_each_annealed_run_of_wsd_s_has_the_rates_of_a_run_of_its_own_length():
    scale = replace(ONE, schedule="wsd_s", anneals=3)
    assert annealed_steps(scale, 1600) == (400, 800, 1600)
    for begin, end in pairwise((0, 400, 800, 1600)):
        own = replace(scale, schedule="wsd")
        assert rates(scale, range(begin, end), 1600) == pytest.approx(rates(own, range(begin, end), end), abs=1e-12)
    assert learning_rate(scale, 400, 1600) == 1.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "wsd_s", "infinite", "rewarm"])
def test_no_real_step_has_a_rate_of_zero_and_none_is_above_the_peak(schedule):
    scale = replace(ONE, schedule=schedule, floor_lr=1e-9, anneals=2)
    for steps in (101 * 2, 997, 1000):
        found = rates(scale, range(steps), steps)
        assert 0 < min(found) <= max(found) <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "cosin"}, "schedule 'cosin' is not one of cosine, linear"),
        ({"decay": "steps"}, "decay 'steps' is not one of linear, sqrt, cosine"),
        ({"schedule": "infinite", "floor_lr": 0.0}, "an exponential decay needs one above 0"),
        ({"decay_share": 1.5}, "decay_share 1.5 cannot be"),
        ({"schedule": "wsd_s", "anneals": 4}, "Ask for at least"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(changes, said):
    with pytest.raises(FactoryError, match=said):
        check_steps(replace(ONE, **changes), 500, 500 * ONE.step_tokens)


# --- ladders


DATADECIDE = {
    "datadecide_4m": (3.7e6, 0.4e9),
    "datadecide_20m": (19.1e6, 1.9e9),
    "datadecide_90m": (97.9e6, 9.8e9),
    "datadecide_150m": (151.9e6, 15e9),
    "datadecide_530m": (530e6, 53e9),
    "datadecide_1b": (1177e6, 100e9),
}


@pytest.mark.parametrize("name", DATADECIDE)
def test_datadecide_scales_have_the_published_sizes_and_tokens(name):
    """Its sizes count the blocks and one matrix of token vectors."""
    size, tokens = DATADECIDE[name]
    count = SCALES[name].parameters(50_280)
    assert count.non_embedding + count.head == pytest.approx(size, rel=0.02)
    assert SCALES[name].tokens == pytest.approx(tokens, rel=0.07)


def test_the_ladders_formula_regenerates_the_published_rates():
    for name, scale in SCALES.items():
        if name.startswith("datadecide"):
            count = scale.parameters(50_280)
            assert ladder_recipe(count.non_embedding + count.head)[1] == pytest.approx(scale.peak_lr, rel=0.05)
    golden = {3.7e6: 0.01447, 19.1e6: 0.00837, 151.9e6: 0.00419, 1177e6: 0.00212}
    assert [ladder_recipe(size)[1] for size in golden] == pytest.approx(list(golden.values()), rel=0.002)
    assert [ladder_recipe(size)[0] for size in (3.7e6, 57.1e6, 151.9e6, 320e6, 530e6)] == [32, 96, 192, 320, 448]


@pytest.mark.parametrize(("name", "size"), [("olmo_190m", 190e6), ("olmo_370m", 371e6), ("olmo_760m", 758e6)])
def test_olmo_scales_have_their_names_sizes_and_warm_up_over_as_many_tokens_as_parameters(name, size):
    scale = SCALES[name]
    count = scale.parameters(50_280)
    assert count.total == pytest.approx(size, rel=0.005)
    assert scale.warmup_steps * scale.step_tokens == pytest.approx(count.non_embedding + count.head, rel=0.01)
    assert scale.tokens == pytest.approx(20 * (count.non_embedding + count.head), rel=0.001)


# --- cost


@pytest.mark.parametrize(
    ("name", "column"),
    [("dclm_400m_1x", 2.03e19), ("dclm_1b_1x", 2.42e20), ("dclm_3b_1x", 9.39e20), ("dclm_7b_1x", 5.71e21)],
)
def test_dclms_column_of_operations_follows_from_its_rounded_sizes(name, column):
    rounded = {"dclm_400m_1x": 412e6, "dclm_1b_1x": 1.4e9, "dclm_3b_1x": 2.8e9, "dclm_7b_1x": 6.9e9}[name]
    scale = SCALES[name]
    assert 6 * rounded * scale.tokens == pytest.approx(column, rel=0.02)
    ours = simple_flops(scale, 50_277, scale.tokens)
    assert ours == pytest.approx(column * scale.parameters(50_277).total / rounded, rel=0.02)


def test_a_token_of_the_tiny_scale_costs_seven_million_operations():
    assert exact_flops(SCALES["tiny"], 2048, 1) == pytest.approx(7.0e6, rel=0.01)


def test_the_peak_of_a_device_is_that_of_the_longest_name_it_has_and_unknown_ones_have_none():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("x86_64") is None
    assert utilisation(1e15, 10, "x86_64", 1) is None


def test_dollars_and_utilisation_follow_from_seconds():
    took = measured(989e12 * 1800, 10**9, 3600.0, device_name="NVIDIA H200", devices=1, usd_per_hour=3.5)
    assert (took["mfu"], took["dollars"], took["device_hours"]) == (pytest.approx(0.5), 3.5, 1.0)
    two = measured(989e12 * 1800, 10**9, 3600.0, device_name="NVIDIA H200", devices=2)
    assert (two["mfu"], two["dollars"]) == (pytest.approx(0.25), None)


# --- world W4


SCALE = replace(SCALES["nano"], peak_lr=w4.RATE, floor_lr=0.0, warmup_steps=0)


def schedule(steps, **changes):
    return np.array([learning_rate(replace(SCALE, **changes), step, steps) for step in range(steps)])


def test_a_constant_rate_averaged_over_five_snapshots_is_as_good_as_a_decayed_one():
    chains, even = w4.make_chains(0), np.full(5, 0.2)
    mean = np.mean(chains, axis=0)
    wsd = w4.train(chains, even, schedule(1000, schedule="wsd", decay_share=0.2), seed=1)
    taken = [800, 850, 900, 950, 1000]
    kept = w4.train(chains, even, w4.constant(1000), seed=1, snapshots=taken)
    last, averaged, decayed = (w4.loss(table, mean) for table in (kept[-1], kept.mean(axis=0), wsd))
    assert averaged < last - 0.01
    assert averaged == pytest.approx(decayed, abs=0.01)


def test_the_length_of_the_re_warming_does_not_matter_and_its_peak_does():
    first, second = w4.two_chains(0)
    base = w4.train([first], [1.0], w4.warmup_stable_decay(1500), seed=1)

    def continued(peak, warmup):
        scale = replace(SCALE, peak_lr=peak, schedule="linear", warmup_steps=warmup)
        plan = [learning_rate(scale, step, 800) for step in range(800)]
        table = w4.train([second], [1.0], plan, seed=2, start=base)
        return w4.loss(table, second), w4.loss(table, first) - w4.loss(base, first)

    lengths = [continued(0.5, warmup)[0] for warmup in (1, 8, 80)]
    assert max(lengths) - min(lengths) <= 0.002
    domain, forgotten = zip(*(continued(peak, 8) for peak in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)), strict=True)
    assert all(b > a for a, b in pairwise(forgotten))
    assert 0 < int(np.argmin(domain)) < len(domain) - 1


def test_an_infinite_schedule_forgets_less_than_a_repeated_cosine():
    """Two corpora one after the other; the second keeps a tenth of one chain of the first. No anneal in either."""
    old, new = w4.make_chains(0, 5), w4.make_chains(7, 5)
    first, second = np.r_[np.full(5, 0.2), np.zeros(5)], np.r_[0.1, np.zeros(4), np.full(5, 0.18)]
    mixtures = np.repeat([first, second], 800, axis=0)
    cosine = schedule(800, schedule="cosine")
    infinite = schedule(1600, schedule="infinite", floor_lr=1e-8, cooldown_share=0.2, decay_share=0.0)
    assert infinite[-1] == 0.0625
    measured_on = np.mean(old, axis=0)

    def forgetting(plan):
        kept = w4.train(old + new, mixtures, plan, seed=3, snapshots=[800, 1600])
        return w4.loss(kept[1], measured_on) - w4.loss(kept[0], measured_on)

    assert forgetting(infinite) < 0.85 * forgetting(np.r_[cosine, cosine])


# --- averages


def test_snapshots_are_evenly_spaced_before_the_end_and_never_of_two_phases():
    assert average_steps(ONE, 1000, 5) == [960, 970, 980, 990, 1000]
    with pytest.raises(FactoryError, match="those of the constant rate before step 1000 are not averaged"):
        average_steps(ONE, 1000, 20)
    with pytest.raises(FactoryError, match="those of the warm-up"):
        average_steps(replace(ONE, schedule="linear"), 110, 100)
    assert phase_of(ONE, 899, 1000) != phase_of(ONE, 900, 1000)
