"""Evaluations: every task on every proxy, one row an item."""

import json
import os
from collections.abc import Mapping
from typing import Any

from factory.core.manifest import Part
from factory.evaluation.table import EVALUATION
from factory.evaluation.tasks import find_task
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.recipe import Recipe
from factory.recipes.references import matching_files, open_file
from factory.recipes.steps.proxies import RECORD
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import write_part
from factory.storage.store import Store


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Evaluated proxies, one task each; a proxy whose training broke down has nothing to evaluate."""
    tasks, made = [], {}
    for work in works:
        proxy = work.one("proxies")
        if not proxy.notes["record"]["valid"]:
            made[work.node.name] = Made((), notes={"invalid": proxy.notes["record"]["reason"]})
            continue
        assert bench.recipe.tokenizer is not None  # proxies have one
        payload = {
            "store": bench.store.url,
            "folder": work.folder,
            "name": proxy.digest,
            "checkpoint": [part.path for part in proxy.parts if part.name != RECORD],
            "tasks": _tasks(bench.recipe),
            "inputs": bench.recipe.folder,
            "start": "bos" if bench.recipe.tokenizer.bos else "eos",
        }
        tasks.append(Task(work.node.name, f"{__name__}:make", payload))
    results = bench.run_tasks("evaluate", tasks, unit="proxies")
    for task in tasks:
        made[task.name] = Made((Part.from_json(results[task.name]["part"]),), notes=results[task.name]["notes"])
    return made


def _tasks(recipe: Recipe) -> dict[str, Any]:
    return {task.label: {"use": task.use, "settings": task.config.model_dump(mode="json")} for task in recipe.evaluate}


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one proxy on all tasks."""
    from factory.evaluation.evaluate import evaluate

    store = Store(payload["store"])
    tasks = {label: find_task(item["use"])(**item["settings"]) for label, item in payload["tasks"].items()}
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
    batches = table.replace_schema_metadata(None).combine_chunks().to_batches()
    part = write_part(
        store, payload["folder"], payload["name"], EVALUATION, batches, ids="", notes=lambda: {"rows": table.num_rows}
    )
    return {"part": part.to_json(), "notes": {"items": table.num_rows, **_about(about)}}


def _about(metadata: Mapping[str, str]) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in metadata.items()}
