"""Leaderboards of simulated runs whose truth is known."""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError
from factory.evaluation.leaderboard import Leaderboard, leaderboard
from factory.evaluation.runs import Run
from factory.evaluation.table import EVALUATION

DOMAINS = {"web": 40, "code": 12, "books": 30}
RECORD = {
    "valid": True,
    "parameters": {"total": 700_000, "non_embedding": 500_000},
    "tokens_seen": 1_000_000,
    "unique_tokens": 800_000,
    "epochs": 1.25,
    "flops": 6e12,
    "documents_kept": 900,
}


def evaluation(values: Mapping[str, np.ndarray], task: str = "heldout", metric: str = "bits_per_byte@1") -> pa.Table:
    bytes_of = np.random.default_rng(0)
    rows = []
    for domain, scores in values.items():
        for at, value in enumerate(scores):
            size = int(bytes_of.integers(50, 2000))
            weight = float(size) if metric.startswith("bits") else 1.0
            rows.append(
                {"task": task, "task_digest": "d", "metric": metric, "domain": domain, "item": f"{domain}:{at}",
                 "value": float(value), "weight": weight, "bytes": size, "tokens": size, "truncated": False}
            )  # fmt: skip
    return pa.Table.from_pylist(rows, EVALUATION)


def simulate(
    effects: Mapping[str, float], *, seeds: int = 3, seed: int = 0, scale: str = "nano", tasks: tuple[str, ...] = ()
) -> list[Run]:
    """Runs whose bits per byte differ from the base's by these effects, with a seed noise of 0.01."""
    random = np.random.default_rng(seed)
    difficulty = {domain: random.normal(1.5, 0.3, count) for domain, count in DOMAINS.items()}
    runs = []
    for experiment, effect in effects.items():
        for number in range(seeds):
            shift = effect + random.normal(0, 0.01)
            values = {name: items + shift + random.normal(0, 0.02, len(items)) for name, items in difficulty.items()}
            tables = [evaluation(values)]
            for task in tasks:
                answers = {"all": (random.random(80) < 0.3).astype(float)}
                tables.append(evaluation(answers, task, "accuracy@1"))
            runs.append(Run(experiment, scale, number, RECORD, pa.concat_tables(tables)))
    return runs


EFFECTS = {"raw": 0.0, "worse": 0.2, "good": -0.2, "same": 0.0, "best": -0.4}


def ranks(board: Leaderboard) -> dict[str, int | None]:
    return {row.experiment: row.rank for row in board.rows}


def test_proven_differences_rank_and_undecided_ones_share_a_rank() -> None:
    board = leaderboard(simulate(EFFECTS), "raw")
    assert ranks(board) == {"best": 1, "good": 2, "raw": 3, "same": 3, "worse": 5}
    assert {row.experiment: row.verdict for row in board.rows} == {
        "best": "better", "good": "better", "raw": "N/A", "same": "undecided", "worse": "worse",
    }  # fmt: skip
    assert board.rows[0].experiment == "best"


def test_experiments_that_differ_by_luck_alone_rarely_get_different_ranks() -> None:
    equal = dict.fromkeys(("raw", "a", "b", "c"), 0.0)
    wrong = 0
    for seed in range(60):
        board = leaderboard(simulate(equal, seed=seed), "raw", resamples=100)
        wrong += any(row.verdict in ("better", "worse") for row in board.rows)
    assert wrong / 60 <= 0.05 + 0.05, "any false verdict in a family of three; 0.05 and the noise of 60 trials"


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(15)))
def test_the_order_of_runs_does_not_matter(order: list[int]) -> None:
    runs = simulate(EFFECTS)
    straight = leaderboard(runs, "raw", resamples=50).to_json()
    assert leaderboard([runs[at] for at in order], "raw", resamples=50).to_json() == straight


