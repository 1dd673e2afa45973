"""Extractors side by side, for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count, size

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def comparison(data: Mapping[str, Any], lines: int) -> RenderableType:
    """Page by page, then the figures of each extractor."""
    blocks: list[RenderableType] = [_page(page, lines) for page in data["pages"]]
    return Group(*blocks, Text(), *_totals(data["extractors"]))


def _page(page: Mapping[str, Any], lines: int) -> RenderableType:
    line = Text()
    line.append(clean(page["url"] or page["key"], 110), style="bold")
    line.append(f"  {size(page['bytes'])}", style="dim")
    if agreement := page.get("agreement"):
        line.append(f"  F1 between the two {agreement['f1']:.3f}", style="yellow")
    for label, made in page["extractors"].items():
        line.append(f"\n  {clean(label):24s} ")
        if made["error"]:
            line.append(clean(made["error"], 100), style="red")
        else:
            line.append(f"{count(made['words'])} words, {count(made['lines'])} lines, {1000 * made['seconds']:.2f} ms")
        if "f1" in made:
            line.append(f", against gold P {made['precision']:.3f} R {made['recall']:.3f} F1 {made['f1']:.3f}")
        for name, words in (("contains", "kept"), ("leaves_out", "left out")):
            if name in made:
                line.append(f", snippets {words} {made[name]:.0%}")
    differing = page.get("diff") or []
    for row in differing[:lines]:
        line.append("\n  ")
        line.append(clean(row, 160), style=_STYLES.get(row[:1], "dim"))
    if len(differing) > lines:
        line.append(f"\n  ... {len(differing) - lines:,} lines more (--lines)", style="dim")
    line.append("\n")
    return line


def _totals(extractors: Mapping[str, Any]) -> list[RenderableType]:
    rows = [
        (
            label,
            count(made["pages"]),
            count(made["errors"]),
            count(made["mean_characters"]),
            _figure(made["milliseconds_per_page"], 2),
            _figure(made["megabytes_per_second"], 1),
        )
        for label, made in extractors.items()
    ]
    header = ("extractor", "pages", "errors", "mean characters", "ms a page", "MB/s")
    blocks: list[RenderableType] = [table(header, rows, title="Extractors", numbers=(1, 2, 3, 4, 5))]
    scored = [
        (source, label, count(figures["pages"]), *(_figure(figures[name], 3) for name in _GOLD))
        for label, made in extractors.items()
        for source, figures in made.get("gold", {}).items()
    ]
    if scored:
        gold = ("gold", "extractor", "pages", "precision", "recall", "F1", "snippets kept", "left out")
        blocks += [Text(), table(gold, sorted(scored), title="Against gold", numbers=tuple(range(2, 8)))]
    return blocks


_GOLD = ("precision", "recall", "f1", "contains", "leaves_out")


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
