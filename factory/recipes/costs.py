"""What a recipe's claims cost: every proxy and every trial of a search there is, failed and discarded ones too.

The records of training in the store are the books; nothing is estimated. A run counts once, whichever recipe's searches share
it. What current datasets of this recipe stand on is current; what no recipe's do is discarded; runs of other recipes are
theirs. A run that was killed before its record was written, and what `factory gc` removed, left none.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from factory.core.manifest import Manifest, Part
from factory.evaluation.costs import SEARCH, Cost, cost_of, prediction_errors, totals
from factory.recipes.lookup import Current
from factory.recipes.steps.search import TRIAL
from factory.recipes.verify import is_manifest
from factory.recipes.workspace import Workspace
from factory.storage.manifests import CURRENT, find_manifest
from factory.storage.parts import find_part

PROCESSING = (
    "documents",
    "models",
    "scores",
    "keys",
    "encodings",
    "links",
    "decisions",
    "selection",
    "pools",
    "mixture",
    "tokens",
)
TRIALS = "searches/trials"


def costs(workspace: Workspace) -> dict[str, Any]:
    """The ledger: a line for each run, their sums, evaluation and data processing, and how well time can be told ahead."""
    current = Current(workspace)
    lines = [*_proxies(workspace), *_trials(workspace, current)]
    processing = [manifest for kind in PROCESSING for manifest in current.of(kind)]
    return {
        "runs": [line.to_json() for line in lines],
        "totals": totals(lines),
        "processing": spent(processing),
        "evaluation": spent(current.of("evaluations")),
        "prediction_errors": prediction_errors(lines),
        "bytes": sum(manifest.bytes for manifest in (*processing, *current.of("proxies"))),
    }


def proxy_cost(workspace: Workspace, proxy: Manifest, *, current: bool) -> Cost:
    """The cost of one proxy, as its record tells it."""
    scale, _, seed = proxy.partition.rpartition("-")
    record = proxy.notes["record"]
    labels = {experiment.label: experiment for experiment in workspace.recipe.experiments}
    settings = labels[proxy.label].proxy if proxy.label in labels else workspace.recipe.proxy
    return cost_of(
        record,
        name=f"{proxy.name} {proxy.fingerprint[:8]}",
        role="proxy",
        experiment=proxy.label,
        scale=scale,
        seed=int(seed),
        current=current,
        usd_per_hour=settings.usd_per_hour,
        processes=int(record.get("processes") or 1),
        digest=proxy.digest,
        ended=str(proxy.run.get("ended", "")),
    )


def spent(manifests: Iterable[Manifest]) -> dict[str, Any]:
    """CPU-hours of datasets, and the hours in which any of them was being made: those made together count once."""
    made = list(manifests)
    cpu = [manifest.run["cpu_seconds"] for manifest in made if manifest.run.get("cpu_seconds") is not None]
    return {
        "datasets": len(made),
        "cpu_hours": sum(cpu) / 3600 if cpu else None,
        "unknown": len(made) - len(cpu),
        "hours": _covered([span for manifest in made if (span := _span(manifest.run)) is not None]) / 3600,
    }


def _proxies(workspace: Workspace) -> list[Cost]:
    store = workspace.store
    own, others = set[str](), set[str]()
    for path in store.files(CURRENT):
        if path.endswith(".json"):
            pointer = json.loads(store.read(path))
            (own if path.startswith(f"{CURRENT}/{workspace.recipe.name}/") else others).add(pointer["manifest"])
    lines = []
    for path in sorted(store.files("proxies")):
        if is_manifest(path) and (path in own or path not in others):
            manifest = find_manifest(store, path)
            if manifest is not None:
                lines.append(proxy_cost(workspace, manifest, current=path in own))
    return lines


def _trials(workspace: Workspace, current: Current) -> list[Cost]:
    """Trials of searches: each once; one that no search stands on any more is discarded."""
    store = workspace.store
    mine = {part.path: manifest for manifest in current.of("searches") for part in manifest.parts}
    theirs = _parts_of_others(workspace)
    lines = []
    for path in sorted(store.files(TRIALS)):
        folder, _, name = path.rpartition("/")
        if name != TRIAL or (path in theirs and path not in mine):
            continue
        part = find_part(store, folder, TRIAL)
        if part is None:
            continue  # being written
        lines.append(_trial_cost(workspace, part, json.loads(store.read(path)), mine.get(path)))
    return lines


def _trial_cost(workspace: Workspace, part: Part, trial: Mapping[str, Any], search: Manifest | None) -> Cost:
    record = {**trial["record"], "valid": trial["valid"], "seconds": part.notes.get("seconds")}
    label = search.label if search is not None else ""
    settings = workspace.recipe.proxy
    return cost_of(
        record,
        name=part.path,
        role=SEARCH,
        experiment=label,
        scale=str(record.get("scale") or settings.scale),
        seed=None,
        current=search is not None,
        usd_per_hour=settings.usd_per_hour,
        processes=settings.processes,
        digest=part.digest,
    )


def _parts_of_others(workspace: Workspace) -> set[str]:
    store, found = workspace.store, set[str]()
    for path in store.files(CURRENT):
        if (
            path.endswith(".json")
            and "/searches/" in path
            and not path.startswith(f"{CURRENT}/{workspace.recipe.name}/")
        ):
            found.update(json.loads(store.read(path)).get("files", ()))
    return found


def _span(run: Mapping[str, Any]) -> tuple[float, float] | None:
    if run.get("seconds") is None or not run.get("ended"):
        return None
    ended = datetime.fromisoformat(run["ended"]).timestamp()
    return ended - float(run["seconds"]), ended


def _covered(spans: list[tuple[float, float]]) -> float:
    """How long at least one of the spans lasted."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total
