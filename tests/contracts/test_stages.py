"""What every stage of the catalogue promises, tried on the cases of its own example file."""

import json
import math
import tempfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest

from factory.core.registry import stages
from factory.core.schema import RAW

EXAMPLES = Path(__file__).parents[1] / "examples"
TESTED = {"extractor", "normalizer", "scorer", "linker", "filter", "selector", "rewriter"}
COLUMN_STAGES = [stage for stage in stages() if stage.kind in TESTED]


def file_of(stage):
    return EXAMPLES / f"{stage.name}@{stage.version}.json"


WITH_EXAMPLES = [
    pytest.param(stage, id=f"{stage.kind}-{stage.name}@{stage.version}")
    for stage in COLUMN_STAGES
    if file_of(stage).exists()
]
every_stage = pytest.mark.parametrize("stage", WITH_EXAMPLES)


@cache
def examples(path):
    return json.loads(path.read_text())


def config_of(stage):
    return stage.config(**examples(file_of(stage))["config"])


@cache
def function_of(name, kind):
    """The stage's function, made once as in a worker."""
    return make(next(stage for stage in COLUMN_STAGES if (stage.name, stage.kind) == (name, kind)))


def make(stage):
    known, config = examples(file_of(stage)), config_of(stage)
    if stage.train is not None:
        with tempfile.TemporaryDirectory() as folder:
            stage.train.fit(config, known["learns"], folder, 0)
            return stage.make(config, f"{folder}/{stage.train.file}")
    return stage.make(config, known["fitted"]) if stage.fit else stage.make(config)


def batch_of(stage, cases):
    """The columns the stage reads; document columns have their own types, others the one their values suggest."""
    columns = {}
    for name in stage.reads_for(config_of(stage)):
        values = [case["in"].get(name) for case in cases]
        kind = RAW.field(name).type if name in RAW.names else None
        if kind is not None and pa.types.is_large_binary(kind):
            values = [value.encode() if isinstance(value, str) else value for value in values]
        columns[name] = pa.array(values, kind)
    return pa.RecordBatch.from_pydict(columns)


def same(left, right):
    """Equal, also where NaN meets NaN; exact, because nothing but the order of rows differs."""
    return repr(left.to_pylist()) == repr(right.to_pylist()) and left.schema.equals(right.schema)


def is_close(value, wanted):
    if isinstance(wanted, float) and value is not None:
        return math.isclose(value, wanted, rel_tol=1e-6, abs_tol=1e-6)
    if isinstance(wanted, list) and value is not None:
        return len(value) == len(wanted) and all(map(is_close, value, wanted))
    return value == wanted


@pytest.mark.parametrize(
    "stage", [stage for stage in COLUMN_STAGES if stage.train is None], ids=lambda stage: stage.name
)
def test_every_stage_has_examples(stage):
    assert file_of(stage).exists(), f"write {file_of(stage).relative_to(EXAMPLES.parent)}, in the form of its siblings"


def test_every_example_file_is_of_a_stage():
    named = {path.stem.partition("@")[0] for path in EXAMPLES.glob("*.json")}
    assert named <= {stage.name for stage in stages()}


@every_stage
def test_examples_give_what_they_say(stage):
    cases = examples(file_of(stage))["cases"]
    rows = function_of(stage.name, stage.kind)(batch_of(stage, cases)).to_pylist()
    wrong = [
        f"{case['why']}: {column} is {row[column]!r}, not {wanted!r}"
        for case, row in zip(cases, rows, strict=True)
        for column, wanted in case["out"].items()
        if not is_close(row[column], wanted)
    ]
    assert wrong == []


@every_stage
def test_examples_say_why_and_touch_what_the_stage_writes(stage):
    for case in examples(file_of(stage))["cases"]:
        assert case["why"]
        assert set(case["in"]) <= set(stage.reads_for(config_of(stage)))
        assert set(case["out"]) <= set(stage.writes_for(config_of(stage)))


@every_stage
def test_a_stage_writes_the_columns_it_declares_and_one_row_for_each(stage):
    batch = batch_of(stage, examples(file_of(stage))["cases"])
    result = function_of(stage.name, stage.kind)(batch)
    result.validate(full=True)
    assert {field.name: field.type for field in result.schema} == stage.writes_for(config_of(stage))
    assert result.num_rows == batch.num_rows


@every_stage
def test_an_empty_batch_stays_empty(stage):
    batch = batch_of(stage, examples(file_of(stage))["cases"]).slice(0, 0)
    result = function_of(stage.name, stage.kind)(batch)
    assert result.num_rows == 0
    assert {field.name: field.type for field in result.schema} == stage.writes_for(config_of(stage))


@every_stage
def test_two_workers_agree(stage):
    batch = batch_of(stage, examples(file_of(stage))["cases"])
    once, again = make(stage)(batch), make(stage)(batch)
    assert same(once, again)
    assert same(once, function_of(stage.name, stage.kind)(batch))


@every_stage
def test_a_row_does_not_depend_on_its_neighbours(stage):
    batch, run = batch_of(stage, examples(file_of(stage))["cases"]), function_of(stage.name, stage.kind)
    together = run(batch)
    count = batch.num_rows
    alone = [run(batch.slice(row, 1)) for row in range(count)]
    assert same(pa.Table.from_batches(alone).combine_chunks().to_batches()[0], together)
    backwards = pa.array(range(count - 1, -1, -1))
    assert same(run(batch.take(backwards)), together.take(backwards))
    assert same(run(pa.concat_batches([batch] * 3)), pa.concat_batches([together] * 3))


@every_stage
def test_nothing_is_made_up_for_a_document_without_text(stage):
    reads = stage.reads_for(config_of(stage))
    kinds = {field.name: field.type for field in batch_of(stage, examples(file_of(stage))["cases"]).schema}
    nothing = pa.RecordBatch.from_pydict({name: pa.nulls(2, kinds[name]) for name in reads if name != "doc_id"})
    if "doc_id" in reads:
        nothing = nothing.append_column("doc_id", pa.array(["0" * 32, "1" * 32])).select(reads)
    result = function_of(stage.name, stage.kind)(nothing)
    if stage.kind == "filter":
        assert result.column("keep").null_count == 0
    elif stage.kind == "selector":
        assert result.column("repeats").to_pylist() == [1, 1]
    elif stage.kind in ("scorer", "linker"):
        assert all(not value for row in result.to_pylist() for value in row.values() if value is not None)
        assert stage.kind == "linker" or all(column.null_count == 2 for column in result.columns)
    elif stage.kind == "rewriter":
        assert result.column("edits").null_count == 2
    else:
        assert result.column("text").null_count == 2


@pytest.mark.parametrize("stage", COLUMN_STAGES, ids=lambda stage: stage.name)
def test_a_stage_says_in_one_sentence_what_it_measures(stage):
    assert stage.doc.endswith((".", ":"))
    assert stage.version >= 1
    assert stage.config.model_config["extra"] == "forbid"
    assert stage.config.model_config["frozen"] is True
