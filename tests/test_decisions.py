"""What decisions stand on, held to simulations whose truth is known: noise, ranks, transfer, scaling, early signal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import InputError
from factory.core.noise import Noise, pooled_noise
from factory.evaluation import early_signal, scaling
from factory.evaluation.decision_accuracy import expected_accuracy, ratio_for, seeds_for, transfer
from factory.evaluation.noise import noise_floor, noise_floors, sigma_interval
from factory.evaluation.ranks import (
    kendall,
    overlap,
    rank_report,
    regret,
    right_decisions,
    spearman,
)
from factory.evaluation.scores import Curves, curves, finals, read_scores, scores_of
from factory.evaluation.statistics import Scores, bootstrap_means, power, t_quantile, verdict


def task(values: np.ndarray, *, baseline: float | None = 0.25, higher: bool = True) -> Curves:
    """(experiments, seeds, steps) as one task's curves."""
    names = tuple(f"e{number:02d}" for number in range(values.shape[0]))
    steps = 1.0 + np.arange(values.shape[2])
    return Curves("task", "nano", names, tuple(range(values.shape[1])), steps, values, higher, baseline)


# --- noise floor


def test_five_seeds_of_many_recipes_find_the_noise_within_a_tenth() -> None:
    random = np.random.default_rng(0)
    table = random.normal(0.5, 0.05, (25, 1, 1)) + random.normal(0, 0.01, (25, 5, 1))
    floor = noise_floor(task(table))
    assert floor.sigma.dof == 100
    assert floor.sigma.sigma == pytest.approx(0.01, rel=0.1)
    assert floor.snr == pytest.approx(5, rel=0.4)
    assert (floor.usable, floor.control) == (True, None)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_deviation_of_n_seeds_is_off_by_one_over_the_root_of_twice_n_less_two(seeds: int) -> None:
    found = np.random.default_rng(1).normal(0, 1, (4000, seeds)).std(1, ddof=1)
    assert np.sqrt(np.mean((found - 1) ** 2)) == pytest.approx(1 / math.sqrt(2 * (seeds - 1)), rel=0.15)


@pytest.mark.parametrize("dof", [4, 10, 100])
def test_the_interval_of_a_deviation_covers_it(dof: int) -> None:
    random = np.random.default_rng(2)
    covered = 0
    for row in random.normal(0, 1, (2000, dof + 1)):
        interval = sigma_interval(pooled_noise([row]))
        assert interval is not None
        covered += interval.low <= 1 <= interval.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_control_of_five_seeds_tells_the_noise_and_one_of_three_does_not() -> None:
    random = np.random.default_rng(3)
    table = random.normal(0.5, 0.05, (4, 1, 1)) + random.normal(0, 0.01, (4, 5, 1))
    assert noise_floor(task(table), "e02").control == "e02"
    assert noise_floor(task(table), "e02").sigma.dof == 4
    assert noise_floor(task(table[:, :3]), "e02").control is None


def test_a_task_at_chance_is_not_usable_however_far_its_experiments_differ() -> None:
    random = np.random.default_rng(4)
    table = 0.25 + random.normal(0, 0.001, (8, 1, 1)) + random.normal(0, 0.01, (8, 3, 1))
    floor = noise_floor(task(table))
    assert floor.usable is False
    assert "chance" in floor.why


def test_one_seed_tells_nothing_of_noise() -> None:
    floor = noise_floor(task(np.array([[[0.3]], [[0.5]]])))
    assert (floor.usable, floor.snr, floor.detectable) == (None, None, None)


def test_the_mean_of_the_last_checkpoints_is_less_noisy_than_the_last_one() -> None:
    values = 0.5 + np.random.default_rng(5).normal(0, 0.01, (10, 5, 12))
    floor = noise_floor(task(values))
    assert floor.sigma_last is not None
    assert floor.sigma_last.sigma / floor.sigma.sigma == pytest.approx(1 / math.sqrt(3), rel=0.25)


# --- item noise, power


def test_items_of_one_passage_are_drawn_together() -> None:
    random = np.random.default_rng(6)
    passages = random.normal(0, 1, 60)
    values, groups = np.repeat(passages, 5)[None], np.repeat(np.arange(60), 5)
    alone = bootstrap_means(values, np.ones(300), np.zeros(300, int), key="a", resamples=800).std()
    together = bootstrap_means(values, np.ones(300), np.zeros(300, int), key="a", resamples=800, groups=groups).std()
    assert together == pytest.approx(math.sqrt(5) * alone, rel=0.12)


