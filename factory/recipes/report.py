"""The report: gathers what is current of a recipe as plain data, and puts the page made of it into the store."""

import importlib.metadata
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import factory
from factory.core.errors import FactoryError
from factory.core.manifest import Manifest
from factory.recipes.contamination import contamination_by_experiment
from factory.recipes.duplicates import duplicates
from factory.recipes.evidence import compare
from factory.recipes.funnel import ERROR, examples, funnels, holds
from factory.recipes.lookup import Current, bounds
from factory.recipes.searches import searches
from factory.recipes.signals import learning_curves
from factory.recipes.status import ledger, status
from factory.recipes.workspace import Workspace
from factory.reports.page import render
from factory.storage.parts import read_part

BINS = 40
MOST_VALUES = 1_000_000  # of a histogram; parts beyond are left out, the first ones by name stay
NEAR = 1.0  # times the spread of the values: how far a plot reaches for a bound
WIDE = 1000.0  # a column that spans more is drawn on a log scale
EXAMPLES = 3
HOSTS = 25
CLUSTERS = 8
LABELS = 20
CURVE_POINTS = 80
MOST_COMPARED, COMPARED = 12, 500  # experiments shown task by task; resamples of each
PACKAGES = ("pyarrow", "numpy", "numba", "torch", "transformers", "tokenizers", "dagster", "duckdb", "resiliparse")


def write_report(workspace: Workspace) -> str:
    """Write the report of a recipe into its store; its full name there."""
    path = f"report/{workspace.recipe.name}.html"
    workspace.store.put(path, render(gather(workspace)).encode("utf-8", "replace"))
    return workspace.store.full(path) if workspace.store.local else f"{workspace.store.url.rstrip('/')}/{path}"


def gather(workspace: Workspace) -> dict[str, Any]:
    """Everything the report shows; what was not made yet is empty. Raises FactoryError when there are no documents."""
    current = Current(workspace)
    documents = current.of("documents")
    if not documents:
        raise FactoryError(
            f"Nothing of '{workspace.recipe.name}' is in {workspace.store.url} yet. 'factory run' makes it."
        )
    found = funnels(workspace) if current.of("decisions") else []
    board = current.find("leaderboard")
    encodings = current.of("encodings")
    datasets = status(workspace)
    return {
        "version": factory.__version__,
        "recipe": {
            "name": workspace.recipe.name,
            "store": workspace.store.url,
            "snapshots": current.snapshots,
            "experiments": [experiment.label for experiment in workspace.recipe.experiments],
            # Without them nothing is mixed, trained or compared.
            "has_tokens": workspace.recipe.tokenizer is not None,
        },
        "totals": {
            "documents": sum(manifest.rows for manifest in documents),
            "tokens": sum(manifest.notes.get("tokens", 0) for manifest in encodings),
            "text_bytes": sum(manifest.notes["text_bytes"] for manifest in documents),
            "errors": sum(sum(manifest.ledger["errors"].values()) for manifest in documents),
        },
        "funnels": found,
        "histograms": list(_histograms(current, found)),
        "dropped": list(_dropped(workspace, found)),
        **_hosts(current, found),
        "selections": [_selection(current, manifest) for manifest in current.of("selection")],
        "domains": {manifest.label: _domains(manifest) for manifest in current.of("selection")},
        "clusters": duplicates(workspace, largest=CLUSTERS, current=current),
        "contamination": contamination_by_experiment(workspace, current, examples=EXAMPLES),
        "labels": list(_labels(current)),
        "ledger": ledger(workspace),
        "searches": [item for item in searches(workspace, current=current) if item["made"]],
        "mixtures": {manifest.label: _mixture(current, manifest) for manifest in current.of("mixture")},
        "leaderboard": dict(board.notes) if board else None,
        "comparisons": list(_comparisons(workspace, current, board)) if board else [],
        "best": _best(board),
        "losses": _losses(current),
        "learning": learning_curves(workspace, current),
        "environment": environment(),
        "datasets": datasets,
    }


