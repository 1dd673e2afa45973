"""Contamination: what is planted is found, ordinary text is not flagged, and every hit names its item, place and line."""

import gzip
import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from factory.core.errors import FactoryError, InputError
from factory.execution.local import LocalExecutor
from factory.recipes.contamination import (
    contamination_report,
    disturb,
    flagged,
    planted,
    recalls,
    scorers,
    spans,
    written,
)
from factory.recipes.load import load_recipe
from factory.recipes.steps.leaderboard import split_by_contamination
from factory.recipes.workspace import Workspace
from factory.stages.benchmarks import Item, strip_template
from factory.stages.scorers.contamination import PUBLISHED, Index, Settings, build

# The typer that dg can be used with asks click 8.5 for names that will go.
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="../shared/data is not there")
WORDS = [a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u") for c in ("", "n", "rt", "lis")]


def question(number: int, words: int = 16) -> dict[str, Any]:
    """A made-up item whose words no other shares in a row."""
    chance = random.Random(number)
    return {
        "query": "Question: " + " ".join(chance.choices(WORDS, k=words)) + "?",
        "choices": [" ".join(chance.choices(WORDS, k=3)) for _ in range(4)],
        "gold": number % 4,
    }


def index(records: list[dict[str, Any]], **settings: Any) -> Index:
    return build(Settings(benchmarks={"task": {"records": records}}, **settings), {})


def scored(made: Index, *texts: str | None) -> list[dict[str, Any]]:
    batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])
    rows: list[dict[str, Any]] = made.score(batch).to_pylist()
    return rows


def prose(seed: int, words: int = 300) -> str:
    return " ".join(random.Random(f"prose{seed}").choices(WORDS, k=words))


# --- rules


@pytest.mark.parametrize("rule", [rule for rule in PUBLISHED if rule != "fineweb"])
def test_every_rule_finds_a_verbatim_item_and_says_where(rule: str) -> None:
    made = index([question(n, 40) for n in range(30)], rule=rule, margin=0, min_piece=0)
    item = made.items[7]
    text = f"{prose(1)}\n{written(item)}\n{prose(2)}"
    (row,) = scored(made, text)
    assert (row["contaminated"], row["items"]) == (True, 1)
    (match,) = [match for match in row["matches"] if match["part"] == "question"]
    assert (match["item"], match["hit"]) == (7, True)
    assert text.encode()[match["start"] : match["end"]].decode() == item.question.rstrip("?")
    assert row["score"] == pytest.approx(1.0)


def test_fineweb_looks_for_what_reaches_into_the_answer() -> None:
    made = index(
        [{"question": "alpha beta gamma delta epsilon zeta eta theta iota kappa", "answer": "lambda mu nu"}],
        rule="fineweb",
    )
    alone, joined = scored(made, made.items[0].question, f"{made.items[0].question}? Lambda, mu, nu.")
    assert (alone["contaminated"], joined["contaminated"]) == (False, True)


def test_palm_counts_n_grams_tulu_counts_words() -> None:
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrst"]
    half = " ".join(words[:11]) + " and " + prose(1, 30)
    row = {
        rule: scored(index([{"question": " ".join(words), "answer": "x"}], rule=rule), half)[0]
        for rule in ("palm", "tulu3")
    }
    assert row["palm"]["score"] == pytest.approx(4 / 13)
    assert row["tulu3"]["score"] == pytest.approx(11 / 20)
    assert (row["palm"]["contaminated"], row["tulu3"]["contaminated"]) == (False, True)


def test_gpt3_asks_for_fewer_words_where_a_tasks_items_are_short_and_cuts_200_characters_either_side() -> None:
    made = index([question(n, 9) for n in range(20)], rule="gpt3")
    item = made.items[3].question.rstrip("?")
    text = f"{prose(1)} {item} {prose(2)}"
    (row,) = scored(made, text)
    (cut,) = row["removed"]
    at = text.index(item)
    assert (cut["start"], cut["end"], row["pieces"]) == (at - 200, at + len(item) + 200, 2)
    assert scored(index([question(n, 20) for n in range(20)], rule="gpt3"), " ".join(item.split()[:8]))[0]["items"] == 0