@pytest.mark.parametrize("clustered", [True, False])
def test_intervals_over_passages_cover_the_mean_and_those_over_items_do_not(clustered: bool) -> None:
    random = np.random.default_rng(7)
    groups, covered = np.repeat(np.arange(40), 5), 0
    for trial in range(300):
        values = np.repeat(random.normal(0, 1, 40), 5)[None] + random.normal(0, 0.3, (1, 200))
        drawn = bootstrap_means(
            values,
            np.ones(200),
            np.zeros(200, int),
            key=f"{trial}",
            resamples=300,
            groups=groups if clustered else None,
        )
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= 0 <= high
    assert (0.91 <= covered / 300 <= 0.98) == clustered


@pytest.mark.parametrize(("seeds", "difference", "item_se"), [(3, 3.0, 0.0), (5, 1.0, 0.0), (4, 2.0, 0.5)])
def test_power_is_that_of_a_simulation(seeds: int, difference: float, item_se: float) -> None:
    random = np.random.default_rng(8)
    first, second = random.normal(0, 1, (20_000, seeds)), random.normal(difference, 1, (20_000, seeds))
    gap = second.mean(1) - first.mean(1) + random.normal(0, item_se, 20_000)
    pooled = np.sqrt((first.var(1, ddof=1) + second.var(1, ddof=1)) / 2 * 2 / seeds + item_se**2)
    found = (gap / pooled > t_quantile(0.975, 2 * seeds - 2)).mean()
    assert power(difference, 1.0, seeds, item_se) == pytest.approx(found, abs=0.03)


def test_power_of_one_seed_each_is_none() -> None:
    assert power(10.0, 1.0, 1) == 0.0


def test_same_recipe_pairs_are_decided_at_most_one_time_in_twenty_and_their_intervals_cover_zero() -> None:
    random = np.random.default_rng(9)
    domains, weights = np.arange(60) % 3, np.ones(60)
    decided = covered = 0
    for trial in range(400):
        difficulty = random.normal(1.5, 0.3, 60)
        arms = [
            Scores(difficulty + random.normal(0, 0.02, (3, 1)) + random.normal(0, 0.03, (3, 60)), weights, domains)
            for _ in range(4)
        ]
        found = verdict(arms[0], arms[1], pool=[arm.by_seed for arm in arms[2:]], resamples=100, key=f"{trial}")
        assert found.interval is not None
        decided += found.outcome != "undecided"
        covered += found.interval.low <= 0 <= found.interval.high
    assert decided / 400 <= 0.07
    assert 0.93 <= covered / 400 <= 0.98


# --- ranks


def test_rank_statistics_are_scipys_ties_included() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(10)
    first = random.integers(0, 6, 20).astype(float)
    second = first + random.normal(0, 2, 20).round()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-12)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second)[0], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(9)))
def test_without_ties_kendall_is_twice_the_right_decisions_less_one(order: list[int]) -> None:
    target = np.arange(9.0)
    proxy = np.array(order, dtype=float)
    assert kendall(proxy, target) == pytest.approx(2 * right_decisions(proxy, target) - 1)
    assert right_decisions(-proxy, target) == pytest.approx(1 - right_decisions(proxy, target))


def test_the_interval_of_spearman_covers_the_truth() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        pair = random.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 25)
        interval = rank_report(pair[:, 0], pair[:, 1], resamples=400, key=f"{trial}").spearman.interval
        assert interval is not None
        covered += interval.low <= 0.786 <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


def test_few_recipes_get_the_p_of_all_orders() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 3, 2, 5, 4])
    report = rank_report(first, second, resamples=50)
    expected = stats.permutation_test(
        (first,), lambda one: stats.spearmanr(one, second)[0], permutation_type="pairings", n_resamples=np.inf
    ).pvalue
    assert report.exact
    assert report.p == pytest.approx(expected, abs=1e-9)


def test_four_recipes_are_never_significant() -> None:
    assert rank_report(np.arange(4.0), np.arange(4.0), resamples=50).p == pytest.approx(2 / 24)


