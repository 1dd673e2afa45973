"""Recipes are strict: everything that is wrong is said at once, with what exists and the nearest known name."""

from pathlib import Path
from typing import Any

import pytest

from factory.core.errors import RecipeError
from factory.recipes.init import draft
from factory.recipes.load import check_recipe, load_recipe, presets
from factory.recipes.yaml import read_yaml

GOOD: dict[str, Any] = {
    "name": "web",
    "sources": {"crawl": {"use": "jsonl", "uri": "*.jsonl", "snapshot": "one"}},
    "scorers": {
        "words": {"use": "word_statistics", "reading": "datatrove"},
        "lines": {"use": "line_statistics", "reading": "datatrove"},
    },
    "linkers": {"near": {"use": "minhash"}},
    "filters": {
        "gopher": {"preset": "gopher"},
        "copy": {"use": "is_absent", "column": "near_duplicate_of"},
    },
    "mixture": {"use": "natural", "tokens": 1000},
}


def problems(**changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        check_recipe({**GOOD, **changes}, folder="/tmp")
    return "\n".join(caught.value.problems)


def recipe(**changes: Any) -> Any:
    return check_recipe({**GOOD, **changes}, folder="/tmp")


def test_a_sound_recipe_has_one_rule_for_each_line_of_its_presets():
    labels = [rule.label for rule in recipe().experiments[0].rules]
    assert labels == [*(f"gopher.{name}" for name in presets()["gopher"]["rules"]), "copy"]


def test_all_problems_are_told_at_once():
    told = problems(scorers={"words": {"use": "word_statistcs"}}, filtres={}, seed="x", base="nobody")
    for part in (
        "Did you mean 'word_statistics'?",
        "unknown key 'filtres'. Did you mean 'filters'?",
        "seed:",
        "'nobody'",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sources": {}}, "at least one source is needed"),
        ({"sources": {"crawl": {"use": "warc"}}}, "sources.crawl.uri: a path or glob is required"),
        ({"sources": {"crawl": {"use": "warc", "uri": 7}}}, "sources.crawl.uri: str is meant (got 7)"),
        (
            {"sources": {"crawl": {"use": "jsonl", "uri": "x", "snapshot": "{day}"}}},
            "may hold {parent}, {stem}, {crawl}",
        ),
        ({"sources": {"../x": {"use": "jsonl", "uri": "x"}}}, "labels are small letters"),
        ({"scorers": [1]}, "scorers: a map is meant, this is a list"),
        ({"scorers": {"words": {"use": "word_statistics", "speed": 1}}}, "scorers.words.speed: unknown key 'speed'"),
        ({"linkers": {"near": {"use": "minhash", "scope": "all"}}}, "linkers.near.scope"),
        ({"linkers": {"near": {"use": "minhash", "bands": "many"}}}, "linkers.near.bands"),
        ({"mixture": {"use": "natural", "tokens": -1}}, "mixture.tokens"),
        ({"mixture": {"use": "weights", "tokens": 1, "weights": {"a": 0.7}}}, "weights must sum to 1"),
        ({"mixture": {"use": "natural", "tokens": 1, "by": "topic"}}, "no document column is named 'topic'"),
        ({"proxy": {"scale": "nanno"}}, "Did you mean 'nano'?"),
        ({"proxy": {"seeds": 0}}, "proxy.seeds"),
        ({"evaluate": {"x": {"use": "bits"}}}, "no task kind is named 'bits'"),
        ({"max_error_share": 2}, "a number from 0 to 1"),
        ({"name": "My Recipe"}, "named in small letters"),
        ({"experiments": {"a": {"tokenizer": {}}}}, "experiments.a: unknown key 'tokenizer'"),
        ({"experiments": {"a": {"filters": {"gopfer": None}}}}, "Did you mean 'gopher'?"),
    ],
)
def test_a_problem_says_where_it_is_and_what_is_meant(changes, told):
    assert told in problems(**changes)


