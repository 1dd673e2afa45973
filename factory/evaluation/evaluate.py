"""One checkpoint and some tasks in, one table of per-item results out; a pure function of the weights and the files."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.core.errors import InputError
from factory.evaluation import asking
from factory.evaluation.checkpoint import Start, load_checkpoint
from factory.evaluation.core import derived
from factory.evaluation.likelihood import TokenModel
from factory.evaluation.records import ListFiles, OpenFile, list_local, open_local, read_files
from factory.evaluation.table import EVALUATION
from factory.evaluation.tasks import HIGHER_IS_BETTER, TaskSettings, task_digest

Report = Callable[[str, int, int], None]  # task, items (or choices) done, of how many


def evaluate(
    checkpoint_dir: str | Path,
    tasks: Mapping[str, TaskSettings],
    *,
    open_file: OpenFile = open_local,
    list_files: ListFiles = list_local,
    device: str = "auto",
    batch_tokens: int | None = None,
    threads: int = 1,
    start: Start = "auto",
    report: Report | None = None,
) -> pa.Table:
    """The EVALUATION table of a checkpoint in Hugging Face layout on the tasks, by label.

    `batch_tokens` and `threads` say how fast, not what: scores agree to 1e-4 nats whatever they are. Tasks are read before
    the model, so that a missing file is found at once. `start` names the token before every text (see `load_checkpoint`).
    """
    import torch

    read = {label: read_task(config, open_file, list_files) for label, config in tasks.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = load_checkpoint(checkpoint_dir, device=device, batch_tokens=batch_tokens, start=start)
        return evaluate_model(model, tasks, read, report)
    finally:
        torch.set_num_threads(before)


def read_task(
    config: TaskSettings, open_file: OpenFile = open_local, list_files: ListFiles = list_local
) -> dict[str, bytes]:
    """The files of a task: its items by name, and those of other settings by `@setting/name`."""
    found: dict[str, bytes] = {}
    for place, uri in config.places.items():
        prefix = "" if place == "uri" else f"@{place}/"
        found |= {prefix + name: data for name, data in read_files(uri, open_file, list_files).items()}
    return found


def evaluate_model(
    model: TokenModel,
    tasks: Mapping[str, TaskSettings],
    files: Mapping[str, Mapping[str, bytes]],
    report: Report | None = None,
) -> pa.Table:
    """The same for a model that is already there; `files` holds each task's, by label (see `read_task`)."""
    if not tasks:
        raise InputError("evaluate: no task is named. Give at least one held-out set with `use: bits_per_byte`.")
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    standard: dict[str, Any] = {}
    for label, config in tasks.items():
        digest = task_digest(config, files[label])
        scored, settings = asking.ask(model, config, files[label], _progress(label, report))
        measure = config.measure
        rows += [{"task": label, "task_digest": digest, "metric": measure, **row} for row in scored]
        about[label] = {"metric": measure, "digest": digest, **settings, **_summary(measure, scored)}
        if "core_task" in settings:
            counted = {"accuracy": about[label]["score"], "standard": settings["core_standard"]}
            standard[settings["core_task"]] = counted
    table = pa.Table.from_pylist(rows, EVALUATION)
    model_facts = {"start_token": model.start, "context": model.context}
    metadata: dict[str | bytes, str | bytes] = {"tasks": json.dumps(about), "model": json.dumps(model_facts)}
    if standard:
        metadata["derived"] = json.dumps(derived(standard))
    return table.replace_schema_metadata(metadata)


def _progress(label: str, report: Report | None) -> asking.Counted:
    return lambda total: lambda done: report(label, done, total) if report else None


def _summary(measure: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a reader of the table wants before averaging."""
    baselines = [row["baseline"] for row in rows if "baseline" in row]
    return {
        "higher_is_better": HIGHER_IS_BETTER[measure],
        "score": task_score(rows),
        "items": len(rows),
        "domains": len({row["domain"] for row in rows}),
        "tokens": sum(row["tokens"] for row in rows),
        "baseline": sum(baselines) / len(baselines) if baselines else None,
        "ties": sum(row.get("tied", False) for row in rows),
        "truncated": sum(row["truncated"] for row in rows),
        "not_finite": sum(row.get("value") is None for row in rows),
    }


def task_score(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean over domains of the weighted mean of the values; None where a value is missing."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        if row.get("value") is None:
            return None
        own = sums.setdefault(row["domain"], [0.0, 0.0])
        own[0] += row["value"] * row["weight"]
        own[1] += row["weight"]
    return sum(total / weight for total, weight in sums.values()) / len(sums) if sums else None
