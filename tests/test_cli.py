"""The command line: every command on a small finished project, and every mistake answered with what to do next."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_project import RECIPE, tiny, write_project  # noqa: F401

from factory.cli.quiet import QUIET
from factory.core.errors import FactoryError
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.storage.leases import lease
from factory.storage.store import Store

# The typer that dg can be used with asks click 8.5 for names that will go.
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")

FACTORY = [str(Path(sys.executable).parent / "factory")]


class Answer:
    """What a command printed, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        assert "Traceback" not in err, err

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def factory(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process."""
    from factory.cli.main import main

    def run(*arguments: object) -> Answer:
        with pytest.raises(SystemExit) as left:
            main([str(item) for item in arguments])
        printed = capsys.readouterr()
        return Answer(int(left.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A copy of the finished project, to be spoiled."""
    shutil.copytree(tiny.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / "recipe.yaml"


def shell(*arguments: object, folder: Path) -> Answer:
    done = subprocess.run(
        [*FACTORY, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


# --- starting up


def test_help_loads_nothing_heavy_and_answers_at_once() -> None:
    code = (
        "import sys\nfrom factory.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pyarrow', 'numpy', 'pydantic', 'dagster', 'transformers', 'numba', 'fsspec', 'duckdb', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "explain" in done.stdout


def test_help_takes_less_than_a_moment_of_cpu(tmp_path: Path) -> None:
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell("--help", folder=tmp_path).status == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.4


def test_every_command_has_help(factory: Any) -> None:
    from factory.cli.main import app

    listed = re.findall(r"^  ([a-z]+)  ", factory("--help").out.split("Commands:")[1], re.MULTILINE)
    assert len(listed) == len(app.registered_commands)
    for name in listed:
        answer = factory(name, "--help")
        assert answer.status == 0
        assert "Usage: factory " + name in answer.out


def test_telemetry_is_off_unless_somebody_switches_it_on(monkeypatch: pytest.MonkeyPatch, factory: Any) -> None:
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    factory("--version")
    assert {name: os.environ[name] for name in QUIET} == {**QUIET, "DO_NOT_TRACK": "0"}


# --- the daily commands


def test_check_says_fine_or_tells_all_problems_at_once(factory: Any, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    assert "72" not in factory("check", "-r", recipe).out
    assert factory("check", "-r", recipe, "--json").data["problems"] == []
    recipe.write_text(RECIPE.replace("word_statistics", "word_statistic") + "filtres: {}\n")
    answer = factory("check", "-r", recipe)
    assert answer.status == 2
    assert "Did you mean 'word_statistics'?" in answer.err
    assert "unknown key 'filtres'. Did you mean 'filters'?" in answer.err


def test_plan_names_the_setting_that_changed(factory: Any, copy: Path) -> None:
    answer = factory("plan", "documents", "scores", "-r", copy, "--json")
    assert {item["state"] for item in answer.data["datasets"]} == {"cached"}
    copy.write_text(copy.read_text().replace("share: 0.5", "share: 0.25"))
    plan = factory("plan", "-r", copy, "--json").data
    changed = {item["name"]: item["why"] for item in plan["datasets"] if item["state"] == "make"}
    assert "rules[best].settings.share: 0.5 -> 0.25" in changed["decisions/top@2026-10"]
    assert not any("full" in name for name in changed if name.startswith(("decisions", "selection", "tokens")))
    assert "share: 0.5 -> 0.25" in factory("plan", "-r", copy).out


def test_a_second_run_does_nothing_and_says_so(copy: Path) -> None:
    answer = shell("run", "tokens", "--direct", "-w", 1, folder=copy.parent)
    assert answer.status == 0
    assert re.search(r"Nothing to do: \d+ datasets are up to date", answer.out)


def test_after_a_change_only_what_it_touches_is_made(factory: Any, copy: Path) -> None:
    copy.write_text(copy.read_text().replace("share: 0.5", "share: 0.25"))
    done = factory("run", "selection", "--direct", "-w", 1, "-r", copy, "--json").data
    assert {item["name"].split("@")[0] for item in done["made"]} == {"decisions/top", "selection/top"}
    assert done["ledger"]["problems"] == []


def test_a_gate_that_fails_gives_status_6_and_its_text(factory: Any, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    recipe.write_text(RECIPE.replace("max_error_share: 0.1", "max_error_share: 0.001"))
    answer = factory("run", "documents", "--direct", "-w", 1, "-r", recipe)
    assert answer.status == 6
    assert "2.78% of 36 rows" in answer.err
    assert "(allowed: 0.10%)" in answer.err
    assert "no_text" in answer.err


def test_without_an_orchestrator_run_says_what_to_do(factory: Any, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory.cli.running.GROUP", "factory.nobody")
    answer = factory("run", "-r", copy)
    assert answer.status == 1
    assert "--direct" in answer.err


def test_status_lists_what_is_there_with_digests_and_books(factory: Any, tiny: Path) -> None:  # noqa: F811
    data = factory("status", "-r", tiny, "--json").data
    assert data["ledger"]["problems"] == []
    manifest = Workspace(load_recipe(str(tiny))).need("documents", "", "2026-10")
    row = next(item for item in data["datasets"] if item["name"] == "documents@2026-10")
    assert (row["rows"], row["digest"]) == (36, manifest.digest)
    assert "balanced" in factory("status", "-r", tiny).out


def test_the_funnel_adds_up_and_shows_examples(factory: Any, tiny: Path) -> None:  # noqa: F811
    (full,) = factory("funnel", "-r", tiny, "-e", "full", "-n", 2, "--json").data
    assert full["rows"] - sum(full["errors"].values()) - sum(step["first"] for step in full["rules"]) == full["kept"]
    assert full["rules"][-1]["remaining_tokens"] == full["kept_tokens"]
    shown = full["examples"]["gopher.words"]
    assert {row["url"] for row in shown} == {"https://short.example/x"}
    text = factory("funnel", "-r", tiny, "--examples", 1).out
    assert "50 ≤ words_words ≤ 100,000" in text
    assert "\x1b" not in text


def test_look_shows_those_nearest_to_the_bound_first(factory: Any, tiny: Path) -> None:  # noqa: F811
    data = factory(
        "look", "--dropped-by", "best", "--near-threshold", "-n", 10, "-s", "2026-10", "-r", tiny, "--json"
    ).data
    values = [row["values"]["words_words"] for row in data["rules"]["best"]]
    assert values == sorted(values, reverse=True)
    assert "<script>" in factory("look", "--dropped-by", "gopher", "-r", tiny).out


def test_explain_tells_a_person_and_a_machine_the_same(factory: Any, tiny: Path) -> None:  # noqa: F811
    (story, _) = factory("explain", "short.example/x", "-r", tiny, "--json").data
    text = factory("explain", story["doc_id"][:16], "-r", tiny).out
    assert "dropped by gopher.words" in text
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text


def test_report_is_written_into_the_store(factory: Any, copy: Path) -> None:
    path = factory("report", "-r", copy, "--json").data["report"]
    assert Path(path) == copy.parent / ".factory" / "report" / "tiny.html"
    assert Path(path).read_text().startswith("<!doctype html>")


# --- keeping a store


def test_verify_finds_every_kind_of_damage_and_repair_makes_it_whole(factory: Any, copy: Path) -> None:
    assert factory("verify", "-r", copy).status == 0
    workspace = Workspace(load_recipe(str(copy)))
    store = Path(workspace.store.root)
    digests = {row["name"]: row["digest"] for row in factory("status", "-r", copy, "--json").data["datasets"]}
    flipped = store / workspace.need("scores", "words", "2026-10").parts[0].path
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    (store / workspace.need("tokens", "raw").parts[0].path).write_bytes(b"short")
    (store / workspace.need("links", "same", "2026-11").path).write_text("{")
    answer = factory("verify", "-r", copy, "--repair", "--json")
    assert answer.status == 5
    assert len(answer.data["damaged"]) == 2
    assert "not a manifest" in answer.data["wrong"][0]
    assert factory("run", "tokens", "--direct", "-w", 1, "-r", copy).status == 0
    assert factory("verify", "-r", copy).status == 0
    assert digests == {row["name"]: row["digest"] for row in factory("status", "-r", copy, "--json").data["datasets"]}


def test_gc_removes_what_nothing_stands_on_and_nothing_else(factory: Any, copy: Path) -> None:
    assert factory("gc", "--older-than", 0, "-r", copy, "--json").data["files"] == {}
    old = Workspace(load_recipe(str(copy))).need("decisions", "top", "2026-10")
    copy.write_text(copy.read_text().replace("share: 0.5", "share: 0.25"))
    assert factory("run", "tokens", "--direct", "-w", 1, "-r", copy).status == 0
    store = copy.parent / ".factory"
    leftover = store / ".tmp-scratch" / "123-dead" / "part.parquet"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x" * 1000)
    assert factory("gc", "-r", copy, "--json").data["files"] == {}, "all of it is younger than a day"
    said = factory("gc", "--older-than", 0, "-r", copy)
    assert "Nothing was removed yet" in said.out
    assert leftover.exists()
    done = factory("gc", "--older-than", 0, "--yes", "-r", copy, "--json").data
    assert old.path in done["files"]
    assert done["bytes"] > 1000
    assert not leftover.exists()
    assert not (store / old.path).exists()
    assert factory("verify", "-r", copy).status == 0
    assert "Nothing to do" in factory("run", "tokens", "--direct", "-r", copy).out


def test_gc_leaves_what_another_recipe_of_the_store_stands_on(factory: Any, copy: Path) -> None:
    other = copy.with_name("other.yaml")
    other.write_text(RECIPE.replace("name: tiny", "name: other").replace("share: 0.5", "share: 0.25"))
    assert factory("run", "tokens", "--direct", "-w", 1, "-r", other).status == 0
    factory("gc", "--older-than", 0, "--yes", "-r", copy)
    assert factory("verify", "-r", other).status == 0
    assert factory("verify", "-r", copy).status == 0


def test_gc_waits_for_whoever_writes(factory: Any, copy: Path) -> None:
    with lease(Store(str(copy.parent / ".factory")), "documents--somebody-x"):
        answer = factory("gc", "--yes", "-r", copy)
    assert answer.status == 3
    assert "documents--somebody-x is being written" in answer.err


def test_doctor_passes_here_and_names_what_is_wrong(factory: Any, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = {item["name"]: item for item in factory("doctor", "-r", copy, "--json").data}
    assert {name for name in ("python", "packages", "recipe", "store") if findings[name]["state"] != "fine"} == set()
    assert not list((copy.parent / ".factory").glob("doctor-*"))
    monkeypatch.setenv("DAGSTER_HOME", "nowhere")
    answer = factory("doctor", "-r", copy)
    assert answer.status == 1
    assert "DAGSTER_HOME=nowhere is not an existing absolute folder" in answer.out


# --- a first recipe


def test_init_writes_a_recipe_that_runs_on_somebody_s_files(factory: Any, tmp_path: Path) -> None:
    write_project(tmp_path).unlink()
    for path in tmp_path.rglob("*.jsonl"):
        path.write_text(path.read_text().replace('"text"', '"body"'))
    answer = factory("init", tmp_path, "--uri", f"{tmp_path}/data/*/*.jsonl", "--json")
    assert (answer.status, answer.data["use"], answer.data["text"]) == (0, "jsonl", "body")
    recipe = load_recipe(str(tmp_path / "recipe.yaml"))
    assert Workspace(recipe).snapshots == ["2026-10", "2026-11"]
    done = factory("run", "documents", "--direct", "-w", 1, "-r", tmp_path / "recipe.yaml")
    assert done.status == 0, done.err
    again = factory("init", tmp_path)
    assert again.status == 2
    assert "is not overwritten" in again.err


def test_init_finds_the_files_of_a_folder_and_their_kind(factory: Any, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text("# One\n\nText.")
    assert factory("init", tmp_path, "--json").data["use"] == "text"
    empty = factory("init", tmp_path / "nothing")
    assert empty.status == 2
    assert "factory init --uri" in empty.err
    assert not (tmp_path / "nothing").exists()


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "status", "answer"),
    [
        (["pln"], 2, "Did you mean"),
        (["run", "toknes", "--direct"], 2, "Did you mean 'tokens'?"),
        (["funnel", "-e", "ful"], 2, "Did you mean 'full'?"),
        (["funnel", "-s", "2026-1"], 2, "Did you mean '2026-11'?"),
        (["look", "--dropped-by", "gophr"], 2, "Did you mean 'gopher'?"),
        (["explain", "https://nowhere.example/"], 2, "No document has the id or URL"),
        (["leaderboard"], 1, "has not been made"),
        (["backfill"], 2, "--snapshots A,B or --experiments X,Y"),
        (["gc", "--older-than", "-1"], 2, "older-than"),
        (["plan", "-r", "missing.yaml"], 2, "factory init"),
        (["plan", "--memory", "much"], 2, "much"),
        (["backfill", "--snapshots", "2026-10", "--memory", "much"], 2, "much"),
        (["duplicates", "nope"], 2, "No linker is named 'nope'"),
        (["duplicates", "--cluster", "zz"], 2, "no document id"),
        (["evaluate", "ful"], 2, "Did you mean 'full'?"),
        (["evaluate", "full"], 1, "factory run proxies/full"),
    ],
)
def test_a_mistake_is_answered_with_what_is_meant(
    factory: Any,
    tiny: Path,  # noqa: F811
    arguments: list[str],
    status: int,
    answer: str,
) -> None:
    recipe = [] if "-r" in arguments or arguments == ["pln"] else ["-r", tiny]
    said = factory(*arguments, *recipe)
    assert said.status == status
    assert answer in said.err


def test_a_mistake_in_json_is_json(factory: Any, tiny: Path) -> None:  # noqa: F811
    said = factory("funnel", "-e", "ful", "-r", tiny, "--json")
    assert said.data["error"]["kind"] == "InputError"
    assert said.data["error"]["exit_code"] == said.status == 2


def test_a_store_that_cannot_be_written_gives_status_4(factory: Any, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    (tmp_path / "file").write_text("")
    assert factory("run", "documents", "--direct", "-r", recipe, "--store", tmp_path / "file").status == 4


def test_a_reader_that_goes_away_is_no_error(tiny: Path) -> None:  # noqa: F811
    command = f"{FACTORY[0]} status -r {tiny} --json | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "{"


def test_errors_of_every_kind_have_their_own_status() -> None:
    kinds = {kind.__name__: kind.exit_code for kind in FactoryError.__subclasses__()}
    assert kinds["LedgerError"] == 6
    assert kinds["IntegrityError"] == 5
