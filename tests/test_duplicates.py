"""What `factory duplicates` says is what lies in the store: every number is counted again from the Parquet files alone."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_project import prose, tiny  # noqa: F401

from factory.core.errors import FactoryError, InputError
from factory.core.schema import document_id
from factory.execution.local import LocalExecutor
from factory.recipes import duplicates as module
from factory.recipes.duplicates import cluster, difference, duplicates, leading_bits
from factory.recipes.explain import explain
from factory.recipes.load import load_recipe
from factory.recipes.report import gather
from factory.recipes.workspace import Workspace
from factory.reports import clusters, terminal
from factory.reports.page import render

FOOTER = "All rights reserved by nobody in particular, said in every page."
RECIPE = """
name: copies
store: .factory
sources:
  web: {use: jsonl, uri: "data/*/*.jsonl", snapshot: "{parent}", part_bytes: 20000}
linkers:
  same: {use: exact}
  near: {use: minhash}
  lines: {use: lines, over: 2}
  paragraphs: {use: bloom_paragraph}
  semantic: {use: semdedup, sources: [web], epsilon: 0.05}
filters:
  copy: {use: is_absent, column: same_duplicate_of}
tokenizer: none
experiments:
  full: {}
"""
COPIES = {"2026-10": {"a": 12, "b": 3, "alone": 1}, "2026-11": {"a": 5, "c": 2, "alone": 4}}


def chain(length: int, words: int = 200, step: int = 10) -> list[str]:
    """Texts of which each shares most of its words with the next, and none with one far away."""
    chance = random.Random(7)
    spoken = ["".join(chance.choices("abcdefghijklmnop", k=7)) for _ in range(words + step * length)]
    return [" ".join(spoken[number * step : number * step + words]) for number in range(length)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("copies")
    for snapshot, copies in COPIES.items():
        texts = [
            (f"https://h{number % 3}.example/{name}/{number}", prose(name))
            for name, many in copies.items()
            for number in range(many)
        ]
        texts += [(f"https://other.example/{i}", f"{prose(snapshot + str(i))}\n{FOOTER}") for i in range(20)]
        texts += [(f"https://chain.example/{i}", text) for i, text in enumerate(chain(30)) if snapshot == "2026-10"]
        path = folder / "data" / snapshot / "web.jsonl"
        path.parent.mkdir(parents=True)
        rows = ({"id": url, "url": url, "text": text} for url, text in texts)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    with Workspace(load_recipe(str(folder / "recipe.yaml")), LocalExecutor(2)) as made:
        made.run()
    return made


def stored(workspace: Workspace, label: str, snapshots: Any = COPIES) -> list[dict[str, Any]]:
    """Every document with its links, from the files alone."""
    store, rows = Path(workspace.store.root), []
    for snapshot in snapshots:
        links = {part.name: part.path for part in workspace.need("links", label, snapshot).parts}
        for part in workspace.need("documents", "", snapshot).parts:
            documents = pq.read_table(store / part.path, columns=["doc_id", "text", "host", "snapshot"]).to_pylist()
            beside = pq.read_table(store / links[part.digest]).to_pylist()
            rows += [{**one, **other} for one, other in zip(documents, beside, strict=True)]
    return rows


def counted(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["cluster"] or row["doc_id"] for row in rows)


def test_clusters_are_those_counted_from_the_files(workspace: Workspace) -> None:
    (report,) = duplicates(workspace, ["same"], largest=50)
    rows = stored(workspace, "same")
    sizes = counted(rows)
    assert report["duplicates"] == sum(row["duplicate_of"] is not None for row in rows)
    assert report["clusters"] == sum(size > 1 for size in sizes.values())
    assert {one["cluster"]: one["size"] for one in report["largest"]} == {n: s for n, s in sizes.items() if s > 1}
    assert sorted(one["size"] for one in report["largest"]) == [2, 3, 5, 17]
    for item in report["histogram"]:
        low, _, high = item["size"].replace("+", "-1000000").partition("-")
        inside = [size for size in sizes.values() if int(low) <= size <= int(high or low)]
        assert (item["clusters"], item["documents"]) == (len(inside), sum(inside)), item["size"]


def test_one_that_was_alone_is_counted_with_its_later_copies(workspace: Workspace) -> None:
    (report,) = duplicates(workspace, ["same"])
    one = next(one for one in report["largest"] if one["size"] == 5)
    assert one["snapshots"] == {"2026-10": 1, "2026-11": 4}
    assert one["stands"]["url"] == "https://h0.example/alone/0"
    assert one["hosts"] == 3
    (later,) = duplicates(workspace, ["same"], snapshots=["2026-11"])
    again = next(item for item in later["largest"] if item["cluster"] == one["cluster"])
    assert (again["size"], again["documents"], again["stands"]) == (5, 4, one["stands"])


@pytest.mark.parametrize("snapshot", COPIES)
def test_documents_of_a_snapshot_are_counted_in_clusters_over_all_snapshots(
    workspace: Workspace, snapshot: str
) -> None:
    (report,) = duplicates(workspace, ["same"], snapshots=[snapshot], largest=50)
    sizes, own = counted(stored(workspace, "same")), counted(stored(workspace, "same", [snapshot]))
    for item in report["histogram"]:
        low, _, high = item["size"].replace("+", "-1000000").partition("-")
        inside = [name for name in own if int(low) <= sizes[name] <= int(high or low)]
        assert (item["clusters"], item["documents"]) == (len(inside), sum(own[name] for name in inside)), item["size"]
    alone, *others = (item["documents"] for item in report["histogram"])
    assert alone + sum(others) == report["linked"] == sum(own.values())
    assert (
        sum(others)
        >= report["duplicates"]
        == sum(row["duplicate_of"] is not None for row in stored(workspace, "same", [snapshot]))
    )
    shown = {one["cluster"]: (one["size"], one["documents"]) for one in report["largest"]}
    assert shown == {name: (sizes[name], number) for name, number in own.items() if sizes[name] > 1}
    printed = " ".join(printed_by(clusters.linker(report)).split())
    assert f"Documents are those of {snapshot}; members of clusters are counted in all snapshots" in printed


def test_documents_that_were_never_compared_are_in_no_share(tmp_path: Path) -> None:
    rows = [{"id": str(i), "url": f"https://a.example/{i}", "text": prose("copy")} for i in range(3)]
    rows += [{"id": f"short{i}", "url": f"https://b.example/{i}", "text": "too short"} for i in range(4)]
    rows += [{"id": "none", "url": "https://c.example/", "text": ""}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = """
