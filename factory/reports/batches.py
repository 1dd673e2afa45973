"""What a training step read, for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count

MOST = 40


def batch(data: Mapping[str, Any]) -> RenderableType:
    """The documents of a step, most tokens first, or the document of a token."""
    head = f"{data['experiment']}, seed {data['seed']}: step {count(data['step'])} of {count(data['steps'])}"
    if "token" in data:
        head += f", token {count(data['token'])} of {count(data['tokens'])}"
        if data["padding"]:
            return Group(Text(head, style="bold"), Text("Padding: no document stands there."))
    rows = [
        (
            item["doc_id"],
            item["domain"],
            item["snapshot"],
            count(item["read"]) if "read" in item else f"{count(item['token'])} of {count(item['length'])}",
            str(item["repeats"]) if "copy" not in item else f"{item['copy'] + 1} of {item['repeats']}",
            clean(item["url"] or item["title"] or "", 60),
            clean(item["begins"], 60),
        )
        for item in data["documents"][:MOST]
    ]
    header = (
        "document",
        "domain",
        "snapshot",
        "tokens" if "token" not in data else "token",
        "copies",
        "where",
        "begins",
    )
    more = len(data["documents"]) - len(rows)
    blocks: list[RenderableType] = [Text(head, style="bold"), table(header, rows, numbers=(3, 4))]
    if more > 0:
        blocks.append(Text(f"{more} more; --json shows all", style="dim"))
    if "token" not in data and data["padding"]:
        blocks.append(Text(f"{count(data['padding'])} tokens of padding", style="dim"))
    return Group(*blocks)
