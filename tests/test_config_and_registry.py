"""Settings refuse what they do not know, and the catalogue names what it has."""

import pytest
from pydantic import Field, ValidationError

from factory.core.config import Config, config_problems
from factory.core.errors import FactoryError, RecipeError, suggest
from factory.core.registry import find_stage, register, stages
from factory.core.stage import KINDS


class Settings(Config):
    words: int = Field(ge=1)
    language: str = "en"


def problems(**values):
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    return config_problems("scorers.words", caught.value, Settings)


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    assert problems(words=1, langauge="de") == [
        "scorers.words.langauge: unknown key 'langauge'. Did you mean 'language'? Known: language, words."
    ]


def test_a_value_that_is_missing_is_asked_for():
    assert problems() == ["scorers.words.words: a value is required and none is given."]


def test_a_wrong_value_is_shown_with_what_is_allowed():
    assert problems(words="many") == [
        "scorers.words.words: Input should be a valid integer, unable to parse string as an integer (got 'many')."
    ]
    assert problems(words=0) == ["scorers.words.words: Input should be greater than or equal to 1 (got 0)."]


def test_all_problems_are_told_at_once():
    assert len(problems(words=0, langauge="de", language=7)) == 3


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Settings(words=1).words = 2


def test_a_long_value_is_not_repeated_whole():
    assert len(problems(words="x" * 10_000)[0]) < 300


def test_a_suggestion_is_made_only_where_one_is_near():
    assert suggest("in_rnge", ["in_range", "one_of"]) == " Did you mean 'in_range'? Known: in_range, one_of."
    assert suggest("zzz", ["in_range"]) == " Known: in_range."
    assert suggest("zzz", []) == " Known: none."


def test_a_stage_is_found_by_kind_and_name():
    stage = find_stage("filter", "in_range")
    assert (stage.kind, stage.name) == ("filter", "in_range")
    assert stage in stages("filter")
    assert stage not in stages("scorer")


def test_a_stage_that_does_not_exist_is_named_with_its_kind_and_the_nearest():
    with pytest.raises(
        FactoryError, match=r"No filter is named 'in_rnge'\. Did you mean 'in_range'\? Known: .*in_range, "
    ):
        find_stage("filter", "in_rnge")
    with pytest.raises(FactoryError, match="No scorer is named 'in_range'"):
        find_stage("scorer", "in_range")


def test_the_kind_of_a_stage_is_the_folder_of_its_module():
    assert {stage.kind for stage in stages()} <= set(KINDS.values())
    for stage in stages():
        assert KINDS[stage.make.__module__.split(".")[2]] == stage.kind


def test_a_stage_outside_of_the_folders_is_refused():
    def make(config):
        return None

    with pytest.raises(TypeError, match="its folder must be one of sources, extractors"):
        register("stray", version=1)(make)


def test_a_name_is_given_once():
    def make(config):
        return None

    make.__module__ = "factory.stages.filters.other"
    with pytest.raises(
        TypeError, match=r"two filters are named 'in_range': factory\.stages\.filters\.in_range and .*other"
    ):
        register("in_range", version=1)(make)


def test_a_recipe_error_holds_every_problem():
    error = RecipeError(["one", "two"])
    assert error.problems == ("one", "two")
    assert str(error) == "one\ntwo"
