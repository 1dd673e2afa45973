"""A small project of JSON lines: good prose, junk, copies and broken records in two snapshots, made up to the tokens."""

import json
import random
from functools import cache
from pathlib import Path

import pytest

from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace

SNAPSHOTS = ("2026-10", "2026-11")
WORDS = (  # noqa: SIM905 (as it is read)
    "the of and to in that is was he for it with as his on be at by had not are but from or have an they which one you "
    "were her all she there would their we him been has when who will more no if out so said what up its about into "
    "government another because through different between without something"
).split()
HOSTILE = "Too short <script>alert(1)</script> \x1b[31mred\x1b[0m [bold]x[/bold]"
RECIPE = """
name: tiny
store: .factory
sources:
  web: {use: jsonl, uri: "data/*/*.jsonl", snapshot: "{parent}"}
scorers:
  words: {use: word_statistics, reading: datatrove}
  lines: {use: line_statistics, reading: datatrove}
linkers:
  same: {use: exact}
filters:
  gopher: {preset: gopher}
  copy: {use: is_absent, column: same_duplicate_of}
tokenizer: {vocab_size: 300, documents: 100}
mixture: {use: natural, tokens: 20000, max_epochs: 4, by: host}
max_error_share: 0.1
experiments:
  raw: {filters: {}}
  full: {}
  top: {filters: {best: {use: top_share, column: words_words, share: 0.5}}}
"""


def prose(seed: str, sentences: int = 24) -> str:
    chance = random.Random(seed)
    made = [" ".join(chance.choices(WORDS, k=chance.randint(6, 14))).capitalize() + "." for _ in range(sentences)]
    return "\n".join(" ".join(made[at : at + 6]) for at in range(0, sentences, 6))


def write_project(folder: Path) -> Path:
    """Write the files and the recipe; returns the recipe's path."""
    for snapshot in SNAPSHOTS:
        rows: list[dict[str, str]] = [
            {"id": f"good{i}", "url": f"https://example.org/{snapshot}/good{i}", "text": prose(f"{snapshot}{i}")}
            for i in range(30)
        ]
        rows += [{"id": f"copy{i}", "url": f"https://copies.example/{i}", "text": prose("copy")} for i in range(3)]
        rows.append({"id": "short", "url": "https://short.example/x", "title": "<b>Title</b>", "text": HOSTILE})
        rows.append({"id": "empty", "url": "https://empty.example/", "text": ""})
        path = folder / "data" / snapshot / "web.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    return recipe


@cache
def make_project(folder: Path) -> Path:
    recipe = write_project(folder)
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        workspace.run(["tokens"])
    return recipe


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a finished project, shared by all tests: only to be looked at."""
    folder = tmp_path_factory.getbasetemp() / "tiny"
    return make_project(folder)
