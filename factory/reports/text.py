"""Text for people: what documents say made harmless for a terminal, numbers made readable."""

import unicodedata
from collections.abc import Mapping
from typing import Any

ELLIPSIS = "…"
UNKNOWN = "–"
# Cf holds the marks that turn the reading direction round: shown, they could make one name look like another.
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def clean(text: object, limit: int | None = None, *, lines: bool = False) -> str:
    """The text without control and format characters (escape sequences among them), at most `limit` characters long.

    Line ends become a space, or stay with `lines=True`.
    """
    shown = str(text)
    shortened = limit is not None and len(shown) > limit
    shown = shown[:limit] if limit is not None else shown
    kept = "".join(_shown(char, lines) for char in shown)
    return kept + ELLIPSIS if shortened else kept


def _shown(char: str, lines: bool) -> str:
    if char == "\n" and lines:
        return char
    if char in "\n\r\t\u2028\u2029":
        return " "
    return "" if unicodedata.category(char) in _UNSHOWN else char


def count(number: float | int | None) -> str:
    """1,234; nothing for None."""
    return "" if number is None else f"{number:,.0f}"


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def size(number: float | int | None) -> str:
    """12.3 MB."""
    if number is None:
        return ""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def value(item: Any, limit: int = 60) -> str:
    """A score or setting as a person reads it: four digits that matter, `–` for what is unknown."""
    if item is None:
        return "–"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    if isinstance(item, float):
        return f"{item:,.0f}" if item.is_integer() and abs(item) < 1e15 else f"{item:.4g}"
    if isinstance(item, (list, tuple)):
        return clean(", ".join(value(one) for one in item), limit)
    return clean(item, limit)


def span(bounds: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """The ends of an interval; None where one is not known."""
    return (bounds["low"], bounds["high"]) if bounds and None not in (bounds["low"], bounds["high"]) else None


def interval(bounds: Mapping[str, Any] | None) -> str:
    """0.1234 … 0.2345."""
    ends = span(bounds)
    return UNKNOWN if ends is None else f"{ends[0]:.4f} … {ends[1]:.4f}"


def number(found: float | None, places: int = 4) -> str:
    return UNKNOWN if found is None else f"{found:.{places}f}"


def large(found: float | None) -> str:
    """1,234, or 1.23e+12."""
    return UNKNOWN if found is None else f"{found:.3g}" if abs(found) >= 1e7 else f"{found:,.0f}"
