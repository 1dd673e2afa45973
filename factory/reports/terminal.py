"""Tables for the terminal: plain data in, things rich can print out. What documents say never reaches it as markup."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from factory.reports.text import clean, count, duration, share, size, value

STATES = {"cached": "green", "make": "yellow", "waits": "dim", "better": "green", "worse": "red", "undecided": "dim"}
MARKS = {"fine": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "bold red")}
WHY_SHOWN = 3
NAME_WIDTH = 32


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", numbers: Sequence[int] = ()
) -> Table:
    """A table of text; columns whose index is in `numbers` stand right."""
    made = Table(title=Text(title, style="bold") if title else None, title_justify="left", box=None, pad_edge=False)
    cells = [[item if isinstance(item, Text) else Text(clean(item)) for item in row] for row in rows]
    # What a row is of stays whole where there is little room; ranges of numbers may be folded.
    named = min(NAME_WIDTH, max((row[0].cell_len for row in cells), default=0))
    for index, name in enumerate(header):
        justify: Literal["left", "right"] = "right" if index in numbers else "left"
        least = named if index == 0 else None
        made.add_column(Text(name, style="dim"), justify=justify, overflow="fold", min_width=least)
    for row in cells:
        made.add_row(*row)
    return made


def plan(data: Mapping[str, Any]) -> RenderableType:
    """Datasets by kind: what is there, what would be made, and why."""
    rows = []
    for item in data["datasets"]:
        why = "; ".join(item["why"][:WHY_SHOWN]) + ("; …" if len(item["why"]) > WHY_SHOWN else "")
        documents = count(item["rows"]) or (f"~{count(item['estimated_rows'])}" if item["estimated_rows"] else "")
        if not documents and item["input_bytes"]:
            documents = size(item["input_bytes"])
        rows.append((item["name"], Text(item["state"], style=STATES[item["state"]]), documents, clean(why, 160)))
    counts = data["counts"]
    made, waiting, cached = (counts.get(state, 0) for state in ("make", "waits", "cached"))
    if made or waiting:
        summary = f"{cached} cached, {made} to make, {waiting} wait for them. 'factory run' does it."
    else:
        summary = f"Nothing to do: {cached} datasets are up to date."
    header = ("dataset", "state", "documents", "why")
    refused = [Text(f"✗ 'factory run' refuses: {clean(text, 900)}", style="bold red") for text in data["refused"]]
    said = [Text(summary, style="bold"), Text(f"Store: {data['store']}")]
    return Group(table(header, rows, numbers=(2,)), Text(""), *said, *refused)


def failures(records: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What could not be made the last time, and why."""
    lines = [f"✗ failed at {item['ended']}: {item['place']}: {item['name']}: {item['text']}" for item in records]
    return Group(*(Text(clean(line, 600), style="red") for line in lines))


