"""Recipes are strict: everything that is wrong is said at once, with what exists and the nearest known name."""

from pathlib import Path
from typing import Any

import pytest

from factory.core.errors import RecipeError
from factory.recipes.checks.presets import presets
from factory.recipes.init import draft
from factory.recipes.load import check_recipe, load_recipe
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
        (
            {"mixture": {"use": "natural", "tokens": 1, "by": "topic"}},
            "mixture.by: no column of texts is named 'topic'",
        ),
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


AROUND: dict[str, Any] = {
    "filters": {
        **GOOD["filters"],
        "long": {"use": "in_range", "column": "words_words", "min": 9},
        "plain": {"use": "in_range", "column": "word_statistics.words", "min": 9},
        "chosen": {"preset": "gopher", "scorers": {"word_statistics": "words"}},
    },
    "rewrite": {"seen": {"use": "remove_spans", "column": "seen_removed"}},
    "selection": {"use": "rehydrate", "column": "near_cluster_size"},
}


@pytest.mark.parametrize(
    ("scorers", "linkers", "told"),
    [
        ({"words": {"use": "word_statistcs"}}, {}, "scorers.words.use: "),
        ({"words": {**GOOD["scorers"]["words"], "speed": 1}}, {}, "scorers.words.speed: "),
        ({"words": 7}, {}, "scorers.words: "),
        ({}, {"near": {"use": "minhsh"}}, "linkers.near.use: "),
        ({}, {"near": {"use": "minhash", "bands": "many"}}, "linkers.near.bands: "),
        ({}, {"near": {"use": "minhash", "keep": "best:words_wrods"}}, "linkers.near.keep: "),
        (
            {"words": {"use": "word_statistcs"}},
            {"near": {"use": "minhash", "keep": "best:words_words"}},
            "scorers.words",
        ),
        ({}, {"seen": {"use": "lines", "ovr": 6}}, "linkers.seen.ovr: "),
    ],
)
def test_a_mistake_in_a_scorer_or_linker_is_the_only_one_told(scorers, linkers, told):
    everything = {"near": {"use": "minhash"}, "seen": {"use": "lines"}, "same": {"use": "exact"}, **linkers}
    found = problems(scorers={**GOOD["scorers"], **scorers}, linkers=everything, **AROUND)
    assert found.startswith(told)
    assert "\n" not in found


def test_a_column_of_nobody_is_told_beside_a_mistake_in_a_scorer():
    told = problems(
        scorers={**GOOD["scorers"], "words": 7}, filters={"x": {"use": "is_absent", "column": "nera_duplicate_of"}}
    )
    assert "filters.x: reads 'nera_duplicate_of', which no stage writes. Did you mean 'near_duplicate_of'?" in told


def test_a_source_in_error_is_no_unknown_source():
    told = problems(
        sources={**GOOD["sources"], "web": {"use": "jsnl", "uri": "x"}},
        scorers={**GOOD["scorers"], "quality": {"use": "fasttext_quality", "positives": "r", "negatives": "web"}},
    )
    assert "sources.web.use" in told
    assert "learns from" not in told


TYPED: dict[str, Any] = {
    "scorers": {
        **GOOD["scorers"],
        "language": {"use": "langid_language"},
        "c4": {"use": "c4"},
        "private": {"use": "pii"},
        "robots": {"use": "robots"},
    },
    "linkers": {"near": {"use": "minhash"}, "seen": {"use": "lines"}},
}
CUTS = {"min": {"en": 0.5}, "column": "language_score"}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"use": "in_range", "column": "language_label", "min": 1}, "'language_label' holds string. For texts"),
        ({"use": "in_range", "column": "robots_allowed", "min": 1}, "'robots_allowed' holds bool. For texts and flags"),
        ({"use": "in_range", "column": "date", "min": 1}, "'date' holds timestamp"),
        ({"use": "in_range_by", "by": "words_words", **CUTS}, "groups by a column of texts, and 'words_words'"),
        ({"use": "top_share", "column": "near_cluster", "share": 0.5}, "Columns that fit: near_cluster_size, "),
        ({"use": "in_quantiles", "column": "host", "high": 0.5}, "in_quantiles compares numbers"),
        ({"use": "in_quantiles", "column": "words_words", "by": "words_mean", "high": 0.5}, "words_mean"),
        ({"use": "near_median_by", "column": "language_label", "by": "language_label"}, "near_median_by"),
        ({"use": "one_of", "column": "language_label", "values": ["en", False]}, "False is none. In YAML, quote no"),
        ({"use": "one_of", "column": "words_words", "values": ["9"]}, "holds uint32, and '9' is none"),
        ({"use": "one_of", "column": "seen_removed", "values": ["9"]}, "and '9' is none. Columns that fit: "),
    ],
)
def test_a_filter_says_which_columns_have_a_type_it_takes(rule, told):
    found = problems(**TYPED, filters={"x": rule})
    assert found.startswith("filters.x: ")
    assert told in found
    assert "\n" not in found