def test_a_cut_ends_between_characters_and_leaves_no_short_piece() -> None:
    made = index([question(1, 20)], rule="gpt3", margin=3, min_piece=10)
    item = made.items[0].question.rstrip("?")
    near, far = "ä" * 8, "ä" * 60
    (row,) = scored(made, f"{near} {item} {far}")
    (cut,) = row["removed"]
    assert (cut["start"], row["pieces"]) == (0, 1)
    assert f"{near} {item} {far}".encode()[cut["end"] :].decode() == "ä" * 58


def test_dclm_wants_a_choice_beside_the_question() -> None:
    made = index([question(1)], rule="dclm")
    asked = made.items[0].question
    assert [row["contaminated"] for row in scored(made, asked, f"{asked} {made.items[0].options[2]}")] == [False, True]


def test_olmo2_forgives_a_long_item_what_it_does_not_forgive_a_short_one() -> None:
    long, short = index([question(1, 80)], rule="olmo2"), index([question(1, 20)], rule="olmo2")
    rows = []
    for made in (long, short):
        words = written(made.items[0]).split()
        words[10] = "zzz"
        rows += scored(made, " ".join(words))
    assert [row["contaminated"] for row in rows] == [True, False]
    assert "words with answer" in index([question(1, 80), question(2, 8)], rule="olmo2").untested[1]


def test_llama3_takes_a_threshold_for_each_task() -> None:
    half = " ".join(question(1)["query"].split()[1:11])
    strict = index([question(1)], rule="llama3")
    loose = index([question(1)], rule="llama3", thresholds={"task": 0.5})
    assert [scored(made, half)[0]["contaminated"] for made in (strict, loose)] == [False, True]


def test_a_path_is_a_benchmark_and_what_is_wrong_with_one_is_said_once() -> None:
    assert Settings(benchmarks={"a": "x.jsonl"}) == Settings(benchmarks={"a": {"uri": "x.jsonl"}})
    with pytest.raises(ValueError, match="'ask' is no part of an item") as wrong:
        Settings(benchmarks={"a": {"uri": "x.jsonl", "fields": {"ask": ["x"]}}})
    assert "1 validation error" in str(wrong.value)
    assert "benchmarks.a.fields" in str(wrong.value)


def test_settings_that_could_never_find_anything_are_refused() -> None:
    with pytest.raises(ValueError, match="no item could ever be found"):
        Settings(benchmarks={"task": "x.jsonl"}, rule="palm", threshold=2.0)
    with pytest.raises(ValueError, match="Did you mean 'task'"):
        Settings(benchmarks={"task": "x.jsonl"}, thresholds={"tusk": 0.5})
    with pytest.raises(ValueError, match="seed 9"):
        Settings(benchmarks={"task": "x.jsonl"}, ngram=8, misses=0, seed=9)


# --- guards


def test_a_tasks_template_counts_for_nothing() -> None:
    template = "Please read the following sentence with great care and then say what it means to you in a word:"
    records = [{"question": f"{template} {question(n, 12)['query'][10:]}", "answer": "x"} for n in range(30)]
    guarded, bare = index(records), index(records, max_texts=0)
    assert [scored(made, f"{prose(1)} {template} {prose(2)}")[0]["contaminated"] for made in (guarded, bare)] == [
        False,
        True,
    ]
    assert scored(guarded, records[4]["question"])[0]["items"] == 1


def test_words_in_more_than_ten_ordinary_documents_count_for_nothing(tmp_path: Path) -> None:
    proverb = "it is easier for a camel to go through the eye of a needle than to be rich"
    record = {"question": proverb, "answer": "Matthew"}
    documents = b"".join(json.dumps({"text": f"{prose(n, 20)} {proverb}"}).encode() + b"\n" for n in range(12))
    files = {"plain.jsonl": {"plain.jsonl": documents}}
    settings = {"benchmarks": {"task": {"records": [record, question(1)]}}}
    bare = build(Settings(**settings), {})
    guarded = build(Settings(**settings, ordinary=("plain.jsonl",)), files)
    lenient = build(Settings(**settings, ordinary=("plain.jsonl",), max_documents=12), files)
    assert [scored(made, proverb)[0]["contaminated"] for made in (bare, guarded, lenient)] == [True, False, True]
    assert guarded.untested[0] == "nothing but template and common language"


