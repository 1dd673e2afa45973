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
    return Group(
        table(noise, floors, numbers=range(2, 10), title="Noise floor"),
        Text(""),
        table(early, cards, numbers=range(3, 7), title="Early signal"),
        Text(""),
        Text(f"Tasks that tell these experiments apart: {usable}", style="bold"),
    )


def transfer(data: Mapping[str, Any]) -> RenderableType:
    """Decisions of every smaller scale, and what scaling laws expected."""
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
    blocks: list[RenderableType] = [table(header, rows, numbers=range(2, 12), title=f"Decisions for {data['target']}")]
    for task, law in data["laws"].items():
        lines = [
            (
                name,
                str(one["runs"]),
                number(one["predicted"]),
                interval(one["interval"]),
                number(one["measured"]),
                f"{one['error']:+.2%}",
                "n/a" if one["alarm"] is None else "!" if one["alarm"] else "",
            )
            for name, one in law["experiments"].items()
        ]
        blocks += [
            Text(""),
            table(
                ("experiment", "runs", "predicted", "95 %", "measured", "off by", "residuals"),
                lines,
                numbers=range(1, 6),
                title=f"{task}: E + A/C^α at {data['target']}",
            ),
        ]
        blocks += [
            Text(
                f"{one['first']} and {one['second']} change places ({one['probability']:.0%} of resamples)",
                style="yellow",
            )
            for one in law["crossings"]
        ]
    warnings = dict.fromkeys(warning for one in data["rows"] for warning in one["warnings"])
    return Group(*blocks, *(Text(warning, style="yellow") for warning in warnings))


def costs(data: Mapping[str, Any]) -> RenderableType:
    """Sums by role, status and experiment, and what stands beside them."""
    totals = data["totals"]
    groups = [("all runs", totals)]
    for title, key in (("", "by_role"), ("", "by_status"), ("", "by_experiment")):
        groups += [(f"{title}{key[3:]} {name or '(discarded searches)'}", own) for name, own in totals[key].items()]
    rows = [
        (
            name,
            str(own["runs"]),
            large(own["tokens"]),
            large(own["flops_6nd"]),
            large(own["flops"]),
            _hours(own["seconds"]),
            number(own["gpu_hours"], 2),
            UNKNOWN if own["usd"] is None else f"{own['usd']:,.2f}",
        )
        for name, own in groups
    ]
    header = ("", "runs", "tokens", "6ND FLOPs", "FLOPs", "hours", "GPU-hours", "dollars")
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
        table(header, rows, numbers=range(1, 8), title="What was trained"), Text(""), *(Text(line) for line in lines)
    )


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
