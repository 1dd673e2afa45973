"""What a person wants to see of a dataset: numbers, small tables, small plots. Never rows, and at most some kilobytes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.nodes import combined_digest
from assets.plots import bars, line, numeric_histogram
from factory.core.decisions import add_funnels
from factory.core.ledger import add_counts
from factory.core.manifest import Manifest
from factory.core.statistics import merge_histograms
from factory.recipes.workspace import Outcome, Workspace
from factory.storage.parts import read_part
from factory.storage.store import Store

MAX_ROWS = 40
MAX_PLOTS = 6
MAX_TEXT = 6_000

Metadata = dict[str, Any]


def describe(workspace: Workspace, outcomes: Sequence[Outcome]) -> Metadata:
    """The metadata of one asset in one partition: of its dataset, or of all its datasets together."""
    manifests = [outcome.manifest for outcome in outcomes]
    made = [outcome for outcome in outcomes if outcome.made]
    common: Metadata = {
        "digest": combined_digest(outcomes),
        "bytes": sum(manifest.bytes for manifest in manifests),
        "made": f"{len(made)} of {len(outcomes)}" if len(outcomes) > 1 else bool(made),
        "seconds": max((float(item.manifest.run.get("seconds", 0.0)) for item in made), default=0.0),
        "current": all(outcome.passed for outcome in outcomes),
    }
    if manifests:
        common["dagster/uri"] = _uri(workspace.store, manifests)
    if rows := sum(manifest.rows for manifest in manifests):
        common["dagster/row_count"] = rows
    own = _DESCRIBE[manifests[0].kind](manifests) if manifests and manifests[0].kind in _DESCRIBE else {}
    if manifests and manifests[0].kind == "tokens":
        own["mixture"] = _asked_and_realised(workspace, manifests[0])
    return {**common, **own}


def _uri(store: Store, manifests: Sequence[Manifest]) -> str:
    folders = {manifest.path.rsplit("/", 1)[0] for manifest in manifests}
    return store.full(folders.pop() if len(folders) == 1 else manifests[0].kind)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """A Markdown table, cut off with a word on how much is missing."""
    lines = [list(map(_cell, row)) for row in rows]
    shown = lines[:MAX_ROWS]
    body = ["| " + " | ".join(row) + " |" for row in [list(header), ["---"] * len(header), *shown]]
    if len(lines) > len(shown):
        body.append(f"\n{len(lines) - len(shown):,} more")
    return dg.MetadataValue.md("\n".join(body)[:MAX_TEXT])


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


# --- one function for each kind of dataset


def _documents(manifests: Sequence[Manifest]) -> Metadata:
    ledgers = [manifest.ledger for manifest in manifests]
    hosts = merge_histograms([manifest.notes["histograms"] for manifest in manifests]).get("host", {})
    top = sorted(hosts.items(), key=lambda item: (-item[1], item[0]))[:12]
    return {
        "text_bytes": sum(manifest.notes["text_bytes"] for manifest in manifests),
        "errors": sum(sum(ledger["errors"].values()) for ledger in ledgers),
        "ledger": _books(ledgers),
        "hosts": table(["host", "documents"], top),
        **_histograms(manifests, skip=("host", "error")),
    }


def _books(ledgers: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    names = [name for name in ("records", "rows", "kept") if name in ledgers[0]]
    rows = [(name, sum(ledger[name] for ledger in ledgers)) for name in names]
    for name, word in (("skipped", "skipped"), ("dropped", "dropped by"), ("errors", "error")):
        counts = add_counts(ledger.get(name, {}) for ledger in ledgers)
        rows += [(f"{word} {kind}", count) for kind, count in counts.items()]
    return table(["", "count"], rows)


def _histograms(manifests: Sequence[Manifest], skip: Sequence[str] = ()) -> Metadata:
    merged = merge_histograms([manifest.notes.get("histograms", {}) for manifest in manifests])
    drawn = {name: bars(numeric_histogram(counts)) for name, counts in merged.items() if name not in skip}
    plots = [(name, plot) for name, plot in drawn.items() if plot][:MAX_PLOTS]
    return {f"histogram {name}": dg.MetadataValue.md(plot) for name, plot in plots}


def _models(manifests: Sequence[Manifest]) -> Metadata:
    metrics = manifests[0].notes["metrics"]
    flat = {name: value for name, value in metrics.items() if isinstance(value, (int, float)) and value is not True}
    return {**flat, "metrics": dg.MetadataValue.json(metrics), "files": len(manifests[0].parts)}


def _columns(manifests: Sequence[Manifest]) -> Metadata:
    found: Metadata = {"not computed": sum(manifest.notes.get("failed", 0) for manifest in manifests)}
    if all("tokens" in manifest.notes for manifest in manifests):
        found["tokens"] = sum(manifest.notes["tokens"] for manifest in manifests)
    return {**found, **_histograms(manifests)}


def _links(manifests: Sequence[Manifest]) -> Metadata:
    # What a join counts: duplicates and clustered documents, or pieces and bytes to remove.
    counted = sorted({name for manifest in manifests for name, note in manifest.notes.items() if isinstance(note, int)})
    counts: Metadata = {name: sum(manifest.notes.get(name, 0) for manifest in manifests) for name in counted}
    rows = sum(manifest.rows for manifest in manifests)
    if "duplicates" in counts:
        counts["duplicate share"] = sum(manifest.notes["duplicates"] for manifest in manifests) / max(1, rows)
    return {**counts, **_histograms(manifests)}


def _decisions(manifests: Sequence[Manifest]) -> Metadata:
    funnel = add_funnels([manifest.notes["funnel"] for manifest in manifests])
    kept = sum(manifest.ledger["kept"] for manifest in manifests)
    tokens = {name: sum(manifest.notes[name] for manifest in manifests) for name in ("tokens", "kept_tokens")}
    header = ["rule", "fails", "tokens", "fails first", "fails only this"]
    names = ("rule", "failed", "failed_tokens", "first", "only")
    return {
        "kept": kept,
        **tokens,
        "kept share": kept / max(1, sum(manifest.rows for manifest in manifests)),
        "funnel": table(header, [[row[name] for name in names] for row in funnel]),
        "ledger": _books([manifest.ledger for manifest in manifests]),
    }


def _selection(manifests: Sequence[Manifest]) -> Metadata:
    documents = add_counts(manifest.notes["documents"] for manifest in manifests)
    tokens = add_counts(manifest.notes["tokens"] for manifest in manifests)
    rows = [(domain, documents[domain], tokens[domain]) for domain in sorted(tokens, key=lambda d: -tokens[d])]
    return {"tokens": sum(tokens.values()), "domains": table(["domain", "documents", "tokens"], rows)}


def _mixture(manifests: Sequence[Manifest]) -> Metadata:
    notes = manifests[0].notes
    rows = [(domain, epochs) for domain, epochs in sorted(notes["epochs"].items())]
    return {
        "tokens": int(notes["tokens"]),
        "available tokens": int(notes["available"]),
        "epochs": table(["domain", "epochs"], rows),
    }


def _tokens(manifests: Sequence[Manifest]) -> Metadata:
    notes = manifests[0].notes
    return {
        "documents": notes["documents"],
        "tokens": notes["tokens"],
        "unique tokens": notes["unique_tokens"],
        "round trips checked": notes["round_trips"],
        "contract": dg.MetadataValue.json(notes["contract"]),
    }


def _asked_and_realised(workspace: Workspace, tokens: Manifest) -> dg.MarkdownMetadataValue:
    mixture = workspace.need("mixture", tokens.label)
    asked = [row for part in mixture.parts for row in read_part(workspace.store, part).to_pylist()]
    realised = tokens.notes["shares"]
    rows = [
        (row["domain"], row["epochs"], f"{row['asked_share']:.2%}", f"{realised.get(row['domain'], 0.0):.2%}")
        for row in asked
    ]
    return table(["domain", "epochs", "asked", "realised"], rows)


def _proxies(manifests: Sequence[Manifest]) -> Metadata:
    records = [manifest.notes["record"] for manifest in manifests]
    valid = [record for record in records if record["valid"]]
    rows = [
        (m.partition, r["loss"], r["tokens_seen"], r["seconds"], r["tokens_per_s"], "" if r["valid"] else r["reason"])
        for m, r in zip(manifests, records, strict=True)
    ]
    found: Metadata = {"runs": table(["run", "loss", "tokens", "seconds", "tokens/s", "invalid because"], rows)}
    if valid:
        found["loss"] = sum(record["loss"] for record in valid) / len(valid)
        found["loss curve"] = dg.MetadataValue.md(line(_losses(valid[0]["loss_curve"])) or "too short to draw")
    return found


def _losses(curve: Sequence[Any]) -> list[float]:
    """The losses of a curve, whether its points are pairs of step and loss, maps, or numbers."""
    points = [point["loss"] if isinstance(point, Mapping) else point for point in curve]
    return [float(point[-1] if isinstance(point, (list, tuple)) else point) for point in points]


def _evaluations(manifests: Sequence[Manifest]) -> Metadata:
    invalid = [manifest.partition for manifest in manifests if "invalid" in manifest.notes]
    found: Metadata = {"items": sum(manifest.notes.get("items", 0) for manifest in manifests)}
    return {**found, **({"not evaluated": ", ".join(invalid)} if invalid else {})}


def _leaderboard(manifests: Sequence[Manifest]) -> Metadata:
    notes = manifests[0].notes
    out = [
        (f"{one['experiment']} {one['scale']} seed {one['seed']}", one["reason"]) for one in notes["board"]["invalid"]
    ]
    return {
        "leaderboard": table(notes["header"], notes["rows"]),
        **({"left out": table(("run", "why"), out)} if out else {}),
    }


def _search(manifests: Sequence[Manifest]) -> Metadata:
    notes = manifests[0].notes
    finding = notes["finding"]
    header = ("domain", "natural", "recommended", "largest share")
    rows = [
        (name, f"{share:.3f}", f"{finding['weights'].get(name, 0.0):.3f}", f"{notes['caps'][name]:.3f}")
        for name, share in notes["natural"].items()
    ]
    return {
        "shares": table(header, rows),
        "trials": notes["trials"],
        "failed": notes["failed"],
        "flops": notes["flops"],
        "warnings": table(("warning",), [(text,) for text in finding["warnings"]]),
    }


_DESCRIBE: Mapping[str, Callable[[Sequence[Manifest]], Metadata]] = {
    "documents": _documents,
    "models": _models,
    "scores": _columns,
    "keys": _columns,
    "encodings": _columns,
    "links": _links,
    "decisions": _decisions,
    "selection": _selection,
    "pools": _tokens,
    "searches": _search,
    "mixture": _mixture,
    "tokens": _tokens,
    "proxies": _proxies,
    "evaluations": _evaluations,
    "leaderboard": _leaderboard,
}
