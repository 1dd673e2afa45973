"""What of benchmarks is in a corpus, for the terminal: plain data in, things rich can print out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count, share

SHOWN = 160


def contamination(data: Mapping[str, Any]) -> RenderableType:
    """One scorer: its benchmarks, their spans and the items it cannot tell; or, where checks were asked for, these alone."""
    checks = list(_checks(data))
    if checks:
        return Group(Text(f"{data['scorer']}: rule {data['rule']}", style="bold"), *checks)
    kept = data["experiment"] is not None
    rewritten = kept and data["rewritten"]
    rows = []
    for item in data["benchmarks"]:
        longest = "  ".join(f"{name}: {number}" for name, number in item["longest"].items() if number)
        row = [item["task"], count(item["items"]), count(item["testable"]), count(item["matched"])]
        row += [Text(share(item["matched"], item["testable"]), style="yellow" if item["much"] else "")]
        row += [count(item["kept"])] if kept else []
        row += [count(item["left"])] if rewritten else []
        row += [count(item["documents"])] + ([count(item["kept_documents"])] if kept else [])
        rows.append((*row, longest))
    header = ["benchmark", "items", "testable", "matched", "share", *(["kept"] if kept else [])]
    header += [*(["left"] if rewritten else []), "documents"]
    header += [*(["of them kept"] if kept else []), "longest run, in words: items"]
    blocks: list[RenderableType] = [
        table(header, rows, numbers=range(1, len(header) - 1), title=f"{data['scorer']}: rule {data['rule']}"),
        Text(""),
        Text(_summary(data), style="bold"),
    ]
    for item in data["benchmarks"]:
        blocks += _spans(item["examples"], f"{item['task']}: matched")
        if item["untested"]:
            names = ", ".join(f"{one['line']:,} ({one['why']})" for one in item["untested_items"])
            more = ", …" if item["untested"] > len(item["untested_items"]) else ""
            line = f"\n{item['task']}: {item['untested']:,} items cannot be tested; by line: {clean(names, 600)}{more}"
            blocks.append(Text(line, style="dim"))
    return Group(*blocks)


def _summary(data: Mapping[str, Any]) -> str:
    documents = f"{data['contaminated']:,} of {data['documents']:,} documents hold an item"
    if data["experiment"] is not None:
        documents += f"; {data['experiment']} keeps {data['kept_contaminated']:,} of them"
        if data["rewritten"]:
            kept, left = (sum(item[name] for item in data["benchmarks"]) for name in ("kept", "left"))
            documents += (
                f". `rewrite` cuts what was found out of the texts: of {kept:,} kept items {left:,} are left, "
                f"in {data['left_contaminated']:,} documents"
            )
    untested = data["items"] - data["testable"]
    cut = f" {data['cut']:,} documents have more matches than are stored." if data["cut"] else ""
    return f"{documents}. {untested:,} of {data['items']:,} items cannot be tested.{cut}"


def _spans(examples: Sequence[Mapping[str, Any]], title: str) -> list[RenderableType]:
    blocks: list[RenderableType] = [Text(f"\n{title}", style="bold")] if examples else []
    for one in examples:
        line = Text("  ")
        line.append(clean(one["place"]), style="cyan")
        line.append(f": {one['part']}, {one['score']:.2f}, {one['words']} words in a row")
        if "doc_id" in one:
            line.append(f", in {one['doc_id'][:12]} {clean(one['url'] or one['snapshot'], 90)}")
        line.append(f"\n    …{clean(one['before'], SHOWN)}", style="dim")
        line.append(clean(one["text"], SHOWN), style="yellow")
        line.append(f"{clean(one['after'], SHOWN)}…", style="dim")
        if "asked" in one:
            line.append(f"\n    asked: {clean(one['asked'], SHOWN)}")
        blocks.append(line)
    return blocks


def _checks(data: Mapping[str, Any]) -> Iterable[RenderableType]:
    for one in data.get("planted", ()):
        missed = f"; missed: {', '.join(one['missed'])}" if one["missed"] else ""
        found = f"{one['found']:,} of {one['planted']:,} ({share(one['found'], one['planted'])})"
        yield Text(f"\nPlanted, {one['copies']}: {found} found{clean(missed, 300)}", style="bold")
    if "judge" in data:
        yield from _spans(data["judge"], "Drawn at random: is the item really there?")
        if not data["judge"]:
            yield Text("\nNothing matched, so there is nothing to judge.")
    for one in data.get("ordinary", ()):
        flagged = f"{one['flagged']:,} of {one['documents']:,} documents are flagged"
        yield Text(f"\n{clean(one['files'], 120)}: {flagged} ({share(one['flagged'], one['documents'])})", style="bold")
        yield from _spans(one["examples"], "among them")
