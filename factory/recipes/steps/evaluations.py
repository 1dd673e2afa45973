"""Evaluations: every task on every proxy, one row an item.

Where a scorer of contamination looks for the items of a task, each row says whether its item is `dirty`: found, by the
scorer's rule, in a document the experiment keeps; null where the item cannot be tested. Where the recipe cuts what that
scorer found out of the texts, nothing of it is trained on. What a proxy answered is kept apart from that, so that another
rule asks no model again; and so is how many documents support an item (`factory.recipes.steps.supported`).

Models kept on the way of a training are asked the same, and their answers are parts beside the finished model's
(`final_answers`, `kept_answers`): learning curves. What judges experiments reads the finished models alone.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, InputError
from factory.core.fingerprint import canonical_json, fingerprint
from factory.core.manifest import Manifest, Part
from factory.evaluation.table import CURVE, EVALUATION
from factory.evaluation.tasks import TaskSettings, find_task
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.graph import CONTAMINATION, column_owners
from factory.recipes.recipe import Recipe
from factory.recipes.recipe import Task as AskedTask
from factory.recipes.references import matching_files, open_file, pin_files
from factory.recipes.steps.items import file_hashes, item_places, load_items
from factory.recipes.steps.proxies import kept_models, model_files
from factory.recipes.steps.supported import counting
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import find_part, read_part, write_part
from factory.storage.store import Store
from factory.training.records import step_name


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made | FactoryError]:
    """Evaluated proxies, one task each; a proxy whose training broke down has nothing to evaluate."""
    tasks, made, found = [], {}, dict[str, dict[int | None, Part]]()
    for work in works:
        proxy = work.one("proxies")
        if not proxy.notes["record"]["valid"]:
            made[work.node.name] = Made((), notes={"invalid": proxy.notes["record"]["reason"]})
            continue
        found[work.node.name] = {}
        for payload in _payloads(bench, work, proxy):
            part = find_part(bench.store, work.folder, payload["name"])
            step = payload.get("step")
            if part is not None and "about" in part.notes:
                found[work.node.name][step] = part
            else:
                name = work.node.name if step is None else f"{work.node.name} {step_name(step)}"
                tasks.append(Task(name, f"{__name__}:make", {**payload, "node": work.node.name}))
    failed: dict[str, FactoryError] = {}
    results = bench.run_tasks("evaluate", tasks, unit="models", failed=failed)
    lost = {task.payload["node"]: failed[task.name] for task in tasks if task.name in failed}
    for task in tasks:
        if task.name in results:
            found[task.payload["node"]][task.payload.get("step")] = Part.from_json(results[task.name]["part"])
    found = {name: parts for name, parts in found.items() if name not in lost}
    answered = {name: parts[None] for name, parts in found.items()}
    notes = {name: {"items": part.rows, **part.notes["about"]} for name, part in answered.items()}
    asked = [_flagging(bench, work, answered[work.node.name]) for work in works if work.node.name in answered]
    flagged = bench.run_tasks("contaminated items", [task for task in asked if task is not None], unit="proxies")
    for name, part in answered.items():
        if name in flagged:
            part = Part.from_json(flagged[name]["part"])
            notes[name]["contaminated"] = part.notes["contaminated"]
        on_the_way = [
            own for step, own in sorted(found[name].items(), key=lambda item: item[0] or 0) if step is not None
        ]
        made[name] = Made((part, *on_the_way), notes=notes[name])
    counts = [counting(bench, work, made[work.node.name].parts) for work in works if work.node.name in answered]
    supported = bench.run_tasks("support of items", [task for task in counts if task is not None], unit="proxies")
    for name, told in supported.items():
        asked_of = notes[name]["tasks"]
        notes[name]["tasks"] = {label: {**about, **told["about"].get(label, {})} for label, about in asked_of.items()}
        made[name] = Made(tuple(Part.from_json(part) for part in told["parts"]), notes=notes[name])
    return {**made, **lost}


def final_answers(evaluated: Manifest) -> list[Part]:
    """What the finished model answered; none where its training broke down."""
    return [part for part in evaluated.parts if "step" not in part.notes]


def kept_answers(evaluated: Manifest) -> list[Part]:
    """What the models kept on the way answered, in the order of their steps, which their notes name."""
    return [part for part in evaluated.parts if "step" in part.notes]


def _payloads(bench: Bench, work: Work, proxy: Manifest) -> Iterator[dict[str, Any]]:
    """What `make` is told of the finished model, and of each that was kept on the way."""
    assert bench.recipe.tokenizer is not None  # proxies have one
    shared = {
        "store": bench.store.url,
        "folder": work.folder,
        "tasks": task_settings(bench.recipe.evaluate),
        "inputs": bench.recipe.folder,
        "pinned": dict(work.node.files),
        "start": "bos" if bench.recipe.tokenizer.bos else "eos",
    }
    yield {**shared, "name": proxy.digest, "checkpoint": [part.path for part in model_files(proxy)]}
    record = proxy.notes["record"]
    for step, parts in kept_models(proxy).items():
        own = {"step": step, "tokens_seen": step * (record["tokens_seen"] // record["steps_done"])}
        name = f"{proxy.digest}-{step_name(step)}"
        yield {**shared, **own, "name": name, "checkpoint": [part.path for part in parts]}


def task_settings(tasks: Iterable[AskedTask]) -> dict[str, Any]:
    return {task.label: {"use": task.use, "settings": task.config.model_dump(mode="json")} for task in tasks}


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one model on all tasks."""
    from factory.evaluation.evaluate import evaluate

    store = Store(payload["store"])
    tasks = {label: find_task(item["use"])(**item["settings"]) for label, item in payload["tasks"].items()}
    _check_pinned(tasks, payload.get("pinned", {}), payload["inputs"])
    with store.as_local(*payload["checkpoint"]) as files:
        table = evaluate(
            os.path.dirname(files[0]),
            tasks,
            open_file=open_file,
            list_files=lambda uri: matching_files(uri, payload["inputs"]),
            threads=context.threads,
            start=payload["start"],
        )
    about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    table = table.replace_schema_metadata(None)
    notes = {"rows": table.num_rows, "about": _about(about)}
    schema = EVALUATION
    if "step" in payload:
        schema, own = CURVE, {name: payload[name] for name in ("step", "tokens_seen")}
        for name, value in own.items():
            table = table.append_column(CURVE.field(name), pa.repeat(pa.scalar(value, pa.int64()), table.num_rows))
        notes |= own
    batches = table.combine_chunks().to_batches()
    part = write_part(store, payload["folder"], payload["name"], schema, batches, ids="", notes=lambda: notes)
    return {"part": part.to_json()}


