"""Searches end to end on a small project: what trials are trained, what they share, what is kept, and what is told."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from judged_project import text

from factory.core.errors import FactoryError
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Task
from factory.recipes.costs import costs
from factory.recipes.gc import collect, garbage
from factory.recipes.load import load_recipe
from factory.recipes.searches import first_round
from factory.recipes.steps.search import TRIAL, read_trials
from factory.recipes.verify import verify
from factory.recipes.workspace import Outcome, Workspace
from factory.storage.parts import finish_part, read_part, write_file

# The typer that dg can be used with asks click 8.5 for names that will go.
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")

RECIPE = """
name: searched
store: store
sources:
  web: {use: jsonl, uri: "crawl/*.jsonl", snapshot: one}
scorers:
  kind: {use: metadata, fields: [domain]}
tokenizer: {vocab_size: 300, documents: 50}
mixture: {use: natural, tokens: 3000, max_epochs: 8, by: kind_domain}
proxy:
  scale: nano
  seeds: 1
  overrides: {width: 16, layers: 1, heads: 2, hidden: 32, context: 32, batch: 4, warmup_steps: 2}
evaluate:
  held: {use: bits_per_byte, uri: held/eval.jsonl}
searches:
  grid: {use: fixed, tokens: 800, mixtures: {even: {a: 0.4, b: 0.3, c: 0.3}, most: {a: 0.8, b: 0.2}}}
  other: {use: fixed, tokens: 800, mixtures: {same: {a: 0.4, b: 0.3, c: 0.3}, twin: {a: 0.4, b: 0.3, c: 0.3}}}
  swarm: {use: regmix, tokens: 800, trials: 8, regression: exponential, candidates: 200, top: 5, bootstrap: 2,
    confirm_seeds: 0, baselines: [natural], single: [a]}
experiments:
  full: {}
  found: {mixture: {use: searched, search: grid, pick: even}}
  drawn: {mixture: {use: searched, search: swarm, pick: best_measured}}
  staged:
    packing: {use: best_fit}
    conditioning: {column: host, share: 0.9}
    phases: [{name: main, share: 0.7}, {name: end, share: 0.3, mixture: {use: searched, search: grid, pick: most}}]
    proxy: {init: "experiment:full", average: 2}
"""
TRIALS = "searches/trials"


class Watched:
    """An executor that remembers which tasks were done, and stops after `most` of them."""

    def __init__(self, executor: LocalExecutor, most: int | None = None) -> None:
        self.executor, self.most = executor, most
        self.done: list[str] = []

    def run(self, tasks: Iterable[Task], on_done: Callable[..., None], *how: Callable[..., None]) -> None:
        def done(task: Task, result: dict[str, Any]) -> None:
            on_done(task, result)
            self.done.append(task.name)

        asked = list(tasks)
        self.executor.run(asked if self.most is None else asked[: self.most], done, *how)
        if self.most is not None:
            raise KeyboardInterrupt

    def close(self) -> None:
        pass

    @property
    def trials(self) -> list[str]:
        return [name for name in self.done if name.startswith(TRIALS)]


@dataclass(frozen=True)
class Project:
    folder: Path
    executor: LocalExecutor

    @property
    def recipe(self) -> str:
        return str(self.folder / "recipe.yaml")

    @property
    def workspace(self) -> Workspace:
        return Workspace(load_recipe(self.recipe), self.executor)

    def change(self, old: str, new: str) -> None:
        written = Path(self.recipe).read_text()
        assert old in written
        Path(self.recipe).write_text(written.replace(old, new))

    def run(self, *names: str, most: int | None = None) -> tuple[dict[str, Outcome], Watched]:
        """Outcomes by name (of all datasets without names), and what was done for them."""
        watched = Watched(self.executor, most)
        workspace = Workspace(load_recipe(self.recipe), watched)
        return {outcome.node.name: outcome for outcome in workspace.run(names or None)}, watched

    def trials(self) -> set[str]:
        return {path.parent.name for path in (self.folder / "store" / TRIALS).rglob(TRIAL)}


@dataclass(frozen=True)
class Finished(Project):
    outcomes: dict[str, Outcome]
    watched: Watched


def write_project(folder: Path) -> None:
    """Sixty documents of two kinds of prose and one of numbers; the kind is a field of their records."""
    chance = random.Random("searched")
    rows = []
    for number in range(60):
        kind = "aaabbc"[number % 6]
        numbers = " ".join(str(chance.randint(0, 999)) for _ in range(60))
        written = numbers if kind == "c" else text(chance, chance.randint(2, 6))
        rows.append({"id": str(number), "url": f"https://{kind}.example/{number}", "domain": kind, "text": written})
    held = [{"text": text(chance, 3), "domain": kind} for kind in "aabb"]
    for name, items in (("crawl/web.jsonl", rows), ("held/eval.jsonl", held)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "recipe.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(1) as made:
        yield made


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, executor: LocalExecutor) -> Finished:
    """The project, run whole by one worker: only to be looked at."""
    folder = tmp_path_factory.mktemp("searched")
    write_project(folder)
    return Finished(folder, executor, *Project(folder, executor).run())


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Project:
    """A copy of the finished project, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Project(tmp_path / "copy", finished.executor)