name: after
store: .factory
sources: {web: {use: jsonl, uri: rows.jsonl, snapshot: one}}
max_error_share: 1.0
scorers: {words: {use: word_statistics}}
linkers:
  same: {use: exact, after: [long]}
  plain: {use: exact}
  lines: {use: lines, over: 1, after: [long]}
filters: {long: {use: in_range, column: words_words, min: 20}}
tokenizer: none
"""
    (tmp_path / "recipe.yaml").write_text(recipe)
    with Workspace(load_recipe(str(tmp_path / "recipe.yaml")), LocalExecutor(1)) as made:
        made.run(["links"])
        same, plain, lines = duplicates(made)
        assert [(one["linked"], one["documents"]) for one in (same, plain, lines)] == [(3, 8), (7, 8), (3, 8)]
        assert (same["duplicates"], same["share"], same["histogram"][0]["documents"]) == (2, 2 / 3, 0)
        assert sum(item["documents"] for item in plain["histogram"]) == 7
        assert lines["text_bytes"] == 3 * len(prose("copy").encode())
        assert "2 copies of 3 documents linked (8 in all) (66.7 %)" in printed_by(clusters.linker(same)).replace(
            "%", " %"
        ).replace("  ", " ")
        assert "from 2 of 3 documents linked (8 in all)" in " ".join(printed_by(clusters.linker(lines)).split())


def test_what_a_document_repeats_is_told_from_what_documents_share(tmp_path: Path) -> None:
    twice = [f"{prose(str(i))}\nprintln!(x);\nprintln!(x);\n{FOOTER}\n" for i in range(3)]
    rows = [{"id": str(i), "url": f"https://a.example/{i}", "text": text} for i, text in enumerate(twice)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = """
name: within
store: .factory
sources: {web: {use: jsonl, uri: rows.jsonl, snapshot: one}}
linkers: {kept: {use: lines, over: 2, keep: none}, cut: {use: lines, over: 3, within: remove}}
tokenizer: none
"""
    (tmp_path / "recipe.yaml").write_text(recipe)
    with Workspace(load_recipe(str(tmp_path / "recipe.yaml")), LocalExecutor(1)) as made:
        made.run(["links"])
        kept, cut = duplicates(made)
    line, footer = len("println!(x);\n"), len(FOOTER) + 1
    assert kept["across"] == {"bytes": 3 * (2 * line + footer), "pieces": 9}
    assert kept["within"] == {"bytes": 0, "pieces": 0}
    assert (cut["across"]["pieces"], cut["within"]) == (0, {"bytes": 3 * line, "pieces": 3})
    for one in (kept, cut):
        assert one["removed_bytes"] == one["across"]["bytes"] + one["within"]["bytes"]
    assert "3 pieces repeated within one document alone" in " ".join(printed_by(clusters.linker(cut)).split())


def test_numbers_do_not_depend_on_how_much_is_held_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = duplicates(workspace)
    monkeypatch.setattr(module, "PASS_ROWS", 5)
    assert duplicates(workspace) == before


def test_what_a_cluster_holds_is_shown_with_ids_that_lead_to_it(workspace: Workspace) -> None:
    (report,) = duplicates(workspace, ["same"], largest=1)
    (one,) = report["largest"]
    rows = [row for row in stored(workspace, "same") if (row["cluster"] or row["doc_id"]) == one["cluster"]]
    assert one["top_hosts"][0]["documents"] == max(Counter(row["host"] for row in rows).values())
    assert one["stands"]["doc_id"] == one["cluster"]
    others = sorted(row["doc_id"] for row in rows if row["doc_id"] != one["cluster"])
    assert [member["doc_id"] for member in one["members"]] == others[:3]
    assert one["similarity"] == 1.0
    assert {member["differs"] for member in one["members"]} == {None}
    assert prose("a").startswith(one["stands"]["line"].removesuffix("…"))


def test_a_chain_shows_as_a_low_similarity_and_copies_do_not(workspace: Workspace) -> None:
    near, same = duplicates(workspace, ["near", "same"])[::-1]
    chained = max(near["largest"], key=lambda one: one["top_hosts"][0]["host"] == "chain.example")
    assert chained["size"] > 10
    assert chained["similarity"] < 0.5
    assert any("link by link" in text for text in chained["warnings"])
    assert not any("link by link" in text for one in same["largest"] for text in one["warnings"])
    assert any("% of all documents" in text for text in same["warnings"])


def test_a_cluster_is_listed_whole_by_any_of_its_members(workspace: Workspace) -> None:
    sizes = counted(stored(workspace, "same"))
    for row in stored(workspace, "same"):
        (found,) = cluster(workspace, row["doc_id"], ["same"])
        assert found["size"] == sizes[row["cluster"] or row["doc_id"]] == len(found["members"])
        assert [one["doc_id"] for one in found["members"] if one["stands"]] == [row["cluster"] or row["doc_id"]]


def test_removed_pieces_are_those_of_the_files(workspace: Workspace) -> None:
    (report,) = duplicates(workspace, ["lines"])
    rows = stored(workspace, "lines")
    assert report["removed_bytes"] == sum(row["removed_bytes"] or 0 for row in rows)
    assert report["touched"] == sum(item["documents"] for item in report["shares"])
    assert report["text_bytes"] == sum(len((row["text"] or "").encode()) for row in rows)
    assert FOOTER in [piece["text"] for piece in report["pieces"]]
    (paragraphs,) = duplicates(workspace, ["paragraphs"])
    assert paragraphs["removed_bytes"] == sum(row["removed_bytes"] or 0 for row in stored(workspace, "paragraphs"))


def test_other_distances_remove_what_the_similarities_say(workspace: Workspace) -> None:
    (report,) = duplicates(workspace, ["semantic"])
    values = [row["max_similarity"] for row in stored(workspace, "semantic") if row["max_similarity"] is not None]
    assert sum(item["documents"] for item in report["similarities"]) == len(values)
    assert len(values) <= report["linked"] <= report["documents"]
    removed = {item["epsilon"]: item["removed"] for item in report["epsilons"]}
    assert removed[0.05] == report["duplicates"] > 0
    assert list(removed.values()) == sorted(removed.values())
    assert removed[0.3] == sum(value > 0.7 for value in values)


def test_explain_shows_the_very_bytes_that_go(workspace: Workspace) -> None:
    row = next(row for row in stored(workspace, "lines") if row["removed"] and row["text"].endswith(FOOTER))
    (story,) = explain(workspace, row["doc_id"])
    told = next(item for item in story["links"] if item["label"] == "lines")
    assert told["removed_found"] == len(row["removed"])
    for piece, span in zip(told["removed"], row["removed"], strict=True):
        assert piece["text"] == row["text"].encode()[span["start"] : span["end"]].decode()[:120]
    printed = printed_by(terminal.story(story))
    assert FOOTER in " ".join(printed.split())
    near = next(item for item in story["links"] if item["label"] == "semantic")
    assert "max_similarity" in near["columns"]


def test_the_page_has_a_section_for_every_linker(workspace: Workspace) -> None:
    page = render(gather(workspace))
    for label in ("same", "near", "lines", "paragraphs", "semantic"):
        assert f"<h3>{label} " in page
    assert "would remove" in page
    assert FOOTER in page
    assert "link by link" in page


def test_the_terminal_shows_every_kind_of_linker(workspace: Workspace) -> None:
    printed = [printed_by(clusters.linker(item)) for item in duplicates(workspace)]
    assert "17 members" in printed[0]
    assert "epsilon" in printed[4]
    assert "not made yet" in printed_by(
        clusters.linker({**duplicates(workspace, ["same"])[0], "made": False, "snapshots": []})
    )
    whole = cluster(workspace, stored(workspace, "same")[0]["doc_id"], ["same"])
    assert "members 17" in printed_by(clusters.members(whole[0]))


def printed_by(made: Any) -> str:
    from rich.console import Console

    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(made)
        return console.export_text()


def test_what_is_not_there_is_answered_with_what_is(workspace: Workspace) -> None:
    with pytest.raises(FactoryError, match="Did you mean 'same'"):
        duplicates(workspace, ["smae"])
    with pytest.raises(FactoryError, match="Did you mean '2026-11'"):
        duplicates(workspace, snapshots=["2026-1"])
    with pytest.raises(FactoryError, match="No linker that makes clusters is named 'lines'"):
        cluster(workspace, "0" * 32, ["lines"])
    with pytest.raises(InputError, match="is no document id"):
        cluster(workspace, "https://h0.example/")
    with pytest.raises(InputError, match="No document has the id"):
        cluster(workspace, "0" * 32)


def test_ids_become_numbers_in_their_own_order() -> None:
    ids = sorted(document_id("web", "s", str(number)) for number in range(500))
    numbers = leading_bits(pa.array(["f" * 32, *ids]).slice(1))
    assert numbers.tolist() == [int(name[:16], 16) for name in ids]
    assert np.all(numbers[:-1] <= numbers[1:])
    with pytest.raises(pa.ArrowInvalid):
        leading_bits(pa.array(["short"]))


def test_a_difference_is_where_texts_part() -> None:
    assert difference("the same", "the same") is None
    assert difference(None, "one") is None
    assert difference("it was a long day", "it was a short day") == "from character 9: 'short day' for 'long day'"
    assert difference("one ", "one two") == "from character 4: 'two' for '(its end)'"


def test_reports_are_plain_data(workspace: Workspace) -> None:
    json.dumps(duplicates(workspace))
