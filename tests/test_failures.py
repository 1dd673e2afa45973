"""What cannot be made stops what is made from it and nothing else, is said once, and is tried again by the next run."""

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from judged_project import RECIPE, write_project

from factory.core.errors import FactoryError, InputError, LedgerError, StoreError
from factory.evaluation.leaderboard import machine_warnings
from factory.evaluation.runs import Run
from factory.evaluation.table import EVALUATION
from factory.execution.failures import describe, failure
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Task
from factory.recipes.failures import RunFailed
from factory.recipes.load import load_recipe
from factory.recipes.steps.search import read_trials
from factory.recipes.workspace import Outcome, Workspace
from factory.storage.failures import FOLDER

pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")

# One experiment of each kind of failure beside two that can be made.
BROKEN = (
    RECIPE[: RECIPE.index("scorers:")]
    + RECIPE[RECIPE.index("tokenizer:") : RECIPE.index("experiments:")]
    + """searches:
  grid:
    use: fixed
    tokens: 600
    min_valid: 0.5
    baselines: [natural]
    mixtures: {one: {site0.example: 1.0}, two: {site1.example: 1.0}, three: {site2.example: 1.0},
      even: {site0.example: 0.4, site1.example: 0.3, site2.example: 0.3}}
experiments:
  raw: {}
  big: {mixture: {tokens: 900_000, max_epochs: 1}}
  start: {proxy: {init: odd}}
  found: {mixture: {use: searched, search: grid, pick: even}}
base: raw
"""
)
MENDED = BROKEN.replace("{tokens: 900_000, max_epochs: 1}", "{tokens: 2_000}").replace("{proxy: {init: odd}}", "{}")
BIG = "mix: 900,000 tokens asked"
ODD = "'vocab_size' is missing"


class Saboteur(LocalExecutor):
    """Workers that fail at trials of these mixtures."""

    def __init__(self, *mixtures: set[str]) -> None:
        super().__init__(1)
        self.mixtures = mixtures

    def run(self, tasks: Iterable[Task], on_done: Callable[..., None], *how: Any) -> None:
        def spoiled(task: Task) -> Task:
            epochs = (task.payload.get("train") or {}).get("epochs")
            if epochs is None or set(epochs) not in self.mixtures:
                return task
            return Task(
                task.name, "worker_tasks:fail", {"kind": "InputError", "message": "it does not fit"}, task.weight
            )

        super().run([spoiled(task) for task in tasks], on_done, *how)


