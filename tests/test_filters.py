"""Filters: bounds, values, absence and shares, with what is missing; and the presets made of them."""

import importlib.resources
import math
from fractions import Fraction

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.core.errors import FactoryError
from factory.core.fingerprint import canonical_json
from factory.core.registry import find_stage

SCORES = st.lists(st.one_of(st.none(), st.integers(0, 5).map(float), st.floats(width=32)), max_size=40)


def verdicts(name, column, *fitted, **config):
    stage = find_stage("filter", name)
    judge = stage.make(stage.config(column="x", **config), *fitted)
    batch = column if isinstance(column, pa.RecordBatch) else pa.record_batch({"x": column})
    kept = judge(batch)
    assert kept.schema == pa.schema(stage.writes_for(None))
    assert kept.column("keep").null_count == 0
    return kept.column("keep").to_pylist()


def ranking(values, kind=None):
    ids = [f"{row:032x}" for row in range(len(values))]
    return pa.record_batch({"x": pa.array(values, kind or pa.float32()), "doc_id": ids})


def kept_share(batch, share):
    stage = find_stage("filter", "top_share")
    fitted = stage.fit(stage.config(column="x", share=share), pa.Table.from_batches([batch]))
    canonical_json(fitted)
    return fitted, verdicts("top_share", batch, fitted, share=share)


def test_bounds_are_within_the_range_in_the_precision_of_the_column():
    tenth = pa.array([1 / 10, 0.1000001], pa.float32())
    assert verdicts("in_range", tenth, max=0.1) == [True, False]
    assert verdicts("in_range", pa.array([0.8, 0.7999999], pa.float32()), min=0.8) == [True, False]


def test_whole_numbers_are_compared_exactly():
    large = pa.array([2**53, 2**53 + 1, 2**64 - 1], pa.uint64())
    assert verdicts("in_range", large, min=2**53 + 1) == [False, True, True]
    assert verdicts("in_range", pa.array([1, 2, 3], pa.uint32()), min=1.5, max=2.5) == [False, True, False]
    assert verdicts("in_range", pa.array([0, 7], pa.uint32()), min=-1, max=10**30) == [True, True]


@pytest.mark.parametrize("missing", ["drop", "keep"])
def test_a_missing_number_is_dropped_unless_the_recipe_keeps_it(missing):
    column = pa.array([None, math.nan, 1.0])
    assert verdicts("in_range", column, min=0, missing=missing) == [missing == "keep"] * 2 + [True]
    assert verdicts("one_of", pa.array([None, "a"]), values=["a"], missing=missing) == [missing == "keep", True]


def test_in_range_needs_a_bound_and_an_order():
    config = find_stage("filter", "in_range").config
    with pytest.raises(ValidationError, match="needs min, max or both"):
        config(column="x")
    with pytest.raises(ValidationError, match="no document could pass"):
        config(column="x", min=2, max=1)
    with pytest.raises(ValidationError, match="finite"):
        config(column="x", min=math.nan)


def test_a_filter_on_a_column_it_cannot_compare_says_what_to_use():
    with pytest.raises(FactoryError, match=r"'x' holds string.*use one_of"):
        verdicts("in_range", pa.array(["a"]), min=1)
    with pytest.raises(FactoryError, match="compares numbers"):
        kept_share(ranking(["a"], pa.string()), 0.5)
    with pytest.raises(FactoryError, match="quote no, yes"):
        verdicts("one_of", pa.array(["no"]), values=["en", False])
    with pytest.raises(FactoryError, match="300 is none"):
        verdicts("one_of", pa.array([3], pa.uint8()), values=[3, 300])


def test_one_of_reads_texts_flags_numbers_and_dictionaries():
    assert verdicts("one_of", pa.array(["a", "b"]).dictionary_encode(), values=["b"]) == [False, True]
    assert verdicts("one_of", pa.array(["a", "b"], pa.large_string()), values=["b", "c"]) == [False, True]
    assert verdicts("one_of", pa.array([True, False, None]), values=[False]) == [False, True, False]
    assert verdicts("one_of", pa.array([1, 2], pa.int16()), values=[2]) == [False, True]


