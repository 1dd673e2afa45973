"""Plots small enough to stand inline: an SVG of a few hundred bytes inside Markdown (over 1,000 characters the UI folds it)."""

import base64
import re
from collections.abc import Mapping, Sequence

MAX_BARS = 24
MAX_POINTS = 32
_BIN = re.compile(r"[+-]-?\d+")


def bars(values: Sequence[float]) -> str:
    """A bar chart as Markdown; nothing for no values."""
    if not values or not max(values):
        return ""
    shown = _fold(values, MAX_BARS)
    top, width = max(shown), 2
    path = "M0 20" + "".join(f"V{round(20 - 19 * value / top, 1):g}h{width}" for value in shown) + "V20z"
    return _image(f'<path d="{path}" fill="#48b"/>', len(shown) * width)


def line(values: Sequence[float]) -> str:
    """A line chart as Markdown; nothing for fewer than two values."""
    if len(values) < 2:
        return ""
    shown = _sample(values, MAX_POINTS)
    low, high = min(shown), max(shown)
    scale = 18 / (high - low) if high > low else 0
    points = " ".join(f"{2 * index},{round(19 - (value - low) * scale, 1):g}" for index, value in enumerate(shown))
    return _image(f'<polyline points="{points}" fill="none" stroke="#48b"/>', 2 * len(shown))


def numeric_histogram(counts: Mapping[str, int]) -> list[float]:
    """The counts of a number column's fixed bins, from the least to the greatest; empty for texts."""
    bins = {_order(name): count for name, count in counts.items() if name == "0" or _BIN.fullmatch(name)}
    return [float(bins[key]) for key in sorted(bins)]


def _order(name: str) -> tuple[int, float]:
    # '+12' is a quarter power of two above zero, '-12' the same below it.
    if name == "0":
        return (0, 0.0)
    return (1, float(name[1:])) if name[0] == "+" else (-1, -float(name[1:]))


def _fold(values: Sequence[float], limit: int) -> list[float]:
    step = -(-len(values) // limit)
    return [sum(values[start : start + step]) for start in range(0, len(values), step)]


def _sample(values: Sequence[float], limit: int) -> list[float]:
    if len(values) <= limit:
        return list(values)
    return [values[round(index * (len(values) - 1) / (limit - 1))] for index in range(limit)]


def _image(body: str, width: int) -> str:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 20" width="{width * 4}" height="80">{body}</svg>'
    )
    return f"![](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