def test_the_primary_metric_is_the_macro_mean_and_its_difference_the_true_one() -> None:
    board = leaderboard(simulate(EFFECTS), "raw")
    best = board.rows[0]
    assert best.primary is not None
    assert best.primary.value == pytest.approx(np.mean(list(best.domains.values())), abs=1e-12)
    assert set(best.domains) == set(DOMAINS)
    assert best.against_base is not None
    interval = best.against_base.interval
    assert interval is not None
    assert interval.low < -0.4 < interval.high
    assert best.primary.seed_interval != best.primary.item_interval


def test_an_accuracy_as_primary_is_better_when_higher() -> None:
    runs = simulate({"raw": 0.0, "low": 0.0}, tasks=("cloze",))
    values = pa.array([1.0 if metric == "accuracy@1" else 1.5 for metric in runs[0].items["metric"].to_pylist()])
    perfect = runs[0].items.set_column(EVALUATION.get_field_index("value"), EVALUATION.field("value"), values)
    wobble = np.random.default_rng(1)
    for seed in range(3):
        hit = np.where(np.array(perfect["metric"].to_pylist()) == "accuracy@1", wobble.random(len(values)) < 0.97, 1.5)
        table = perfect.set_column(5, EVALUATION.field("value"), pa.array(hit.astype(float)))
        runs.append(Run("high", "nano", seed, RECORD, table))
    board = leaderboard(runs, "raw", "cloze")
    assert board.higher_is_better
    assert (board.rows[0].experiment, board.rows[0].verdict) == ("high", "better")


def test_a_missing_task_is_not_available_rather_than_a_mean_over_fewer() -> None:
    runs = simulate({"raw": 0.0, "other": 0.0}, tasks=("cloze",))
    at = next(at for at, run in enumerate(runs) if run.experiment == "other")
    runs[at] = replace(runs[at], items=runs[at].items.filter(pa.compute.equal(runs[at].items["task"], "heldout")))
    board = leaderboard(runs, "raw")
    tasks = {row.experiment: row.tasks["cloze"] for row in board.rows}
    assert tasks["other"] is None
    assert tasks["raw"] is not None
    header, rows = board.table()
    shown = {row[1]: row[header.index("cloze")] for row in rows}
    assert shown["other"] == "N/A"


def test_an_experiment_without_the_primary_metric_has_no_rank() -> None:
    runs = simulate({"raw": 0.0, "other": 0.0}, tasks=("cloze",))
    runs = [
        replace(run, items=run.items.filter(pa.compute.equal(run.items["task"], "cloze")))
        if run.experiment == "other"
        else run
        for run in runs
    ]
    row = leaderboard(runs, "raw").rows[-1]
    assert (row.experiment, row.rank, row.primary, row.verdict) == ("other", None, None, "N/A")


def test_failed_and_incomparable_runs_are_listed_and_not_ranked() -> None:
    runs = simulate({"raw": 0.0, "other": -0.3})
    lost = runs[3].items["value"].to_pylist()
    runs[3] = replace(
        runs[3],
        items=runs[3].items.set_column(5, EVALUATION.field("value"), pa.array([None, float("nan"), *lost[2:]])),
    )
    runs[4] = replace(runs[4], record={**RECORD, "valid": False, "reason": "loss is nan at step 40"})
    runs.append(Run("other", "nano", 3, RECORD, runs[5].items.slice(1)))
    board = leaderboard(runs, "raw")
    reasons = {one.seed: one.reason for one in board.invalid}
    assert "2 of 82 items have no finite score" in reasons[0]
    assert reasons[1] == "loss is nan at step 40"
    assert "other items" in reasons[3]
    other = next(row for row in board.rows if row.experiment == "other")
    assert (other.seeds, other.verdict) == ((2,), "undecided")
    assert other.against_base is not None
    assert other.against_base.reason.startswith("1 seed")


