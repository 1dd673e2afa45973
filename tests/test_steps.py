"""Tasks of the steps, run as a worker runs them: careful mode and poison rows change nothing but the poisoned row."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Context
from factory.recipes.load import check_recipe
from factory.recipes.steps import columns, documents
from factory.recipes.steps.apply import apply
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part
from factory.storage.store import Store

PAGE = "<html><head><title>Page {0}</title></head><body><p>This is page {0} of the site, with its own text.</p></body></html>"


@pytest.fixture
def project(tmp_path: Path) -> Workspace:
    """Five HTML pages in a WARC, and a scorer."""
    records = []
    for number in range(5):
        body = PAGE.format(number).encode()
        http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
        head = (
            f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}>\r\nWARC-Target-URI: http://a.test/{number}\r\n"
            f"WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Type: application/http\r\nContent-Length: {len(http)}\r\n\r\n"
        )
        records.append(head.encode() + http + b"\r\n\r\n")
    (tmp_path / "crawl.warc").write_bytes(b"".join(records))
    recipe = check_recipe(
        {
            "name": "poison",
            "sources": {"crawl": {"use": "warc", "uri": "crawl.warc", "snapshot": "one"}},
            "extract": [{"use": "resiliparse", "main_content": False}],
            "scorers": {"words": {"use": "word_statistics"}},
            "mixture": {"use": "natural", "tokens": 100},
        },
        folder=str(tmp_path),
    )
    return Workspace(recipe, LocalExecutor(1))


def run_documents(project: Workspace, context: Context, folder: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    (payload,) = list(documents._planned(project, project.graph["documents@one"]))
    part = Part.from_json(documents.make({**payload, "folder": folder}, context)["part"])
    return read_part(Store(project.recipe.store), part).to_pylist(), dict(part.notes)


def test_a_poison_record_is_a_row_with_an_error_and_its_siblings_are_untouched(project):
    usual, _ = run_documents(project, Context(), "usual")
    seen: list[int | None] = []
    careful = Context(careful=True, poison={3: "killed by SIGSEGV"}, at=seen.append)
    found, notes = run_documents(project, careful, "careful")
    assert seen == [0, 1, 2, 4]
    assert found[3]["error"] == "crashed: killed by SIGSEGV"
    assert found[3]["text"] is None
    assert [row for index, row in enumerate(found) if index != 3] == [
        row for index, row in enumerate(usual) if index != 3
    ]
    assert notes["errors"] == {"crashed": 1}
    assert notes["records"] == notes["rows"] + sum(notes["skipped"].values()) == 5


def test_a_poison_document_has_null_scores_and_is_counted(project):
    with project:
        (outcome,) = project.run(["documents"])
    (document,) = outcome.manifest.parts
    spec = project.graph["scores/words@one"].spec
    column = {"name": "scores/words@one", "kind": "scores", "folder": "scores", "spec": dict(spec)}
    payload = {"store": project.recipe.store, "document": document.to_json(), "columns": [column]}
    made = columns.make(payload, Context(careful=True, poison={2: "memory over 1 GiB"}))
    part = Part.from_json(made["scores/words@one"])
    words = read_part(project.store, part, ["words"]).column("words").to_pylist()
    assert [value is None for value in words] == [False, False, True, False, False]
    assert part.notes["failed"] == 1
    assert part.notes["causes"] == ["crashed: memory over 1 GiB"]


def test_a_row_that_raises_costs_that_row_alone():
    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        values = batch.column("text").to_pylist()
        if "bad" in values:
            raise RuntimeError("cannot")
        return pa.RecordBatch.from_pydict({"length": pa.array([len(value) for value in values])})

    def failed(row: pa.RecordBatch, number: int, cause: str) -> pa.RecordBatch:
        assert (number, cause) == (1, "crashed: RuntimeError: cannot")
        return pa.RecordBatch.from_pydict({"length": pa.array([None], pa.int64())})

    batch = pa.RecordBatch.from_pydict({"text": ["a", "bad", "ccc"]})
    assert apply(score, batch, 0, Context(), failed).column("length").to_pylist() == [1, None, 3]


def test_a_file_that_changes_while_it_is_read_stops_the_task(project, tmp_path):
    (payload,) = list(documents._planned(project, project.graph["documents@one"]))
    (tmp_path / "crawl.warc").write_bytes((tmp_path / "crawl.warc").read_bytes() + b"\r\n")
    with pytest.raises(Exception, match="changed while it was read"):
        documents.make(payload, Context())


def test_documents_without_text_are_errors_not_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ["", " \n ", "A text."]))
    recipe = check_recipe(
        {
            "name": "empty",
            "sources": {"web": {"use": "jsonl", "uri": "a.jsonl", "snapshot": "one"}},
            "mixture": {"use": "natural", "tokens": 1},
        },
        folder=str(tmp_path),
    )
    with Workspace(recipe, LocalExecutor(1)) as workspace:
        (outcome,) = workspace.run(["documents"])
    assert outcome.manifest.ledger["errors"] == {"no_text": 2}
    assert not outcome.passed  # more than half is empty: an extractor or a column name is wrong, not the pages


def test_every_kind_of_stage_is_found_by_its_module_name():
    for kind, name in (("scorer", "word_statistics"), ("source", "warc"), ("filter", "in_range"), ("mixer", "natural")):
        assert find_stage(kind, name).name == name


def test_two_sources_with_files_of_one_name_keep_their_own_documents(tmp_path):
    for label, texts in (("a", ["one", "two"]), ("b", [])):
        (tmp_path / label / "s").mkdir(parents=True)
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / label / "s" / "part.jsonl").write_text(lines or "\n\n")
    sources = {label: {"use": "jsonl", "uri": f"{label}/*/*.jsonl"} for label in "ab"}
    recipe = check_recipe({"name": "two", "sources": sources, "tokenizer": "none"}, folder=str(tmp_path))
    with Workspace(recipe, LocalExecutor(2)) as workspace:
        workspace.run(["documents"])
        assert workspace.need("documents", "", "s").rows == 2
