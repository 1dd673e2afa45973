"""Support: documents that hold a question's entity and its answer are counted exactly, and what takes them away is named."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from factory.core.errors import InputError, RecipeError
from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.support import item_documents, item_rows, support
from factory.recipes.workspace import Workspace
from factory.stages.scorers import support as scorer
from factory.storage.parts import read_part
from tests.supported_project import PEOPLE, RECIPE, write_supported

# The typer that dg can be used with asks click 8.5 for names that will go.
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")

TOLD = [told for told, _ in PEOPLE.values()]
LEFT = [told - dropped for told, dropped in PEOPLE.values()]


def index(records: list[dict[str, Any]], **settings: Any) -> scorer.Index:
    return scorer.build(scorer.Settings(benchmarks={"task": {"records": records}}, **settings), {})


def found(made: scorer.Index, *texts: str | None) -> list[list[int] | None]:
    batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])
    lists: list[list[int] | None] = made.score(batch).column("found").to_pylist()
    return lists


# --- what is found


def test_names_within_and_over_each_other_are_found_as_by_looking_for_each_alone() -> None:
    rng = np.random.default_rng(3)
    letters = np.array(["ab", "cd", "ef"])

    def phrase(longest: int) -> str:
        return " ".join(letters[rng.integers(3, size=rng.integers(1, longest + 1))])

    records = [
        {"question": "?", "entity": [phrase(4), phrase(2)], "answer": [phrase(3), phrase(5)]} for _ in range(150)
    ]
    made = index(records)
    texts = [" ".join(letters[rng.integers(3, size=rng.integers(0, 12))]) for _ in range(400)]
    wanted = [
        [
            number
            for number, one in enumerate(made.asked)
            if not one.why
            and all(any(f" {name} " in f" {text} " for name in names) for names in (one.entity, one.answers))
        ]
        for text in texts
    ]
    assert sum(map(len, wanted)) > 5000
    assert found(made, *texts) == wanted
    # More than there is room for at first, and the same in any batch.
    assert found(made, *texts * 20) == wanted * 20
    assert [one for at in range(0, 400, 7) for one in found(made, *texts[at : at + 7])] == wanted


def test_names_may_have_to_stand_near_each_other() -> None:
    record = {"question": "?", "entity": ["Rome", "the city"], "answer": ["Tiber"]}
    texts = ["Tiber " + "so " * gap + "Rome" for gap in (0, 3, 4)]
    texts += [
        "Rome " + "so " * 9 + "Tiber so Rome",
        "Rome " + "so " * 9 + "Tiber so Tiber",
        "Tiber so Tiber " + "so " * 9,
    ]
    texts += ["Rome " + "so " * 9 + "Tiber " + "so " * 9 + "the city, Tiber"]
    assert found(index([record], within=4), *texts) == [[0], [0], [], [0], [], [], [0]]
    assert found(index([record]), *texts) == [[0]] * 5 + [[], [0]]


@pytest.mark.parametrize(
    ("question", "entity", "by"),
    [
        ("What disease was Robert the Bruce, King of Scotland, said to have died of?", "Robert the Bruce", "capitals"),
        ("Who was Britain's first champion?", "Britain", "capitals"),
        ("Telephone calls in St. Louis cost what?", "St. Louis", "capitals"),
        ("In which year did Apollo 11 land?", "Apollo 11", "capitals"),
        ("The series 'Lost in Space' is set when?", "Lost in Space", "capitals"),
        ("¿Qué ciudad es capital?", "Qué ciudad", "rare words"),
        ("What is ice made of?", "ice made", "rare words"),
        ("哪个城市是首都?", None, "no entity"),
    ],
)
def test_without_an_entity_the_question_names_one(question: str, entity: str | None, by: str) -> None:
    (asked, _) = index(
        [{"question": question, "answer": "some thing"}, {"question": "Is Ice cold?", "answer": "below zero"}]
    ).asked
    assert (asked.entity[0] if asked.entity else None, asked.by or asked.why) == (entity, by)


def test_a_span_that_fewer_questions_have_is_the_entity() -> None:
    records = [{"question": f"Where in Scotland is {name}?", "answer": "up north"} for name in ("Oban", "Wick", "Ayr")]
    assert [one.entity for one in index(records).asked] == [("Oban",), ("Wick",), ("Ayr",)]


def test_what_is_no_name_is_left_out_and_said() -> None:
    records = [
        {"question": "?", "entity": "Rome", "answer": answer}
        for answer in (["Tiber", "", "the"], [], ["a"], ["9"], ["of the"], ["w " * 11], ["Rome"])
    ]
    made = index([record for record in records if record["answer"] != []])
    assert made.untested == [
        "",
        "answer: too short",
        "answer: too short",
        "answer: stop words",
        "answer: too long",
        "answer: stands in the entity",
    ]
    assert found(made, "Rome: a 9 of the w w w w w w w w w w w", "the Tiber at Rome", None) == [[], [0], None]


def test_a_task_without_answers_is_refused_with_what_to_do() -> None:
    records = [
        {"sentence_good": "It is so.", "sentence_bad": "It are so."},
        {"query": "So?", "choices": ["no"], "gold": 0},
    ]
    with pytest.raises(InputError, match=r"'task': none of its 2 items can be looked for \(no answer: 1, answer: stop"):
        index(records)
    problems = scorer.check(scorer.Settings(benchmarks={"task": {"records": records}}), {})
    assert "Name the keys that hold short answers" in problems[0]


def test_names_beyond_what_an_automaton_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "MAX_NAME_WORDS", 3)
    with pytest.raises(InputError, match="have 4 words together; at most 3"):
        index([{"question": "?", "entity": "Old Rome", "answer": "river Tiber"}])


# --- a project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> str:
    recipe = write_supported(tmp_path_factory.mktemp("supported"))
    with Workspace(load_recipe(recipe), LocalExecutor(1)) as workspace:
        workspace.run()
    return recipe


def test_coverage_says_which_rule_took_the_documents_of_items_that_fell(project: str) -> None:
    (made,) = support(Workspace(load_recipe(project)), thresholds=(1, 10))
    (task,) = made["tasks"]
    assert (task["items"], task["testable"], task["untested"]) == (7, 6, {"answer: stop words": 1})
    rows = {(row["experiment"], row["of"]): row for row in task["coverage"]}
    assert rows[None, "pool"]["covered"] == {"1": 5, "10": 2}
    assert rows["raw", "kept"]["fell"] == {"1": 0, "10": 0}
    assert rows["full", "kept"]["covered"] == {"1": 4, "10": 1}
    assert rows["full", "kept"]["fell"] == {"1": 1, "10": 1}
    one, ten = (row for row in made["fallen"] if row["experiment"] == "full")
    # Ed Epsilon's only document and 18 of Ada Alpha's 20 are short.
    assert (one["items"], ten["items"]) == (1, 1)
    assert one["rules"] == [{"rule": "long", "items": 1, "documents": 1, "alone": 1, "back": 1}]
    assert ten["rules"] == [{"rule": "long", "items": 1, "documents": 18, "alone": 18, "back": 1}]
    assert ten["examples"][0]["item"] == "cities:0"
    by_site = {row["domain"]: row["pool"]["1"] for row in made["domains"]}
    assert set(by_site) == {f"site{n}.example" for n in range(3)}


def test_items_have_their_counts_in_the_pool_and_in_what_is_kept_and_read(project: str) -> None:
    rows = item_rows(Workspace(load_recipe(project)))
    assert [row["pool"] for row in rows] == [*TOLD, None]
    assert [row["full kept"] for row in rows] == [*LEFT, None]
    assert all(row["full trained"] <= row["full kept"] and row["full trained"] <= row["full reads"] for row in rows[:6])


def test_the_documents_of_an_item_are_shown_with_the_names_in_them(project: str) -> None:
    made = item_documents(Workspace(load_recipe(project)), "cities:0", ["full"], number=50)
    assert (made["documents"], len(made["shown"])) == (20, 20)
    assert {one["entity"]["text"].lower() for one in made["shown"]} == {"ada alpha"}
    assert {one["answer"]["text"] for one in made["shown"]} == {"Aleppo"}
    assert sum(one["experiments"]["full"]["failed"] == ["long"] for one in made["shown"]) == 18
    with pytest.raises(InputError, match=r"No item is named 'cities:9'.*TASK:LINE.*cities:0 to cities:6"):
        item_documents(Workspace(load_recipe(project)), "cities:9")


def test_evaluations_ask_all_experiments_the_same_and_count_what_each_trains_on(project: str) -> None:
    workspace = Workspace(load_recipe(project))
    tables, items = {}, {row["item"]: row for row in item_rows(workspace)}
    for label in ("raw", "full"):
        manifest = workspace.need("evaluations", label, "nano-0")
        (part,) = manifest.parts
        table = read_part(workspace.store, part).filter(pa.compute.field("task") == "cities")
        tables[label] = table.to_pylist()
        about = manifest.notes["tasks"]["cities"]
        assert (about["not_counted"], about["domains"], about["trend"]["items"]) == (1, 4, about["trend"]["items"])
        for row, told in zip(tables[label], [*TOLD, None], strict=True):
            line = row["item"].rpartition(":")[2]
            extra = dict(row["extra"] or ())
            wanted = items[f"cities:{line}"]
            assert extra.get("pool") == told
            assert extra.get("count") == wanted[f"{label} trained"]
            assert extra.get("reads") == wanted[f"{label} reads"]
    domains = [row["domain"] for row in tables["raw"]]
    assert domains == ["10-99", "10-99", "1-9", "1-9", "1-9", "0", "not counted"]
    assert [row["domain"] for row in tables["full"]] == domains
    assert tables["raw"][0]["task_digest"] == tables["full"][0]["task_digest"]
    assert [row["group"] for row in tables["full"]][4] == "0"
    assert workspace.need("leaderboard").rows == 2


def test_the_command_prints_tables_csv_and_json(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    from factory.cli.main import main

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["support", "-r", project, *arguments])
        assert left.value.code == 0
        return capsys.readouterr().out

    out = " ".join(said("-e", "full", "--at-least", "10").split())
    assert "full: rules take 1 items below 10" in out
    assert "cities: 1 of 7 items are not looked for (answer: stop words: 1)" in out
    rows = list(csv.DictReader(io.StringIO(said("--csv"))))
    assert {"task": "cities", "experiment": "full", "of": "kept", "at_least": "10", "fell": "1"}.items() <= rows[
        9
    ].items()
    assert [row["pool"] for row in csv.DictReader(io.StringIO(said("--items")))] == [*map(str, TOLD), ""]
    assert json.loads(said("--json"))[0]["scorer"] == "known"
    assert "20 documents, 2 of them:" in said("--item", "cities:0", "-n", "2")


def test_a_task_that_nobody_counts_for_is_a_problem_of_the_recipe(tmp_path: Path) -> None:
    uncounted = RECIPE.replace("  known: {use: support, benchmarks: {cities: eval/cities.jsonl}}\n", "")
    with pytest.raises(RecipeError, match=r"evaluate\.cities: nothing counts the documents"):
        load_recipe(write_supported(tmp_path / "without", uncounted))
    other = RECIPE.replace("benchmarks: {cities: eval/cities.jsonl}", "benchmarks: {held: eval/held.jsonl}")
    with pytest.raises(RecipeError, match=r"evaluate\.cities: nothing counts the documents"):
        load_recipe(write_supported(tmp_path / "other", other))


def test_without_a_scorer_the_command_says_what_to_add(tmp_path: Path) -> None:
    recipe = RECIPE.replace("  known: {use: support, benchmarks: {cities: eval/cities.jsonl}}\n", "").replace(
        "  cities: {use: long_tail, uri: eval/cities.jsonl, prompt: as_is}\n", ""
    )
    with pytest.raises(InputError, match=r"scorers: \{known: \{use: support"):
        support(Workspace(load_recipe(write_supported(tmp_path, recipe))))