def test_other_versions_of_a_task_or_metric_are_not_mixed() -> None:
    runs = simulate({"raw": 0.0, "other": -0.3, "third": 0.0})
    for at, (column, value) in {3: ("task_digest", "changed"), 6: ("metric", "bits_per_byte@2")}.items():
        table = runs[at].items
        changed = pa.array([value] * table.num_rows)
        index = EVALUATION.get_field_index(column)
        runs[at] = replace(runs[at], items=table.set_column(index, EVALUATION.field(column), changed))
    reasons = {one.experiment: one.reason for one in leaderboard(runs, "raw").invalid}
    assert "other items, settings or metric" in reasons["other"]
    assert "bits_per_byte@2" in reasons["third"]


def test_the_base_experiment_is_required_at_every_scale() -> None:
    runs = simulate({"raw": 0.0, "other": 0.0})
    with pytest.raises(FactoryError, match=r"'rwa' has no run.*Did you mean 'raw'"):
        leaderboard(runs, "rwa")
    with pytest.raises(FactoryError, match="Scale 'micro' has runs of other but none of the base"):
        leaderboard([*runs, *simulate({"other": 0.0}, scale="micro")], "raw")
    broken = [
        replace(run, record={"valid": False, "reason": "diverged"}) if run.experiment == "raw" else run for run in runs
    ]
    with pytest.raises(FactoryError, match="seed 0: diverged"):
        leaderboard(broken, "raw")


def test_a_run_counts_once() -> None:
    runs = simulate({"raw": 0.0})
    with pytest.raises(FactoryError, match="Two runs are raw/nano/seed 0"):
        leaderboard([*runs, runs[0]], "raw")


def test_scales_are_ranked_apart() -> None:
    runs = [*simulate(EFFECTS), *simulate({"raw": 0.0, "best": 0.3}, scale="micro", seed=1)]
    board = leaderboard(runs, "raw")
    assert {row.experiment: row.rank for row in board.rows if row.scale == "micro"} == {"raw": 1, "best": 2}
    assert {row.experiment: row.rank for row in board.rows if row.scale == "nano"}["best"] == 1


def test_the_noise_floor_says_what_could_be_seen() -> None:
    (floor,) = leaderboard(simulate(EFFECTS), "raw").noise
    assert floor.noise.dof == 10
    assert floor.noise.sigma == pytest.approx(0.01, rel=0.6)
    assert floor.detectable == pytest.approx(3.035 * floor.noise.sigma, rel=0.01)
    assert floor.spread is not None
    assert floor.spread > 10 * floor.noise.sigma


def test_several_held_out_sets_make_one_primary_metric() -> None:
    runs = []
    for run in simulate(EFFECTS):
        second = evaluation({"law": np.full(5, 3.0 + EFFECTS[run.experiment] + run.seed / 500)}, "legal")
        runs.append(replace(run, items=pa.concat_tables([run.items, second])))
    board = leaderboard(runs, "raw")
    assert set(board.rows[0].domains) == {"heldout/web", "heldout/code", "heldout/books", "legal/law"}
    assert [floor.task for floor in board.noise] == ["bits_per_byte@1", "heldout", "legal"]


def test_a_leaderboard_is_plain_json_and_its_table_is_text() -> None:
    board = leaderboard(simulate(EFFECTS, seeds=1, tasks=("cloze",)), "raw")
    data = json.loads(json.dumps(board.to_json(), allow_nan=False))
    assert [row["verdict"] for row in data["rows"]].count("undecided") == 4
    assert data["rows"][0]["rank"] == 1
    assert data["rows"][0]["facts"] == {
        "parameters": 5e5, "tokens": 1e6, "unique_tokens": 8e5, "epochs": 1.25, "flops": 6e12, "documents_kept": 900,
        "parameters_total": 7e5,
    }  # fmt: skip
    header, rows = board.table()
    assert all(len(row) == len(header) and all(isinstance(cell, str) for cell in row) for row in rows)
    assert header[:7] == ["rank", "experiment", "scale", "seeds", "bits_per_byte@1", "difference", "verdict"]