def test_is_absent_keeps_what_is_null_of_any_type():
    for column in (pa.array([None, "a"]), pa.array([None, 0]), pa.array([None, [1]]), pa.array([None, None])):
        assert verdicts("is_absent", column) == [not value.is_valid for value in column]


@given(SCORES, st.sampled_from(["0.1", "0.29", "0.5", "0.7", "1.0"]))
def test_exactly_the_floor_of_the_share_is_kept_and_nothing_better_is_dropped(values, share):
    fitted, kept = kept_share(ranking(values), float(share))
    candidates = [value for value in values if value is not None and math.isfinite(value)]
    assert fitted["kept"] == sum(kept) == math.floor(Fraction(share) * len(candidates))
    chosen = [value for value, keep in zip(values, kept, strict=True) if keep]
    assert sorted(chosen, reverse=True) == sorted(candidates, reverse=True)[: len(chosen)]


@given(SCORES)
def test_a_larger_share_contains_the_smaller_and_order_does_not_matter(values):
    batch = ranking(values)
    small, large = (kept_share(batch, share)[1] for share in (0.3, 0.8))
    assert all(not a or b for a, b in zip(small, large, strict=True))
    backwards = batch.take(pa.array(range(len(values))[::-1], pa.int64()))
    assert kept_share(backwards, 0.3)[1] == small[::-1]


def test_a_fitted_verdict_does_not_depend_on_the_neighbours():
    batch = ranking([1.0, 1.0, 1.0, 2.0, None, 0.5])
    fitted, together = kept_share(batch, 0.4)
    alone = [verdicts("top_share", batch.slice(row, 1), fitted, share=0.4)[0] for row in range(6)]
    assert together == alone


def test_a_share_of_integers_beyond_the_precision_of_floats_is_exact():
    _, kept = kept_share(ranking([2**60, 2**60 + 1, 2**60 + 2], pa.int64()), 0.34)
    assert kept == [False, False, True]


def preset(name):
    return yaml.safe_load(importlib.resources.files("factory.presets").joinpath(f"{name}.yaml").read_text("utf-8"))


@pytest.mark.parametrize(("name", "rules"), [("gopher", 8), ("gopher_repetition", 13)])
def test_each_rule_of_a_preset_is_a_filter_on_a_column_that_a_scorer_writes(name, rules):
    content = preset(name)
    assert (content["name"], len(content["rules"])) == (name, rules)
    for rule in content["rules"].values():
        settings = {key: value for key, value in rule.items() if key not in ("use", "source")}
        filter_stage = find_stage("filter", rule["use"])
        scorer, column = filter_stage.config(**settings).column.split(".")
        assert column in find_stage("scorer", scorer).writes_for(None)
        assert rule["source"].startswith("Table A1")


def test_prose_passes_the_gopher_rules_and_a_menu_fails_them():
    prose = "It is easy to say that the weather of the north is cold, and that people have to live with it. " * 4
    menu = "- Home\n- About us\n- Products\n- Contact ...\n" * 4
    assert failed_rules("gopher", prose) == []
    assert failed_rules("gopher", menu) == ["words", "bullets", "alphabetic", "stop_words"]


def failed_rules(name, text):
    failed = []
    for label, rule in preset(name)["rules"].items():
        scorer, column = rule["column"].split(".")
        stage = find_stage("scorer", scorer)
        scored = stage.make(stage.config())(pa.record_batch({"text": pa.array([text], pa.large_string())}))
        bounds = {key: rule[key] for key in ("min", "max") if key in rule}
        if verdicts("in_range", scored.column(column), **bounds) == [False]:
            failed.append(label)
    return failed