def status(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Current datasets: size, digest, age, checks."""
    lines = []
    for row in rows:
        failed = [name for name, check in row["checks"].items() if not check["passed"]]
        checks = (
            Text("✗ " + ", ".join(failed), style="yellow") if failed else Text(f"✓ {len(row['checks'])}", style="green")
        )
        if not row["there"]:
            checks = Text("✗ the manifest is gone", style="bold red")
        ended = (row["ended"] or "")[:19].replace("T", " ")
        seconds = duration(row["seconds"]) if row["seconds"] is not None else ""
        lines.append((row["name"], count(row["rows"]), size(row["bytes"]), row["digest"][:12], ended, seconds, checks))
    return table(("dataset", "rows", "bytes", "digest", "made", "took", "checks"), lines, numbers=(1, 2, 5))


def funnel_summary(funnels: Sequence[Mapping[str, Any]]) -> RenderableType:
    """All experiments side by side: documents and tokens kept."""
    rows = [
        (
            item["experiment"],
            count(item["rows"]),
            count(sum(item["errors"].values())),
            count(item["rows"] - sum(item["errors"].values()) - item["kept"]),
            count(item["kept"]),
            share(item["kept"], item["rows"]),
            count(item["kept_tokens"]),
            share(item["kept_tokens"], item["tokens"]),
            len(item["rules"]),
        )
        for item in funnels
    ]
    header = ("experiment", "documents", "errors", "dropped", "kept", "share", "tokens kept", "share", "rules")
    if not any(item["tokens"] for item in funnels):  # a recipe without a tokenizer counts none
        counted = [(*row[:6], row[8]) for row in rows]
        return table((*header[:6], header[8]), counted, numbers=range(1, 7), title="Documents kept")
    return table(header, rows, numbers=range(1, 9), title="Documents and tokens kept")


def funnel(data: Mapping[str, Any]) -> RenderableType:
    """One experiment, rule by rule: `fails` at all, dropped by it `first`, and by it `only`."""
    errors = sum(data["errors"].values())
    sound = data["rows"] - errors
    rows: list[tuple[object, ...]] = [
        ("(all records)", "", "", "", "", count(data["rows"]), count(data["tokens"]), "", "")
    ]
    if errors:
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in data["errors"].items())
        rows.append(
            (
                "(errors)",
                count(errors),
                count(errors),
                count(errors),
                "",
                count(sound),
                count(data["tokens"]),
                "",
                kinds,
            )
        )
    rows += [
        (
            step["rule"],
            count(step["failed"]),
            count(step["first"]),
            count(step["only"]),
            count(step["first_tokens"]),
            count(step["remaining"]),
            count(step["remaining_tokens"]),
            share(step["remaining"], data["rows"]),
            step["test"],
        )
        for step in data["rules"]
    ]
    if not data["rules"]:
        rows.append(("(no rules)", "", "", "", "", count(data["kept"]), count(data["kept_tokens"]), "", ""))
    if data.get("repeated"):
        copies, tokens = data["repeated"]["documents"], data["repeated"]["tokens"]
        rows.append(
            ("(with repeats)", "", "", "", "", count(copies), count(tokens), "", "as often as the selection says")
        )
    header = ("rule", "fail", "first", "only", "tokens first", "left", "tokens left", "share", "a document passes if")
    title = f"{data['experiment']} ({', '.join(data['snapshots'])})"
    if not data["tokens"]:
        shown = [0, 1, 2, 3, 5, 7, 8]
        rows = [tuple(row[index] for index in shown) for row in rows]
        return table([header[index] for index in shown], rows, numbers=range(1, 6), title=title)
    return table(header, rows, numbers=range(1, 8), title=title)


def examples(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Documents that failed a rule, and the value they failed it with."""
    blocks: list[RenderableType] = []
    for row in rows:
        values = ", ".join(f"{name} = {value(found, 200)}" for name, found in row["values"].items())
        line = Text()
        line.append(row["doc_id"][:12], style="cyan")
        line.append(f"  {clean(row['url'] or row['title'] or row['snapshot'], 110)}\n  ")
        line.append(clean(values, 200), style="yellow")
        line.append(f"   (kept if {clean(row['test'], 120)})", style="dim")
        if row["also"]:
            line.append(f"   also fails {clean(', '.join(row['also']), 160)}", style="dim")
        if row.get("text"):
            line.append(f"\n  {clean(row['text'], 300)}")
        blocks.append(line)
    return Group(*blocks) if blocks else Text("  none", style="dim")


def what_if(data: Mapping[str, Any]) -> RenderableType:
    """What other thresholds would keep."""
    before, after = data["kept_before"], data["kept_after"]
    head = Text(
        f"{data['experiment']}: {before:,} -> {after:,} of {data['rows']:,} documents kept "
        f"({after - before:+,}; {data['gained']:,} gained, {data['lost']:,} lost)",
        style="bold",
    )
    if data["tokens_before"]:
        head.append(f"\ntokens: {data['tokens_before']:,} -> {data['tokens_after']:,}")
    touched = [
        row for row in data["rules"] if row["before"] != row["after"] or row["fails_before"] != row["fails_after"]
    ]
    rules = [(r["rule"], r["before"], r["after"], count(r["fails_before"]), count(r["fails_after"])) for r in touched]
    sources = [(name, count(a), count(b), f"{b - a:+,}") for name, (a, b) in sorted(data["sources"].items())]
    blocks: list[RenderableType] = [
        head,
        table(("rule", "kept if", "then kept if", "fail", "then fail"), rules, numbers=(3, 4)),
        table(("source", "kept", "then kept", "change"), sources, numbers=(1, 2, 3)),
    ]
    for kind, rows in data["examples"].items():
        for row in rows:
            values = ", ".join(f"{name} = {value(found, 80)}" for name, found in row["values"].items())
            place = clean(row["url"] or row["title"] or row["snapshot"], 100)
            blocks.append(Text(f"{kind}: {row['doc_id'][:12]}  {place}   {clean(values, 200)}"))
    return Group(*blocks)


def sweep(data: Mapping[str, Any]) -> RenderableType:
    """Documents kept for each value of a setting, with a bar one can read the curve from."""
    widest = max((step["kept"] for step in data["steps"]), default=0) or 1
    rows = [
        (
            f"{s['value']:g}",
            count(s["kept"]),
            share(s["kept"], data["rows"]),
            count(s["fails"]),
            "█" * round(40 * s["kept"] / widest),
        )
        for s in data["steps"]
    ]
    header = (data["setting"], "kept", "share", "fail the rule", "")
    return table(header, rows, numbers=(0, 1, 2, 3), title=f"{data['experiment']}, {data['rows']:,} documents")


def domains(data: Mapping[str, Any]) -> RenderableType:
    """Domains before and after the rules, and what each rule alone does to their shares."""
    corrected = data["corrected"] or {}
    rows = [
        (
            item["domain"],
            count(round(item["before"])),
            f"{item['share_before']:.1%}",
            *([f"{corrected[item['domain']]:.1%}" if item["domain"] in corrected else ""] if corrected else []),
            count(round(item["kept"])),
            "" if item["share_kept"] is None else f"{item['share_kept']:.1%}",
            "" if item["factor"] is None else f"{item['factor']:.2f}",
        )
        for item in data["domains"]
    ]
    header = ("domain", data["unit"], "share", *(["corrected"] if corrected else []), "kept", "share", "factor")
    title = f"{data['experiment']} by {' and '.join(data['by'])}"
    shown: list[RenderableType] = [table(header, rows, numbers=range(1, len(header)), title=title)]
    if data["rules"]:
        alone = [
            (
                rule["rule"],
                share(rule["kept"], rule["before"]),
                "" if rule["total_variation"] is None else f"{rule['total_variation']:.3f}",
                _furthest(rule["domains"], highest=True),
                _furthest(rule["domains"], highest=False),
            )
            for rule in data["rules"]
        ]
        header = ("rule alone", "keeps", "moves shares by", "favours", "takes most from")
        shown += [Text(""), table(header, alone, numbers=(1, 2), title="The mixture each rule implies")]
    if data["overlap"] is not None:
        shown += [Text(""), Text(f"Both taxonomies share {data['overlap']:.2f} of their information (0: independent).")]
    return Group(*shown)


def _furthest(rows: Sequence[Mapping[str, Any]], *, highest: bool) -> str:
    known = [row for row in rows if row["factor"] is not None]
    if not known:
        return ""
    found = max(known, key=lambda row: row["factor"] if highest else -row["factor"])
    return f"{found['domain']} ({found['factor']:.2f})"


def drift(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """How far every column moved; what is called a shift stands out."""
    lines = [
        (
            row["column"],
            f"{row['before']} -> {row['after']}",
            Text(
                f"{row['drift']:.3f}",
                style="bold red" if row["drift"] >= 0.25 else "yellow" if row["drift"] >= 0.1 else "",
            ),
            f"{row['null_before']:.1%}",
            f"{row['null_after']:.1%}",
        )
        for row in rows
    ]
    return table(
        ("column", "snapshots", "drift", "null", "then null"), lines, numbers=(2, 3, 4), title="Drift (0.25 is a shift)"
    )


def ledger(data: Mapping[str, Any]) -> RenderableType:
    """The books, and what does not add up."""
    lines = []
    for snapshot, books in data["documents"].items():
        skipped, errors = (f"{sum(books[key].values()):,} {key} {_kinds(books[key])}" for key in ("skipped", "errors"))
        records = f"{books['records']:,} records = {books['rows']:,} rows + {skipped}"
        lines.append((f"documents@{snapshot}", records.rstrip(), errors.rstrip()))
    for label, books in data["decisions"].items():
        dropped, errors = sum(books["dropped"].values()), sum(books["errors"].values())
        text = f"{books['rows']:,} rows = {books['kept']:,} kept + {dropped:,} dropped + {errors:,} errors"
        lines.append((f"decisions/{label}", text, ""))
    verdict = (
        Text("✗ does not balance: " + "; ".join(data["problems"]), style="bold red")
        if data["problems"]
        else Text("✓ balanced: every record is kept, dropped by a rule, or quarantined with a reason", style="green")
    )
    return Group(table(("ledger", "", ""), lines), verdict)


def _kinds(kinds: Mapping[str, int]) -> str:
    return f"({', '.join(f'{kind} {number:,}' for kind, number in kinds.items())})" if kinds else ""


def story(data: Mapping[str, Any]) -> RenderableType:
    """One document's whole story."""
    blocks: list[RenderableType] = [Rule(Text(f"{data['doc_id']}  {data['snapshot']}", style="bold"), align="left")]
    blocks.append(_facts(_identity(data)))
    if data["error"]:
        blocks.append(Text(f"quarantined: {clean(data['error'], 300)}", style="bold red"))
    if data["text"]:
        text = data["text"]
        blocks.append(Text(f"\nText: {text['characters']:,} characters, {text['bytes']:,} bytes", style="bold"))
        blocks.append(Padding(Text(clean(text["head"], 600, lines=True), style="italic"), (0, 2)))
    blocks.append(Text("\nScores", style="bold"))
    blocks.append(_facts((item["label"], _columns(item["columns"])) for item in data["scores"]))
    if data["links"]:
        blocks.append(Text("\nLinks", style="bold"))
        blocks.append(_facts((item["label"], Text(clean(_link(item), lines=True))) for item in data["links"]))
    blocks += [block for item in data["experiments"] for block in _experiment(item)]
    return Group(*blocks)


def _facts(pairs: Iterable[tuple[str, object]]) -> Table:
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, item in pairs:
        made.add_row(Text(f"  {name}"), item if isinstance(item, Text) else Text(clean(item)))
    return made


def _identity(data: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    for name in ("url", "title", "host", "date", "license", "source"):
        if data[name]:
            yield name, clean(data[name], 300)
    if data["meta"]:
        yield "meta", clean(", ".join(f"{key}={item}" for key, item in data["meta"].items()), 300)
    place = data["place"]
    if place.get("file") is not None:
        yield "record", f"{place['file']} at byte {place['offset']:,}, {place['length']:,} bytes"
    if place.get("fetch"):
        yield "fetch", place["fetch"]
    yield "stored", f"{data['stored']['part']} row {data['stored']['row']:,}"


def _columns(columns: Mapping[str, Any] | None) -> str:
    return "not computed" if columns is None else ", ".join(f"{name} {value(item)}" for name, item in columns.items())


def _link(item: Mapping[str, Any]) -> str:
    if not item["made"]:
        return "not made"
    if "removed" in item:
        return _removed(item)
    other = item["duplicate_of"]
    if "columns" in item:
        near = (
            f"near {other['doc_id']} ({clean(other['url'] or 'no url', 100)}, {other['snapshot']}); " if other else ""
        )
        return near + _columns(item["columns"])
    if not item["members"]:
        return "alike to no other document"
    stands = (
        f"duplicate of {other['doc_id']} ({clean(other['url'] or 'no url', 100)}, {other['snapshot']})"
        if other
        else "stands for its cluster"
    )
    shown = ", ".join(f"{one['doc_id'][:12]}@{one['snapshot']}" for one in item["members"][:8])
    more = f" and {item['members_found'] - 8} more" if item["members_found"] > 8 else ""
    return f"{stands}; {item['members_found']} alike, first seen {item['first_seen']}: {shown}{more}"


def _removed(item: Mapping[str, Any]) -> str:
    """How much of a text goes, and each piece with where it lies and how it begins."""
    lines = [_columns(item["columns"])]
    for piece in item["removed"]:
        more = "…" if piece["characters"] > len(piece["text"]) else ""
        lines.append(f"bytes {piece['start']:,} to {piece['end']:,}: {clean(piece['text'])}{more}")
    if item["removed_found"] > len(item["removed"]):
        lines.append(f"and {item['removed_found'] - len(item['removed']):,} more")
    return "\n".join(lines)


def _experiment(item: Mapping[str, Any]) -> Iterable[RenderableType]:
    head = Text(f"\n{item['label']}: ", style="bold")
    if not item["decided"]:
        yield head.append("not decided yet", style="dim")
        return
    if item["kept"]:
        head.append("kept", style="bold green")
    else:
        head.append("quarantined" if item["first"] == "error" else f"dropped by {item['first']}", style="bold red")
        if len(item["failed"]) > 1:
            head.append(f" (and fails {', '.join(item['failed'][1:])})", style="red")
    yield head
    rows = []
    for rule in item["rules"]:
        mark = (
            Text("–", style="dim")
            if rule["passed"] is None
            else Text("✓", style="green")
            if rule["passed"]
            else Text("✗", style="bold red")
        )
        found = ", ".join(value(one) for one in rule["values"].values())
        rows.append((mark, rule["label"], rule["test"], clean(found, 80), Text(clean(rule["source"], 60), style="dim")))
    if rows:
        yield Padding(table(("", "rule", "passes if", "value", "source"), rows), (0, 2))
    if item["outdated"]:
        yield Text(
            f"  values may differ from those judged: {', '.join(item['outdated'][:3])} changed since", style="yellow"
        )
    yield Text(f"  {_ending(item)}")


def _ending(item: Mapping[str, Any]) -> str:
    if item["selected"] is None:
        return "nothing selected yet" if item["kept"] else "not selected"
    if not item["selected"]:
        return "not selected"
    tokens = f", {item['tokens']:,} tokens" if item["tokens"] is not None else ""
    text = f"selected in domain '{clean(item['domain'], 60)}'{tokens}"
    if item.get("copies") is not None:
        text += f", taken {item['copies']}×"
    if item["repeats"] is None:
        return text
    if not item["repeats"]:
        return f"{text}; the mixture does not take it"
    same = "decodes to exactly this text" if item["decodes"]["same"] else "does NOT decode to this text"
    return (
        f"{text}, read {item['repeats']}×; {item['file']} token {item['offset']:,} to {item['offset'] + item['length']:,} "
        f"(document {item['document']:,}): {same}"
    )


def verification(data: Mapping[str, Any]) -> RenderableType:
    """What was checked, and every damage."""
    lines: list[RenderableType] = [
        Text(f"{data['datasets']} datasets, {data['parts']:,} parts, {size(data['bytes'])} read and compared")
    ]
    lines += [Text(f"✗ {clean(text, 300)}", style="red") for text in (*data["damaged"].values(), *data["wrong"])]
    lines += [Text(f"removed {path}", style="yellow") for path in data["removed"]]
    if not data["damaged"] and not data["wrong"]:
        lines.append(Text("✓ every byte is what was written, every row stands beside its document", style="green"))
    elif data["removed"]:
        lines.append(Text("'factory run' makes what was removed again."))
    else:
        lines.append(Text("'factory verify --repair' removes what is damaged, and 'factory run' makes it again."))
    return Group(*lines)


def garbage(data: Mapping[str, Any], *, removed: bool, shown: int = 20) -> RenderableType:
    """What may go, or went."""
    items = [*data["files"].items(), *data["temporaries"].items()]
    verb = "removed" if removed else "would be removed"
    lines: list[RenderableType] = [Text(f"  {size(amount):>9}  {clean(path)}") for path, amount in items[:shown]]
    if len(items) > shown:
        lines.append(Text(f"  and {len(items) - shown:,} more", style="dim"))
    lines.append(
        Text(
            f"{len(items):,} files, {size(data['bytes'])} {verb}; {data['kept_files']:,} files, {size(data['kept_bytes'])} stay"
        )
    )
    if items and not removed:
        lines.append(Text("Nothing was removed yet: 'factory gc --yes' does it."))
    return Group(*lines)


def findings(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The doctor's findings."""
    lines = []
    for row in rows:
        mark, style = MARKS[row["state"]]
        lines.append((Text(mark, style=style), row["name"], Text(clean(row["text"], lines=True))))
    return table(("", "", ""), lines)


def outcome(data: Mapping[str, Any]) -> RenderableType:
    """What a run did."""
    made, cached = data["made"], data["cached"]
    if not made:
        head = Text(f"Nothing to do: {len(cached)} datasets are up to date.", style="bold green")
        return Group(head, Text(f"Store: {data['store']}"))
    rows = [(item["name"], count(item["rows"]), size(item["bytes"]), item["digest"][:12]) for item in made]
    return Group(
        table(("made", "rows", "bytes", "digest"), rows, numbers=(1, 2)),
        Text(f"{len(made)} made, {len(cached)} cached, in {duration(data['seconds'])}", style="bold"),
        Text(f"Store: {data['store']}"),
    )


def exported(data: Mapping[str, Any]) -> RenderableType:
    """What lies in an exported corpus."""
    kept = f"{count(data['documents'])} of {count(data['rows'])} documents, {size(data['text_bytes'])} of text"
    if data.get("copies") is not None:
        kept += f"; {count(data['copies'])} with repeats"
    files = f"{count(len(data['files']))} files ({count(data['written'])} written now), {data['format']}"
    if data["emptied"]:
        kept += f"; {count(data['emptied'])} kept documents were left empty by the rewriters and are not in it"
    return Text(f"{data['recipe']}/{data['experiment']}: {kept}\n{files}, in {data['to']}", style="bold")


def exported_tokens(data: Mapping[str, Any]) -> RenderableType:
    """What lies in exported tokens, or would."""
    named = f"{data['recipe']}/{data['experiment']}: {count(data['tokens'])} tokens"
    if data.get("dry_run"):
        state = "there already" if data["is_there"] else "nothing was written"
        wanted = f"{count(data['shards'])} shards of {data['rows']}, {size(data['id_bytes'])} of ids, {data['format']}"
        return Text(f"{named}\n{wanted}, in {data['to']} ({state})", style="bold")
    files = f"{count(len(data['files']))} files ({count(data['written'])} shards written now), {data['format']}"
    return Text(f"{named} in {count(data['samples'])} {data['rows']}\n{files}, in {data['to']}", style="bold")


def backfill(data: Mapping[str, Any]) -> RenderableType:
    """What a backfill covers, dataset by dataset, and what came of it."""
    rows = [(name, Text(state, style=STATES.get(state, ""))) for name, state in data["datasets"].items()]
    known = ("partitions", "assets", "datasets", "state", "id")
    rest = {name: item for name, item in data.items() if name not in known}
    lines = [
        f"{data['state']}: {', '.join(data['partitions'])}" + (f" (backfill {data['id']})" if "id" in data else "")
    ]
    lines += [f"{name}: {value(item, 300)}" for name, item in rest.items()]
    return Group(table(("dataset", "before"), rows), Text(clean("\n".join(lines), lines=True)))
