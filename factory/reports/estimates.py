"""A terminal table of what a run would take: plain data in, things rich can print out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count, duration, large, size

SHOWN = 4
PROVED = ("tokens", "searches", "proxies", "evaluations")  # summed up by experiment and by search


def estimate(data: Mapping[str, Any]) -> RenderableType:
    """Every dataset that would be made, totals, warnings, and why the plan is refused."""
    if not data["datasets"]:
        return Text("Nothing to do: every dataset is up to date. --again estimates what is there, too.", style="bold")
    rows = [
        (
            line["name"],
            count(line["rows"]) if line["rows_range"] is None else _between(line["rows_range"], count),
            _between(line["cpu_seconds"], duration),
            _between(line["memory"], size),
            _between(line["disk"], size),
            size(line["exchange"]),
            _note(line),
        )
        for line in data["datasets"]
        if line["kind"] not in PROVED and (line["cpu_seconds"] is not None or line["disk"] is not None)
    ]
    totals = data["totals"]
    rows.append(
        (
            "start of workers",
            "",
            _between(totals["start_seconds"], duration),
            "",
            "",
            "",
            "each loads what it needs, once",
        )
    )
    blocks: list[RenderableType] = [
        table(
            ("dataset", "documents", "CPU time", "memory", "disk", "exchange", ""),
            rows,
            numbers=(1, 2, 3, 4, 5),
            title=f"Measured on {count(data['sample']['documents'])} {data['sample']['of']}",
        ),
        *_proofs(data),
        Text(""),
        Text(
            f"CPU time {_duration(totals['cpu_seconds'])}; with {data['workers']} workers "
            f"{_duration(totals['wall_seconds'])}, if they are always busy",
            style="bold",
        ),
        Text(
            f"disk {_size(totals['disk'])} that stay, {size(totals['exchange'])} more while links are made; "
            + (f"{size(data['free'])} are free" if data["free"] is not None else "what is free there is not known"),
            style="bold",
        ),
    ]
    if totals["trainings"]:
        blocks.append(Text(_trained(totals), style="bold"))
    if totals["memory"] is not None:
        blocks.append(
            Text(
                f"memory {_size(totals['memory'])} in the largest task, {size(data['memory'])} of it at most for what links "
                f"hold (--memory); this machine has {size(data['machine_memory'])}",
                style="bold",
            )
        )
    blocks += [Text(clean(text, 400), style="yellow") for text in _unknown(data["datasets"])]
    blocks += [Text(f"! {clean(text, 600)}", style="yellow") for text in data["warnings"]]
    blocks += [Text(f"✗ refused: {clean(text, 900)}", style="bold red") for text in data["refused"]]
    return Group(*blocks)


def _proofs(data: Mapping[str, Any]) -> list[RenderableType]:
    """Trainings and evaluations by experiment and by search."""
    if not data["proofs"]:
        return []
    rows = [
        (
            one["kind"],
            one["name"],
            f"{count(one['trainings'])}" + (f" (+{count(one['there'])} there)" if one["there"] else ""),
            large(one["tokens"]) if one["trainings"] else "",
            large(one["flops"]) if one["trainings"] else "",
            _between(one["cpu_seconds"], duration),
            *((_between(one["gpu_seconds"], duration),) if data["totals"]["gpu_seconds"] else ()),
            *((_between(one["usd"], _dollars),) if data["totals"]["usd"] else ()),
            _between(one["disk"], size),
        )
        for one in data["proofs"]
    ]
    header = ["for", "", "trainings", "tokens", "FLOPs", "CPU time"]
    header += ["GPU time"] if data["totals"]["gpu_seconds"] else []
    header += ["dollars"] if data["totals"]["usd"] else []
    header.append("disk")
    records = max((line["records"] or 0 for line in data["datasets"]), default=0)
    of = f"rates of {count(records)} finished trainings" if records else "rates of a few steps, tried here"
    title = f"Tokens, trainings and evaluations ({of})"
    return [Text(""), table(header, rows, numbers=range(2, len(header)), title=title)]


def _trained(totals: Mapping[str, Any]) -> str:
    said = f"{count(totals['trainings'])} trainings, {large(totals['flops'])} FLOPs"
    if totals["gpu_seconds"] is not None:
        said += f", GPU time {_duration(totals['gpu_seconds'])}"
    if totals["usd"] is not None:
        usd = totals["usd"]
        said += f", {_dollars(usd['value'])} ({_between(usd, _dollars)}) of training"
    return said


def _dollars(value: float) -> str:
    return f"${value:,.2f}"


def _unknown(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is not in the totals, by reason."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line["unknown"]:
            reasons.setdefault(line["unknown"], []).append(line["name"])
    for reason, names in reasons.items():
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        yield f"not in the totals: {shown} ({reason})"


def _between(item: Mapping[str, float] | None, shown: Callable[[float], str]) -> str:
    if item is None:
        return ""
    low, high = shown(item["low"]), shown(item["high"])
    if low == high:
        return high
    # One unit for both: 0.5 to 1.1 s.
    (first, *unit), (_, *other) = low.split(" "), high.split(" ")
    return f"{first if unit == other and len(unit) <= 1 else low} to {high}"


def _note(line: Mapping[str, Any]) -> str:
    notes = []
    if line["splits"] is not None and line["splits"] > 1:
        notes.append(f"in {count(line['splits'])} pieces")
    if line["last"] is not None:
        seconds = line["last"]["seconds"]
        took = f" in {duration(seconds)}" if seconds is not None else ""
        notes.append(f"last time: {count(line['last']['rows'])} rows, {size(line['last']['bytes'])}{took}")
    return "; ".join(notes)


def _size(item: Mapping[str, float] | None) -> str:
    return "" if item is None else f"{size(item['value'])} ({size(item['low'])} to {size(item['high'])})"


def _duration(item: Mapping[str, float] | None) -> str:
    if item is None:
        return ""
    return f"{duration(item['value'])} ({duration(item['low'])} to {duration(item['high'])})"
