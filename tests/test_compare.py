"""Two experiments compared, from runs, from files and from a recipe; rows of a leaderboard; the books of what it cost."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_project import RECIPE, write_project
from test_cli import Answer, factory  # noqa: F401
from test_leaderboard import evaluation, simulate

from factory.core.errors import FactoryError, InputError
from factory.evaluation.compare import compare
from factory.evaluation.costs import Cost, cost_of, prediction_errors, price_of_more, totals
from factory.evaluation.entry import COLUMNS, problems, require_valid, to_csv
from factory.evaluation.leaderboard import leaderboard
from factory.evaluation.runs import Run
from factory.execution.local import LocalExecutor
from factory.recipes.evidence import compare_files
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.reports import comparison
from factory.storage.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")


def cost(number: int, experiment: str = "raw", **changes: Any) -> Cost:
    record = {"valid": True, "tokens_seen": 1000, "flops": 1e9, "flops_6nd": 9e8, "seconds": 36.0, "device": "cpu"}
    named = {"name": f"run {number}", "role": "proxy", "experiment": experiment, "scale": "nano", "seed": number}
    return cost_of({**record, **changes}, **named, usd_per_hour=2.0, ended=f"{number:04d}")


# --- the comparison


def test_a_real_difference_is_decided_and_the_seeds_that_were_enough_are_told() -> None:
    costs = [cost(seed, name) for name in ("raw", "good") for seed in range(5)]
    found = compare(simulate({"raw": 0.0, "good": -0.2}, seeds=5), "raw", "good", costs=costs)
    assert found.outcome == "better"
    assert found.sentence.startswith("'good' is better than 'raw'")
    assert found.decided_with in (2, 3)
    assert found.flops_to_decision == 2 * found.decided_with * 1e9
    assert found.to_decide is None
    assert found.cost.usd == pytest.approx(10 * 36 / 3600 * 2)
    assert compare(simulate({"raw": 0.0, "good": -0.2}), "good", "raw").outcome == "worse"


def test_an_undecided_one_is_told_what_deciding_would_cost() -> None:
    costs = [cost(seed, name) for name in ("raw", "same") for seed in range(3)]
    found = compare(simulate({"raw": 0.0, "same": 0.012}, seed=1), "raw", "same", costs=costs)
    wanted = found.primary.verdict.seeds_needed
    assert found.outcome == "undecided"
    assert wanted is not None
    assert found.to_decide is not None
    assert found.to_decide.runs == 2 * (wanted - 3)
    assert found.to_decide.flops == pytest.approx(found.to_decide.runs * 1e9)
    assert found.to_decide.usd == pytest.approx(found.to_decide.runs * 36 / 3600 * 2)
    assert found.primary.power is not None
    assert found.primary.power < 0.8


def test_two_names_for_one_training_leave_nothing_to_decide() -> None:
    runs = simulate({"raw": 0.0})
    twice = [*runs, *(replace(run, experiment="again") for run in runs)]
    found = compare(twice, "raw", "again")
    assert found.outcome == "undecided"
    assert "there is nothing to decide" in found.sentence
    assert found.to_decide is None


def test_tasks_of_one_metric_are_a_family_and_a_mean() -> None:
    runs = simulate({"raw": 0.0, "other": 0.0, "third": 0.0}, tasks=("one", "two", "three"))
    found = compare(runs, "raw", "other")
    assert [one.task for one in found.tasks] == ["one", "two", "three"]
    assert all(one.p_holm is not None and one.p_holm >= (one.verdict.p or 0) for one in found.tasks)
    assert found.primary.p_holm is None
    (mean,) = found.metrics
    assert mean.task == "accuracy@1 over 3 tasks"
    gaps = [one.verdict.difference for one in found.tasks]
    assert mean.verdict.difference == pytest.approx(np.mean(gaps))
    assert mean.verdict.item_se >= np.std(gaps) / math.sqrt(3) * 0.9, "tasks are drawn again, too"


def test_a_passage_of_many_questions_widens_the_interval() -> None:
    widths = {}
    for grouped in (False, True):
        runs = []
        random = np.random.default_rng(0)
        hard = np.repeat(random.random(30), 8)
        for name, shift in (("raw", 0.0), ("other", 0.1)):
            effect = np.repeat(random.normal(shift, 0.2, 30), 8)
            for seed in range(3):
                right = (random.random(240) < np.clip(hard + effect, 0, 1)).astype(float)
                table = evaluation({"all": right}, "quiz", "accuracy@1")
                if grouped:
                    place = table.column_names.index("passage")
                    table = table.set_column(place, "passage", pa.array([f"p{at // 8}" for at in range(240)]))
                runs.append(Run(name, "nano", seed, {}, table))
        found = compare(runs, "raw", "other", primary="quiz")
        widths[grouped] = found.primary.verdict.item_se
    assert widths[True] > 1.3 * widths[False]


def test_what_cannot_be_compared_says_so() -> None:
    runs = simulate({"raw": 0.0, "other": 0.0})
    with pytest.raises(FactoryError, match=r"No run of 'othr'.*'other'"):
        compare(runs, "raw", "othr")
    with pytest.raises(FactoryError, match="compared with itself"):
        compare(runs, "raw", "raw")
    changed = [
        Run(
            run.experiment,
            run.scale,
            run.seed,
            run.record,
            run.items.slice(1) if run.experiment == "other" else run.items,
        )
        for run in runs
    ]
    with pytest.raises(FactoryError, match=r"No run of 'other' can be compared .*other items"):
        compare(changed, "raw", "other")


def test_evaluations_in_files_are_compared_as_runs_are(tmp_path: Path) -> None:
    runs = simulate({"raw": 0.0, "good": -0.2})
    for run in runs:
        folder = tmp_path / run.experiment
        folder.mkdir(exist_ok=True)
        pq.write_table(run.items, folder / f"{run.seed}.parquet")
    found = compare_files(str(tmp_path / "raw"), str(tmp_path / "good"))
    direct = compare(runs, "raw", "good")
    assert (found["outcome"], found["paired"]) == ("better", True)
    assert found["primary"]["verdict"]["difference"] == pytest.approx(direct.primary.verdict.difference)
    with pytest.raises(InputError, match="No Parquet file matches"):
        compare_files(str(tmp_path / "none" / "*.parquet"), str(tmp_path / "raw"))


def test_two_leaderboards_are_compared_without_pairing_and_say_so(tmp_path: Path) -> None:
    runs = simulate({"raw": 0.0, "good": -0.4, "same": 0.0})
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps(leaderboard(runs, "raw").to_json()))
    found = compare_files(f"{tmp_path}/a.json#raw", f"{tmp_path}/b.json#good")
    paired = compare(runs, "raw", "good").primary.verdict
    assert (found["outcome"], found["paired"]) == ("better", False)
    assert found["primary"]["verdict"]["item_se"] > paired.item_se
    with pytest.raises(InputError, match="Say which experiment"):
        compare_files(f"{tmp_path}/a.json", f"{tmp_path}/b.json#good")
    (tmp_path / "c.json").write_text('{"rows": 3}')
    with pytest.raises(InputError, match="is no leaderboard"):
        compare_files(f"{tmp_path}/c.json#raw", f"{tmp_path}/b.json#good")


def test_a_comparison_is_plain_json_and_a_page_that_loads_nothing() -> None:
    data = compare(simulate({"raw": 0.0, "<b>bad": 0.1}, tasks=("one", "two")), "raw", "<b>bad").to_json()
    data = {**json.loads(json.dumps(data, allow_nan=False)), "usd_per_hour": None}
    page = comparison.page(data)
    assert "&lt;b&gt;bad" in page
    assert "<b>bad" not in page
    assert page.count("<svg") == 2, "a panel a metric"
    assert "http" not in page.replace("http-equiv", "")


# --- rows


def row(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = dict.fromkeys(COLUMNS)
    made |= {
        "rank": 1, "experiment": "raw", "arm": "a1", "scale": "nano", "tracks": ["control"], "sources": ["web"],
        "selection": ["everything"], "tokenizer": "t1", "mixture": "m1", "mixture_by": "source", "seeds": [0, 1, 2],
        "metric": "bits_per_byte@1", "value": 1.5, "control": "raw", "verdict": "N/A", "revision": "0.1.0",
        "manifest": "f00", "tasks": {"held": {"metric": "bits_per_byte@1", "value": 1.5, "low": 1.4, "high": 1.6}},
    }  # fmt: skip
    return {**made, **changes}


def test_a_whole_row_is_valid() -> None:
    require_valid([row(), row(experiment="new", tasks={"held": None}, value=None, rank=None)], ["held"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": {}}, "task 'held' is missing"),
        ({"control": None}, "'control' is empty"),
        ({"control": "gone"}, "its control 'gone' has no row"),
        ({"tasks": {"held": {"metric": "core", "value": 0.2}}}, "core@2, is wanted"),
        ({"metric": "bits_per_byte"}, "has no version"),
        ({"aggregates": {"core": {"value": 0.2}}}, "the aggregate 'core' has no version"),
        ({"value": None}, "a rank and no primary score"),
        ({"tracks": ["cheating"]}, "track 'cheating'"),
        ({"revision": "0.2.0", "experiment": "new"}, "another release"),
    ],
)
def test_a_row_that_may_not_be_shown_is_refused(changes: Mapping[str, Any], said: str) -> None:
    rows = [row(), row(**changes)] if "experiment" in changes else [row(**changes)]
    assert any(said in problem for problem in problems(rows, ["held"]))
    with pytest.raises(FactoryError, match="problem"):
        require_valid(rows, ["held"])


def test_a_row_without_a_column_is_refused() -> None:
    made = row()
    del made["usd"]
    assert problems([made], ["held"]) == ["raw at nano: 'usd' is missing"]


def test_rows_as_csv_have_a_column_for_everything() -> None:
    (read,) = csv.DictReader(io.StringIO(to_csv([row(licences={"CC0-1.0": 3})])))
    assert read["licences"] == "CC0-1.0=3"
    assert read["seeds"] == "0;1;2"
    assert read["held.value"] == "1.5"
    assert set(COLUMNS) - {"tasks"} <= set(read)


# --- costs


def test_totals_are_the_sums_of_the_records_and_nothing_is_left_out() -> None:
    lines = [cost(at) for at in range(4)] + [cost(4, valid=False), cost(5, seconds=None)]
    found = totals(lines)
    assert found["runs"] == 6
    assert found["flops"] == math.fsum(6 * [1e9])
    assert found["usd"] == pytest.approx(5 * 36 / 3600 * 2)
    assert found["unknown"]["seconds"] == 1
    assert found["by_status"]["invalid"]["runs"] == 1
    for group in ("by_role", "by_status", "by_experiment"):
        assert sum(own["flops"] for own in found[group].values()) == found["flops"]


def test_time_is_told_ahead_from_the_rate_of_other_runs() -> None:
    lines = [cost(at, seconds=36.0 * (1 + 0.05 * (-1) ** at)) for at in range(12)]
    errors = prediction_errors(lines)
    assert len(errors) == 10
    assert max(abs(error) for error in errors) < 0.2
    assert prediction_errors([cost(0)]) == []


def test_a_price_nobody_gave_is_none() -> None:
    one = cost_of({"valid": True, "flops": 1e9}, name="x", role="proxy", experiment="a", scale="s", seed=0)
    price = price_of_more([one], 3)
    assert (price.flops, price.hours, price.usd) == (3e9, None, None)


# --- a recipe, all the way


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished recipe of two experiments and two seeds, with a discarded and a broken run beside it."""
    folder = tmp_path_factory.mktemp("compared")
    recipe = RECIPE.replace("seeds: 1", "seeds: 2\n  usd_per_hour: 2.0")
    other = write_project(folder, recipe.replace("warmup_steps: 2", "warmup_steps: 3").replace("  full: {}\n", ""))
    with Workspace(load_recipe(other), LocalExecutor(1)) as workspace:
        workspace.run(["proxies/raw"])
    path = write_project(folder, recipe)
    with Workspace(load_recipe(path), LocalExecutor(1)) as workspace:
        workspace.run()
    return Path(path)


