"""The rows of a leaderboard with all that is known of each: data, licences, compute, price, contamination, provenance.

What was judged stands in the leaderboard dataset; the rest is gathered from what is current when somebody asks, since prices
and hours are measured and no digest may depend on them.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.manifest import Manifest
from factory.evaluation.entry import require_valid
from factory.evaluation.statistics import t_interval
from factory.recipes.costs import proxy_cost, spent
from factory.recipes.graph import column_owners
from factory.recipes.lookup import Current
from factory.recipes.recipe import Experiment, Recipe
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

NO_LICENCE = "none stated"
LICENCE_STAGE = "licence"
BEFORE = ("documents", "models", "scores", "keys", "encodings", "links")  # shared by all experiments
OWN = ("decisions", "selection", "mixture", "tokens")
SUFFIX = ".clean"


def entries(workspace: Workspace, board: Manifest, current: Current | None = None) -> list[dict[str, Any]]:
    """A checked row for each experiment at each scale, in the leaderboard's order."""
    found = current or Current(workspace)
    data = board.notes["board"]
    rows = [_entry(workspace, found, board, row) for row in data["rows"]]
    require_valid(rows, list(data["metrics"]))
    return rows


def tracks(recipe: Recipe, experiment: Experiment) -> list[str]:
    """What an experiment does otherwise than the base: the tracks it competes in."""
    base = recipe.experiment(recipe.base)
    if experiment.label == base.label:
        return ["control"]
    found = []
    if (experiment.rules, experiment.selection) != (base.rules, base.selection):
        found.append("filtering")
    if experiment.mixture != base.mixture:
        found.append("mixing")
    if any(getattr(experiment, name) != getattr(base, name) for name in ("packing", "phases", "conditioning")):
        found.append("ordering")
    return found or ["control"]  # the same data under another name


def _entry(workspace: Workspace, current: Current, board: Manifest, row: Mapping[str, Any]) -> dict[str, Any]:
    recipe, data, label = workspace.recipe, board.notes["board"], row["experiment"]
    experiment = recipe.experiment(label)
    primary, against, facts = row["primary"] or {}, row["against_base"] or {}, row["facts"]
    seeds, items, gap = (
        primary.get("seed_interval") or {},
        primary.get("item_interval") or {},
        against.get("interval") or {},
    )
    proxies = [
        manifest for seed in row["seeds"] if (manifest := current.find("proxies", label, f"{row['scale']}-{seed}"))
    ]
    mixture, tokenizer = current.find("mixture", label), current.find("models", "tokenizer")
    by = experiment.mixture.by if experiment.mixture is not None else ()
    return {
        "rank": row["rank"],
        "experiment": label,
        "arm": row["arm"],
        "scale": row["scale"],
        "tracks": tracks(recipe, experiment),
        "parameters_total": facts.get("parameters_total"),
        "parameters": facts.get("parameters"),
        "tokens": facts.get("tokens"),
        "flops_6nd": facts.get("flops_6nd"),
        "flops": facts.get("flops"),
        "sources": _sources(recipe, current, label),
        "licences": _licences(workspace, current, label),
        "selection": [rule.label for rule in experiment.rules]
        + ([experiment.selection.stage.name] if experiment.selection is not None else [])
        or ["everything"],
        "tokenizer": tokenizer.digest[:16] if tokenizer is not None else None,
        "mixture": mixture.digest[:16] if mixture is not None else None,
        "mixture_by": "/".join(by) if isinstance(by, tuple) else by,
        "synthetic_share": None,  # nothing here generates text
        "unique_tokens": facts.get("unique_tokens"),
        "epochs": facts.get("epochs"),
        "documents_kept": facts.get("documents_kept"),
        "seeds": list(row["seeds"]),
        "metric": data["metric"],
        "value": primary.get("value"),
        "low": seeds.get("low"),
        "high": seeds.get("high"),
        "item_low": items.get("low"),
        "item_high": items.get("high"),
        "control": data["base"],
        "difference": against.get("difference"),
        "difference_low": gap.get("low"),
        "difference_high": gap.get("high"),
        "p": row["p_holm"],
        "verdict": row["verdict"],
        "seeds_needed": against.get("seeds_needed"),
        "tasks": {task: _score(data["metrics"][task], row["tasks"].get(task)) for task in data["metrics"]},
        "aggregates": _aggregates(current, row),
        "contaminated_share": facts.get("dirty_items"),
        "clean": _clean(data, row),
        **_prices(workspace, current, label, proxies),
        "revision": ", ".join(sorted({str(manifest.run.get("version", "")) for manifest in proxies})) or "unknown",
        "manifest": board.digest,
    }