@pytest.fixture(scope="module")
def shorter(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A copy in which the trials of one search were made shorter, run whole."""
    folder = tmp_path_factory.mktemp("shorter") / "copy"
    shutil.copytree(finished.folder, folder)
    project = Project(folder, finished.executor)
    project.change("grid: {use: fixed, tokens: 800", "grid: {use: fixed, tokens: 600")
    return Finished(folder, finished.executor, *project.run())


@pytest.fixture
def factory(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints, run in this process; it must end well."""
    from factory.cli.main import main

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            main([str(item) for item in arguments])
        printed = capsys.readouterr()
        assert not left.value.code, printed.err
        return printed.out

    return run


# --- from a search to a leaderboard


def test_experiments_take_what_searches_found_and_are_compared(finished: Finished) -> None:
    notes = {name: outcome.manifest.notes for name, outcome in finished.outcomes.items()}
    assert all(outcome.made and outcome.passed for outcome in finished.outcomes.values())
    tokens = {row["experiment"] for row in notes["leaderboard"]["board"]["rows"]}
    assert tokens == {"full", "found", "drawn", "staged"}
    for experiment, search, pick in (("found", "grid", "even"), ("drawn", "swarm", "best_measured")):
        mixture = finished.outcomes[f"mixture/{experiment}"].manifest
        rows = read_part(finished.workspace.store, mixture.parts[0]).to_pylist()
        wanted = notes[f"searches/{search}"]["finding"]["candidates"][pick]
        assert {row["domain"]: row["asked_share"] for row in rows} == pytest.approx(wanted)


def test_a_row_of_the_trials_tells_the_mixture_and_what_it_scored(finished: Finished) -> None:
    rows = read_trials(finished.workspace.store, finished.outcomes["searches/grid"].manifest)
    assert [row["trial"] for row in rows] == [
        f"{name}-{seed}" for name in ("natural", "even", "most") for seed in (0, 1)
    ]
    for row in rows:
        assert set(row["metrics"]) == {"held", "held/a", "held/b"}
        assert row["objective"] == row["metrics"]["held"] > 0
        assert row["tokens"] == 768  # steps of 128 tokens, the last target of a sequence being one more
    assert rows[2]["weights"] == {"a": 0.4, "b": 0.3, "c": 0.3}
    assert rows[2]["objective"] != rows[3]["objective"]  # another seed


def test_phases_metadata_packing_averages_and_a_start_from_another_proxy_go_together(finished: Finished) -> None:
    record = finished.outcomes["proxies/staged@nano-0"].manifest.notes["record"]
    first = finished.outcomes["proxies/full@nano-0"].manifest.notes["record"]
    assert record["valid"]
    assert record["first_loss"] < first["first_loss"] - 0.2  # it goes on from what the other had learned
    assert len(record["average"]["snapshots_after"]) == 2
    shares = [phase["shares"] for phase in finished.outcomes["tokens/staged"].manifest.notes["phases"]]
    assert shares[0]["c"] > 0.2
    assert shares[1]["c"] == 0  # the mixture a search found holds for the last phase alone
    assert finished.outcomes["evaluations/staged@nano-0"].manifest.notes["items"] == 4


def test_phases_in_another_order_are_another_mixture(copy: Project) -> None:
    even, most = (f"{{use: searched, search: grid, pick: {pick}}}" for pick in ("even", "most"))
    before = f"{{name: main, share: 0.7}}, {{name: end, share: 0.3, mixture: {most}}}"
    digests = []
    for first, second in ((even, most), (most, even)):
        after = f"{{name: main, share: 0.5, mixture: {first}}}, {{name: end, share: 0.5, mixture: {second}}}"
        copy.change(before, after)
        before = after
        outcomes, _ = copy.run("tokens/staged")
        digests.append({kind: outcomes[f"{kind}/staged"].manifest.digest for kind in ("mixture", "tokens")})
    assert digests[0]["mixture"] != digests[1]["mixture"]
    assert digests[0]["tokens"] != digests[1]["tokens"]


# --- what is trained


def test_a_second_run_trains_nothing(finished: Finished) -> None:
    outcomes, watched = finished.run()
    assert not any(outcome.made for outcome in outcomes.values())
    assert watched.done == []


def test_a_trial_that_several_ask_for_is_trained_once(finished: Finished) -> None:
    trained = finished.watched.trials
    assert len(trained) == len(set(trained)) == len(finished.trials())
    paths = {
        label: {part.path for part in finished.outcomes[f"searches/{label}"].manifest.parts if part.name == TRIAL}
        for label in ("grid", "other", "swarm")
    }
    assert len(paths["other"]) == 4  # of six trials two are the same twice
    assert paths["other"] < paths["grid"]
    assert len(paths["grid"] & paths["swarm"]) == 1  # natural shares with the first seed
    assert finished.outcomes["searches/other"].manifest.notes["tokens"] == 4 * 768


def test_models_of_trials_are_not_kept_and_their_records_are(finished: Finished) -> None:
    left = {path.name for path in (finished.folder / "store" / TRIALS).rglob("*") if path.is_file()}
    assert left == {"trial.json", "trial.json.json", "training.json", "items.parquet", "items.json"}
    assert not list(finished.folder.rglob(f".tmp-*/{TRIALS}/*"))


def test_a_search_that_was_stopped_goes_on_with_the_trials_that_are_there(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = shutil.ignore_patterns("searches")
    shutil.copytree(finished.folder, tmp_path / "copy", ignore=ignored)
    project = Project(tmp_path / "copy", finished.executor)
    with pytest.raises(KeyboardInterrupt):
        project.run("searches/grid", "searches/other", most=3)
    assert len(project.trials()) == 3
    monkeypatch.setattr(finished.executor, "workers", 2)
    outcomes, watched = project.run("searches/grid", "searches/other")
    assert len(watched.trials) == 3
    for name in ("searches/grid", "searches/other"):  # one worker made the same without being stopped
        assert outcomes[name].manifest.digest == finished.outcomes[name].manifest.digest


def test_a_trial_that_lost_a_file_is_trained_again_and_no_other(finished: Finished, copy: Project) -> None:
    lost = next(part for part in finished.outcomes["searches/grid"].manifest.parts if part.name == "items")
    os.remove(copy.folder / "store" / lost.path)
    states = {status.node.name: status for status in copy.workspace.plan()}
    assert states["searches/grid"].state == "make"
    assert "parts are gone" in states["searches/grid"].why[0]
    outcomes, watched = copy.run("searches/grid")
    assert watched.trials == [str(Path(lost.path).parent)]
    assert outcomes["searches/grid"].manifest.digest == finished.outcomes["searches/grid"].manifest.digest


def test_a_setting_that_changes_no_trial_trains_nothing_and_finds_anew(finished: Finished, copy: Project) -> None:
    copy.change("grid: {use: fixed,", "grid: {use: fixed, margin: 1000,")
    states = {status.node.name: status for status in copy.workspace.plan()}
    assert states["searches/grid"].why == ("settings.margin: 2.0 -> 1000.0",)
    assert states["mixture/found"].state == "waits"
    assert states["mixture/found"].why == ("after searches/grid",)
    assert states["mixture/drawn"].state == states["searches/other"].state == "cached"
    outcomes, watched = copy.run()
    # The mixture that was picked is the same as before, so nothing after it is made.
    made = {name for name, outcome in outcomes.items() if outcome.made}
    assert made == {"searches/grid", "mixture/found", "mixture/staged"}
    assert watched.done == []
    found = outcomes["searches/grid"].manifest
    assert found.digest != finished.outcomes["searches/grid"].manifest.digest
    assert found.notes["finding"]["notes"]["taken"] == "natural"


def test_other_tokens_of_a_trial_train_anew(finished: Finished, shorter: Finished) -> None:
    assert len(shorter.watched.trials) == 6
    assert not set(shorter.watched.trials) & set(finished.watched.trials)
    made = {name for name, outcome in shorter.outcomes.items() if outcome.made}
    assert "searches/grid" in made
    assert not made & {"searches/other", "searches/swarm", "pools/full", "tokens/found", "proxies/full@nano-0"}


# --- what is kept, and what it cost


def test_gc_removes_trials_that_no_search_stands_on(shorter: Finished, tmp_path: Path) -> None:
    shutil.copytree(shorter.folder, tmp_path / "copy")
    project = Project(tmp_path / "copy", shorter.executor)
    before = project.trials()
    found = garbage(project.workspace.store, older_than_hours=-1)["files"]
    # The longer trials of natural shares and of the even mixture are another search's, too.
    assert len({Path(path).parent for path in found if path.startswith(TRIALS)}) == 2
    collect(project.workspace.store, older_than_hours=-1)
    assert len(before - project.trials()) == 2
    checked = verify(project.workspace)
    assert checked["damaged"] == {}
    assert checked["wrong"] == []
    outcomes, watched = project.run()
    assert watched.done == []
    assert not any(outcome.made for outcome in outcomes.values())


def test_the_ledger_counts_every_trial_once(shorter: Finished) -> None:
    found = costs(shorter.workspace)
    trials = [run for run in found["runs"] if run["role"] == "search"]
    assert len(trials) == len(shorter.trials())
    assert sum(run["status"] == "discarded" for run in trials) == 2
    assert found["totals"]["by_role"]["search"]["tokens"] == sum(run["tokens"] for run in trials)
    assert found["totals"]["by_role"]["proxy"]["runs"] == 4
    assert found["totals"]["runs"] == len(trials) + 4


# --- trials that break down


def doctor(project: Project, folder: str, trial: dict[str, Any]) -> None:
    """Put another record in the place of a trial's."""
    store = project.workspace.store
    local = project.folder / TRIAL
    local.write_text(json.dumps({"metrics": {}, "record": {}, **trial}))
    finish_part(store, folder, write_file(store, folder, TRIAL, str(local), {"files": [], "seconds": 0.1}))


def wild(project: Project, mixtures: str) -> None:
    """A search whose trainings learn at a rate at which no number stays finite."""
    project.change("  found: {", "  wild: {proxy: {overrides: {peak_lr: 1.0e+30}}}\n  found: {")
    project.change(
        "  swarm: {", f"  wild: {{use: fixed, experiment: wild, tokens: 600, mixtures: {mixtures}}}\n  swarm: {{"
    )


def test_a_search_whose_trials_all_break_down_says_so_and_keeps_their_records(copy: Project) -> None:
    wild(copy, "{even: {a: 0.4, b: 0.3, c: 0.3}}")
    before = copy.trials()
    with pytest.raises(FactoryError, match=r"0 of 4 trials can be used.* the .* is (nan|inf) at step"):
        copy.run("searches/wild")
    assert len(copy.trials() - before) == 4
    with pytest.raises(FactoryError, match="0 of 4 trials"):  # and what broke down is not tried again
        copy.run("searches/wild", most=0)
    assert {run["status"] for run in costs(copy.workspace)["runs"] if run["role"] == "search"} >= {"invalid"}


def test_a_trial_that_broke_down_is_counted_and_not_fatal(finished: Finished, copy: Project) -> None:
    rows = read_trials(copy.workspace.store, finished.outcomes["searches/grid"].manifest)
    whole = [part for part in finished.outcomes["searches/grid"].manifest.parts if part.name == TRIAL]
    assert len(rows) == len(whole)
    broken, store = whole[-1], copy.workspace.store
    reason = "the loss is nan at step 3"
    doctor(copy, str(Path(broken.path).parent), {"valid": False, "reason": reason})
    copy.change("grid: {use: fixed,", "grid: {use: fixed, min_valid: 0.8,")
    outcomes, watched = copy.run("searches/grid")
    notes = outcomes["searches/grid"].manifest.notes
    assert watched.trials == []
    assert (notes["trials"], notes["failed"]) == (6, 1)
    assert "1 trials broke down and were left out: most-1." in notes["finding"]["warnings"][0]
    last = read_trials(store, outcomes["searches/grid"].manifest)[-1]
    assert (last["trial"], last["valid"], last["reason"], last["objective"]) == ("most-1", False, reason, None)


# --- trials made from others


def test_merged_models_are_made_of_experts_whose_models_are_kept(copy: Project) -> None:
    copy.change(
        "  swarm: {", "  merged: {use: merge_ablation, tokens: 600, seeds: 2, smallest: 2, checks: 3}\n  swarm: {"
    )
    outcomes, _ = copy.run("searches/merged")
    manifest, store = outcomes["searches/merged"].manifest, copy.workspace.store
    rows = {row["trial"]: row for row in read_trials(store, manifest)}
    merged = {name: row for name, row in rows.items() if row["role"] == "merge"}
    assert len(merged) == 4
    assert all(row["valid"] and row["objective"] > 0 and row["tokens"] == 0 for row in merged.values())
    folders = {path.parent.name for path in (copy.folder / "store" / TRIALS).rglob("model.safetensors")}
    assert len(folders) == 4  # the model they start from, and three experts
    assert manifest.notes["tokens"] == sum(row["tokens"] for row in rows.values())
    # Without the model of an expert there is nothing to merge: such trials say so, and nothing is made up in their place.
    expert = next(
        folder for folder, read in ((f, json.loads(store.read(f"{TRIALS}/{f}/{TRIAL}"))) for f in sorted(folders))
        if read["metrics"] == rows["expert-a"]["metrics"]
    )  # fmt: skip
    doctor(copy, f"{TRIALS}/{expert}", {"valid": False, "reason": "broke down"})
    store.delete(manifest.path)
    with pytest.raises(FactoryError, match="1 merged models were measured, at least two are needed"):
        copy.run("searches/merged")
    reasons = [json.loads(path.read_text())["reason"] for path in (copy.folder / "store" / TRIALS).rglob(TRIAL)]
    assert reasons.count("there is no model of expert-a to make it from") == 3


def test_a_training_that_changes_its_shares_is_a_trial(copy: Project) -> None:
    copy.change("  swarm: {", "  online: {use: doremi, tokens: 600, seeds: 2, rounds: 1}\n  swarm: {")
    outcomes, _ = copy.run("searches/online")
    rows = {row["trial"]: row for row in read_trials(copy.workspace.store, outcomes["searches/online"].manifest)}
    assert {row["role"] for row in rows.values()} == {"base", "online", "confirm"}
    assert all(row["valid"] for row in rows.values())
    assert sum(outcomes["searches/online"].manifest.notes["finding"]["candidates"]["found"].values()) == pytest.approx(
        1
    )


# --- what is told


def test_search_tells_what_was_found(factory: Callable[..., str], finished: Finished) -> None:
    shown = factory("search", "grid", "--recipe", finished.recipe)
    assert "grid: fixed on the domains of full, to lower held" in shown
    assert "6 trials in 1 rounds" in shown
    assert "Shares of the training tokens" in shown
    assert "mixture: {use: searched, search: grid}" in shown
    (found,) = json.loads(factory("search", "grid", "--json", "--best", 2, "--recipe", finished.recipe))
    assert (found["trials"], found["failed"], found["rounds"], len(found["best"])) == (6, 0, 1, 2)
    assert set(found["candidates"]) == {"natural", "even", "most"}
    assert sum(item["recommended"] for item in found["domains"]) == pytest.approx(1)
    everything = factory("search", "--recipe", finished.recipe)
    assert all(f"{label}: " in everything for label in ("grid", "other", "swarm"))


def test_a_dry_run_shows_the_first_round_and_trains_nothing(factory: Callable[..., str], finished: Finished) -> None:
    before = finished.trials()
    shown = factory("search", "swarm", "--dry-run", "--recipe", finished.recipe)
    assert "10 trials of 800 tokens at nano" in shown
    (asked,) = json.loads(factory("search", "grid", "--dry-run", "--json", "--recipe", finished.recipe))
    assert [item["name"] for item in asked["proposals"]] == [
        row["trial"] for row in read_trials(finished.workspace.store, finished.outcomes["searches/grid"].manifest)
    ]
    assert asked["tokens"] == 6 * 800
    assert {item["domain"] for item in asked["domains"]} == {"a", "b", "c"}
    assert finished.trials() == before


def test_a_dry_run_before_the_selection_says_what_to_run(executor: LocalExecutor, tmp_path: Path) -> None:
    write_project(tmp_path / "new")
    with pytest.raises(FactoryError, match="selection/full has not been made"):
        first_round(Project(tmp_path / "new", executor).workspace, "grid")
    with pytest.raises(FactoryError, match=r"No search is named 'gird'\. Did you mean 'grid'"):
        first_round(Project(tmp_path / "new", executor).workspace, "gird")


def test_the_plan_lists_pools_and_searches_with_reasons(factory: Callable[..., str], copy: Project) -> None:
    copy.change("grid: {use: fixed, tokens: 800", "grid: {use: fixed, tokens: 600")
    rows = {row["name"]: row for row in json.loads(factory("plan", "--json", "--recipe", copy.recipe))["datasets"]}
    assert rows["pools/full"]["state"] == rows["searches/swarm"]["state"] == "cached"
    assert rows["searches/grid"]["state"] == "make"
    assert "tokens: 800 -> 600" in str(rows["searches/grid"]["why"])


def test_the_report_shows_the_searches(factory: Callable[..., str], copy: Project) -> None:
    factory("report", "--recipe", copy.recipe)
    page = next((copy.folder / "store").rglob("*.html")).read_text()
    assert '<h2 id="searches">' in page
    assert "grid: fixed" in page
    assert "swarm: regmix" in page


# --- what trials read


def small_project(folder: Path, executor: LocalExecutor, searches: str, experiments: str = "  full: {}\n") -> Project:
    """The project with other searches and experiments alone, of which nothing is made."""
    write_project(folder)
    start = RECIPE[: RECIPE.index("searches:\n")]
    (folder / "recipe.yaml").write_text(f"{start}searches:\n{searches}experiments:\n{experiments}")
    return Project(folder, executor)


def test_an_objective_of_a_domain_that_is_not_there_is_refused_before_anything_is_trained(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    search = "  grid: {use: fixed, tokens: 800, objectives: [held/typo], mixtures: {even: {a: 0.5, b: 0.5}}}\n"
    project = small_project(tmp_path, executor, search)
    with pytest.raises(
        FactoryError, match=r"'held/typo': .* have no domain 'typo'\. Known: a, b\. Nothing was trained"
    ):
        project.run("searches/grid")
    assert project.trials() == set()
    with pytest.raises(FactoryError, match="have no domain 'typo'"):
        first_round(project.workspace, "grid")


def test_trials_are_packed_as_the_experiment_is_and_repeat_as_the_target_where_asked(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    settings = "use: fixed, tokens: 800, mixtures: {even: {a: 0.4, b: 0.3, c: 0.3}}"
    project = small_project(
        tmp_path,
        executor,
        f"  plain: {{{settings}}}\n  matched: {{{settings}, match_repetition: true}}\n"
        f"  packed: {{{settings}, experiment: packed}}\n",
        # A target that repeats: without that there is nothing to match.
        "  full: {mixture: {tokens: 60000, max_epochs: 60, allow_red: true}}\n  packed: {packing: {use: in_context}}\n",
    )
    outcomes, watched = project.run("searches/plain", "searches/matched", "searches/packed")
    assert len(watched.trials) == 3 * 4  # none of one is another's
    store = project.workspace.store
    places = [
        next(part for part in outcomes[f"pools/{label}"].manifest.parts if part.name == "index")
        for label in ("full", "packed")
    ]
    assert ["place" in read_part(store, part).column_names for part in places] == [False, True]
    held = {
        label: [row["objective"] for row in read_trials(store, outcomes[f"searches/{label}"].manifest)]
        for label in ("plain", "matched", "packed")
    }
    assert all(plain != packed for plain, packed in zip(held["plain"], held["packed"], strict=True))
    assert held["plain"] != held["matched"]


def test_repetition_is_not_matched_where_shares_change_while_a_trial_trains(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    project = small_project(
        tmp_path, executor, "  online: {use: dga, tokens: 800, target: {a: 1.0}, match_repetition: true}\n"
    )
    with pytest.raises(FactoryError, match="no number of repetitions to match"):
        project.run("searches/online")
    assert project.trials() == set()
