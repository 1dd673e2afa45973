"""What a corpus supports, for the terminal: plain data in, things rich can print out."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count, share

SHOWN = 110
DOMAINS_SHOWN = 15
RULES_SHOWN = 12


def support(data: Mapping[str, Any]) -> RenderableType:
    """One scorer: coverage by task and experiment, by domain, and what fell below a threshold and why."""
    levels = [str(level) for level in data["thresholds"]]
    blocks: list[RenderableType] = [_coverage(data, levels)]
    for task in data["tasks"]:
        if task["untested"]:
            why = ", ".join(f"{reason}: {number:,}" for reason, number in task["untested"].items())
            line = f"{task['task']}: {task['items'] - task['testable']:,} of {task['items']:,} items are not looked for ({why})"
            blocks.append(Text(clean(line), style="dim"))
    if data["domains"]:
        blocks += [Text(""), _domains(data, levels)]
    for one in data["fallen"]:
        blocks += _fallen(one)
    return Group(*blocks)


def _coverage(data: Mapping[str, Any], levels: list[str]) -> RenderableType:
    rows = []
    for task in data["tasks"]:
        for row in task["coverage"]:
            name = row["of"] if row["experiment"] is None else f"{row['experiment']}: {row['of']}"
            covered = [
                f"{row['covered'][level]:,} ({share(row['covered'][level], task['testable'])})" for level in levels
            ]
            fell = [count(row["fell"][level]) if row["experiment"] is not None else "" for level in levels]
            rows.append((task["task"], count(task["testable"]), name, *covered, *fell))
    header = [
        "task",
        "items",
        "documents",
        *(f"≥ {level}" for level in levels),
        *(f"fell < {level}" for level in levels),
    ]
    title = f"{data['scorer']}: items by supporting documents, of {data['documents']:,} documents"
    return table(header, rows, numbers=(1, *range(3, len(header))), title=title)


def _domains(data: Mapping[str, Any], levels: list[str]) -> RenderableType:
    def cell(covered: Mapping[str, int]) -> str:
        return " / ".join(count(covered[level]) or "0" for level in levels)

    rows = [
        (row["domain"], cell(row["pool"]), *(cell(row["experiments"][label]) for label in data["experiments"]))
        for row in data["domains"][:DOMAINS_SHOWN]
    ]
    header = ["domain", "pool", *(f"{label}: kept" for label in data["experiments"])]
    more = len(data["domains"]) - DOMAINS_SHOWN
    title = f"Items with {' / '.join(levels)} documents within a domain, by {' and '.join(data['by'])}"
    title += f"; {more:,} more domains" if more > 0 else ""
    return table(header, rows, numbers=range(1, len(header)), title=title)


def _fallen(one: Mapping[str, Any]) -> list[RenderableType]:
    level, lost = one["at_least"], one["by_mixture"]
    if not one["items"] and not lost:
        return []
    mixture = "" if lost is None else f"; the mixture leaves {lost:,} more below it"
    line = f"\n{one['experiment']}: rules take {one['items']:,} items below {level:,}{mixture}"
    blocks: list[RenderableType] = [Text(clean(line.strip(), 400), style="bold")]
    blocks.insert(0, Text(""))
    rows = [
        (row["rule"], *(count(row[name]) for name in ("items", "documents", "alone", "back")))
        for row in one["rules"][:RULES_SHOWN]
    ]
    if rows:
        header = ("rule", "of these items", "documents it drops", "it alone", "items back without it")
        blocks.append(table(header, rows, numbers=range(1, len(header))))
    for example in one["examples"][:3]:
        rules = ", ".join(f"{rule} {number:,}" for rule, number in example["rules"].items())
        said = (
            f"  {clean(example['item'])} {example['pool']:,} → {example['kept']:,}  {clean(example['question'], SHOWN)}"
        )
        blocks.append(Text(f"{said}  ({clean(rules, SHOWN)})", style="dim"))
    return blocks


def item(data: Mapping[str, Any]) -> RenderableType:
    """One item and the documents that support it."""
    if data["untested"]:
        return Text(f"{clean(data['item'])} is not looked for ({data['untested']}): {clean(data['question'], SHOWN)}")
    names = f"{' | '.join(data['entity'])} ({data['by']}) and {' | '.join(data['answers'])}"
    blocks: list[RenderableType] = [
        Text(f"{clean(data['item'])}  {clean(data['question'], SHOWN)}", style="bold"),
        Text(f"looked for: {clean(names, 300)}", style="dim"),
        Text(f"{data['documents']:,} documents" + (f", {len(data['shown']):,} of them:" if data["shown"] else "")),
    ]
    for one in data["shown"]:
        line = Text("  ")
        line.append(one["doc_id"][:12], style="cyan")
        line.append(f" {clean(one['url'] or one['snapshot'], 90)}")
        for label, told in one["experiments"].items():
            reads = "" if told["reads"] is None else f", read {told['reads']:,}×"
            line.append(
                f"\n    {label}: " + (f"fails {', '.join(told['failed'])}" if told["failed"] else f"kept{reads}")
            )
        for role in ("entity", "answer"):
            span = one[role]
            if span is not None:
                line.append(f"\n    …{clean(span['before'], 60)}", style="dim")
                line.append(clean(span["text"], SHOWN), style="yellow")
                line.append(f"{clean(span['after'], 60)}…", style="dim")
        blocks.append(line)
    return Group(*blocks)
