"""Linking after filters: no document gives way to one that the filters drop."""

import json

import pytest
from tiny_project import prose

from factory.core.errors import RecipeError
from factory.execution.local import LocalExecutor
from factory.recipes.export import export
from factory.recipes.load import check_recipe, load_recipe
from factory.recipes.lookup import Current
from factory.recipes.workspace import Workspace
from factory.recipes.yaml import read_yaml
from factory.storage.parts import read_part

# Four texts share nearly all words: the first is too short, the second on a host that is left out.
RECIPE = """
name: after
store: .factory
sources: {web: {use: jsonl, uri: "data/*/*.jsonl", snapshot: "{parent}"}}
scorers: {words: {use: word_statistics}}
linkers:
  near: {use: minhash, after: [long, elsewhere]}
  same: {use: exact}
  lines: {use: lines, over: 1, after: [long]}
filters:
  long: {use: in_range, column: words_words, min: 60}
  elsewhere: {use: one_of, column: host, values: [a.example, c.example, d.example, e.example]}
  copy: {use: is_absent, column: near_duplicate_of}
tokenizer: none
"""
TEXT = " ".join(f"word{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(60))
ROWS = [
    {"id": "a", "url": "https://a.example/", "text": TEXT.rpartition(" ")[0]},
    {"id": "b", "url": "https://bad.example/", "text": TEXT},
    {"id": "broken", "url": "https://c.example/2", "text": ""},
    {"id": "c", "url": "https://c.example/", "text": TEXT},
    {"id": "d", "url": "https://d.example/", "text": TEXT},
    {"id": "e", "url": "https://e.example/", "text": prose("other")},
]


def write(folder, recipe=RECIPE):
    for snapshot, rows in (("2026-10", ROWS[:3]), ("2026-11", ROWS[3:])):
        path = folder / "data" / snapshot / "web.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(recipe)
    return str(folder / "recipe.yaml")


def linked(workspace, label, column):
    """The column of links by the url of each document."""
    current, found = Current(workspace), {}
    for snapshot, document in current.documents():
        values = read_part(workspace.store, current.beside("links", label, snapshot, document), [column])
        urls = read_part(workspace.store, document, ["url"])
        found.update(zip(urls.column(0).to_pylist(), values.column(0).to_pylist(), strict=True))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("after")
    with Workspace(load_recipe(write(folder)), LocalExecutor(1)) as workspace:
        workspace.run()
        yield workspace


def test_a_copy_of_documents_that_are_dropped_stays(finished, tmp_path):
    texts = [row["url"] for row in ROWS]
    dropped = {url for url, other in linked(finished, "near", "duplicate_of").items() if other is not None}
    assert len(dropped) == 1
    assert dropped < {"https://c.example/", "https://d.example/"}
    corpus = export(finished, "base", str(tmp_path / "corpus"))
    assert corpus["documents"] == 2
    # Without `after` the earliest stands, which the filters drop, and nothing of the text is left.
    unruled = linked(finished, "same", "duplicate_of")
    assert {url for url in texts if unruled[url] is not None} == {"https://c.example/", "https://d.example/"}


def test_spans_are_counted_among_the_documents_that_pass(finished):
    removed = {url: bool(spans) for url, spans in linked(finished, "lines", "removed").items() if spans}
    assert len(removed) == 2  # b, c and d hold the line; one of them keeps it, and a is too short to count


def test_keys_follow_the_rules_they_wait_for(finished, tmp_path):
    states = {status.node.name: status.state for status in finished.plan()}
    assert set(states.values()) == {"cached"}
    changed = RECIPE.replace("min: 60", "min: 59")
    recipe = check_recipe(read_yaml(changed, "recipe"), folder=finished.recipe.folder)
    with Workspace(recipe, LocalExecutor(1)) as workspace:
        made = {outcome.node.name for outcome in workspace.run() if outcome.made}
        assert {"keys/near@2026-10", "links/near@2026-11", "decisions/base@2026-10"} <= made
        assert not {"scores/words@2026-10", "keys/same@2026-10", "links/same@2026-10"} & made
        assert linked(workspace, "near", "duplicate_of")["https://d.example/"] is not None
        assert linked(workspace, "near", "duplicate_of")["https://c.example/"] is not None


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("[lon]", "no filter is labelled 'lon'. Did you mean 'long'?"),
        ("[copy]", "does not look at a document alone"),
        ("[best]", "does not look at a document alone"),
        ("long", "list is meant"),
        ("[[long]]", "no filter is labelled"),
    ],
)
def test_rules_that_cannot_be_waited_for_are_named(tmp_path, after, why):
    recipe = RECIPE.replace("[long, elsewhere]", after).replace(
        "filters:\n", "filters:\n  best: {use: top_share, column: words_words, share: 0.5}\n"
    )
    with pytest.raises(RecipeError) as refused:
        check_recipe(read_yaml(recipe, "recipe"), folder=str(tmp_path))
    assert any(why in problem for problem in refused.value.problems), refused.value.problems
