"""Terminal tables of what linkers found: plain data in, things rich can print out."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count, share, size

BAR = 30


def linker(data: Mapping[str, Any]) -> RenderableType:
    """One linker's report."""
    title = f"{data['label']}  {data['stage']}, {data['scope']}" + (
        f", keep {data['keep']}" if data["join"] == "documents" else ""
    )
    head: RenderableType = Rule(Text(title, style="bold"), align="left")
    if not data["made"]:
        return Group(head, Text(f"not made yet: 'factory run links/{data['label']}' makes it", style="dim"))
    shown = {"documents": _clusters, "neighbours": _neighbours}.get(data["join"], _removed)
    return Group(head, *shown(data), Text(""))


def _bar(part: float, whole: float) -> str:
    return "█" * round(BAR * part / whole) if whole else ""


def _clusters(data: Mapping[str, Any]) -> list[RenderableType]:
    rows = _compared(data)
    head = (
        f"{count(data['duplicates'])} copies of {_documents(data)} ({share(data['duplicates'], rows)}), in "
        f"{count(data['clusters'])} clusters; {', '.join(data['snapshots'])}"
    )
    if data["cluster_snapshots"] != data["snapshots"]:
        head += (
            f". Documents are those of {', '.join(data['snapshots'])}; members of clusters are counted in all snapshots "
            f"({', '.join(data['cluster_snapshots'])}), those that came later, too"
        )
    blocks: list[RenderableType] = [
        Text(head),
        table(
            ("members", "clusters", "documents", "share", ""),
            [
                (
                    item["size"],
                    count(item["clusters"]),
                    count(item["documents"]),
                    share(item["documents"], rows),
                    _bar(item["documents"], rows),
                )
                for item in data["histogram"]
            ],
            numbers=(0, 1, 2, 3),
        ),
    ]
    blocks += [Text(f"! {clean(text, 300)}", style="yellow") for text in data["warnings"]]
    blocks += [_one(item) for item in data["largest"]]
    return blocks


def _compared(data: Mapping[str, Any]) -> int:
    """Documents that could be alike to others: what shares are of."""
    return int(data["documents"] if data["linked"] is None else data["linked"])


def _documents(data: Mapping[str, Any]) -> str:
    if data["linked"] is None:
        return f"{count(data['documents'])} documents"
    return f"{count(data['linked'])} documents linked" + (
        f" ({count(data['documents'])} in all)" if data["linked"] != data["documents"] else ""
    )


def _one(item: Mapping[str, Any]) -> Text:
    """One of the largest clusters."""
    hosts = ", ".join(f"{clean(one['host'], 60)} {count(one['documents'])}" for one in item["top_hosts"])
    more = ", …" if item["hosts"] > len(item["top_hosts"]) else ""
    snapshots = ", ".join(f"{name} {count(number)}" for name, number in item["snapshots"].items())
    alike = "" if item["similarity"] is None else f"; {item['similarity']:.2f} alike to who stands"
    text = Text()
    text.append(f"{count(item['size'])} members", style="bold")
    text.append(f"  {item['cluster'][:12]}  first seen {clean(item['first_seen'])}{alike}\n")
    text.append(f"  hosts: {'at least ' if item['hosts_at_least'] else ''}{count(item['hosts'])} ({hosts}{more})\n")
    text.append(f"  snapshots: {snapshots}\n")
    stands = item["stands"]
    if stands is not None:
        text.append("  stands ", style="green")
        text.append(f"{stands['doc_id'][:12]}  {_place(stands)}\n")
        text.append(f"    {clean(stands['line'] or '', 140)}\n", style="italic")
    for one in item["members"]:
        alike = "" if one["similarity"] is None else f"  {one['similarity']:.2f}"
        text.append("  copy   ", style="red")
        text.append(f"{one['doc_id'][:12]}  {_place(one)}{alike}\n")
        text.append(f"    {clean(one['differs'] or 'the same text', 200)}\n", style="dim")
    return text