def test_regret_is_what_the_proxys_winner_loses() -> None:
    proxy, target = np.array([1.0, 2, 3]), np.array([0.7, 0.5, 0.9])
    assert regret(proxy, target) == pytest.approx(0.2)
    assert regret(proxy, target, higher_is_better=True) == pytest.approx(0.0)
    assert overlap(proxy, target, 1) == 0.0
    assert overlap(proxy, target, 2) == 1.0


def test_rankings_of_other_recipes_are_refused() -> None:
    with pytest.raises(InputError, match="5 and 4 recipes"):
        rank_report(np.arange(5.0), np.arange(4.0))


# --- decision accuracy


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 1.0), (0.5, 0.852), (1.0, 0.750), (2.0, 0.648)])
def test_decision_accuracy_is_the_formula_and_a_simulation_agrees(ratio: float, expected: float) -> None:
    assert expected_accuracy(ratio) == pytest.approx(expected, abs=0.001)
    random = np.random.default_rng(13)
    target = random.normal(0, 1, 700)
    proxy = target + random.normal(0, ratio, 700) if ratio else target
    assert right_decisions(proxy, target) == pytest.approx(expected, abs=0.02)
    pairs = random.normal(0, 1, (400_000, 2)) @ np.array([[1.0], [-1.0]]) * np.ones((1, 2))
    noisy = pairs[:, 0] + random.normal(0, ratio * math.sqrt(2), 400_000) if ratio else pairs[:, 0]
    assert (np.sign(noisy) == np.sign(pairs[:, 0])).mean() == pytest.approx(expected_accuracy(ratio), abs=0.01)


def test_shuffled_targets_are_decided_by_a_coin() -> None:
    random = np.random.default_rng(14)
    found = [right_decisions(random.normal(0, 1, 25), random.normal(0, 1, 25)) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_averaging_seeds_divides_the_noise_by_their_root() -> None:
    assert ratio_for(expected_accuracy(0.7)) == pytest.approx(0.7)
    assert seeds_for(0.75, 1.0, 1.0) == 1
    assert seeds_for(0.852, 1.0, 1.0) == 4
    assert seeds_for(0.9, 1.0, 0.0) is None


def test_a_transfer_tells_what_the_noise_of_seeds_expects_and_gains_by_abstaining() -> None:
    random = np.random.default_rng(15)
    truth = random.normal(0, 1, 40)
    proxy = truth[:, None] + random.normal(0, 1.2, (40, 3))
    found = transfer(proxy, truth[:, None] + random.normal(0, 0.05, (40, 3)), resamples=400)
    assert found.expected == pytest.approx(expected_accuracy(1.2 / math.sqrt(3)), abs=0.05)
    assert found.decision_accuracy.value == pytest.approx(found.expected, abs=0.06)
    assert found.on_decided is not None
    assert found.on_decided > found.decision_accuracy.value
    assert 0.3 < found.coverage < 0.95
    assert found.warnings == ()


def test_recipes_that_tie_are_not_decided() -> None:
    proxy = np.array([[1.0, 1.0], [1.0, 1.0], [5.0, 5.0]])
    for truth in (np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.0, 2.0])):
        found = transfer(proxy, truth, resamples=50)
        assert found.coverage == pytest.approx(2 / 3)
        assert found.on_decided == 1.0


def test_one_seed_of_a_target_is_said() -> None:
    random = np.random.default_rng(16)
    found = transfer(random.normal(0, 1, (8, 3)), random.normal(0, 1, 8), resamples=50)
    assert "a target has one seed" in found.warnings[0]


def test_a_proxy_of_the_other_direction_is_turned() -> None:
    truth = np.arange(8.0)
    accuracy = -truth[:, None] + np.zeros((8, 2))
    found = transfer(accuracy, truth, proxy_higher_is_better=True, resamples=50)
    assert found.decision_accuracy.value == 1.0


# --- scaling laws

N = np.logspace(6, 8, 5)
SIZES = np.array([(n, n * d) for n in N for d in (10, 20, 50, 100, 200)])
FAR = np.array([[1e9, 1e11]])


def law(sizes: np.ndarray) -> np.ndarray:
    return np.asarray(0.6 + 30 / sizes[:, 0] ** 0.3 + 200 / sizes[:, 1] ** 0.33)