@pytest.mark.parametrize("use", ["remove_spans", "replace_spans", "redact"])
@pytest.mark.parametrize("column", ["words_words", "c4_removed", "private_found", "seen_copies"])
def test_a_rewriter_takes_only_spans_of_its_kind(use, column):
    more = {"replacement": " "} if use == "replace_spans" else {}
    rewrite = {"x": {"use": use, "column": column, **more}}
    if column == ("private_found" if use == "redact" else "c4_removed"):
        assert recipe(**TYPED, rewrite=rewrite).rewrite[0].config.column == column
        return
    found = problems(**TYPED, rewrite=rewrite)
    assert found.startswith(f"rewrite.x: {use} takes ")
    assert f"'{column}' holds " in found
    assert ("private_found." if use == "redact" else "c4_odd_breaks") in found.split("Columns that fit")[1]


def test_a_selection_takes_whole_numbers_by_texts():
    by = {"use": "rehydrate", "column": "near_cluster_size", "by": "language_label"}
    assert recipe(**TYPED, selection=by).experiments[0].selection.reads == ("near_cluster_size", "language_label")
    told = problems(**TYPED, selection={**by, "column": "language_score", "by": "language_score"})
    assert told.startswith("selection: ")
    told = problems(**TYPED, selection={"use": "rehydrate", "column": "language_score"})
    assert "whole numbers, and 'language_score' holds float. Columns that fit: " in told
    assert "near_cluster_size" in told
    assert "'words_words' holds uint32" in problems(**TYPED, selection={**by, "by": "words_words"})


def test_absence_is_asked_of_columns_of_any_type():
    for column in ("seen_removed", "date", "locator", "robots_allowed", "words_words"):
        assert recipe(**TYPED, filters={"x": {"use": "is_absent", "column": column}}).experiments[0].rules


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"keep": "oldest"}, "linkers.near.keep: first, newest or best:COLUMN is meant (got 'oldest')."),
        ({"after": "gopher"}, "linkers.near.after: a list is meant, such as [gopher] (got 'gopher')."),
        ({"after": ["copy"]}, "filter 'copy' does not look at a document alone: it reads links (near_duplicate_of), "),
        (
            {"after": ["best"]},
            "filter 'best' does not look at a document alone: it compares documents with each other.",
        ),
        ({"after": ["sound", "wrong"]}, "filters.wrong: reads 'words_wrods', which no stage writes."),
        ({"after": ["other"]}, "linkers.near.after: no filter is labelled 'other'."),
    ],
)
@pytest.mark.parametrize("experiments", [{}, {"raw": {"filters": {}}}])
def test_a_linker_says_what_is_wrong_with_its_policy_and_with_what_it_waits_for(settings, told, experiments):
    filters = {
        **GOOD["filters"],
        "best": {"use": "top_share", "column": "words_words", "share": 0.5},
        "sound": {"use": "in_range", "column": "words_words", "min": 9},
    }
    if "wrong" in settings.get("after", ()):
        filters["wrong"] = {"use": "in_range", "column": "words_wrods", "min": 9}
    found = problems(linkers={"near": {"use": "minhash", **settings}}, filters=filters, experiments=experiments)
    assert told in found
    assert "\n" not in found


def test_a_linker_waits_for_every_rule_of_a_preset():
    linker = recipe(linkers={"near": {"use": "minhash", "after": ["gopher"]}}).linkers[0]
    assert [rule.label for rule in linker.after] == [f"gopher.{name}" for name in presets()["gopher"]["rules"]]


def test_an_experiment_in_error_is_no_unknown_base():
    told = problems(base="a", experiments={"a": {"mixture": {"tokens": -1}}, "b": {}})
    assert told.startswith("experiments.a.mixture.tokens")
    assert "\n" not in told