def _histograms(current: Current, found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each rule over a number once: in the experiment with the most rules among those that have it."""
    seen: set[tuple[str, str]] = set()
    for item in sorted(found, key=lambda item: -len(item["rules"])):
        for snapshot_rules in [
            manifest for manifest in current.of("decisions") if manifest.label == item["experiment"]
        ][:1]:
            for rule in snapshot_rules.spec["rules"]:
                fitted = snapshot_rules.notes["fitted"].get(rule["label"])
                lines, key = bounds(rule, fitted), (rule["label"], str(sorted(rule["settings"].items(), key=str)))
                if not lines or key in seen:
                    continue
                seen.add(key)
                values, kept, fails = _values(current, item["experiment"], rule)
                if len(values):
                    yield {
                        "rule": rule["label"],
                        "column": rule["reads"][0],
                        "experiment": item["experiment"],
                        "lines": lines,
                        **_binned(values, kept, fails, lines),
                    }


def _values(current: Current, experiment: str, rule: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rule's numbers, which of those documents the experiment keeps, and which fail this very rule."""
    values: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    fails: list[np.ndarray] = []
    for snapshot, document in current.documents():
        part = current.beside("decisions", experiment, snapshot, document)
        found = current.column(rule["reads"][0], snapshot, document)
        if part is None or found is None or sum(map(len, values)) > MOST_VALUES:
            continue
        failed = read_part(current.workspace.store, part, ["failed"]).column("failed").combine_chunks()
        numbers = pc.cast(found, pa.float64()).to_numpy()
        finite = np.isfinite(numbers)
        values.append(numbers[finite])
        kept.append(pc.equal(pc.list_value_length(failed), 0).to_numpy(zero_copy_only=False)[finite])
        fails.append(holds(failed, rule["label"])[finite])
    if not values:
        return np.empty(0), np.empty(0, bool), np.empty(0, bool)
    return np.concatenate(values), np.concatenate(kept), np.concatenate(fails)


def _binned(values: np.ndarray, kept: np.ndarray, fails: np.ndarray, lines: list[float]) -> dict[str, Any]:
    """Counts by bin between the half-percent tails; what lies beyond is in the outermost bins."""
    low, high = np.quantile(values, [0.005, 0.995])
    # A bound far from every value would press them all into one bar: it is named, not drawn.
    reach = (high - low) * NEAR or abs(high) * NEAR
    near = [line for line in lines if low - reach <= line <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    positive = values[values > 0]
    log = bool(low >= 0 and len(positive) and high / max(low, float(np.quantile(positive, 0.005))) > WIDE)
    if log:
        low = max(low, float(np.quantile(positive, 0.005)))
        edges = np.geomspace(low, high, BINS + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    inside = np.clip(values, edges[0], edges[-1])
    counts = {
        "kept": np.histogram(inside[kept], edges)[0].tolist(),
        "others": np.histogram(inside[~kept & ~fails], edges)[0].tolist(),
        "dropped": np.histogram(inside[fails], edges)[0].tolist(),
    }
    beyond = [line for line in lines if not edges[0] <= line <= edges[-1]]
    return {**counts, "edges": edges.tolist(), "log": log, "beyond": beyond}


def _dropped(workspace: Workspace, found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Examples for each rule, once: from the experiment with the most rules among those that have it."""
    seen: set[str] = set()
    for item in sorted(found, key=lambda item: -len(item["rules"])):
        counted = {ERROR: sum(item["errors"].values()), **{step["rule"]: step["failed"] for step in item["rules"]}}
        for rule, failed in counted.items():
            if failed and rule not in seen:
                seen.add(rule)
                rows = examples(workspace, item["experiment"], rule, EXAMPLES, text=True)
                yield {"experiment": item["experiment"], "rule": rule, "failed": failed, "rows": rows}


def _hosts(current: Current, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Documents by host, and how many of each every experiment keeps."""
    total: Counter[str] = Counter()
    names = [item["experiment"] for item in found]
    kept: dict[str, Counter[str]] = {name: Counter() for name in names}
    for snapshot, document in current.documents():
        hosts = read_part(current.workspace.store, document, ["host"]).column("host").fill_null("(none)")
        total.update(_counted(hosts))
        for name in names:
            part = current.beside("decisions", name, snapshot, document)
            if part is not None:
                failed = read_part(current.workspace.store, part, ["failed"]).column("failed")
                kept[name].update(_counted(hosts.filter(pc.equal(pc.list_value_length(failed), 0))))
    rows = [
        {"host": host, "documents": number, "kept": {name: kept[name][host] for name in names}}
        for host, number in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:HOSTS]
    ]
    return {"hosts": rows, "kept_names": names}


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def _selection(current: Current, selection: Manifest) -> dict[str, Any]:
    """How many documents an experiment takes, and how often: by what its selector says, and in which order."""
    chosen = selection.spec.get("selection")
    taken: dict[int, list[int]] = {}
    for part in selection.parts if chosen else ():
        table = read_part(current.workspace.store, part, ["repeats", "tokens"])
        tokens = table.column("tokens").fill_null(0).cast(pa.int64())
        read = pc.multiply(table.column("repeats").cast(pa.int64()), tokens)
        own = pa.table({"repeats": table.column("repeats"), "read": read}).group_by("repeats")
        for row in own.aggregate([("read", "sum"), ("read", "count")]).to_pylist():
            counts = taken.setdefault(row["repeats"], [0, 0])
            counts[0] += row["read_count"]
            counts[1] += row["read_sum"]
    by = selection.spec["by"]
    return {
        "experiment": selection.label,
        "rows": selection.rows,
        "documents": sum(selection.notes["documents"].values()),
        "tokens": sum(selection.notes["tokens"].values()),
        "domains": len(selection.notes["documents"]),
        "by": by if isinstance(by, str) else ", ".join(by),
        "best_first": selection.spec.get("best_first"),
        "selector": f"{chosen['stage']}@{chosen['version']}" if chosen else None,
        "settings": dict(chosen["settings"]) if chosen else {},
        "reads": list(chosen["reads"]) if chosen else [],
        "repeated": bool(chosen),
        "repeats": [{"repeats": n, "documents": own[0], "tokens": own[1]} for n, own in sorted(taken.items())],
    }


def _domains(selection: Manifest) -> list[dict[str, Any]]:
    documents, tokens = selection.notes["documents"], selection.notes["tokens"]
    rows = [{"domain": name, "documents": documents[name], "tokens": tokens[name]} for name in documents]
    return sorted(rows, key=lambda row: (-row["tokens"], row["domain"]))[:HOSTS]


def _labels(current: Current) -> Iterator[dict[str, Any]]:
    """Text columns of scorers (languages, categories), from the counts in their manifests."""
    for use in current.workspace.recipe.scorers:
        for name, kind in use.stage.writes_for(use.config).items():
            if not pa.types.is_string(kind):
                continue
            counts: Counter[str] = Counter()
            for manifest in current.of("scores"):
                if manifest.label == use.label:
                    counts.update(manifest.notes["histograms"].get(name, {}))
            if counts:
                top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LABELS]
                rows = [{"value": value, "documents": number} for value, number in top]
                yield {"name": f"{use.label}_{name}", "rows": rows, "total": sum(counts.values())}


def _mixture(current: Current, mixture: Manifest) -> list[dict[str, Any]]:
    """Each domain's share as asked and as the training reads it."""
    tokens = current.find("tokens", mixture.label)
    realised = tokens.notes["shares"] if tokens else {}
    rows = [row for part in mixture.parts for row in read_part(current.workspace.store, part).to_pylist()]
    made = [{**row, "realised_share": realised.get(row["domain"], 0.0)} for row in rows]
    return sorted(made, key=lambda row: (-row["asked_share"], row["domain"]))


def _losses(current: Current) -> dict[str, list[list[tuple[float, float]]]]:
    """(tokens, loss) of every proxy, by experiment; a curve keeps at most CURVE_POINTS points, each the mean of a stretch."""
    series: dict[str, list[list[tuple[float, float]]]] = {}
    for manifest in current.of("proxies"):
        curve = [
            (float(tokens), float(loss))
            for _, tokens, loss in manifest.notes["record"]["loss_curve"]
            if loss is not None and np.isfinite(loss)
        ]
        if curve:
            pieces = np.array_split(np.array(curve), min(len(curve), CURVE_POINTS))
            series.setdefault(manifest.label, []).append(
                [(float(one[-1, 0]), float(one[:, 1].mean())) for one in pieces]
            )
    return series


def _comparisons(workspace: Workspace, current: Current, board: Manifest) -> Iterator[dict[str, Any]]:
    """Every ranked experiment against the base, task by task, in the order of the leaderboard."""
    rows = board.notes["board"]["rows"]
    ranked = list(dict.fromkeys((row["experiment"], row["scale"]) for row in rows if row["against_base"]))
    base = board.notes["board"]["base"]
    names = {experiment.label for experiment in workspace.recipe.experiments}
    for experiment, scale in ranked[:MOST_COMPARED]:
        if {experiment, base} <= names:
            try:
                yield compare(workspace, base, experiment, scale=scale, current=current, resamples=COMPARED)
            except FactoryError:
                continue  # the leaderboard is older than what is current: it says so itself


def _best(board: Manifest | None) -> dict[str, str] | None:
    """Who leads, and how sure that is."""
    rows = [row for row in board.notes["board"]["rows"] if row["rank"] == 1] if board else []
    if not rows or board is None:
        return None
    if len(rows) > 1:
        return {"experiment": " = ".join(row["experiment"] for row in rows[:3]), "text": "lead, not told apart"}
    metric: Mapping[str, Any] = board.notes["board"]
    return {
        "experiment": rows[0]["experiment"],
        "text": f"leads by {metric['primary']} {rows[0]['primary']['value']:.4f}",
    }


def environment() -> dict[str, str]:
    """What made this: machine, Python, the libraries that decide bytes."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **found,
    }