def test_a_column_that_no_stage_writes_is_found_before_anything_runs():
    told = problems(filters={"long": {"use": "in_range", "column": "words_wrods", "min": 1}})
    assert "filters.long: reads 'words_wrods', which no stage writes. Did you mean 'words_words'?" in told


def test_a_preset_without_its_scorer_says_which_one_to_add():
    told = problems(scorers={"words": GOOD["scorers"]["words"]})
    assert "line_statistics: {use: line_statistics, reading: datatrove}" in told


def test_a_preset_does_not_judge_by_scorers_of_another_reading():
    plain = {"use": "word_statistics"}
    told = problems(scorers={**GOOD["scorers"], "words": plain})
    assert "word_statistics: {use: word_statistics, reading: datatrove}" in told
    both = recipe(scorers={**GOOD["scorers"], "plain": plain})
    assert both.experiments[0].rules[0].reads == ("words_words",)


def test_a_preset_column_of_two_scorers_has_to_be_named():
    scorers = {**GOOD["scorers"], "again": GOOD["scorers"]["words"]}
    assert "word_statistics could be words, again" in problems(scorers=scorers)
    chosen = {"gopher": {"preset": "gopher", "scorers": {"word_statistics": "again"}}}
    assert recipe(scorers=scorers, filters=chosen).experiments[0].rules[0].reads == ("again_words",)


def test_a_preset_rule_can_be_changed_and_removed():
    changed = {"gopher": {"preset": "gopher", "rules": {"words": {"min": 7}, "stop_words": None}}}
    rules = {rule.label: rule for rule in recipe(filters=changed).experiments[0].rules}
    assert rules["gopher.words"].config.min == 7
    assert "gopher.stop_words" not in rules
    assert "has no rule 'wrods'" in problems(filters={"gopher": {"preset": "gopher", "rules": {"wrods": None}}})


def test_experiments_keep_empty_merge_and_remove_filters():
    made = recipe(
        experiments={
            "raw": {"filters": {}},
            "full": {},
            "open": {"filters": {"gopher": None}},
            "more": {"filters": {"long": {"use": "in_range", "column": "words_words", "min": 9}}},
        }
    )
    counts = {experiment.label: len(experiment.rules) for experiment in made.experiments}
    whole = counts["full"]
    assert counts == {"raw": 0, "full": whole, "open": 1, "more": whole + 1}
    assert made.base == "raw"


def test_a_broken_base_filter_is_reported_once():
    told = problems(filters={"x": {"use": "in_rnge"}}, experiments={"a": {}, "b": {}, "c": {}})
    assert told.count("in_rnge") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is there twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: could not determine a constructor"),
        ("a: [1, 2\nb: 3\n", "line 2"),
    ],
)
def test_yaml_is_plain_data_and_says_the_line(text, told):
    with pytest.raises(RecipeError, match=told):
        read_yaml(text, "recipe.yaml")


def test_a_recipe_that_is_not_there_says_how_to_get_one(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"no such recipe\. 'factory init' writes one"):
        load_recipe(str(tmp_path / "recipe.yaml"))


def test_a_recipe_that_is_no_map_says_so():
    with pytest.raises(RecipeError, match="this is a list"):
        check_recipe([1], folder="/tmp")


def test_every_recipe_that_ships_is_sound():
    folder = Path(__file__).parents[1] / "assets" / "recipes"
    for path in folder.glob("*.yaml"):
        assert load_recipe(str(path)).experiments


def test_a_pattern_may_start_above_a_folder_that_is_not_made_yet(tmp_path: Path):
    (tmp_path / "crawl" / "2026-09").mkdir(parents=True)
    (tmp_path / "crawl" / "2026-09" / "a.jsonl").write_text('{"text": "One."}\n')
    text, _ = draft(str(tmp_path / "project"), uri="../crawl/*/*.jsonl", use="jsonl", name="web")
    assert 'snapshot: "{parent}"' in text  # the pattern leaves the folder open, also while there is only one
