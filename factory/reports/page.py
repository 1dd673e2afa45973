"""The report as one HTML page: plain data in, a string out. Everything a document says is cleaned and escaped."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from factory.reports import charts, comparison
from factory.reports.text import clean, count, duration, share, size, value

TEMPLATE = "report.html"
MOST_DOMAINS = 24  # of a search


def render(data: Mapping[str, Any]) -> str:
    """The page for what `factory.recipes.report` gathered."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(count=count, size=size, duration=duration, clean=clean, value=value)
    source = resources.files("factory.reports").joinpath(TEMPLATE).read_text("utf-8")
    shown = {
        **data,
        "share": share,
        "plots": _plots(data),
        "against_base": comparison.against_base(data["comparisons"]),
    }
    return environment.from_string(source).render(shown)


def _plots(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": charts.bars([_kept_bar(item) for item in data["funnels"]]),
        "funnels": {item["experiment"]: _funnel_plot(item) for item in data["funnels"]},
        "rules": [
            charts.histogram(
                [(item["kept"], charts.KEPT), (item["others"], charts.OTHER), (item["dropped"], charts.DROPPED)],
                item["edges"],
                item["lines"],
                log=item["log"],
            )
            for item in data["histograms"]
        ],
        "links": [_links_plot(item) for item in data["clusters"]],
        "losses": charts.curves(data["losses"], "tokens", "loss (nats per token)"),
        "learning": [_learning_plot(item) for item in data["learning"]],
        "board": _board_plot(data["leaderboard"]) if data["leaderboard"] else Markup(""),
        "differences": _differences_plot(data["leaderboard"]) if data["leaderboard"] else Markup(""),
        "forests": comparison.forests(data["comparisons"]),
        "searches": {item["search"]: _search_plot(item) for item in data["searches"]},
        "selections": {item["experiment"]: _selection_plot(item) for item in data["selections"]},
        "mixtures": {name: _mixture_plot(rows) for name, rows in data["mixtures"].items()},
    }


def _kept_bar(item: Mapping[str, Any]) -> tuple[str, list[tuple[float, str]], str]:
    errors = sum(item["errors"].values())
    pieces = [
        (float(item["kept"]), charts.KEPT),
        (float(item["rows"] - errors - item["kept"]), charts.DROPPED),
        (float(errors), charts.QUARANTINED),
    ]
    return item["experiment"], pieces, f"{item['kept']:,} kept, {share(item['kept'], item['rows'])}"


def _funnel_plot(item: Mapping[str, Any]) -> Markup:
    errors = sum(item["errors"].values())
    rows: list[tuple[str, list[tuple[float, str]], str]] = [
        ("all records", [(item["rows"], charts.KEPT)], f"{item['rows']:,}")
    ]
    if errors:
        left = item["rows"] - errors
        rows.append(("errors", [(left, charts.KEPT), (errors, charts.QUARANTINED)], f"{left:,} (−{errors:,})"))
    rows += [
        (
            step["rule"],
            [(step["remaining"], charts.KEPT), (step["first"], charts.DROPPED)],
            f"{step['remaining']:,} (−{step['first']:,})" if step["first"] else f"{step['remaining']:,}",
        )
        for step in item["rules"]
    ]
    return charts.bars(rows)


def _links_plot(item: Mapping[str, Any]) -> Markup:
    """Documents by the size of their cluster, by how near their neighbour is, or by how much of them is removed."""
    rows = []
    for one in (*item.get("histogram", ()), *item.get("similarities", ()), *item.get("shares", ())):
        if "size" in one:
            named, alone = f"{one['size']} members", one["size"] == "1"
            text = f"{one['documents']:,} documents" + ("" if alone else f" in {one['clusters']:,} clusters")
        else:
            shown = "{from:.0%} to {to:.0%} removed" if "shares" in item else "{from:g} to {to:g} alike"
            named, alone = shown.format(**one), False
            text = f"{one['documents']:,} documents"
        rows.append((named, [(float(one["documents"]), charts.KEPT if alone else charts.DROPPED)], text))
    return charts.bars(rows, right=220)


def _board_plot(notes: Mapping[str, Any]) -> Markup:
    rows = []
    for row in notes["board"]["rows"]:
        primary = row["primary"]
        if primary is None or primary["value"] is None:
            continue
        spans = [_span(primary[name]) for name in ("seed_interval", "item_interval")]
        seeds = [score for score in primary["by_seed"] if score is not None]
        rows.append((f"{row['experiment']} ({row['scale']})", primary["value"], spans[0], spans[1], seeds))
    return charts.intervals(rows)


def _differences_plot(notes: Mapping[str, Any]) -> Markup:
    """Every experiment's difference to the base, on the primary metric."""
    rows = []
    for row in notes["board"]["rows"]:
        one = row["against_base"]
        if one is not None and one["difference"] is not None:
            name = f"{row['experiment']} ({row['scale']})"
            rows.append((name, one["difference"], _span(one["seed_interval"]), _span(one["interval"]), one["outcome"]))
    return charts.forest(rows)


def _span(interval: Mapping[str, float | None] | None) -> tuple[float, float] | None:
    if not interval or interval["low"] is None or interval["high"] is None:
        return None
    return interval["low"], interval["high"]


def _learning_plot(item: Mapping[str, Any]) -> Markup:
    """A task along training: each experiment's mean over seeds with one deviation around, and what guessing gives."""
    series = {
        name: [(point["tokens"], point["mean"], point["sd"]) for point in points]
        for name, points in item["experiments"].items()
    }
    better = "higher" if item["higher_is_better"] else "lower"
    title = f"{clean(item['task'], 40)} ({clean(item['scale'], 20)}), {better} is better"
    return charts.bands(series, "tokens", title, level=item["baseline"])


def _search_plot(item: Mapping[str, Any]) -> Markup:
    """The recommended share of each domain, and in light how much more the natural one is."""
    rows = []
    for domain in sorted(item["domains"], key=lambda one: (-one["recommended"], one["domain"]))[:MOST_DOMAINS]:
        recommended, natural = domain["recommended"], domain["natural"]
        pieces = [(min(recommended, natural), charts.KEPT), (max(0.0, recommended - natural), charts.COLOURS[0])]
        pieces.append((max(0.0, natural - recommended), charts.OTHER))
        rows.append((domain["domain"], pieces, f"{recommended:.1%}, natural {natural:.1%}"))
    return charts.bars(rows, right=210)


def _selection_plot(item: Mapping[str, Any]) -> Markup:
    """Documents by how often they are taken."""
    rows: list[tuple[str, list[tuple[float, str]], str]] = [
        (
            f"{step['repeats']}×",
            [(float(step["documents"]), charts.KEPT if step["repeats"] else charts.DROPPED)],
            f"{step['documents']:,} documents" + (f", {step['tokens']:,} tokens read" if step["tokens"] else ""),
        )
        for step in item["repeats"]
    ]
    return charts.bars(rows, right=260) if item["repeated"] else Markup("")


def _mixture_plot(rows: list[dict[str, Any]]) -> Markup:
    shown = sorted(rows, key=lambda row: -row["asked_share"])[:12]
    drawn = []
    for row in shown:
        text = f"asked {row['asked_share']:.1%}, realised {row['realised_share']:.1%}"
        drawn.append((str(row["domain"]), [(row["realised_share"], charts.KEPT)], text))
    return charts.bars(drawn, right=210)
