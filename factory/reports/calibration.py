"""What a calibration found, for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count


def calibration(data: Mapping[str, Any]) -> RenderableType:
    """A line per rule: its bound before and after, the reference's distribution, and what it drops of the reference."""
    rows = []
    for row in data["rules"]:
        gone = row["made"] is None
        rows.append(
            (
                row["rule"],
                _bounds(row, "before"),
                " ".join(f"{value:.3g}" for value in row["quantiles"] or ()),
                Text("off", style="yellow") if gone else _bounds(row, "after"),
                _percent(row["drops_before"]),
                "" if gone else _percent(row["drops"]),
                row["why"],
            )
        )
    header = ("rule", "bound", "reference 1 10 50 90 99 %", "fitted", "dropped", "drops", "")
    english = f", {count(data['english_documents'])} in English" if data["english_documents"] else ""
    title = f"{data['from']} by {data['method']}, {count(data['documents'])} documents of reference{english}"
    lines: list[RenderableType] = [table(header, rows, numbers=(4, 5), title=title)]
    if data["stop_words"]:
        lines.append(stop_words(data["stop_words"]))
    lines.append(Text(f"kept of the reference: {data['kept_before']:.1%} before, {data['kept']:.1%} now", style="bold"))
    return Group(*lines)


def stop_words(words: list[Mapping[str, Any]]) -> RenderableType:
    """Words with their shares, in one line."""
    shown = " ".join(f"{word['word']} ({word['share']:.1%})" for word in words)
    return Text(clean(f"{len(words)} stop words: {shown}"))


def confidence(data: Mapping[str, Any]) -> RenderableType:
    """A line per language with its threshold, or that its documents are too few for one."""
    rows = [
        (
            row["language"],
            count(row["documents"]),
            _number(row["median"]),
            _number(row["deviation"]),
            _number(row["threshold"]) if row["threshold"] is not None else "too few documents",
            _percent(row["kept"]),
        )
        for row in data["languages"]
    ]
    header = ("language", "documents", "median", "deviation", "least", "kept")
    return table(header, rows, numbers=(1, 2, 3, 4, 5), title=f"confidence of {data['scorer']}")


def _bounds(row: Mapping[str, Any], when: str) -> str:
    signs = {"min": "≥", "max": "≤"}
    found = {side: bound[when] for side, bound in row["bounds"].items()}
    return " ".join(f"{signs[side]} {value:g}" for side, value in found.items() if value is not None)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