def _check_pinned(tasks: Mapping[str, TaskSettings], pinned: Mapping[str, str], inputs: str) -> None:
    """Raise InputError where a task's file is another than the one the evaluation was planned with."""
    if not pinned:
        return
    found = pin_files([uri for config in tasks.values() for uri in config.places.values()], inputs)
    changed = sorted(name for name in {*pinned, *found} if pinned.get(name) != found.get(name))
    if changed:
        raise InputError(
            f"evaluate: {', '.join(name.removeprefix('file:') for name in changed)} changed since this run was planned. "
            "Run again: what is evaluated with the new files is kept apart."
        )


def _about(metadata: Mapping[str, str]) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in metadata.items()}


# --- items a model has seen


FLAGGED = EVALUATION.append(pa.field("dirty", pa.bool_()))


def _flagging(bench: Bench, work: Work, answered: Part) -> Task | None:
    """The task that puts `dirty` beside a proxy's answers; None where no scorer looks for these items."""
    scores = [manifest for manifest in work.of("scores") if manifest.spec["stage"] == CONTAMINATION]
    if not scores:
        return None
    selection = work.one("selection")
    # Snapshots are scored alike: by scorer, its settings and the parts of all snapshots.
    scorers = {manifest.label: manifest.spec for manifest in scores}
    parts = {label: [part.to_json() for m in scores if m.label == label for part in m.parts] for label in scorers}
    made_of = {
        "answered": answered.digest,
        "scores": {manifest.name: manifest.digest for manifest in scores},
        "selection": selection.digest,
        "scorers": scorers,
        "cut": (cut := cut_out(bench.recipe)),
    }
    payload = {
        "store": bench.store.url,
        "folder": work.folder,
        "name": f"flagged-{fingerprint(made_of)}",
        "answered": answered.to_json(),
        "scorers": scorers,
        "scores": parts,
        "cut": cut,
        "selection": [part.to_json() for part in selection.parts],
        "tasks": {task.label: task.config.uri for task in bench.recipe.evaluate},
        "inputs": bench.recipe.folder,
    }
    return Task(work.node.name, f"{__name__}:flag", payload)


