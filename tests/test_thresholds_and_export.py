"""What if, drift, and the exported corpus: on a small finished project, through the functions the commands call."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from tiny_project import RECIPE, tiny, write_project  # noqa: F401

from factory.core.errors import FactoryError, InputError, RecipeError
from factory.core.schema import EDITS
from factory.kernels.edits import apply_edits
from factory.recipes.drift import drifts
from factory.recipes.export import export
from factory.recipes.load import check_recipe, load_recipe
from factory.recipes.whatif import sweep, what_if
from factory.recipes.workspace import Workspace
from factory.recipes.yaml import read_yaml

CURATES = RECIPE.replace("tokenizer: {vocab_size: 300, documents: 100}", "tokenizer: none").replace(
    "mixture: {use: natural, tokens: 20000, max_epochs: 4, by: host}\n", ""
)


@pytest.fixture
def workspace(tiny):  # noqa: F811
    with Workspace(load_recipe(str(tiny))) as opened:
        yield opened


def kept(workspace, experiment):
    return sum(workspace.need("decisions", experiment, name).ledger["kept"] for name in workspace.snapshots)


def test_a_change_that_changes_nothing_keeps_what_was_decided(workspace):
    found = what_if(workspace, "full", ["gopher.words.min=50"])
    assert found["kept_before"] == found["kept_after"] == kept(workspace, "full")
    assert found["gained"] == found["lost"] == 0


def test_what_if_says_what_a_recipe_with_that_threshold_decides(workspace, tmp_path):
    told = what_if(workspace, "full", ["gopher.words.min=225", "copy=off"])
    recipe = write_project(tmp_path)
    recipe.write_text(
        RECIPE.replace("{preset: gopher}", "{preset: gopher, rules: {words: {min: 225}}}").replace(
            "  copy: {use: is_absent, column: same_duplicate_of}\n", ""
        )
    )
    with Workspace(load_recipe(str(recipe))) as other:
        other.run(["decisions"])
        assert told["kept_after"] == kept(other, "full")
    assert told["gained"] - told["lost"] == told["kept_after"] - told["kept_before"]


def test_a_rule_that_ranks_documents_is_fitted_again(workspace):
    assert what_if(workspace, "top", ["best.share=0.25"])["kept_after"] < kept(workspace, "top")


def test_a_sweep_ends_where_single_changes_end(workspace):
    steps = sweep(workspace, "full", "gopher.words.min=50:250:100")["steps"]
    assert [step["value"] for step in steps] == [50, 150, 250]
    assert [step["kept"] for step in steps] == [
        what_if(workspace, "full", [f"gopher.words.min={value}"])["kept_after"] for value in (50, 150, 250)
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("gopher.word.min=1", "Did you mean 'gopher.words'"),
        ("gopher.words.minimum=1", "no setting 'minimum'"),
        ("gopher.words.min=many", "gopher.words.min"),
        ("gopher.words=1", "name a setting of it"),
        ("gopher", "rule.setting=value"),
    ],
)
def test_a_mistaken_change_is_explained(workspace, change, said):
    with pytest.raises(InputError, match=said):
        what_if(workspace, "full", [change])


def test_drift_has_a_row_for_every_column_of_the_later_snapshot(workspace):
    rows = drifts(workspace)
    assert {row["after"] for row in rows} == {"2026-11"}
    assert {"words_words", "lines_bullet_ratio", "text_bytes"} <= {row["column"] for row in rows}
    assert all(row["drift"] >= 0 for row in rows)


def test_an_exported_corpus_holds_the_kept_documents_and_its_books(workspace, tmp_path):
    made = export(workspace, "full", str(tmp_path / "out"))
    rows = [row for file in made["files"] for row in pq.read_table(tmp_path / "out" / file["path"]).to_pylist()]
    assert made["documents"] == len(rows) == kept(workspace, "full")
    assert sum(len(row["text"].encode()) for row in rows) == made["text_bytes"]
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["experiment"] == "full"
    assert export(workspace, "full", str(tmp_path / "out"))["written"] == 0


def test_json_lines_hold_the_same_documents(workspace, tmp_path):
    made = export(workspace, "full", str(tmp_path / "out"), "jsonl")
    lines = [
        json.loads(line)
        for file in made["files"]
        for line in zstandard.open(tmp_path / "out" / file["path"], "rt", encoding="utf-8", newline="\n")
    ]
    assert len(lines) == kept(workspace, "full")
    assert all(line["text"] and line["doc_id"] for line in lines)


def test_another_corpus_is_never_written_over(workspace, tmp_path):
    export(workspace, "full", str(tmp_path / "out"))
    with pytest.raises(FactoryError, match="holds another corpus"):
        export(workspace, "raw", str(tmp_path / "out"))


def test_a_recipe_without_a_tokenizer_ends_with_decisions(tmp_path):
    recipe = write_project(tmp_path)
    recipe.write_text(CURATES)
    with Workspace(load_recipe(str(recipe))) as opened:
        opened.run()
        assert {node.kind for node in opened.graph.values()} == {"documents", "scores", "keys", "links", "decisions"}
        assert kept(opened, "full") > 0


def test_a_recipe_cannot_both_train_and_have_no_tokenizer(tmp_path):
    with pytest.raises(RecipeError, match="ends with decisions"):
        check_recipe(read_yaml(CURATES + "mixture: {use: natural, tokens: 100}\n", "x"), folder=str(tmp_path))


def test_edits_of_several_rules_are_applied_at_once_and_overlaps_go_once():
    texts = pa.array(["häßlich und gut", None, "abcdef", ""], pa.large_string())
    first = pa.array([[_edit(0, 9)], None, [_edit(1, 3, "X"), _edit(2, 4, "Y")], []], EDITS)
    second = pa.array([[_edit(5, 10, "Q")], None, [_edit(6, 6, "!")], None], EDITS)
    assert apply_edits(texts, [first, second]).to_pylist() == ["und gut", None, "aXef!", ""]
    assert apply_edits(texts[1:], [first[1:], second[1:]]).to_pylist() == [None, "aXef!", ""]


def test_an_edit_within_a_character_is_refused():
    with pytest.raises(ValueError, match="whole characters"):
        apply_edits(pa.array(["ä"], pa.large_string()), [pa.array([[_edit(1, 2)]], EDITS)])


def _edit(start, end, replacement=""):
    return {"start": start, "end": end, "replacement": replacement}


REWRITES = RECIPE.replace(
    "linkers:", "  c4: {use: c4}\nrewrite:\n  lines: {use: remove_spans, column: c4.removed}\nlinkers:"
)


def test_token_ids_are_of_the_rewritten_texts_and_the_stored_texts_stay(tmp_path):
    recipe = write_project(tmp_path)
    with Workspace(load_recipe(str(recipe))) as plain:
        plain.run(["encodings", "decisions"])
        before = {name: plain.need("encodings", "", name).notes["tokens"] for name in plain.snapshots}
        documents = [plain.need("documents", "", name).digest for name in plain.snapshots]
    recipe.write_text(REWRITES)
    with Workspace(load_recipe(str(recipe))) as rewritten:
        rewritten.run(["encodings", "decisions"])
        after = {name: rewritten.need("encodings", "", name).notes["tokens"] for name in rewritten.snapshots}
        assert all(after[name] < before[name] for name in before)
        assert [rewritten.need("documents", "", name).digest for name in rewritten.snapshots] == documents
        made = export(rewritten, "raw", str(tmp_path / "out"))
        texts = [
            text
            for file in made["files"]
            for text in pq.read_table(tmp_path / "out" / file["path"])["text"].to_pylist()
        ]
    assert not any("Too short" in text for text in texts)
    assert all(text.strip() for text in texts)
    assert made["documents"] + made["emptied"] == kept(rewritten, "raw")


def test_a_rewriter_reads_a_column_that_a_scorer_writes(tmp_path):
    with pytest.raises(RecipeError, match="Did you mean 'c4_removed'"):
        check_recipe(read_yaml(REWRITES.replace("c4.removed", "c4_removd"), "x"), folder=str(tmp_path))