def _place(one: Mapping[str, Any]) -> str:
    return f"{clean(one['url'] or 'no url', 100)}  {clean(one['snapshot'])}  {(one['date'] or 'no date')[:10]}"


def members(data: Mapping[str, Any]) -> RenderableType:
    """One cluster whole."""
    title = f"{data['label']}  {data['asked']} is alike to no other document"
    if not data["made"]:
        title = f"{data['label']}  not made yet: 'factory run links/{data['label']}' makes it"
    elif data["size"] > 1:
        title = f"{data['label']}  {data['cluster']}  members {count(data['size'])}, hosts {count(data['hosts'])}"
    rows = [
        (
            Text("stands", style="green") if row["stands"] else "",
            row["doc_id"],
            row["snapshot"],
            (row["date"] or "")[:10],
            clean(row["url"] or "", 120),
        )
        for row in data["members"]
    ]
    return Group(
        Rule(Text(title, style="bold"), align="left"), table(("", "doc_id", "snapshot", "date", "url"), rows), Text("")
    )


def _removed(data: Mapping[str, Any]) -> list[RenderableType]:
    head = (
        f"{size(data['removed_bytes'])} of {size(data['text_bytes'])} of text is removed "
        f"({share(data['removed_bytes'], data['text_bytes'])}), from {count(data['touched'])} of "
        f"{_documents(data)}; {', '.join(data['snapshots'])}"
    )
    if "within" in data:
        head += "; of it " + " and ".join(
            f"{size(data[name]['bytes'])} in {count(data[name]['pieces'])} pieces repeated {place}"
            for name, place in (("across", "across documents"), ("within", "within one document alone"))
        )
    if "most_copies" in data:
        head += f"; the most frequent piece has {count(data['most_copies'])} copies"
    if "paragraphs" in data and "removed_paragraphs" in data:
        head += f"; {count(data['removed_paragraphs'])} of {count(data['paragraphs'])} paragraphs"
    shares = [
        (
            f"{item['from']:.0%} to {item['to']:.0%}",
            count(item["documents"]),
            share(item["documents"], _compared(data)),
            _bar(item["documents"], data["touched"]),
        )
        for item in data["shares"]
    ]
    blocks: list[RenderableType] = [
        Text(head),
        table(("of a text removed", "documents", "share", ""), shares, numbers=(0, 1, 2)),
    ]
    if data["pieces"]:
        pieces = [
            (count(item["copies"]), count(item["hosts"]), clean(", ".join(_hosts(item)), 60), clean(item["text"], 120))
            for item in data["pieces"]
        ]
        blocks.append(table(("copies", "hosts", "most on", "piece"), pieces, numbers=(0, 1)))
    return blocks


def _hosts(piece: Mapping[str, Any]) -> list[str]:
    """Hosts of a piece, whether they come with a number each or alone."""
    found = piece.get("top_hosts") or []
    return [str(item) for item in (found.keys() if isinstance(found, Mapping) else found)][:3]


def _neighbours(data: Mapping[str, Any]) -> list[RenderableType]:
    rows = _compared(data)
    nearest = [
        (
            f"{item['from']:g} to {item['to']:g}",
            count(item["documents"]),
            share(item["documents"], rows),
            _bar(item["documents"], rows),
        )
        for item in data["similarities"]
    ]
    epsilons = [
        (f"{item['epsilon']:g}", count(item["removed"]), share(item["removed"], rows)) for item in data["epsilons"]
    ]
    return [
        Text(
            f"{count(data['duplicates'])} of {_documents(data)} are near another ({share(data['duplicates'], rows)}); "
            f"{count(data['without_neighbour'])} have no neighbour to compare with; {', '.join(data['snapshots'])}"
        ),
        table(("similarity to the nearest", "documents", "share", ""), nearest, numbers=(0, 1, 2)),
        table(("epsilon", "would remove", "share"), epsilons, numbers=(0, 1, 2)),
    ]