def test_a_law_without_noise_is_found_to_three_decimals() -> None:
    found = scaling.fit_law(SIZES, law(SIZES), resamples=0).parameters
    truth = {"E": 0.6, "A": 30, "alpha": 0.3, "B": 200, "beta": 0.33}
    assert {name: round(value, 3) for name, value in found.items()} == truth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_of_a_fifth_of_a_percent_extrapolates_within_one(seed: int) -> None:
    loss = law(SIZES) * np.exp(np.random.default_rng(seed).normal(0, 0.002, 25))
    fit = scaling.fit_law(SIZES, loss, noise=0.002, resamples=0)
    assert float(fit.predict(FAR)[0]) == pytest.approx(float(law(FAR)[0]), rel=0.01)
    assert not fit.alarm


def test_points_a_law_cannot_describe_raise_an_alarm() -> None:
    loss = law(SIZES) * np.exp(np.random.default_rng(0).normal(0, 0.002, 25))
    kinked = scaling.fit_law(SIZES, loss * np.where(SIZES[:, 0] > 1e7, 1.1, 1.0), noise=0.002, resamples=0)
    assert kinked.alarm


def test_residuals_of_a_law_with_hardly_more_runs_than_parameters_say_nothing() -> None:
    compute = np.logspace(15, 18, 6)
    loss = (1.2 + 3000 / compute**0.2) * np.where(compute > 1e17, 1.3, 1.0)
    assert [scaling.fit_law(compute[:n], loss[:n], noise=1e-4, resamples=0).alarm for n in (4, 5, 6)] == [
        None,
        None,
        True,
    ]


def test_a_law_in_compute_has_an_interval_that_holds_the_truth() -> None:
    compute = np.logspace(15, 19, 9)
    truth = 1.5 + 300 / compute**0.15
    fit = scaling.fit_law(compute, truth * np.exp(np.random.default_rng(3).normal(0, 0.002, 9)), resamples=60)
    (interval,) = fit.interval(np.array([1e20]))
    assert interval is not None
    assert interval.low <= 1.5 + 300 / 1e20**0.15 <= interval.high
    assert fit.parameters["alpha"] == pytest.approx(0.15, abs=0.03)


def test_recipes_whose_order_turns_with_scale_are_named() -> None:
    compute = np.logspace(15, 19, 9)
    steep, flat = 1.2 + 3000 / compute**0.2, 1.6 + 130 / compute**0.13
    fits = {name: scaling.fit_law(compute, loss, resamples=30) for name, loss in (("steep", steep), ("flat", flat))}
    first, last = np.array([1e15]), np.array([1e22])
    assert fits["flat"].predict(first)[0] < fits["steep"].predict(first)[0]
    (crossing,) = scaling.crossings(fits, first, last)
    assert {crossing.first, crossing.second} == {"steep", "flat"}
    assert crossing.probability > 0.9
    assert scaling.crossings(fits, last, last * 10) == []


def test_task_loss_becomes_accuracy_by_a_sigmoid_that_knows_its_range() -> None:
    loss = np.linspace(0.8, 2.5, 30)
    accuracy = 0.6 / (1 + np.exp(5 * (loss - 1.3))) + 0.25
    fit = scaling.fit_sigmoid(loss, accuracy)
    assert [fit.a, fit.k, fit.middle, fit.b] == pytest.approx([0.6, 5.0, 1.3, 0.25], abs=1e-3)
    assert fit.beyond(0.5)
    assert not fit.beyond(1.0)


def test_checkpoints_are_read_as_published() -> None:
    assert scaling.final_value(np.r_[np.zeros(18), 1.0, 3.0]) == 2.0
    assert len(scaling.smoothed(np.arange(20.0))) == 14
    assert scaling.smoothed(np.arange(20.0))[0] == pytest.approx(4.0)


def test_too_few_sizes_are_no_law() -> None:
    with pytest.raises(InputError, match="at 3 different sizes"):
        scaling.fit_law(np.array([1e15, 1e16, 1e17]), np.array([3.0, 2.5, 2.2]))


# --- early signal


