"""`explain` tells the truth: every claim is compared with the Parquet and token files themselves."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_project import HOSTILE, prose, tiny  # noqa: F401
from tokenizers import Tokenizer

from factory.core.errors import InputError
from factory.recipes.explain import explain
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace


@pytest.fixture
def workspace(tiny: Path) -> Workspace:  # noqa: F811
    return Workspace(load_recipe(str(tiny)))


def row_of(workspace: Workspace, story: dict[str, Any], kind: str, label: str) -> dict[str, Any]:
    """The row of a thin dataset at the document's place, read without the library."""
    manifest = workspace.need(kind, label, story["snapshot"])
    store = Path(workspace.store.root)
    document = next(
        p for p in workspace.need("documents", "", story["snapshot"]).parts if p.path == story["stored"]["part"]
    )
    path = next(part.path for part in manifest.parts if part.name == document.digest)
    found = pq.read_table(store / path).to_pylist()[story["stored"]["row"]]
    assert (found["part"], found["row"]) == (document.digest, story["stored"]["row"])
    return found


def experiment(story: dict[str, Any], label: str) -> dict[str, Any]:
    return next(item for item in story["experiments"] if item["label"] == label)


def test_a_kept_document_leads_to_its_very_tokens(workspace: Workspace) -> None:
    stories = [explain(workspace, f"https://example.org/2026-10/good{i}")[0] for i in range(12)]
    story = next(one for one in stories if experiment(one, "full").get("repeats"))
    ending = experiment(story, "full")
    assert ending["kept"]
    assert row_of(workspace, story, "decisions", "full")["failed"] == []
    ids = np.fromfile(Path(workspace.store.root) / ending["file"], np.uint16)
    (tokenizer,) = workspace.need("models", "tokenizer").parts
    decoder = Tokenizer.from_file(str(Path(workspace.store.root) / tokenizer.path))
    own = ids[ending["offset"] : ending["offset"] + ending["length"]]
    assert decoder.decode(own[:-1].tolist()) == prose("2026-10" + story["url"].rsplit("good", 1)[1])
    assert ending["decodes"]["same"]


def test_a_document_the_mixture_leaves_out_says_so(workspace: Workspace) -> None:
    stories = [explain(workspace, f"https://example.org/2026-11/good{i}")[0] for i in range(30)]
    taken = {experiment(story, "raw")["repeats"] for story in stories}
    assert 0 in taken, "the mixture asks for fewer tokens than there are"
    index = workspace.need("tokens", "raw").parts[-1]
    ids = set(pq.read_table(Path(workspace.store.root) / index.path)["doc_id"].to_pylist())
    for story in stories:
        assert (story["doc_id"] in ids) == bool(experiment(story, "raw")["repeats"])


def test_a_dropped_document_shows_every_rule_it_failed_with_value_and_bound(workspace: Workspace) -> None:
    story = explain(workspace, "https://short.example/x")[0]
    failed = row_of(workspace, story, "decisions", "full")["failed"]
    words = row_of(workspace, story, "scores", "words")["words"]
    told = experiment(story, "full")
    assert (told["kept"], told["first"], told["failed"]) == (False, "gopher.words", failed)
    assert {rule["label"] for rule in told["rules"] if not rule["passed"]} == set(failed)
    rule = next(rule for rule in told["rules"] if rule["label"] == "gopher.words")
    assert rule["values"] == {"words_words": words}
    assert rule["test"] == "50 ≤ words_words ≤ 100,000"
    assert not told["selected"]


def test_a_duplicate_names_whom_it_repeats_and_all_of_its_cluster(workspace: Workspace) -> None:
    stories = [explain(workspace, f"https://copies.example/{i}") for i in range(3)]
    everybody = [story for found in stories for story in found]
    assert [story["snapshot"] for story in stories[0]] == ["2026-10", "2026-11"], "the URL is in both snapshots"
    first = min(story["doc_id"] for story in everybody if story["snapshot"] == "2026-10")
    for story in everybody:
        (link,) = story["links"]
        stored = row_of(workspace, story, "links", "same")
        assert (link["duplicate_of"] or {}).get("doc_id") == stored["duplicate_of"]
        assert stored["duplicate_of"] == (None if story["doc_id"] == first else first)
        assert {one["doc_id"] for one in link["members"]} == {one["doc_id"] for one in everybody}
        assert experiment(story, "full")["kept"] == (story["doc_id"] == first)


def test_one_that_was_alone_shows_the_copies_that_came_later(workspace: Workspace) -> None:
    older, newer = explain(workspace, "https://short.example/x")
    assert older["links"][0]["duplicate_of"] is None
    assert [one["snapshot"] for one in older["links"][0]["members"]] == ["2026-10", "2026-11"]
    assert newer["links"][0]["duplicate_of"]["doc_id"] == older["doc_id"]


def test_a_quarantined_document_tells_its_error_and_no_verdicts(workspace: Workspace) -> None:
    story = explain(workspace, "https://empty.example")[0]
    assert story["error"].startswith("no_text")
    assert story["text"] is None
    assert row_of(workspace, story, "decisions", "full")["failed"] == ["error"]
    told = experiment(story, "full")
    assert (told["kept"], told["first"], told["selected"]) == (False, "error", False)
    assert {rule["passed"] for rule in told["rules"]} == {None}


def test_the_fetch_command_prints_the_record(workspace: Workspace) -> None:
    story = explain(workspace, "https://short.example/x")[0]
    printed = subprocess.run(story["place"]["fetch"], shell=True, capture_output=True, check=True).stdout
    assert json.loads(printed)["text"] == HOSTILE


def test_a_document_is_found_by_id_by_the_beginning_of_it_and_by_url_without_scheme(workspace: Workspace) -> None:
    story = explain(workspace, "example.org/2026-10/good7/")[0]
    assert story["url"] == "https://example.org/2026-10/good7"
    assert explain(workspace, story["doc_id"]) == [story]
    assert explain(workspace, story["doc_id"][:12]) == [story]


def test_a_story_needs_no_input_files(tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny.read_text())
    moved = Workspace(load_recipe(str(recipe), store=str(tiny.parent / ".factory")))
    story = explain(moved, "https://example.org/2026-10/good3")[0]
    assert story["place"]["file"] == "2026-10/web.jsonl"
    assert story["place"]["fetch"] is None


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("https://example.org/2026-10", "30 documents; name one"),
        ("https://other.example/good5", "URLs with 'good5': https://example.org/2026-10/good5"),
        ("zzz", "There are 72 documents in 2026-10, 2026-11"),
    ],
)
def test_what_is_not_found_is_answered_with_what_is_there(workspace: Workspace, query: str, answer: str) -> None:
    with pytest.raises(InputError, match=answer.replace("(", r"\(")):
        explain(workspace, query)
