"""A comparison of two experiments, for the terminal and as a page of its own: plain data in, text out."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports import charts
from factory.reports.terminal import STATES, table
from factory.reports.text import clean, interval, large, number, span

HEADER = ("task", "metric", "A", "B", "difference", "95 % interval", "p (Holm)", "verdict", "seeds", "power")


def terminal(data: Mapping[str, Any]) -> RenderableType:
    """The verdict, the task table, and what it took and would take."""
    style = STATES.get(data["outcome"], "")
    blocks: list[RenderableType] = [Text(clean(data["sentence"], 400), style=f"bold {style}".strip()), Text("")]
    rows = [_task_row(one, mark) for one, mark in _marked(data)]
    blocks += [
        table(
            HEADER,
            rows,
            numbers=(2, 3, 4, 5, 6, 8, 9),
            title=f"{data['other']} against {data['base']} ({data['scale']})",
        )
    ]
    blocks += [Text(""), *(Text(line) for line in _cost_lines(data))]
    if not data["paired"]:
        blocks.append(
            Text("Items are not at hand and not paired: the intervals are wider than they need be.", style="dim")
        )
    blocks += [Text(f"{task}: N/A in one of them", style="dim") for task in data["missing"]]
    blocks += [
        Text(f"left out: {item['experiment']} seed {item['seed']}: {clean(item['reason'], 200)}", style="red")
        for item in data["invalid"]
    ]
    return Group(*blocks)


def page(data: Mapping[str, Any]) -> str:
    """One HTML page: the sentence, a forest plot, the numbers. Loads nothing."""
    style = resources.files("factory.reports").joinpath("report.html").read_text("utf-8")
    style = style[style.index("<style>") : style.index("</style>") + len("</style>")]
    title = f"{data['other']} against {data['base']}"
    rows = [[str(cell) for cell in _task_row(one, mark)] for one, mark in _marked(data)]
    body = [
        Markup("<h1>{}</h1><p><b>{}</b></p>").format(clean(title), clean(data["sentence"])),
        forest(data),
        Markup(
            "<p class='muted'>Thick: 95 % interval over seeds. Thin: over seeds and items. Left of 0, B is lower than A.</p>"
        ),
        Markup("<div class='wide'><table><tr>")
        + Markup("").join(Markup("<th>{}</th>").format(name) for name in HEADER)
        + Markup("</tr>"),
        *(
            Markup("<tr>")
            + Markup("").join(Markup("<td>{}</td>").format(clean(cell)) for cell in row)
            + Markup("</tr>")
            for row in rows
        ),
        Markup("</table></div>"),
        *(Markup("<p>{}</p>").format(line) for line in _cost_lines(data)),
    ]
    head = Markup('<head><meta charset="utf-8"><title>{}</title>{}</head>').format(clean(title), Markup(style))
    main = Markup("<body><main>{}</main></body>").format(Markup("").join(body))
    return Markup('<!doctype html><html lang="en">{}{}</html>\n').format(head, main)


def forest(data: Mapping[str, Any]) -> Markup:
    """The differences of all tasks, a panel for each metric: their units differ."""
    return _panels({one["metric"]: one["higher_is_better"] for one, _ in _marked(data)}, [data], by_task=False)


def forests(items: Sequence[Mapping[str, Any]]) -> Markup:
    """Several experiments against one base: a panel for each metric, task below task, in each the experiments."""
    metrics = {one["metric"]: one["higher_is_better"] for data in items for one, _ in _marked(data)}
    return _panels(metrics, items, by_task=True)


def _panels(metrics: Mapping[str, bool], items: Sequence[Mapping[str, Any]], *, by_task: bool) -> Markup:
    drawn = Markup("")
    for metric, higher in metrics.items():
        groups: dict[str, list[charts.Difference]] = {}
        for data in items:
            for one, mark in _marked(data):
                if one["metric"] != metric or (by_task and one["verdict"] is None):
                    continue
                task = f"{one['task']} ({mark})" if mark else one["task"]
                verdict = one["verdict"]
                row = data["other"] if by_task else one["task"]
                spans = span(verdict["seed_interval"]), span(verdict["interval"])
                group = groups.setdefault(task if by_task else "", [])
                group.append((row, verdict["difference"], *spans, verdict["outcome"]))
        better = "right" if higher else "left"
        drawn += Markup("<h3>{}: better is to the {}</h3>").format(metric, better)
        drawn += charts.grouped_forest(list(groups.items()))
    return drawn


def against_base(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each experiment: its verdict on the primary metric, and what deciding would take."""
    rows = []
    for data in items:
        primary, decide = data["primary"], data["to_decide"]
        verdict = primary["verdict"]
        rows.append(
            {
                "experiment": data["other"],
                "scale": data["scale"],
                "base": number(primary["base"]["value"]),
                "value": number(primary["other"]["value"]),
                "difference": f"{verdict['difference']:+.4f}",
                "interval": interval(verdict["interval"]),
                "p": number(primary["p_holm"], 3) if primary["p_holm"] is not None else number(verdict["p"], 3),
                "outcome": verdict["outcome"],
                "tasks": _tally(data["tasks"]),
                "power": number(primary["power"], 2),
                "to_decide": f"{decide['runs']} more runs, {_price(decide)}" if decide is not None else "",
            }
        )
    return rows


