"""What decisions stand on, for the terminal: noise and signal of tasks, transfer between scales, costs. Plain data in."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import UNKNOWN, interval, large, number, span


def signal(data: Mapping[str, Any]) -> RenderableType:
    """Noise floors, then the criteria; what can be read at this scale."""
    floors = [
        (
            one["task"],
            one["scale"],
            number(one["mean"]),
            number(one["baseline"]),
            number(one["sigma"]["sigma"]) if one["sigma"]["dof"] else UNKNOWN,
            interval(one["sigma_interval"]),
            number(one["sigma_last"]["sigma"]) if one["sigma_last"] and one["sigma_last"]["dof"] else UNKNOWN,
            number(one["spread"]),
            number(one["snr"], 2),
            number(one["detectable"]),
            _answer(one["usable"]),
            one["why"],
        )
        for one in data["floors"]
    ]
    cards = [
        (
            one["task"],
            one["scale"],
            f"{one['experiments']} × {one['seeds']} × {one['checkpoints']}",
            number(one["monotonicity"], 2),
            number(one["snr"], 1),
            number(one["non_randomness"], 1),
            number(one["ordering"], 2),
            _answer(one["keep"]),
            one["min_scale"] or UNKNOWN,
            one["why"],
        )
        for one in data["cards"]
    ]
    noise = (
        "task",
        "scale",
        "mean",
        "guessing",
        "σ of seeds",
        "95 %",
        "σ, last 3",
        "spread",
        "SNR",
        "detectable",
        "usable",
        "why",
    )
    early = (
        "task",
        "scale",
        "exp × seeds × steps",
        "monotonic",
        "SNR",
        "non-random",
        "ordering",
        "keep",
        "from scale",
        "why",
    )
    usable = ", ".join(data["usable"]) or "none"
    read = [f"{one['task']} ({one['scale']})" for one in data["cards"] if one["keep"]]
    once = any(one["monotonicity"] is None for one in data["cards"])
    hint = (
        "Some tasks were scored once, at the end: proxy: {checkpoints: 6} keeps models on the way, and asks them, too."
    )
    return Group(
        table(noise, floors, numbers=range(2, 10), title="Noise floor"),
        Text(""),
        table(early, cards, numbers=range(3, 7), title="Early signal"),
        Text(""),
        Text(f"Tasks worth reading, by every criterion: {', '.join(read) or 'none'}", style="bold"),
        Text(f"Tasks that tell these experiments apart: {usable}", style="bold"),
        *([Text(hint, style="dim")] if once else []),
    )


def transfer(data: Mapping[str, Any]) -> RenderableType:
    """Decisions of every smaller scale and of models on the way, and what scaling laws expected."""
    rows = [
        (
            one["task"],
            one["scale"],
            str(one["recipes"]),
            _agreement(one["ranks"]["decision_accuracy"]),
            _agreement(one["ranks"]["spearman"]),
            _agreement(one["ranks"]["kendall"]),
            number(one["ranks"]["p"], 3),
            number(one["ranks"]["regret"]["value"]),
            f"{one['coverage']:.0%}",
            number(one["on_decided"], 2),
            number(one["expected"], 2),
            str(one["seeds_for_90"] or UNKNOWN),
        )
        for one in data["rows"]
    ]
    header = (
        "task",
        "scale",
        "recipes",
        "right decisions",
        "Spearman",
        "Kendall",
        "p",
        "regret",
        "decided",
        "right of those",
        "expected",
        "seeds for 0.9",
    )
    blocks: list[RenderableType] = []
    if rows:
        blocks.append(table(header, rows, numbers=range(2, 12), title=f"Decisions for {data['target']}"))
    blocks += _by_compute(data)
    for task, law in data["laws"].items():
        blocks += _law(task, law, data["target"])
    warnings = dict.fromkeys(warning for one in data["rows"] for warning in one["warnings"])
    return Group(*blocks, *(Text(warning, style="yellow") for warning in warnings))


def _by_compute(data: Mapping[str, Any]) -> list[RenderableType]:
    """What one seed decides after so much compute, and finished small models beside the target's scale on its way."""
    if not data["decisions"]:
        return []
    lines = [
        (
            one["task"],
            one["scale"],
            large(one["tokens"]),
            "end" if one["finished"] else "on the way",
            f"{one['compute']:.1%}",
            number(one["accuracy"], 2),
            str(one["seeds"]),
            str(one["recipes"]),
        )
        for one in data["decisions"]
    ]
    header = ("task", "scale", "tokens", "model", "compute", "right decisions", "seeds", "recipes")
    title = f"Right decisions of one seed by its share of {data['target']}'s compute; the target are the other seeds"
    equal = [
        f"{one['task']}: a finished {one['scale']} ({one['compute']:.1%} of the compute) decides {one['finished']:.2f} right, "
        f"{data['target']} after as much {one['on_the_way']:.2f}"
        for one in data["equal_compute"]
    ]
    return [Text(""), table(header, lines, numbers=(2, 4, 5, 6, 7), title=title), *(Text(line) for line in equal)]


