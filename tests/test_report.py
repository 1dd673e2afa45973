"""The report is one page that opens anywhere and says what the store says; no document can break out of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tiny_project import tiny  # noqa: F401

from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.report import gather, write_report
from factory.recipes.workspace import Workspace
from factory.reports import charts, terminal
from factory.reports.page import render
from factory.reports.text import clean


class Tags(HTMLParser):
    """Every tag, attribute and visible text of a page; `open` are those not closed yet."""

    VOID = ("meta", "br", "i/", "rect", "line", "circle", "polyline")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tiny: Path) -> str:  # noqa: F811
    path = write_report(Workspace(load_recipe(str(tiny))))
    return Path(path).read_text("utf-8")


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert all(link.startswith("#") for link in tags.links)
    assert "script" not in tags.names
    assert not re.search(r"url\(|@import|https?://[^ ]*\.(js|css)", page)


def test_what_a_document_says_is_shown_and_never_obeyed(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert not any(name.startswith("on") for name in Tags(page).attributes)


def test_every_place_in_the_page_escapes(tiny: Path) -> None:  # noqa: F811
    data = gather(Workspace(load_recipe(str(tiny))))
    evil = '"><img src=x onerror=alert(1)>\x1b[2J\u202e'

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return evil if isinstance(value, str) else value

    # Labels of experiments are the recipe's own, checked names, and keys of the page's plots.
    spoiled = {key: item if key == "kept_names" else spoil(item) for key, item in data.items()}
    for item, sound in zip(spoiled["funnels"], data["funnels"], strict=True):
        item["experiment"] = sound["experiment"]
    tags = Tags(render(spoiled))
    assert tags.names.isdisjoint({"img", "script"})
    assert "\x1b" not in render(spoiled)
    assert "\u202e" not in render(spoiled)


def test_the_numbers_are_those_of_the_store(page: str, tiny: Path) -> None:  # noqa: F811
    data = gather(Workspace(load_recipe(str(tiny))))
    full = next(item for item in data["funnels"] if item["experiment"] == "full")
    assert full["rows"] == 72 == full["kept"] + sum(full["errors"].values()) + sum(s["first"] for s in full["rules"])
    assert f"{full['kept']:,} of {full['rows']:,} documents" in page
    assert data["clusters"][0]["duplicates"] == 6  # five of six copies, and the second short one
    assert data["clusters"][0]["largest"][0]["size"] == 6
    shares = [row["realised_share"] for row in data["mixtures"]["raw"]]
    assert sum(shares) == pytest.approx(1)
    hosts = {row["host"]: row for row in data["hosts"]}
    assert hosts["example.org"]["documents"] == hosts["example.org"]["kept"]["raw"] == 60
    assert sum(host["kept"]["full"] for host in hosts.values()) == full["kept"]


def test_histograms_hold_every_value_once(tiny: Path) -> None:  # noqa: F811
    for item in gather(Workspace(load_recipe(str(tiny))))["histograms"]:
        assert sum(item["kept"]) + sum(item["others"]) + sum(item["dropped"]) == 68, item["rule"]
        assert sorted(item["edges"]) == item["edges"]


def test_the_report_is_the_same_twice(page: str, tiny: Path) -> None:  # noqa: F811
    assert Path(write_report(Workspace(load_recipe(str(tiny))))).read_text("utf-8") == page


def test_data_for_the_page_is_plain(tiny: Path) -> None:  # noqa: F811
    json.dumps(gather(Workspace(load_recipe(str(tiny)))), default=str)


def test_a_chart_of_extremes_stays_inside_its_frame() -> None:
    drawn = [
        charts.bars([("a" * 99, [(0.0, "#000")], "x" * 99)]),
        charts.histogram([([0], "#000")], [1.0, 2.0], [5.0], log=True),
        charts.curves({"<one>": [[(0.0, 1.0)]], "none": [[]]}, "tokens", "loss"),
        charts.intervals([("same", 1.0, None, (1.0, 1.0), [1.0])]),
        charts.curves({}, "tokens", "loss"),
    ]
    assert "<one>" not in "".join(drawn)
    assert not re.search(r"nan|inf", "".join(drawn))


def test_cleaned_text_has_no_control_characters() -> None:
    assert clean("a\x1b[31mb\x00\u202ec\nd\te") == "a[31mbc d e"
    assert clean("x" * 10, 4) == "xxxx…"
    assert clean("a\nb\x07", lines=True) == "a\nb"


def test_the_terminal_gets_no_escape_sequence_of_a_document() -> None:
    from rich.console import Console

    row = {
        "doc_id": "0" * 32,
        "url": "https://x/\x1b]0;title\x07",
        "title": None,
        "snapshot": "s",
        "text": "\x1b[2J[red]x[/red]",
    }
    rows = [{**row, "values": {"c": "\x1b[1m"}, "test": "c", "also": ["\x9b1m"]}]
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(terminal.examples(rows))
        printed = console.export_text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", printed)
    assert "[red]x[/red]" in printed, "what looks like markup is text"


def test_a_recipe_without_tokens_shows_its_benchmarks_and_nothing_of_tokens(tmp_path: Path) -> None:
    from test_contamination import write_project

    recipe = write_project(tmp_path, documents=8)
    long = "documents_without_items_of_quizzes"
    recipe.write_text(recipe.read_text().replace("  clean:", f"  {long}:", 1).replace("  clean: {}", f"  {long}: {{}}"))
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        workspace.run()
        page = render(data := gather(workspace))
    assert Tags(page).open == []
    (found,) = data["contamination"]
    kept = {name: tasks["quiz"]["kept"] for name, tasks in found["experiments"].items()}
    assert kept == {"raw": 5, long: 0}
    assert 'href="#contamination"' in page
    assert f"kept by {long}" in page
    assert re.search(r"<td>quiz</td>.*>21<.*>20<.*>5<.*>25.0%<.*>5<", page)
    assert re.search(r"<blockquote><code>quiz, [^<]* \d+</code>", page[page.index('id="contamination"') :])
    assert not re.search(r"\btokens\b|#mixture|#leaderboard|#losses", page)
    assert f">{long}</text>" in page, "the label beside a bar is whole"


def test_a_report_says_that_rewriting_leaves_nothing_of_the_benchmarks(tmp_path: Path) -> None:
    from test_contamination import write_project

    recipe = write_project(tmp_path, documents=8)
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as workspace:
        workspace.run()
    recipe.write_text(recipe.read_text() + "rewrite: {leaks: {use: remove_spans, column: leaks_removed}}\n")
    data = gather(Workspace(load_recipe(str(recipe))))
    assert data["contamination"][0]["experiments"]["raw"]["quiz"] == {"kept": 5, "left": 0}
    assert "of the kept items none is left in a text" in render(data)