def _score(metric: str, estimate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    seeds = estimate["seed_interval"] or {}
    return {"metric": metric, "value": estimate["value"], "low": seeds.get("low"), "high": seeds.get("high")}


def _aggregates(current: Current, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """CORE and the like: means over seeds with their interval; null where a seed lacks one of its tasks."""
    names = [f"{row['scale']}-{seed}" for seed in row["seeds"]]
    found = [current.find("evaluations", row["experiment"], name) for name in names]
    derived = [manifest.notes.get("derived") or {} if manifest is not None else {} for manifest in found]
    made: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in derived for name in one):
        values = [one.get(name, {}).get("value") for one in derived]
        known = [float(value) for value in values if value is not None]
        around = t_interval(known) if len(known) == len(values) else None
        made[name] = {
            "value": sum(known) / len(known) if known and len(known) == len(values) else None,
            "low": around.low if around is not None else None,
            "high": around.high if around is not None else None,
        }
    return made or None


def _clean(board: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float] | None:
    """The primary tasks' scores on items that no experiment trained on."""
    found = {
        task: estimate["value"]
        for task in board["primary_tasks"]
        if (estimate := row["tasks"].get(f"{task}{SUFFIX}")) is not None
    }
    return found or None


def _prices(workspace: Workspace, current: Current, label: str, proxies: list[Manifest]) -> dict[str, Any]:
    """Hours and money of this row: its trainings, and the data they stand on, much of which others share."""
    own = [manifest for kind in BEFORE for manifest in current.of(kind)]
    own += [manifest for kind in OWN for manifest in current.of(kind) if manifest.label == label]
    made, costs = spent(own), [proxy_cost(workspace, proxy, current=True) for proxy in proxies]
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    on_gpu = [cost.gpu_hours for cost in costs if cost.gpu_hours is not None]
    price = workspace.recipe.experiment(label).proxy.usd_per_hour
    hours = sum(seconds) / 3600 if seconds else None
    return {
        "processing_cpu_hours": made["cpu_hours"],
        "processing_hours": made["hours"],
        "training_hours": hours,
        "gpu_hours": sum(on_gpu) if on_gpu else None,
        "usd": price * (made["hours"] + hours) if price is not None and hours is not None else None,
    }


def _sources(recipe: Recipe, current: Current, label: str) -> list[str]:
    """The sources it keeps documents of; where it is not mixed by source, all that the recipe reads."""
    selection = current.find("selection", label)
    names = [use.label for use in recipe.sources]
    kept = selection.notes.get("documents", {}) if selection is not None else {}
    return [name for name in names if kept.get(name)] or names


def _licences(workspace: Workspace, current: Current, label: str) -> dict[str, int] | None:
    """Kept documents by licence: as the scorer of licences tells it where there is one, else as their sources state it."""
    selection = current.find("selection", label)
    if selection is None:
        return None
    column = next(
        (f"{use.label}_spdx" for use in workspace.recipe.scorers if use.stage.name == LICENCE_STAGE), "license"
    )
    owned = column in column_owners(workspace.recipe)
    kept: dict[str, list[np.ndarray]] = {}
    for part in selection.parts:
        table = read_part(workspace.store, part, ["part", "row"])
        for digest in pc.unique(table.column("part")).to_pylist():
            rows = table.filter(pc.equal(table.column("part"), digest)).column("row").to_numpy()
            kept.setdefault(digest, []).append(rows)
    counts: Counter[str] = Counter()
    for snapshot, document in current.documents():
        if document.digest not in kept:
            continue
        values = current.column(column if owned else "license", snapshot, document)
        if values is None:
            return None
        own = values.take(pa.array(np.concatenate(kept[document.digest]))).fill_null(NO_LICENCE)
        counts.update({item["values"]: item["counts"] for item in pc.value_counts(own).to_pylist()})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