def cut_out(recipe: Recipe) -> list[str]:
    """The scorers whose `removed` spans a rewriter takes out of the texts."""
    owners = column_owners(recipe)
    read = {owners.get(name) for use in recipe.rewrite for name in use.stage.reads_for(use.config)}
    return [use.label for use in recipe.scorers if ("scores", use.label, "removed") in read]


def flag(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the answers of one proxy, with `dirty`."""
    store = Store(payload["store"])
    kept = _kept_rows(store, [Part.from_json(part) for part in payload["selection"]])
    seen: dict[tuple[str, int], bool] = {}  # by the content of the file and the line
    for label, spec in payload["scorers"].items():
        index = load_items(canonical_json(spec), payload["inputs"])
        places = item_places(index, spec["files"])
        scored = [] if label in payload["cut"] else payload["scores"][label]
        dirty = _dirty_items(store, [Part.from_json(part) for part in scored], kept)
        for number, place in enumerate(places):
            if place is not None and not index.untested[number]:
                seen[place] = seen.get(place, False) or number in dirty
    hashes = {label: file_hashes(uri, payload["inputs"]) for label, uri in payload["tasks"].items()}
    table = read_part(store, Part.from_json(payload["answered"]))
    flags = []
    for task, item in zip(table.column("task").to_pylist(), table.column("item").to_pylist(), strict=True):
        name, _, line = item.rpartition(":")
        flags.append(seen.get((hashes[task].get(name, ""), int(line))))
    table = table.append_column("dirty", pa.array(flags, pa.bool_()))
    known = [one for one in flags if one is not None]
    notes = {"rows": table.num_rows, "contaminated": {"tested": len(known), "dirty": sum(known)}}
    batches = table.combine_chunks().to_batches()
    part = write_part(store, payload["folder"], payload["name"], FLAGGED, batches, ids="", notes=lambda: notes)
    return {"part": part.to_json()}


def _kept_rows(store: Store, parts: Iterable[Part]) -> dict[str, Any]:
    """The rows of each document part that the experiment keeps."""
    rows: dict[str, list[Any]] = {}
    for part in parts:
        table = read_part(store, part, ["part", "row"])
        for digest in pc.unique(table.column("part")).to_pylist():
            own = table.filter(pc.equal(table.column("part"), digest)).column("row").to_numpy()
            rows.setdefault(digest, []).append(own)
    return {digest: np.concatenate(found) for digest, found in rows.items()}


def _dirty_items(store: Store, parts: Iterable[Part], kept: Mapping[str, Any]) -> set[int]:
    """The numbers of the items that are in a kept document."""
    found: set[int] = set()
    for part in parts:
        if part.name not in kept:
            continue
        lists = read_part(store, part, ["found"]).column("found").take(pa.array(kept[part.name]))
        found.update(pc.unique(lists.combine_chunks().flatten()).to_pylist())
    return found
