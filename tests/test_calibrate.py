"""Thresholds from reference text: maps keep places, guards hold, and what comes out is a preset that loads."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from tiny_project import WORDS, prose, tiny  # noqa: F401

from factory.core.errors import FactoryError, InputError
from factory.core.thresholds import confidence_from, guard, keep_share
from factory.recipes.calibrate import calibrate, confidence_text, confidences, preset_text
from factory.recipes.load import check_recipe, load_recipe
from factory.recipes.stop_words import stop_words
from factory.recipes.workspace import Workspace


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def references(tmp_path):
    """English, and a language whose words are twice as long."""
    english = [prose(f"en{number}") for number in range(60)]
    write(tmp_path / "en.jsonl", english)
    write(tmp_path / "long.jsonl", ["\n".join(doubled(line) for line in text.split("\n")) for text in english])
    return tmp_path


def doubled(line: str) -> str:
    return " ".join(word[:-1] * 2 + "." if word.endswith(".") else word * 2 for word in line.split())


def bounds(found, rule):
    return {
        side: bound["after"] for side, bound in next(r for r in found["rules"] if r["rule"] == rule)["bounds"].items()
    }


@pytest.mark.parametrize(("median", "deviation", "least"), [(0.98, 0.05, 0.9), (0.7, 0.25, 0.45), (0.5, 0.3, 0.3)])
def test_the_least_confidence_is_that_of_fineweb2(median, deviation, least):
    assert confidence_from(median, deviation) == pytest.approx(least)


@pytest.mark.parametrize("side", ["min", "max"])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.97, 0.99])
def test_the_bound_that_keeps_a_share_keeps_it_and_no_tighter_one_does(side, keep):
    values = np.random.default_rng(3).normal(size=331)
    bound = keep_share(values, keep, side)
    kept = (values >= bound) if side == "min" else (values <= bound)
    assert kept.mean() >= keep
    assert (kept.sum() - 1) / len(values) < keep


def test_a_bound_that_removes_nothing_or_nearly_all_is_not_used():
    values = np.arange(100.0)
    assert guard(0.0, values).threshold is None
    assert guard(80.0, values).threshold is None
    assert guard(10.0, values) == (10.0, 0.1, "removes 10.0% of the reference")


def test_longer_words_move_the_bounds_on_their_length_and_nothing_else_moves(references):
    found = calibrate("gopher", "long.jsonl", folder=str(references), english="en.jsonl", method="median_ratio")
    made = bounds(found, "mean_word_length")
    assert made["min"] is None or made["min"] == pytest.approx(6, rel=0.02)  # twice 3; not used where it drops nothing
    assert bounds(found, "words") == {"min": 50, "max": 100000}


def test_keeping_a_share_only_ever_loosens(references):
    found = calibrate("gopher", "long.jsonl", folder=str(references), keep=0.95)
    assert found["kept_before"] < 0.1  # English stop words
    assert found["kept"] >= 0.9
    for row in found["rules"]:
        for side, bound in row["bounds"].items():
            assert bound["after"] <= bound["before"] if side == "min" else bound["after"] >= bound["before"]
        assert row["drops"] <= 0.051


def test_the_reference_s_own_stop_words_take_the_place_of_english_ones(references):
    found = calibrate("gopher", "long.jsonl", folder=str(references))
    scorer = found["preset"]["scorers"]["stop_words"]
    assert set(scorer["entries"]) <= {word * 2 for word in WORDS}
    assert found["preset"]["rules"]["stop_words"]["column"] == "stop_words.distinct"
    kept = calibrate("gopher", "en.jsonl", folder=str(references), fixed=["stop_words"])
    assert "stop_words" not in kept["preset"]["scorers"]


@pytest.mark.parametrize("method", ["keep", "quantile", "mean_std", "tail_10", "median_ratio", "english"])
def test_what_comes_out_is_a_preset_that_a_recipe_can_name(references, method):
    english = None if method == "keep" else "en.jsonl"
    found = calibrate("gopher", "long.jsonl", folder=str(references), english=english, method=method)
    (references / "own.yaml").write_text(preset_text(found))
    scorers = yaml.safe_load((references / "own.yaml").read_text())["scorers"]
    recipe = {
        "name": "one",
        "tokenizer": "none",
        "sources": {"crawl": {"use": "jsonl", "uri": "*.jsonl", "snapshot": "one"}},
        "scorers": {stage: {"use": stage, **settings} for stage, settings in scorers.items()},
        "filters": {"own": {"preset": "./own.yaml"}},
    }
    rules = check_recipe(recipe, folder=str(references)).experiments[0].rules
    assert [rule.label for rule in rules] == [f"own.{label}" for label in found["preset"]["rules"]]
    assert all(rule.source for rule in rules)


def test_rules_that_need_a_model_or_compare_documents_stay(references):
    found = calibrate("ccnet", "en.jsonl", folder=str(references))
    whys = {row["rule"]: row["why"] for row in found["rules"]}
    assert "needs a trained model" in whys["language"]
    assert "compares documents" in whys["head_middle"]
    assert set(found["preset"]["rules"]) == {"length", "language", "head_middle"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"method": "quantle"}, "Did you mean 'quantile'"),
        ({"method": "quantile"}, "--english"),
        ({"keep": 1.0}, "between 0 and 1"),
        ({"fixed": ["wrods"]}, "Did you mean 'words'"),
        ({"words": "jieba"}, "Did you mean 'jieba_zh'"),
        ({"text": "body"}, "no text under 'body'"),
    ],
)
def test_a_mistake_is_told(references, asked, told):
    with pytest.raises(FactoryError, match=told):
        calibrate("gopher", "en.jsonl", folder=str(references), **asked)


def test_stop_words_are_the_frequent_ones_and_at_least_eight():
    rare = " ".join(f"w{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n // 100]}" for n in range(1000))
    found = stop_words([f"Das und DAS 1999 , . {rare}"])
    assert len(found) == 8
    assert found[0].word == "das"
    often = stop_words([" ".join(f"{word} {word}." for word in WORDS[:20])])
    assert {word.word for word in often} == set(WORDS[:20])


def test_stop_words_do_not_depend_on_the_order_of_texts():
    texts = [prose(str(number)) for number in range(40)]
    assert stop_words(texts) == stop_words(texts[::-1])


def test_a_reference_without_words_is_told():
    with pytest.raises(InputError, match="no words"):
        stop_words(["123 !?"])


def test_confidences_come_from_a_run_s_own_scores(tiny, tmp_path):  # noqa: F811
    text = tiny.read_text().replace("scorers:\n", "scorers:\n  language: {use: langid_language}\n")
    (tiny.parent / "confidences.yaml").write_text(text)
    recipe = load_recipe(str(tiny.parent / "confidences.yaml"), store=str(tmp_path / "store"))
    with Workspace(recipe) as workspace:
        workspace.run(["scores/language"])
        found = confidences(workspace, "language")
        with pytest.raises(FactoryError, match="names no language"):
            confidences(workspace, "words")
    english = next(row for row in found["languages"] if row["language"] == "en")
    assert 0.3 <= english["threshold"] <= 0.9
    table = yaml.safe_load(confidence_text(found))
    assert table["en"] == english["threshold"]
    assert all(row["language"] not in table for row in found["languages"] if row["documents"] < 20)


def test_the_command_writes_a_preset_and_never_overwrites_one(references):
    asked = ("--preset", "gopher", "--reference", "en.jsonl", "--out", "fitted.yaml")
    command = [sys.executable, "-m", "factory.cli.main", "calibrate", *asked]
    first = subprocess.run(command, cwd=references, capture_output=True, text=True, check=True)
    assert "kept of the reference" in first.stdout
    before = (references / "fitted.yaml").read_text()
    again = subprocess.run(command, cwd=references, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "not overwritten" in again.stderr
    assert (references / "fitted.yaml").read_text() == before