def test_compare_of_a_recipe_ends_with_status_0_and_all_figures(factory: Any, compared: Path, tmp_path: Path) -> None:  # noqa: F811
    said = factory("compare", "raw", "full", "-r", compared, "--json")
    assert said.status == 0
    assert said.data["outcome"] in ("better", "worse", "undecided")
    assert said.data["primary"]["verdict"]["interval"] is not None
    assert said.data["cost"]["runs"] == 4
    assert said.data["cost"]["usd"] == pytest.approx(2 * said.data["cost"]["hours"])
    page = tmp_path / "page.html"
    shown = factory("compare", "raw", "full", "-r", compared, "--html", page)
    assert shown.status == 0
    assert "raw" in shown.out
    assert "<svg" in page.read_text()


def test_a_name_that_is_none_and_a_file_against_an_experiment_are_explained(factory: Any, compared: Path) -> None:  # noqa: F811
    assert "Did you mean 'full'" in factory("compare", "raw", "fll", "-r", compared).err
    assert "is not compared with a file" in factory("compare", "raw", "x.json#a", "-r", compared).err


def test_the_ledger_counts_every_run_in_the_store(factory: Any, compared: Path) -> None:  # noqa: F811
    data = factory("costs", "-r", compared, "--json").data
    store = Store(str(compared.parent / "store"))
    records = [
        json.loads(store.read(path))["notes"]["record"]
        for path in store.files("proxies")
        if path.rsplit("/", 1)[-1].startswith("manifest-")
    ]
    assert len(records) == data["totals"]["runs"] == 6
    for name, of in (("flops", "flops"), ("tokens", "tokens_seen"), ("flops_6nd", "flops_6nd"), ("seconds", "seconds")):
        assert data["totals"][name] == pytest.approx(math.fsum(record[of] for record in records), rel=1e-12)
    assert {name: own["runs"] for name, own in data["totals"]["by_status"].items()} == {"complete": 4, "discarded": 2}
    assert data["processing"]["cpu_hours"] > 0
    assert "all runs" in factory("costs", "-r", compared).out


