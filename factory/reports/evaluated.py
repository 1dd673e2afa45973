"""Scores of models by task, for the terminal: plain data in, things rich can print out."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import count


def checkpoint(data: Mapping[str, Any]) -> RenderableType:
    """Scores of a checkpoint by task, with what guessing gives, and lm-eval's where it ran."""
    rows = []
    for label, task in data["tasks"].items():
        named = task.get("harness") or {task["metric"].partition("@")[0]: task["score"]}
        for metric, score in named.items():
            theirs = task.get("lm_eval", {}).get("metrics", {}).get(metric)
            apart = task.get("differences", {}).get(metric)
            guessed = task["baseline"] if metric.startswith("acc") else None
            speed = task["items"] / task["cpu_seconds"] if task["cpu_seconds"] else None
            shown = [("" if one is None else f"{one:.4f}") for one in (score, guessed, theirs)]
            rate = "" if speed is None else f"{speed:,.0f}"
            rows.append((label, metric, *shown, "" if apart is None else f"{apart:.1e}", count(task["items"]), rate))
    header = ["task", "metric", "score", "guessing", "lm-eval", "apart", "items", "items/s"]
    if not any("lm_eval" in task for task in data["tasks"].values()):
        rows = [(*row[:4], *row[6:]) for row in rows]
        header = [*header[:4], *header[6:]]
    return Group(
        table(header, rows, numbers=range(2, len(header))),
        Text(
            f"{data['checkpoint']}: texts begin with its {data['start'].upper()}; {data['context']:,} tokens of context."
        ),
    )


def proxies(data: Mapping[str, Any]) -> RenderableType:
    """Those of each proxy, and the means over seeds."""
    several = len(data["proxies"]) > 1
    blocks: list[RenderableType] = []
    for one in data["proxies"].values():
        blocks += [checkpoint(one), *([Text("")] if several else [])]
    if several:
        rows = [
            (
                label,
                item["metric"],
                "N/A" if item["mean"] is None else f"{item['mean']:.4f}",
                "" if item["deviation"] is None else f"± {item['deviation']:.4f}",
                str(item["seeds"]),
            )
            for label, item in data["means"].items()
        ]
        blocks.append(table(("task", "metric", "mean", "sd", "seeds"), rows, numbers=(2, 3, 4), title="Over seeds"))
    return Group(*blocks)