def test_rows_of_numbers_are_no_item() -> None:
    made = index([{"question": "what comes after 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "answer": "18"}])
    assert scored(made, " ".join(map(str, range(1, 400))))[0]["contaminated"] is False


def test_an_item_shorter_than_eight_words_is_named_and_never_found() -> None:
    made = index([{"question": "What is ice made of?", "answer": "water"}, question(1)])
    assert made.untested == ["5 words", ""]
    assert scored(made, "What is ice made of? Water.")[0]["items"] == 0
    with pytest.raises(InputError, match=r"none of the 1 items is long enough .* 5 words of 8"):
        index([{"question": "What is ice made of?", "answer": "water"}])
    with pytest.raises(InputError, match="17 words with answer and passage"):
        index([question(1, 14)], rule="olmo2", min_words=2)


# --- laws


def test_a_row_is_the_same_in_any_batch_and_any_order() -> None:
    made = index([question(n) for n in range(50)])
    texts = [f"{prose(n, 400)} {written(made.items[n]) if n % 3 == 0 else ''}" for n in range(40)] + ["", None]
    together = scored(made, *texts)
    assert together == [row for text in texts for row in scored(made, text)]
    assert together[::-1] == scored(made, *texts[::-1])
    assert sum(row["items"] or 0 for row in together) == 14


def test_many_matches_are_bounded_with_hits_first_and_the_cut_is_whole() -> None:
    made = index([question(n) for n in range(30)], max_matches=5)
    text = " . ".join(prose(n, 60) + " " + made.items[n].question for n in range(30))
    (row,) = scored(made, text)
    assert (len(row["matches"]), row["items"], len(row["removed"])) == (5, 30, 30)
    assert row["found"] == list(range(30))
    assert all(match["hit"] for match in row["matches"])


@pytest.mark.parametrize(
    "text",
    [
        "Ποιο είναι το πιο πιθανό αποτέλεσμα αυτής της αύξησης στην περιστροφή του πλανήτη",
        "如果一颗行星在陨石撞击后旋转得更快那么最可能的影响是什么",
        "كان اثنان من أعضاء الفريق يعملان في المختبر عندما وصلت الرسالة إلى المدير",
        "İstanbul’da yaşayan on iki kişi bu sabah dokuz buçukta vapura binip karşıya geçti",
    ],
)
def test_items_of_any_script_are_found_in_bytes_of_their_own(text: str) -> None:
    made = index([{"question": text, "answer": "x"}, question(1)])
    (row,) = scored(made, f"— {text} —\u2028\u00ad")
    (match,) = row["matches"]
    assert f"— {text} —".encode()[match["start"] : match["end"]].decode() == text


@pytest.mark.parametrize(
    ("passage", "three_words"),
    [
        ("นักวิทยาศาสตร์หลายคนเห็นว่าประโยชน์มากกว่าความสามารถในการทำงานของพวกเขาเสมอมา", "ความสามารถในการ"),
        (
            "如果一颗行星在陨石撞击后旋转得更快那么最可能的影响是什么请用一句话回答这个问题",
            "在陨石撞击后旋转得更快那么最",
        ),
    ],
)
def test_a_few_words_without_spaces_are_no_run_of_thirteen(passage: str, three_words: str) -> None:
    made = index([{"context": passage, "question": question(1)["query"], "answers": [{"text": "x"}]}])
    assert [row["items"] for row in scored(made, three_words, passage)] == [0, 1]


def test_broken_bytes_are_read_past() -> None:
    made = index([question(1)])
    whole = made.items[0].question.encode()
    texts = pa.array([b"\xff\xe2\x82 " + whole + b" \xf0\x9f", b"\xe2"], pa.large_binary()).view(pa.large_string())
    rows = made.score(pa.record_batch([texts], names=["text"])).to_pylist()
    assert [row["items"] for row in rows] == [1, 0]


# --- benchmark files


def test_the_template_of_a_prompt_is_no_part_of_an_item() -> None:
    asked = "Passage: The liver.\nIt works.\nQuestion: is it there?\nChoices:\nA. yes, it is\nB. no\nAnswer:"
    assert strip_template(asked) == ("is it there?", ("yes, it is", "no"), "The liver.\nIt works.")
    assert strip_template("A. Einstein was born in Ulm.") == ("A. Einstein was born in Ulm.", (), "")


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_files_of_every_kind_give_the_same_items(tmp_path: Path, ending: str) -> None:
    records = [question(n) for n in range(3)]
    plain = "".join(json.dumps(record) + "\n" for record in records).encode()
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "b.parquet")
        data = (tmp_path / "b.parquet").read_bytes()
    else:
        data = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}[ending](plain)
    made = build(Settings(benchmarks={"task": f"b{ending}"}), {f"b{ending}": {f"b{ending}": data}})
    assert [(item.line, item.digest) for item in made.items] == [
        (n, i.digest) for n, i in enumerate(index(records).items)
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no item in b.jsonl"),
        (b"\n\n", "no item in b.jsonl"),
        (b'{"question": "a"', r"benchmark 'task': b.jsonl, line 1: this is not JSON \(.* at column 17\)"),
        (b"[1]\n", "b.jsonl, line 1: this is a list. A JSON object a line is expected"),
        (
            b'\n{"frage": "a"}\n',
            r"b.jsonl, line 2: the keys frage are of no known schema. .* fields: .*question, answer",
        ),
        (b'{"question": 5, "answer": "b"}\n', "5 is no text"),
        (b'{"query": "a", "choices": "b", "gold": 0}\n', "no list of texts"),
    ],
)
def test_a_file_that_is_no_benchmark_says_what_is_wrong_and_where(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(Settings(benchmarks={"task": "b.jsonl"}), {"b.jsonl": {"b.jsonl": data}})


def test_all_wrong_files_are_named_at_once_and_what_is_expected_is_said_once() -> None:
    files = {"a/*": {"x.jsonl": b"{}\n", "y.jsonl": b"no\n"}, "b.jsonl": {"b.jsonl": b'{"frage": 1}\n'}}
    with pytest.raises(InputError) as wrong:
        build(Settings(benchmarks={"one": "a/*", "two": "b.jsonl", "good": {"records": [question(1)]}}), files)
    head, *told = str(wrong.value).split("\n")
    assert head == "3 files of benchmarks cannot be read:"
    places = ["one': x.jsonl of a/*, line 1: ", "one': y.jsonl of a/*, line 1: ", "two': b.jsonl, line 1: "]
    assert all(place in one for place, one in zip(places, told, strict=True))
    assert str(wrong.value).count("Without `fields`") == 1


def test_a_check_reads_the_benchmarks_and_a_run_says_which_setting_names_a_missing_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from factory.cli.main import main

    recipe = write_project(tmp_path, documents=6)
    (tmp_path / "eval" / "quiz.jsonl").write_text("question,answer\n")
    (tmp_path / "eval" / "other.jsonl").unlink()
    for command, said in (
        (
            "check",
            ["scorers.leaks: eval/other.jsonl: there is no such file", "eval/quiz.jsonl, line 1: this is not JSON"],
        ),
        ("run", ["scorers.leaks: nothing matches 'eval/other.jsonl'"]),
    ):
        with pytest.raises(SystemExit) as left:
            main([command, "-r", str(recipe)])
        assert left.value.code == 2
        printed = capsys.readouterr().err
        assert all(one in printed for one in said)


def test_fields_name_the_keys_of_any_schema() -> None:
    record = {"frage": {"text": question(1)["query"]}, "antworten": [{"t": "ja"}, {"t": "nein"}]}
    given = {"records": [record], "fields": {"question": ["frage.text"], "answer": ["antworten.t"]}}
    made = build(Settings(benchmarks={"task": given}), {})
    assert made.items[0].answers == ("ja", "nein")
    wrong = {**given, "fields": {"question": ["frag"]}}
    with pytest.raises(InputError, match="Did you mean 'frage'"):
        build(Settings(benchmarks={"task": wrong}), {})


# --- real text


@cache
def real(rule: str) -> Index:
    paths = {path.name.split(".")[0]: path for path in sorted((DATA / "eval").glob("*.jsonl.zst"))}
    paths.pop("known_overlap")
    files = {str(path): {path.name: path.read_bytes()} for path in paths.values()}
    return build(Settings(benchmarks={name: str(path) for name, path in paths.items()}, rule=rule), files)


@cache
def documents(corpus: str) -> list[dict[str, Any]]:
    path = (
        DATA / "corpus" / f"{corpus}.jsonl.zst" if corpus != "known_overlap" else DATA / "eval" / f"{corpus}.jsonl.zst"
    )
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    return [json.loads(line) for line in data.split(b"\n") if line.strip()]


ORDINARY = ("biomedical", "books", "code", "government", "howto", "legal", "math", "techdocs", "textbook", "wikipedia")


@needs_data
def test_200_planted_items_are_all_found_and_nine_in_ten_with_noise() -> None:
    carriers = [one["text"] for one in documents("howto") + documents("government") if len(one["text"]) < 20_000]
    verbatim, noisy = recalls(real("default"), carriers, 200, seed=4)
    assert (verbatim["found"], verbatim["planted"]) == (200, 200)
    assert noisy["found"] / noisy["planted"] >= 0.9


@needs_data
def test_every_item_that_can_be_tested_is_found_verbatim() -> None:
    made = real("default")
    testable = sum(not why for why in made.untested)
    verbatim, _ = recalls(made, ["word " * 50], testable)
    assert testable > 7000
    assert (verbatim["found"], verbatim["missed"]) == (testable, [])


@needs_data
def test_ordinary_text_is_flagged_less_than_once_in_a_thousand_documents() -> None:
    texts = [one["text"] for corpus in ORDINARY for one in documents(corpus)]
    found = flagged(real("default"), iter(texts), 20)
    assert found["documents"] > 4000
    assert found["share"] < 0.001
    # One of them is real: a passage of BoolQ that a standard holds too.
    assert "boolq:239" in [one["item"] for one in found["examples"]]


@needs_data
def test_all_known_overlaps_are_found() -> None:
    own, made = documents("instruction_qa"), real("default")
    rows = dict(zip((one["id"] for one in own), scored(made, *(one["text"] for one in own)), strict=True))
    numbers = {(item.task, item.line): number for number, item in enumerate(made.items)}
    found = [
        any(
            match["hit"] and match["item"] == numbers[one["task"], one["item"]]
            for match in rows[one["doc_id"]]["matches"]
        )
        for one in documents("known_overlap")
    ]
    assert (sum(found), len(found)) == (139, 139)


# --- in a recipe

RECIPE = """
name: leaks
store: store
sources:
  web: {use: jsonl, uri: "data/*.jsonl", snapshot: "2026-01"}
scorers:
  leaks: {use: contamination, benchmarks: {quiz: eval/quiz.jsonl, other: eval/other.jsonl}}
filters:
  clean: {use: one_of, column: leaks_contaminated, values: [false]}
tokenizer: none
experiments:
  raw: {filters: {}}
  clean: {}
base: raw
"""


def write_project(folder: Path, recipe: str = RECIPE, documents: int = 40) -> Path:
    """Items 0 to 4 of `quiz` lie in documents 0 to 4, with and without template text around them."""
    for name, first in (("quiz", 0), ("other", 100)):
        path = folder / "eval" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [*(question(first + n) for n in range(20)), {"query": "Too short?", "choices": ["a", "b"], "gold": 0}]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = []
    for n in range(documents):
        leak = f" {question(n)['query']} {question(n)['choices'][0]} " if n < 5 else " "
        rows.append(
            {"id": str(n), "url": f"https://site.example/{n}", "text": prose(n, 120) + leak + prose(n + 1000, 60)}
        )
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(recipe)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = write_project(tmp_path_factory.mktemp("leaks"))
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        workspace.run()
    return recipe


def test_the_report_names_items_documents_and_spans_per_benchmark(project: Path) -> None:
    workspace = Workspace(load_recipe(str(project)))
    (found,) = contamination_report(workspace, "clean")
    quiz, other = sorted(found["benchmarks"], key=lambda one: one["task"] == "other")
    assert (found["documents"], found["contaminated"], found["kept_contaminated"]) == (40, 5, 0)
    assert (quiz["items"], quiz["testable"], quiz["matched"], quiz["kept"], other["matched"]) == (21, 20, 5, 0, 0)
    assert quiz["untested_items"] == [{"item": "quiz:20", "line": 21, "why": "2 words"}]
    assert quiz["longest"] == {"8-12": 0, "13-19": 5, "20-49": 0, "50+": 0}
    assert all(re.fullmatch(r"quiz:[0-4]", one["item"]) and one["text"] for one in quiz["examples"])
    (kept,) = contamination_report(workspace, "raw")
    assert [one["kept"] for one in kept["benchmarks"] if one["task"] == "quiz"] == [5]
    with pytest.raises(FactoryError, match="Did you mean 'clean'"):
        contamination_report(workspace, "clen")


def test_items_that_rewriting_cuts_out_are_kept_and_not_left_in_the_text(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from factory.cli.main import main

    recipe = project.with_name("cut.yaml")
    recipe.write_text(project.read_text() + "rewrite: {leaks: {use: remove_spans, column: leaks_removed}}\n")
    for place, rewritten, left in ((project, False, 5), (recipe, True, 0)):
        (found,) = contamination_report(Workspace(load_recipe(str(place))), "raw")
        quiz = next(one for one in found["benchmarks"] if one["task"] == "quiz")
        assert (found["rewritten"], found["kept_contaminated"], found["left_contaminated"]) == (rewritten, 5, left)
        assert (quiz["kept"], quiz["left"], quiz["kept_documents"], quiz["left_documents"]) == (5, left, 5, left)
    with pytest.raises(SystemExit):
        main(["contamination", "-r", str(recipe)])
    out = " ".join(capsys.readouterr().out.split())
    assert "raw keeps 5 of them. `rewrite` cuts what was found out of the texts: of 5 kept items 0 are left" in out


def test_planted_items_and_drawn_spans_say_how_far_the_report_can_be_trusted(project: Path) -> None:
    workspace = Workspace(load_recipe(str(project)))
    (use,) = scorers(workspace)
    verbatim, noisy = planted(workspace, use, 40)
    assert (verbatim["planted"], verbatim["found"]) == (40, 40)
    assert noisy["found"] >= 36
    drawn = spans(workspace, use, 3)
    assert len(drawn) == 3
    assert all(one["text"].split()[0] in one["asked"] for one in drawn)


def test_the_command_prints_the_report_for_a_person_and_for_a_machine(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from factory.cli.main import main

    with pytest.raises(SystemExit) as left:
        main(["contamination", "-r", str(project), "-e", "clean", "--plant", "10", "--judge", "2", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert (left.value.code, found["planted"][0]["found"], len(found["judge"])) == (0, 10, 2)
    with pytest.raises(SystemExit):
        main(["contamination", "-r", str(project)])
    assert "5 of 40 documents hold an item; raw keeps 5 of them." in capsys.readouterr().out


def test_a_check_of_the_report_is_answered_without_the_report(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from factory.cli.main import main

    web = str(project.parent / "data" / "web.jsonl")
    with pytest.raises(SystemExit):
        main(["contamination", "-r", str(project), "--plant", "10", "--judge", "2", "--ordinary", web])
    out = capsys.readouterr().out
    assert "Planted, verbatim: 10 of 10 (100.0%) found" in out
    assert "Drawn at random" in out
    assert "5 of 40 documents are flagged (12.5%)" in out
    assert "cannot be tested" not in out
    assert "documents hold an item" not in out


def test_a_changed_benchmark_is_another_identity_and_the_report_says_so(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, documents=6)
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        workspace.run()
        before = workspace.graph["scores/leaks@2026-01"].spec
        path = tmp_path / "eval" / "quiz.jsonl"
        path.write_text(path.read_text() + json.dumps(question(500)) + "\n")
        workspace.refresh()
        assert workspace.graph["scores/leaks@2026-01"].spec != before
        with pytest.raises(FactoryError, match="its benchmarks have changed since"):
            contamination_report(workspace)


JUDGED = """
proxy:
  scale: nano
  seeds: 1
  overrides: {width: 16, layers: 1, heads: 2, hidden: 32, context: 32, batch: 4, warmup_steps: 2}
evaluate:
  held: {use: bits_per_byte, uri: eval/held.jsonl}
  quiz: {use: multiple_choice, uri: eval/quiz.jsonl}
"""


def test_evaluations_tell_clean_items_from_those_the_experiment_trains_on(tmp_path: Path) -> None:
    tokens = "tokenizer: {vocab_size: 300, documents: 20}\nmixture: {use: natural, tokens: 2000, max_epochs: 8}\n"
    recipe = write_project(tmp_path, FEW_MATCHES.replace("tokenizer: none\n", tokens) + JUDGED, documents=20)
    add_leak(tmp_path, range(10, 13))
    held = [{"text": prose(n, 20), "domain": "prose"} for n in range(2000, 2004)]
    (tmp_path / "eval" / "held.jsonl").write_text("".join(json.dumps(one) + "\n" for one in held))
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        outcomes = {outcome.node.name: outcome.manifest for outcome in workspace.run()}
    notes = {label: outcomes[f"evaluations/{label}@nano-0"].notes["contaminated"] for label in ("raw", "clean")}
    assert notes == {"raw": {"tested": 20, "dirty": 8}, "clean": {"tested": 20, "dirty": 0}}
    board = outcomes["leaderboard"].notes["board"]
    facts = {row["experiment"]: row["facts"]["dirty_items"] for row in board["rows"]}
    assert facts == {"raw": 0.4, "clean": 0.0}
    assert {"quiz", "quiz.clean", "quiz.dirty"} <= set(board["rows"][0]["tasks"])
    assert "quiz.dirty" in outcomes["leaderboard"].notes["header"]
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        assert not any(outcome.made for outcome in workspace.run())
    recipe.write_text(recipe.read_text() + "rewrite: {leaks: {use: remove_spans, column: leaks_removed}}\n")
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        cut = {outcome.node.name: outcome.manifest for outcome in workspace.run()}
    assert cut["evaluations/raw@nano-0"].notes["contaminated"] == {"tested": 20, "dirty": 0}


def add_leak(folder: Path, items: range) -> None:
    """A document that holds several items: more matches than are stored with `max_matches: 1`."""
    with (folder / "data" / "web.jsonl").open("a") as out:
        text = " ".join(f"{question(n)['query']} {prose(n, 30)}" for n in items)
        out.write(json.dumps({"id": "leak", "url": "https://site.example/leak", "text": text}) + "\n")


FEW_MATCHES = RECIPE.replace("jsonl}}", "jsonl}, max_matches: 1}")


def test_items_beyond_the_stored_matches_are_reported(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, FEW_MATCHES, documents=6)
    add_leak(tmp_path, range(20))
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        workspace.run()
    (found,) = contamination_report(Workspace(load_recipe(str(recipe))), "raw")
    quiz = next(one for one in found["benchmarks"] if one["task"] == "quiz")
    assert (quiz["matched"], quiz["kept"], quiz["documents"], quiz["kept_documents"]) == (20, 20, 6, 6)


def test_runs_without_flags_are_left_as_they_are() -> None:
    from factory.evaluation.runs import Run
    from factory.evaluation.table import EVALUATION

    run = Run("raw", "nano", 0, {}, EVALUATION.empty_table())
    assert split_by_contamination([run])[0].items.equals(run.items)


def test_noise_changes_the_share_it_says() -> None:
    text = " ".join(f"w{n}" for n in range(100))
    noisy = disturb(text, ["other"], 0.1, random.Random(0))
    assert noisy.split().count("other") == 10
    assert written(Item("t", "", 0, "q?", ("a", "b"), ("b",), "p")) == "p\nq?\nA. a\nB. b\nAnswer: b"


def test_answers_that_lack_a_column_which_came_later_are_compared_all_the_same() -> None:
    from factory.evaluation.runs import Run
    from factory.evaluation.table import EVALUATION

    run = Run("raw", "nano", 0, {}, EVALUATION.empty_table().drop_columns(["passage"]))
    assert split_by_contamination([run])[0].items.equals(run.items)