def _law(task: str, law: Mapping[str, Any], target: str) -> list[RenderableType]:
    """One task's law: each experiment's prediction beside what was measured, and who changes places."""
    lines = [
        (
            name,
            "E + A/C^α" if one["law"] == "C" else "E + A/N^α + B/D^β",
            one["points"],
            str(one["runs"]),
            number(one["predicted"]),
            interval(one["interval"]),
            number(one["measured"]),
            UNKNOWN if one["error"] is None else f"{one['error']:+.2%}",
            "n/a" if one["alarm"] is None else "!" if one["alarm"] else "",
        )
        for name, one in law["experiments"].items()
    ]
    header = ("experiment", "law", "points", "runs", "predicted", "95 %", "measured", "off by", "residuals")
    second = [name for name, one in law["experiments"].items() if one["second_step"] is not None]
    guesses = [name for name in second if law["experiments"][name]["second_step"]["beyond"]]
    told: list[RenderableType] = [
        Text(""),
        table(header, lines, numbers=range(3, 8), title=f"{task}: smaller scales at {target}"),
    ]
    if any(one["points"] == "steps" for one in law["experiments"].values()):
        told.append(
            Text("Points on the way: their rates had not come down yet, and finished runs of their length end lower.")
        )
    if second:
        told.append(Text("The law is one of the loss of the right answers; a sigmoid turns it into the metric."))
    if guesses:
        told.append(Text(f"A guess, the loss is beyond those seen: {', '.join(guesses)}", style="yellow"))
    told += [
        Text(
            f"{one['first']} and {one['second']} change places ({one['probability']:.0%} of resamples)", style="yellow"
        )
        for one in law["crossings"]
    ]
    return told


def costs(data: Mapping[str, Any]) -> RenderableType:
    """Sums by role, status, experiment and search, and what stands beside them."""
    totals = data["totals"]
    groups = [("all runs", "", totals)]
    for kind in ("role", "status", "experiment", "search"):
        groups += [(kind, _named(kind, name), own) for name, own in totals[f"by_{kind}"].items()]
    rows = [
        (
            kind,
            name,
            str(own["runs"]),
            large(own["tokens"]),
            large(own["flops_6nd"]),
            large(own["flops"]),
            _hours(own["seconds"]),
            number(own["gpu_hours"], 2),
            UNKNOWN if own["usd"] is None else f"{own['usd']:,.2f}",
        )
        for kind, name, own in groups
    ]
    header = ("kind", "name", "runs", "tokens", "6ND FLOPs", "FLOPs", "hours", "GPU-hours", "dollars")
    lines = [
        f"data: {data['processing']['datasets']} datasets, {_hours_of(data['processing'])}",
        f"evaluation: {data['evaluation']['datasets']} datasets, {_hours_of(data['evaluation'])}",
    ]
    errors = data["prediction_errors"]
    if errors:
        worst = max(abs(error) for error in errors)
        lines.append(
            f"seconds of the last {len(errors)} runs, told from the rate of the others: off by at most {worst:.0%}"
        )
    if totals["unknown"]:
        lines.append("not told: " + ", ".join(f"{name} of {count}" for name, count in totals["unknown"].items()))
    return Group(
        table(header, rows, numbers=range(2, 9), title="What was trained"), Text(""), *(Text(line) for line in lines)
    )


def _named(kind: str, name: str) -> str:
    if kind == "role":
        return {"proxy": "proxies", "search": "trials of searches"}.get(name, name)
    return name or "(of no search any more)"


def _agreement(found: Mapping[str, Any]) -> str:
    around, value = span(found["interval"]), number(found["value"], 2)
    return value if around is None else f"{value} ({around[0]:.2f} … {around[1]:.2f})"


def _answer(value: bool | None) -> Text:
    return (
        Text(UNKNOWN, style="dim")
        if value is None
        else Text("yes", style="green")
        if value
        else Text("no", style="red")
    )


def _hours(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds / 3600:.3f}"


def _hours_of(spent: Mapping[str, Any]) -> str:
    cpu = UNKNOWN if spent["cpu_hours"] is None else f"{spent['cpu_hours']:.3f}"
    return f"{cpu} CPU-hours in {spent['hours']:.3f} hours"
