"""What the documentation shows is what there is: fragments are recipes, links lead somewhere, commands have these options."""

import re
from pathlib import Path

import pytest

from factory.recipes.load import SECTIONS, check_recipe
from factory.recipes.yaml import read_yaml

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