class Notes:
    """A progress that keeps what is worth a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, label: str, total: int, unit: str) -> None: ...

    def advance(self, amount: int) -> None: ...

    def finish(self) -> None: ...

    def note(self, line: str) -> None:
        self.lines.append(line)


class Failed:
    """The broken project after a run."""

    def __init__(self, folder: Path, executor: LocalExecutor) -> None:
        self.folder, self.executor = folder, executor
        self.notes = Notes()

    @property
    def recipe(self) -> str:
        return str(self.folder / "recipe.yaml")

    def workspace(self, **how: Any) -> Workspace:
        return Workspace(load_recipe(self.recipe), self.executor, self.notes, **how)

    def run(self, *names: str, **how: Any) -> RunFailed:
        with pytest.raises(RunFailed) as caught:
            self.workspace(**how).run(names or None)
        return caught.value

    def board(self) -> dict[str, Any]:
        return dict(self.workspace().need("leaderboard").notes)


@pytest.fixture(scope="module")
def executor() -> Iterator[Saboteur]:
    with Saboteur({"site0.example"}) as made:
        yield made


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, executor: Saboteur) -> tuple[Failed, RunFailed]:
    """The project, run once: only to be looked at."""
    folder = tmp_path_factory.mktemp("broken")
    write_project(folder, BROKEN)
    (folder / "odd").mkdir()
    (folder / "odd" / "config.json").write_text("{}")
    (folder / "odd" / "model.safetensors").write_bytes(b"no model")
    project = Failed(folder, executor)
    return project, project.run()


@pytest.fixture
def copy(broken: tuple[Failed, RunFailed], tmp_path: Path) -> Failed:
    shutil.copytree(broken[0].folder, tmp_path / "copy")
    return Failed(tmp_path / "copy", broken[0].executor)


def made(outcomes: Iterable[Outcome]) -> list[str]:
    return [outcome.node.name for outcome in outcomes if outcome.made]


# --- a run


def test_what_does_not_need_what_failed_is_made(broken: tuple[Failed, RunFailed]) -> None:
    _, error = broken
    assert {failure.name: failure.place for failure in error.failures} == {
        "mixture/big": "experiments.big",
        "proxies/start@nano-0": "experiments.start",
    }
    assert error.skipped == {
        "tokens/big": "mixture/big",
        "proxies/big@nano-0": "mixture/big",
        "evaluations/big@nano-0": "mixture/big",
        "evaluations/start@nano-0": "proxies/start@nano-0",
    }
    assert {"tokens/start", "evaluations/raw@nano-0", "evaluations/found@nano-0", "leaderboard"} <= set(
        made(error.outcomes)
    )
    assert error.exit_code == 1
    assert "run again: what is made is kept" in str(error)


def test_every_failure_is_said_once_when_it_happens_and_once_at_the_end(broken: tuple[Failed, RunFailed]) -> None:
    project, error = broken
    for reason in (BIG, ODD):
        assert sum(reason in line for line in project.notes.lines[:3]) == 1
        assert str(error).count(reason) == 1


def test_the_leaderboard_lists_what_failed_behind_what_it_compares(broken: tuple[Failed, RunFailed]) -> None:
    board = broken[0].board()
    assert [(row[1], row[6]) for row in board["rows"]][2:] == [("big", "failed"), ("start", "failed")]
    reasons = {one["experiment"]: one["reason"] for one in board["board"]["invalid"] if one["failed"]}
    assert list(reasons) == ["big", "start"]
    assert reasons["big"].startswith(f"mixture/big: {BIG}")
    assert all(len(row) == len(board["header"]) for row in board["rows"])


def test_a_plan_tells_the_last_reason_and_holds_no_leaderboard_of_a_part_for_up_to_date(
    broken: tuple[Failed, RunFailed],
) -> None:
    states = {status.node.name: status for status in broken[0].workspace().plan()}
    assert f"failed the last time: {BIG}" in states["mixture/big"].why[0]
    assert states["leaderboard"].state == "waits"


def test_the_next_run_tries_again_and_makes_nothing_twice(broken: tuple[Failed, RunFailed]) -> None:
    project, first = broken
    before = project.workspace().need("leaderboard").path
    error = project.run()
    assert made(error.outcomes) == []
    assert error.failures == first.failures
    assert project.workspace().need("leaderboard").path == before


def test_what_is_mended_is_made_and_the_leaderboard_is_another(copy: Failed) -> None:
    before = copy.workspace().need("leaderboard").path
    Path(copy.recipe).write_text(MENDED)
    outcomes = copy.workspace().run()
    assert {"mixture/big", "proxies/start@nano-0", "leaderboard"} <= set(made(outcomes))
    assert not {"tokens/raw", "proxies/raw@nano-0", "searches/grid"} & set(made(outcomes))
    assert copy.workspace().need("leaderboard").path != before
    assert not copy.board()["board"]["invalid"]
    assert {status.state for status in copy.workspace().plan()} == {"cached"}
    assert not list((copy.folder / "store" / FOLDER).rglob("*.json"))


def test_without_the_base_there_is_a_reason_and_no_leaderboard(copy: Failed) -> None:
    Path(copy.recipe).write_text(BROKEN.replace("base: raw", "base: big"))
    error = copy.run()
    assert "no run of the base experiment 'big' is left to compare with" in error.skipped["leaderboard"]
    assert "leaderboard" not in {outcome.node.name for outcome in error.outcomes}


def test_fail_fast_stops_at_the_first_failure(copy: Failed) -> None:
    shutil.rmtree(copy.folder / "store" / "tokens")
    with pytest.raises(FactoryError, match=BIG) as caught:
        copy.workspace(fail_fast=True).run()
    assert not isinstance(caught.value, RunFailed)
    assert not (copy.folder / "store" / "tokens").exists()


def test_what_every_experiment_reads_and_what_the_store_fails_with_stop_a_run_at_once(copy: Failed) -> None:
    (copy.folder / "crawl" / "2026-01" / "web.jsonl").write_text("no record\n" * 50)
    with pytest.raises(LedgerError, match="documents@2026-01 did not pass"):
        copy.workspace().run()
    full = failure(Task("x", "y", {}), describe(OSError(errno.ENOSPC, "No space left on device", "/scratch/model")))
    assert isinstance(full, StoreError)
    assert "/scratch/model" in str(full)


def test_of_a_failed_gate_only_what_reads_it_is_left_out(copy: Failed) -> None:
    rule = "{filters: {none: {use: in_range, column: words_words, min: 9000}}}"
    scored = BROKEN.replace("tokenizer:", "scorers: {words: {use: word_statistics}}\ntokenizer:", 1)
    Path(copy.recipe).write_text(scored.replace("  big: {mixture: {tokens: 900_000, max_epochs: 1}}", f"  big: {rule}"))
    error = copy.run("mixture")
    assert [failure.name for failure in error.failures] == ["selection/big"]
    assert error.failures[0].text.startswith("did not pass: not_empty: 0 documents kept")
    assert error.exit_code == 6


def test_what_an_earlier_run_failed_at_stops_none_of_the_others(copy: Failed) -> None:
    shutil.rmtree(copy.folder / "store" / "evaluations")
    with pytest.raises(RunFailed) as caught:
        copy.workspace().run(["evaluations"], upstream=False)
    assert {failure.name for failure in caught.value.failures} == {"mixture/big", "proxies/start@nano-0"}
    assert set(caught.value.skipped) == {"evaluations/big@nano-0", "evaluations/start@nano-0"}
    assert {"evaluations/raw@nano-0", "evaluations/found@nano-0"} == set(made(caught.value.outcomes))


def test_a_missed_gate_that_nothing_waits_for_is_told_with_what_failed(copy: Failed) -> None:
    rule = "{filters: {none: {use: in_range, column: words_words, min: 9000}}}"
    scored = BROKEN.replace("tokenizer:", "scorers: {words: {use: word_statistics}}\ntokenizer:", 1)
    empty = scored.replace("  found:", f"  none: {rule}\n  found:")
    Path(copy.recipe).write_text(empty)
    error = copy.run("selection/none", "mixture/big")
    assert {failure.name for failure in error.failures} == {"selection/none", "mixture/big"}


# --- a search


def test_a_trial_that_fails_is_told_and_left_out(broken: tuple[Failed, RunFailed]) -> None:
    project, _ = broken
    manifest = project.workspace().need("searches", "grid")
    failed = [row for row in read_trials(project.workspace().store, manifest) if not row["valid"]]
    assert [(row["trial"], row["reason"], row["metrics"]) for row in failed] == [
        (name, "it does not fit", {}) for name in ("one-0", "one-1")
    ]
    assert manifest.notes["failed"] == 2
    said = f"2 of {manifest.notes['trials']} trials failed: one-0 and 1 more: it does not fit"
    assert manifest.notes["finding"]["warnings"][-1] == f"{said}."
    assert f"searches.grid: {said}" in project.notes.lines


@pytest.mark.parametrize(
    ("mixtures", "hint"),
    [
        ([{"site0.example"}, {"site1.example"}, {"site2.example"}], "at most 20%"),
        ([{"site0.example", "site1.example", "site2.example"}], "Nothing is left to measure the others against"),
    ],
)
def test_a_search_of_which_too_much_fails_is_not_found(
    copy: Failed, executor: Saboteur, monkeypatch: pytest.MonkeyPatch, mixtures: list[set[str]], hint: str
) -> None:
    shutil.rmtree(copy.folder / "store" / "searches")
    monkeypatch.setattr(executor, "mixtures", mixtures)
    error = copy.run("mixture")
    told = {failure.name: failure for failure in error.failures}
    assert hint in told["searches/grid"].text
    assert "it does not fit" in told["searches/grid"].text
    assert error.skipped == {"mixture/found": "searches/grid"}


# --- executors and the leaderboard


def test_an_executor_hands_over_what_cannot_be_done_and_goes_on(executor: Saboteur) -> None:
    done: list[str] = []
    failed: dict[str, FactoryError] = {}
    tasks = [Task(f"good {number}", "worker_tasks:double", {"value": number}) for number in range(3)]
    bad = Task("bad", "worker_tasks:fail", {"kind": "InputError", "message": "never"}, 9)
    LocalExecutor.run(
        executor,
        [bad, *tasks],
        lambda task, result: done.append(task.name),
        lambda task, message: None,
        lambda task, error: failed.setdefault(task.name, error) and None,
    )
    assert sorted(done) == ["good 0", "good 1", "good 2"]
    assert isinstance(failed["bad"], InputError)


def test_runs_of_other_torch_releases_or_threads_are_compared_with_a_warning() -> None:
    def run(seed: int, **record: Any) -> Run:
        return Run("a", "nano", seed, {"valid": True, **record}, EVALUATION.empty_table())

    assert machine_warnings([run(0, torch="2.13.0", threads=1), run(1, torch="2.13.0", threads=1), run(2)]) == []
    (warning,) = machine_warnings([run(0, torch="2.12.1", threads=1), run(1, torch="2.13.0", threads=1)])
    assert "torch releases 2.12.1, 2.13.0" in warning


# --- through Dagster


def test_in_dagster_the_failed_experiments_asset_fails_and_the_others_are_materialized(
    copy: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assets.launch import run

    monkeypatch.setenv("FACTORY_GX", "0")
    with pytest.raises(RunFailed) as caught:
        run(copy.recipe, workers=1, progress=copy.notes)
    assert {failure.name for failure in caught.value.failures} == {"mixture/big", "proxies/start@nano-0"}
    assert caught.value.skipped["tokens/big"] == "mixture/big"
    with dg.DagsterInstance.from_config(str(copy.folder / "store" / "dagster")) as instance:
        there = {
            (key, name)
            for key in ("mixture", "tokens", "proxies", "evaluations")
            for name in instance.get_materialized_partitions(dg.AssetKey(key))
        }
        assert {name for key, name in there if key == "mixture"} == {"raw", "start", "found"}
        assert {name for key, name in there if key == "tokens"} == {"raw", "start", "found"}
        assert {name for key, name in there if key == "proxies"} == {"raw", "found"}
        assert {name for key, name in there if key == "evaluations"} == {"raw", "found"}
        assert instance.get_latest_materialization_event(dg.AssetKey("leaderboard")) is not None
        checks = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("leaderboard"), "complete"), limit=1
        )
        (check,) = checks
        assert check.event is not None
        assert not check.event.dagster_event.event_specific_data.passed
        statuses = [instance.get_run_by_id(record.dagster_run.run_id) for record in instance.get_run_records()]
        assert any(run and run.status == dg.DagsterRunStatus.FAILURE for run in statuses)
