"""Small drawings as SVG text: bars, histograms with threshold lines, curves, intervals. Numbers in, markup out.

No script and no font is loaded: a report must open on a machine without a network. Texts are escaped here.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

from factory.reports.text import clean

KEPT, DROPPED, OTHER, QUARANTINED, LINE = "#2b8a6e", "#d9795d", "#dcd6c8", "#8a8a8a", "#1f2d3d"
HEIGHT, LEFT, BASE = 280, 56, 240  # of a plot of curves: in all, and where its axes are
LONGEST_LABEL, LETTER = 64, 6.8  # characters; pixels of one, on average
COLOURS = ("#3566a8", "#d9795d", "#2b8a6e", "#8e5ea2", "#c9a227", "#4aa3a2", "#a84f4f", "#6b7f3f")


def bars(rows: Sequence[tuple[str, Sequence[tuple[float, str]], str]], *, right: int = 150, width: int = 720) -> Markup:
    """Horizontal stacked bars: a label, (amount, colour) pieces, and a text behind; all on one scale."""
    longest = max((sum(amount for amount, _ in pieces) for _, pieces, _ in rows), default=0) or 1
    left, height = 190, 20
    # Long labels move the bars to the right and make the drawing wider: they are not cut.
    longest_label = max((len(clean(label, LONGEST_LABEL)) for label, _, _ in rows), default=0)
    wider = max(0, 12 + math.ceil(LETTER * longest_label) - left)
    left, width = left + wider, width + wider
    room = width - left - right
    drawn = []
    for index, (label, pieces, text) in enumerate(rows):
        y = index * height
        drawn.append(_text(left - 8, y + 14, clean(label, LONGEST_LABEL), anchor="end"))
        x = float(left)
        for amount, colour in pieces:
            span = amount / longest * room
            if span > 0:
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y + 3}" width="{max(span, 0.5):.1f}" height="14" fill="{colour}"/>'
                )
            x += span
        drawn.append(_text(x + 6, y + 14, clean(text, 40), style="muted"))
    return _svg(width, len(rows) * height + 4, drawn)


def histogram(
    counts: Sequence[tuple[Sequence[int], str]],
    edges: Sequence[float],
    lines: Sequence[float],
    *,
    log: bool,
    width: int = 340,
) -> Markup:
    """Stacked (counts per bin, colour) and vertical lines at the thresholds; `log` says how the edges are spaced."""
    height, base, top = 120, 98, 6
    stacks = list(zip(*(amounts for amounts, _ in counts), strict=True))
    most = max((sum(stack) for stack in stacks), default=0) or 1
    place = _scale(edges[0], edges[-1], 8, width - 8, log=log)
    drawn = []
    for index, stack in enumerate(stacks):
        x, span = place(edges[index]), place(edges[index + 1]) - place(edges[index])
        y = float(base)
        for amount, (_, colour) in zip(stack, counts, strict=True):
            tall = amount / most * (base - top)
            y -= tall
            if amount:
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(span - 0.6, 0.6):.1f}" '
                    f'height="{max(tall, 0.4):.1f}" fill="{colour}"/>'
                )
    for line in lines:
        if edges[0] <= line <= edges[-1]:
            x = place(line)
            drawn.append(
                f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{base}" stroke="{LINE}" stroke-dasharray="4 3"/>'
            )
            right = x > width - 60
            drawn.append(_text(x - 3 if right else x + 3, top + 9, number(line), anchor="end" if right else "start"))
    drawn.append(f'<line x1="8" y1="{base}" x2="{width - 8}" y2="{base}" stroke="#999"/>')
    drawn.append(_text(8, base + 14, number(edges[0]), style="muted"))
    drawn.append(_text(width - 8, base + 14, number(edges[-1]), anchor="end", style="muted"))
    return _svg(width, height, drawn)


def curves(
    series: Mapping[str, Sequence[Sequence[tuple[float, float]]]], x_name: str, y_name: str, width: int = 720
) -> Markup:
    """Lines of (x, y), one colour for each name, one line for each of its seeds."""
    points = [point for lines in series.values() for line in lines for point in line]
    if not points:
        return Markup("")
    x_of, y_of, drawn = _axes([x for x, _ in points], [y for _, y in points], x_name, y_name, width)
    for index, lines in enumerate(series.values()):
        for line in lines:
            path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
            colour = COLOURS[index % len(COLOURS)]
            drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.2" opacity="0.85"/>')
    return _svg(width, HEIGHT + 16 * ((len(series) - 1) // 4), [*drawn, *_legend(list(series))])


def bands(
    series: Mapping[str, Sequence[tuple[float, float, float | None]]],
    x_name: str,
    y_name: str,
    *,
    level: float | None = None,
    width: int = 720,
) -> Markup:
    """A line of means with a band of one deviation for each name: (x, mean, deviation or None). `level` is a dashed line.

    The dashed line does not stretch the plot: where it is far from every curve it is left out.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return Markup("")
    edges = [mean + side * (spread or 0.0) for _, mean, spread in points for side in (-1, 1)]
    near = level is not None and min(edges) - (max(edges) - min(edges)) <= level <= 2 * max(edges) - min(edges)
    drawn_to = [*edges, level] if near and level is not None else edges
    x_of, y_of, drawn = _axes([x for x, _, _ in points], drawn_to, x_name, y_name, width)
    if near and level is not None:
        drawn.append(
            f'<line x1="{LEFT}" y1="{y_of(level):.1f}" x2="{width - 12}" y2="{y_of(level):.1f}" stroke="{LINE}" '
            'stroke-dasharray="4 3"/>'
        )
    for index, line in enumerate(series.values()):
        colour = COLOURS[index % len(COLOURS)]
        known = [(x, mean, spread) for x, mean, spread in line if spread is not None]
        around = [(x, mean + spread) for x, mean, spread in known]
        around += [(x, mean - spread) for x, mean, spread in reversed(known)]
        shape = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in around)
        path = " ".join(f"{x_of(x):.1f},{y_of(mean):.1f}" for x, mean, _ in line)
        if around:
            drawn.append(f'<polygon points="{shape}" fill="{colour}" stroke="none" opacity="0.18"/>')
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        drawn += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.2" fill="{colour}"/>' for x, y, _ in line]
    return _svg(width, HEIGHT + 16 * ((len(series) - 1) // 4), [*drawn, *_legend(list(series))])


def intervals(
    rows: Sequence[tuple[str, float, tuple[float, float] | None, tuple[float, float] | None, Sequence[float]]],
    width: int = 720,
) -> Markup:
    """A point for each name with two intervals (thick: seeds, thin: items) and a dot for each seed."""
    if not rows:
        return Markup("")
    bounds = [
        edge
        for _, value, first, second, dots in rows
        for edge in (value, *(first or ()), *(second or ()), *dots)
        if math.isfinite(edge)
    ]
    low, high = min(bounds), max(bounds)
    pad = (high - low) * 0.06 or abs(high) * 0.01 or 1
    left, height = 150, 30
    place = _scale(low - pad, high + pad, left, width - 90)
    drawn = []
    for index, (name, value, seeds, items, dots) in enumerate(rows):
        y = index * height + 18
        colour = COLOURS[index % len(COLOURS)]
        drawn.append(_text(left - 10, y + 4, clean(name, 24), anchor="end"))
        for span, stroke, opacity in ((items, 1.5, 0.9), (seeds, 7, 0.3)):
            if span:
                drawn.append(
                    f'<line x1="{place(span[0]):.1f}" y1="{y}" x2="{place(span[1]):.1f}" y2="{y}" stroke="{colour}" '
                    f'stroke-width="{stroke}" opacity="{opacity}"/>'
                )
        drawn += [f'<circle cx="{place(dot):.1f}" cy="{y}" r="2" fill="#fff" stroke="{colour}"/>' for dot in dots]
        drawn.append(f'<circle cx="{place(value):.1f}" cy="{y}" r="4" fill="{colour}"/>')
        drawn.append(_text(width - 82, y + 4, f"{value:.4f}"))
    base = len(rows) * height + 8
    drawn.append(_text(left, base + 8, number(low), style="muted"))
    drawn.append(_text(width - 90, base + 8, number(high), anchor="end", style="muted"))
    return _svg(width, base + 14, drawn)


Difference = tuple[str, float, tuple[float, float] | None, tuple[float, float] | None, str]


def forest(rows: Sequence[Difference], width: int = 720) -> Markup:
    """Differences around a line at 0: (name, difference, interval of seeds, of seeds and items, verdict) a row.

    Better is green, worse red, undecided grey: where the thin line crosses the dashed one, nothing is claimed.
    """
    return grouped_forest([("", rows)], width)


def grouped_forest(groups: Sequence[tuple[str, Sequence[Difference]]], width: int = 720) -> Markup:
    """The same with a line of its own above each group, all on one scale."""
    rows = [row for _, own in groups for row in own]
    if not rows:
        return Markup("")
    colours = {"better": KEPT, "worse": DROPPED}
    edges = [0.0, *(edge for _, value, first, second, _ in rows for edge in (value, *(first or ()), *(second or ())))]
    edges = [edge for edge in edges if math.isfinite(edge)]
    pad = (max(edges) - min(edges)) * 0.06 or 1
    left, height, heading = 200, 22, 24
    place = _scale(min(edges) - pad, max(edges) + pad, left, width - 150)
    base = 8 + sum(len(own) * height + (heading if title else 0) for title, own in groups)
    drawn = [
        f'<line x1="{place(0):.1f}" y1="2" x2="{place(0):.1f}" y2="{base}" stroke="{LINE}" stroke-dasharray="4 3"/>'
    ]
    y = 0
    for title, own in groups:
        if title:
            y += heading
            drawn.append(_text(0, y - 6, clean(title, 60), style="head"))
        for name, value, seeds, both, verdict in own:
            drawn += _difference(
                name, value, seeds, both, verdict, y + 14, place, colours.get(verdict, QUARANTINED), width
            )
            y += height
    drawn.append(_text(left, base + 10, number(min(edges)), style="muted"))
    drawn.append(_text(width - 150, base + 10, number(max(edges)), anchor="end", style="muted"))
    return _svg(width, base + 16, drawn)


def _difference(
    name: str,
    value: float,
    seeds: tuple[float, float] | None,
    both: tuple[float, float] | None,
    verdict: str,
    y: int,
    place: Callable[[float], float],
    colour: str,
    width: int,
) -> list[str]:
    drawn = [_text(190, y + 4, clean(name, 32), anchor="end")]
    for span, stroke, opacity in ((both, 1.5, 0.9), (seeds, 7, 0.3)):
        if span:
            drawn.append(
                f'<line x1="{place(span[0]):.1f}" y1="{y}" x2="{place(span[1]):.1f}" y2="{y}" stroke="{colour}" '
                f'stroke-width="{stroke}" opacity="{opacity}"/>'
            )
    drawn.append(f'<circle cx="{place(value):.1f}" cy="{y}" r="4" fill="{colour}"/>')
    drawn.append(_text(width - 142, y + 4, f"{value:+.4f} {clean(verdict, 12)}"))
    return drawn


def _axes(
    xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str, width: int
) -> tuple[Callable[[float], float], Callable[[float], float], list[str]]:
    """Where x and y lie in a plot from x = 0 on, and its lines and labels."""
    low, high = min(ys), max(ys)
    x_of = _scale(0, max(xs) or 1, LEFT, width - 12)
    y_of = _scale(low, high if high > low else low + 1, BASE, 12)
    drawn = []
    for step in range(5):
        y = low + (high - low) * step / 4
        drawn.append(f'<line x1="{LEFT}" y1="{y_of(y):.1f}" x2="{width - 12}" y2="{y_of(y):.1f}" stroke="#e4e4e0"/>')
        drawn.append(_text(LEFT - 6, y_of(y) + 4, number(y), anchor="end", style="muted"))
    drawn.append(_text(LEFT + 4, 14, y_name, style="muted"))
    drawn.append(_text(width - 12, BASE + 14, f"{number(max(xs))} {x_name}", anchor="end", style="muted"))
    return x_of, y_of, drawn


def _legend(names: Sequence[str]) -> list[str]:
    drawn = []
    for index, name in enumerate(names):
        x, y = LEFT + 8 + 150 * (index % 4), BASE + 16 + 16 * (index // 4)
        drawn.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLOURS[index % len(COLOURS)]}"/>')
        drawn.append(_text(x + 15, y + 9, clean(name, 20)))
    return drawn


def number(value: float) -> str:
    """A tick's label."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 10_000:
        for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if abs(value) >= factor:
                return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _scale(low: float, high: float, start: float, stop: float, *, log: bool = False) -> Callable[[float], float]:
    if log:
        first, last = math.log(low), math.log(high)
        return lambda value: start + (math.log(max(value, low)) - first) / ((last - first) or 1) * (stop - start)
    return lambda value: start + (value - low) / ((high - low) or 1) * (stop - start)


def _text(x: float, y: float, text: str, *, anchor: str = "start", style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(text)}</text>'


def _svg(width: int, height: int, drawn: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(drawn)}</svg>'
    )