def test_a_learning_curve_passes_and_its_figures_are_those_expected() -> None:
    random = np.random.default_rng(17)
    rising = 0.25 + 0.15 * (1 - np.exp(-np.arange(20) / 6))
    card = early_signal.card(task(rising + random.normal(0, 0.004, (4, 4, 20))))
    assert card.keep
    assert card.monotonicity == pytest.approx(0.98, abs=0.015)
    assert card.raw_snr == pytest.approx(0.394 / 0.004, rel=0.15)
    assert card.snr == pytest.approx(0.144 / 0.004, rel=0.15)
    assert card.non_randomness is not None
    assert card.non_randomness > 30


def test_a_dead_task_passes_the_published_ratio_and_not_ours() -> None:
    random = np.random.default_rng(18)
    card = early_signal.card(task(0.25 + random.normal(0, 0.01, (4, 4, 20))))
    assert card.raw_snr is not None
    assert card.raw_snr > 20
    assert not card.keep


def test_noise_alone_is_never_kept() -> None:
    random = np.random.default_rng(19)
    kept = sum(early_signal.card(task(0.25 + random.normal(0, 0.01, (2, 4, 10)))).keep for _ in range(500))
    assert kept == 0


def test_experiments_that_keep_their_order_are_consistent() -> None:
    steps = np.arange(12)
    values = 0.3 + 0.1 * np.arange(5)[:, None, None] + 0.01 * steps + np.zeros((5, 2, 1))
    card = early_signal.card(task(values + np.random.default_rng(20).normal(0, 1e-4, values.shape)))
    assert card.ordering == pytest.approx(1.0)


def test_what_cannot_be_known_keeps_no_task() -> None:
    card = early_signal.card(task(np.linspace(0.3, 0.6, 10)[None, None, :]))
    assert (card.keep, card.snr) == (False, None)
    assert "not known: signal to noise" in card.why


def test_the_smallest_scale_that_keeps_a_task_is_named() -> None:
    random = np.random.default_rng(21)
    rows = []
    for scale, flops, gain in (("small", 1e15, 0.0), ("middle", 1e16, 0.2), ("large", 1e17, 0.3)):
        for experiment in "ab":
            for seed in range(3):
                for step in range(1, 9):
                    value = 0.25 + gain * step / 8 + random.normal(0, 0.005)
                    row = {"task": "quiz", "experiment": experiment, "scale": scale, "seed": seed, "step": step}
                    rows.append({**row, "value": value, "metric": "accuracy@1", "baseline": 0.25, "flops": flops})
    found = {card.scale: card for card in early_signal.cards(scores_of(rows, "rows"))}
    assert [found[scale].keep for scale in ("small", "middle", "large")] == [False, True, True]
    assert {card.min_scale for card in found.values()} == {"middle"}


# --- tables of scores


def test_a_table_is_read_from_csv_jsonl_and_parquet_alike(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"task": "t", "experiment": name, "scale": "s", "seed": seed, "metric": "bits_per_byte@1", "value": 1.0 + seed}
        for name in "ab"
        for seed in range(2)
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    header = ",".join(rows[0])
    (tmp_path / "x.csv").write_text(header + "\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    found = [read_scores(str(tmp_path / f"x.{kind}")) for kind in ("jsonl", "csv", "parquet")]
    assert found[0] == found[1] == found[2]
    assert found[0][0].baseline == 8.0
    (curve,) = curves(found[0])
    assert finals(found[0], "t", "s", curve.experiments).tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert noise_floors(found[0])[0].sigma == Noise(pytest.approx(math.sqrt(0.5)), 2)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"task": "t", "experiment": "a", "seed": 0}, "has no value"),
        ({"task": "t", "experiment": "a", "seed": 0, "value": "nan", "metric": "accuracy@1"}, "no finite number"),
        ({"task": "t", "experiment": "a", "seed": 0, "value": 1, "metric": "acc"}, "higher_is_better"),
        ({"task": "t", "experiment": "a", "seed": "x", "value": 1, "metric": "accuracy@1"}, "seed 'x' is no number"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        scores_of([row], "file")


def test_a_seed_counts_once() -> None:
    row = {"task": "t", "experiment": "a", "seed": 0, "value": 1, "metric": "accuracy@1"}
    with pytest.raises(InputError, match="two scores"):
        scores_of([row, row], "file")
