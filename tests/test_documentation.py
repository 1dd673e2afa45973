"""What the documentation shows is what there is: fragments are recipes, links lead somewhere, commands have these options."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from factory.core import registry
from factory.core.search import Trial
from factory.recipes.load import SECTIONS, check_recipe
from factory.recipes.yaml import read_yaml
from tests.searched_world import NAMES, problem

# The typer that dg can be used with asks click 8.5 for names that will go.
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
# What a fragment leaves unsaid: the sources, columns, tasks and experiments that the pages speak of.
AROUND = """
name: around
sources:
  web: {use: jsonl, uri: "web/*.jsonl", snapshot: a}
  books: {use: jsonl, uri: "books/*.jsonl", snapshot: a}
  math: {use: jsonl, uri: "math/*.jsonl", snapshot: a}
  crawl: {use: warc, uri: "crawl/*.warc.gz", snapshot: a}
scorers:
  language: {use: fasttext_language}
  words: {use: word_statistics, reading: datatrove}
  lines: {use: line_statistics, reading: datatrove}
  quality: {use: fasttext_quality, positives: "references/*.jsonl", negatives: crawl}
  topic: {use: taxonomy, references: topics.jsonl}
linkers: {near: {use: minhash}}
tokenizer: {vocab_size: 1000}
mixture: {use: natural, tokens: 1_000_000_000}
evaluate: {held_out: {use: bits_per_byte, uri: "held_out/*.jsonl"}}
experiments: {full: {}, base: {}}
"""
OWN_PRESET = "rules: {short: {use: in_range, column: word_statistics.words, min: 5}}"


def fragments(page):
    """The YAML of a page that is part of a recipe; lines that all begin with one section are alternatives."""
    for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        sections = re.findall(r"^(\w+):", text, re.MULTILINE)
        if set(sections) <= set(SECTIONS):
            yield from text.splitlines() if len(sections) > len(set(sections)) else [text]


FRAGMENTS = [
    pytest.param(text, id=f"{page.stem}-{number}") for page in PAGES for number, text in enumerate(fragments(page))
]


@pytest.mark.parametrize("text", FRAGMENTS)
def test_fragments_of_recipes_are_recipes(text, tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_PRESET)
    around, own = (
        read_yaml(AROUND, "around"),
        read_yaml(text.replace('sha256: "…"', f"sha256: '{'0' * 64}'"), "fragment"),
    )
    sources = {**around["sources"], **own.get("sources", {})}
    assert check_recipe({**around, **own, "sources": sources}, folder=str(tmp_path)).experiments


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for name, anchor in re.findall(r"\]\(([\w./-]+\.md)?(#[\w-]+)?\)", page.read_text()):
        target = page.parent / name if name else page
        assert target.is_file(), name
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        named = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in named, f"{name}{anchor}"


def test_every_page_is_in_the_table_of_contents():
    linked = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert linked == {page.name for page in PAGES} - {"README.md"}


def options():
    """The options of every command, by its name."""
    from typer.main import get_command

    from factory.cli.main import app

    return {
        name: {option for item in command.params if item.param_type_name == "option" for option in item.opts}
        for name, command in get_command(app).commands.items()
    }


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_commands_have_the_options_that_are_shown(page):
    known = options()
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    text = page.read_text()
    blocks = [block for language, block in fence.findall(text) if language in ("", "bash")]
    shown = re.findall(r"^    .*$|`[^`\n]+`", fence.sub("", text), re.MULTILINE)
    for line in "\n".join([*blocks, *shown]).splitlines():
        for name, rest in re.findall(r"factory ([a-z]+)\b([^`|#\n]*)", line):
            assert name in known, line
            assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest)) <= known[name], line


def test_the_first_page_names_every_command():
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("## Never")[0]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert named == set(options()) - {"demo"}


@pytest.fixture
def shown_stages(monkeypatch):
    """The stages that the page on adding one writes, in the catalogue while a test runs."""
    monkeypatch.setattr(registry, "_stages", {(stage.kind, stage.name): stage for stage in registry.stages()})
    text = (ROOT / "docs" / "adding.md").read_text()
    for path, code in re.findall(
        r"^```python\n# (factory/stages/\w+/\w+)\.py\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    ):
        module = ModuleType(path.replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, path, "exec"), module.__dict__)
    return registry.find_stage


def test_the_stages_that_are_shown_work(shown_stages):
    made = {
        name: (stage := shown_stages(kind, name)).make(stage.config(**settings))
        for kind, name, settings in (
            ("scorer", "uppercase_ratio", {}),
            ("linker", "same_title", {}),
            ("mixer", "smoothed", {"tokens": 111, "even": 0.3}),
            ("packer", "one_each", {}),
            ("searcher", "line", {"points": 3}),
        )
    }
    assert made["uppercase_ratio"](pa.record_batch({"text": ["ABcd 12", "123"]}))["ratio"].to_pylist() == [0.5, None]
    titles = pa.record_batch({"host": ["a.org", "a.org"], "title": ["Home", None]})
    assert made["same_title"](titles)["keys"].to_pylist() == [[5090707180280417914], []]
    epochs = made["smoothed"]({"web": 1_000, "code": 100, "books": 10})
    assert epochs["books"] * 10 == pytest.approx(111 * (0.7 * 10 / 1110 + 0.1))
    pieces = made["one_each"].pack(np.array([3, 20]), 8, 0)
    assert (pieces.lengths.tolist(), pieces.sizes.tolist()) == ([3, 9], [8, 8])
    small = problem(names=NAMES)
    asked = made["line"].ask(small, [])
    assert [proposal.name for proposal in asked] == ["at-0.000", "at-0.500", "at-1.000"]
    trials = [Trial(proposal, {"loss": loss}) for proposal, loss in zip(asked, (2.0, 1.0, 3.0), strict=True)]
    assert made["line"].ask(small, trials) == []
    assert made["line"].finish(small, trials).notes["taken"] == "at-0.500"
