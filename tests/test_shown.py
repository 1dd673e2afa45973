"""What a person sees: tables as wide as a line, single seeds told apart from means, one plot for all comparisons."""

import io
import json
from typing import Any

import pytest
from judged_project import judged  # noqa: F401
from rich.console import Console
from test_cli import factory  # noqa: F401
from test_compare import simulate

from factory.core.errors import RecipeError
from factory.evaluation.compare import compare
from factory.evaluation.costs import cost_of, totals
from factory.recipes.load import check_recipe
from factory.recipes.searches import mixtures
from factory.reports import comparison, decisions
from factory.reports.leaderboard import Leaderboard
from factory.stages.benchmarks import Item

# The typer that dg can be used with asks click 8.5 for names that will go.
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")


def drawn(shown: Any, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(shown)
    return out.getvalue()


def trial(name: str, objective: float, seed: int = 0, role: str = "swarm", **weights: float) -> dict[str, Any]:
    found = {"trial": name, "round": 1, "role": role, "seed": seed, "weights": weights, "objective": objective}
    return {**found, "valid": True, "tokens": 100}


def test_mixtures_are_means_over_seeds_and_fresh_ones_where_there_are_some() -> None:
    found = mixtures(
        [
            trial("swarm-1", 2.9, a=1.0),  # picked by this measurement, which flatters it
            trial("confirm-swarm-1-1", 3.1, seed=1, role="confirm", a=1.0),
            trial("confirm-swarm-1-2", 3.3, seed=2, role="confirm", a=1.0),
            trial("swarm-2", 3.0, a=0.5, b=0.5),
            trial("uniform", 3.4, a=0.2, b=0.8),
            trial("unimax", 3.4, a=0.2, b=0.8),  # the same training under another name
            trial("merge-a", 2.0, role="merge", a=0.2, b=0.8),
        ]
    )
    told = {one["mixture"]: (one["objective"], one["seeds"], one["fresh"]) for one in found}
    assert [one["mixture"] for one in found] == ["merge-a", "swarm-2", "swarm-1", "uniform, unimax"]
    assert told["swarm-1"] == (pytest.approx(3.2), 2, True)
    assert (told["swarm-2"], told["uniform, unimax"]) == ((3.0, 1, False), (3.4, 1, False))
    assert next(one for one in found if one["mixture"] == "swarm-1")["deviation"] == pytest.approx(0.1 * 2**0.5)


def test_trials_of_searches_are_no_experiments_in_the_costs() -> None:
    record = {"valid": True, "flops": 1e9, "seconds": 1.0, "tokens_seen": 10}
    shared = {"name": "x", "scale": "nano", "seed": 0}
    found = totals(
        [
            cost_of(record, role="proxy", experiment="full", **shared),
            cost_of(record, role="search", experiment="regmix", **shared),
        ]
    )
    assert (list(found["by_experiment"]), list(found["by_search"])) == (["full"], ["regmix"])
    spent = {"datasets": 0, "cpu_hours": None, "hours": 0.0}
    data = {"totals": found, "processing": spent, "evaluation": spent, "prediction_errors": []}
    lines = drawn(decisions.costs(data)).splitlines()
    assert any(line.startswith("search ") and "regmix" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_leaderboard_fits_its_line_and_names_what_is_left_out(width: int) -> None:
    tasks = [f"task_{number}" for number in range(12)]
    header = ["rank", "experiment", "scale", "seeds", "bits_per_byte", "difference", "verdict", *tasks, "tokens"]
    cells = ["1", "full", "nano", "3", "2.9412 ± 0.0163", "-0.0153 ± 0.0263", "undecided (12 seeds would do)"]
    board = {"primary": "bits_per_byte", "higher_is_better": False, "base": "raw", "noise": [], "invalid": []}
    notes = {"header": header, "rows": [[*cells, *["2.9953 ± 0.0169"] * 12, "239,616"]], "board": board}
    shown = drawn(Leaderboard(notes), width)
    first = shown.splitlines()[2]
    assert "2.9412 ± 0.0163  -0.0153 ± 0.0263  undecided (12 seeds)" in first, "nothing that decides is folded"
    assert max(map(len, shown.splitlines())) <= width
    assert "at nano, 3 seeds each" in shown
    assert "task_11" in shown.split("not shown:")[1]
    assert "task_11" in drawn(Leaderboard(notes, wide=True), 400).splitlines()[1]


def test_all_comparisons_are_one_table_and_one_plot_for_each_metric() -> None:
    found = [compare(simulate({"raw": 0.0, name: -0.2}, seeds=3), "raw", name, resamples=50) for name in ("one", "two")]
    data = [item if isinstance(item, dict) else item.to_json() for item in found]
    drawn_plots = comparison.forests(data)
    metrics = {one["metric"] for item in data for one in (item["primary"], *item["metrics"], *item["tasks"])}
    assert drawn_plots.count("<svg") == len(metrics)
    assert drawn_plots.count(">one<") == drawn_plots.count(">two<") >= 1
    rows = comparison.against_base(data)
    assert [(row["experiment"], row["outcome"]) for row in rows] == [("one", "better"), ("two", "better")]


def test_proxies_are_evaluated_by_name(factory: Any, judged: Any) -> None:  # noqa: F811
    one = factory("evaluate", "raw/nano-0", "--limit", 2, "-r", judged.recipe, "--json")
    assert one.status == 0, one.err
    assert list(one.data["proxies"]) == ["raw/nano-0"]
    assert one.data["means"]["held"]["mean"] == one.data["proxies"]["raw/nano-0"]["tasks"]["held"]["score"]
    assert "raw/nano-0" in factory("evaluate", "raw", "--limit", 2, "-r", judged.recipe).out
    wrong = factory("evaluate", "raw/nano-1", "-r", judged.recipe)
    assert (wrong.status, "Did you mean 'nano-0'" in wrong.err) == (2, True)
    nowhere = factory("evaluate", "raw", "-r", "nowhere.yaml")
    assert (nowhere.status, "--recipe" in nowhere.err) == (2, True)


def test_plan_says_what_run_would_refuse(factory: Any, judged: Any) -> None:  # noqa: F811
    assert factory("plan", "-r", judged.recipe, "--memory", "1GB", "--json").data["refused"] == []


def test_a_budget_of_the_base_is_located_where_it_is_written() -> None:
    data = {
        "name": "x",
        "sources": {"web": {"use": "jsonl", "uri": "*.jsonl", "snapshot": "a"}},
        "tokenizer": {"vocab_size": 300},
        "mixture": {"use": "natural", "tokens": 100},
        "proxy": {"scale": "nano"},
    }
    with pytest.raises(RecipeError) as told:
        check_recipe(data, folder=".")
    assert [problem for problem in told.value.problems if problem.startswith("mixture.tokens: ")]
    assert "experiments.base" not in str(told.value)


def test_items_are_named_for_people_by_the_line_they_see() -> None:
    item = Item("quiz", "", 6, "q", (), ("a",), "")
    assert (item.name, item.place) == ("quiz:6", "quiz, line 7")
    assert json.dumps(item.place)