def _tally(tasks: Sequence[Mapping[str, Any]]) -> str:
    """2 better, 1 worse of 11."""
    told = [one["verdict"]["outcome"] for one in tasks]
    said = ", ".join(f"{told.count(name)} {name}" for name in ("better", "worse") if name in told)
    return f"{said or 'none decided'} of {len(told)}" if told else ""


def _marked(data: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    """The primary metric, the metrics over their tasks, the tasks."""
    return [
        (data["primary"], "primary"),
        *((one, "all tasks") for one in data["metrics"]),
        *((one, "") for one in data["tasks"]),
    ]


def _task_row(one: Mapping[str, Any], mark: str) -> Sequence[Any]:
    verdict = one["verdict"]
    return (
        f"{one['task']} ({mark})" if mark else one["task"],
        one["metric"],
        number(one["base"]["value"]),
        number(one["other"]["value"]),
        f"{verdict['difference']:+.4f}",
        interval(verdict["interval"]),
        number(one["p_holm"], 3) if one["p_holm"] is not None else f"{number(verdict['p'], 3)} alone",
        Text(verdict["outcome"], style=STATES.get(verdict["outcome"], "")),
        f"{len(one['base']['by_seed'])}, {len(one['other']['by_seed'])}"
        + (f" of {verdict['seeds_needed']}" if verdict["seeds_needed"] else ""),
        number(one["power"], 2),
    )


def _cost_lines(data: Mapping[str, Any]) -> list[str]:
    lines = [f"These {data['cost']['runs']} runs took {_price(data['cost'])}."]
    if data["decided_with"] is not None:
        flops = data["flops_to_decision"]
        spent = f", {large(flops)} FLOPs" if flops is not None else ""
        lines.append(f"The verdict stands since {data['decided_with']} seeds of each{spent}.")
    if data["to_decide"] is not None:
        lines.append(
            f"To decide a difference of this size (80 % power): {data['to_decide']['runs']} more runs, "
            f"about {_price(data['to_decide'])}."
        )
    elif data["outcome"] == "undecided" and data["primary"]["verdict"]["difference"]:
        lines.append(
            "No number of seeds would decide it: the items alone hide a difference of this size. More items would."
        )
    if data["usd_per_hour"] is None and data["paired"]:
        lines.append("What an hour costs is not given (proxy.usd_per_hour), so no price is.")
    return lines


def _price(price: Mapping[str, Any]) -> str:
    parts = [
        f"{large(price['flops'])} FLOPs" if price["flops"] is not None else "",
        f"{price['hours']:.2g} hours" if price["hours"] is not None else "",
        f"${price['usd']:,.2f}" if price["usd"] is not None else "",
    ]
    return ", ".join(part for part in parts if part) or "an unknown amount"