SEARCHED: dict[str, Any] = {
    "proxy": {"seeds": 2},
    "evaluate": {"held": {"use": "bits_per_byte", "uri": "held/*.jsonl"}},
    "mixture": {"use": "natural", "tokens": 100_000},
    "searches": {
        "grid": {"use": "fixed", "mixtures": {"a": {"crawl": 1.0}}, "experiment": "natural"},
        "first": {"use": "fixed", "mixtures": {"a": {"crawl": 1.0}}},
    },
    "experiments": {
        "natural": {},
        "longer": {"mixture": {"tokens": 200_000}},
        "on": {"proxy": {"init": "experiment:natural"}},
        "found": {"mixture": {"use": "searched", "search": "grid"}},
    },
}
HALF = {"use": "weights", "weights": {"crawl": 0.9}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"proxy": {"precision": "fp16"}}, "proxy.precision: "),
        ({"proxy": {"seeds": 0}}, "proxy.seeds: "),
        ({"proxy": {"seeds": 2, "scale": "nanno"}}, "proxy.scale: no scale is named 'nanno'. Did you mean 'nano'?"),
        ({"proxy": 7}, "proxy: a map is meant"),
        ({"mixture": {"use": "natural", "tokens": "20k"}}, "mixture.tokens: "),
        ({"mixture": {**HALF, "tokens": 100_000}}, "mixture"),
        ({"mixture": {"use": "natural", "tokens": 1000}}, "mixture.tokens: 1,000 tokens are "),
        ({"evaluate": {"held": {"use": "bits_per_byte", "uri": "x", "limit": 0}}}, "evaluate.held.limit: "),
    ],
)
def test_a_mistake_in_the_base_is_told_once_and_nothing_that_follows_from_it(changes, told):
    assert recipe(**SEARCHED).experiments
    searches = {label: {**item, "tokens": 100_000} for label, item in SEARCHED["searches"].items()}
    found = problems(**{**SEARCHED, "searches": searches, **changes})
    assert found.startswith(told)
    assert "\n" not in found


def test_a_proxy_in_error_hides_no_other_mistake():
    experiments = {"natural": {}, "wide": {"proxy": {"average": 0}}}
    told = problems(proxy={"seeds": 0}, experiments=experiments)
    assert [problem.partition(": ")[0] for problem in told.split("\n")] == [
        "proxy.seeds",
        "experiments.wide.proxy.average",
    ]
    told = problems(experiments={"natural": {}, "wide": {"proxy": {"scale": "nanno"}}})
    assert told.startswith("experiments.wide.proxy.scale: no scale is named 'nanno'.")
    assert "\n" not in told
    assert "experiments.wide.proxy.seeds: experiments are compared" in problems(
        experiments={"natural": {}, "wide": {"proxy": {"seeds": 5}}}
    )


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ({"mixture": {"use": "unimx"}}, "experiments.unimax.mixture.use: "),
        ({"mixture": {"use": "searched"}}, "experiments.unimax.mixture.search: a value is required"),
        ({"mixture": {"use": "natural", "by": "topic"}}, "experiments.unimax.mixture.by: no column of texts"),
        ({"mixture": HALF}, "experiments.unimax.mixture"),
        ({"mixture": 7}, "experiments.unimax.mixture: "),
        ({"packing": {"use": "best_ft"}}, "experiments.unimax.packing.use: "),
        ({"conditioning": {"column": "hots"}}, "experiments.unimax.conditioning.column: "),
        ({"selection": {"use": "rehydrat"}}, "experiments.unimax.selection.use: "),
    ],
)
def test_a_mistake_in_an_experiment_is_told_where_it_stands(override, told):
    assert problems(experiments={"natural": {}, "unimax": override, "last": {}}).startswith(told)


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ({"mixture": {"use": "natral", "tokens": 1000}}, "mixture.use: "),
        ({"mixture": {**HALF, "tokens": 1000}}, "mixture"),
        ({"packing": {"use": "best_ft"}}, "packing.use: "),
        ({"conditioning": {"column": "hots"}}, "conditioning.column: "),
    ],
)
def test_a_mistake_in_the_base_of_experiments_is_told_where_it_stands(base, told):
    found = problems(**base, experiments={"natural": {}, "longer": {"mixture": {"tokens": 2000}}})
    assert found.startswith(told)
    assert "\n" not in found


def test_an_unknown_key_is_told_with_every_key_that_a_use_takes():
    told = problems(packing={"use": "concatenate", "mx": True})
    assert told.startswith("packing.mx: unknown key 'mx'. Did you mean 'mix'? Known: ")
    assert "use" in told.partition("Known: ")[2]