def test_rows_of_a_leaderboard_say_what_it_was_made_of(factory: Any, compared: Path) -> None:  # noqa: F811
    rows = {one["experiment"]: one for one in factory("leaderboard", "-r", compared, "--json").data["entries"]}
    assert set(rows["full"]) == set(COLUMNS)
    assert (rows["raw"]["tracks"], rows["full"]["tracks"]) == (["control"], ["filtering"])
    assert rows["full"]["arm"] != rows["raw"]["arm"]
    assert rows["full"]["selection"] == ["long", "duplicate"]
    assert sum(rows["raw"]["licences"].values()) == rows["raw"]["documents_kept"]
    assert rows["full"]["usd"] > 0
    assert rows["full"]["flops_6nd"] == 6 * rows["full"]["parameters_total"] * rows["full"]["tokens"]
    read = list(csv.DictReader(io.StringIO(factory("leaderboard", "-r", compared, "--csv").out)))
    assert [one["experiment"] for one in read] == list(rows)


def test_signal_and_transfer_read_a_recipe_or_a_table(factory: Any, compared: Path, tmp_path: Path) -> None:  # noqa: F811
    found = factory("signal", "-r", compared, "--json").data
    assert {one["task"] for one in found["floors"]} == {"held", "training loss"}
    assert "another" in (said := factory("transfer", "-r", compared)).err or "second scale" in said.err
    random = np.random.default_rng(0)
    lines = ["task,experiment,scale,seed,metric,value,flops"]
    for at in range(8):
        for scale, flops, noise in (("small", 1e15, 0.02), ("large", 1e17, 0.002)):
            for seed in range(3):
                value = 2.0 - 0.1 * (scale == "large") + 0.02 * at + random.normal(0, noise)
                lines.append(f"held,e{at},{scale},{seed},bits_per_byte@1,{value},{flops}")
    (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
    data = factory("transfer", "--table", tmp_path / "scores.csv", "--json").data
    (one,) = data["rows"]
    assert (data["target"], one["scale"], one["recipes"]) == ("large", "small", 8)
    assert one["ranks"]["decision_accuracy"]["value"] > 0.8
    assert "right decisions" in factory("transfer", "--table", tmp_path / "scores.csv").out
    assert "Noise floor" in factory("signal", "--table", tmp_path / "scores.csv").out


def test_the_report_draws_the_differences(compared: Path) -> None:
    from factory.recipes.report import write_report

    page = Path(write_report(Workspace(load_recipe(str(compared))))).read_text("utf-8")
    assert "Differences to “raw”" in page
    against = page[page.index("Against “raw”") :]
    assert "<td>full</td>" in against
    assert ">full</text>" in against


__all__ = ["Answer"]
