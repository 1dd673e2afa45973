"""One checkpoint and some tasks in, one table of per-item results out; a pure function of the weights and the files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.core.errors import InputError
from factory.evaluation.bits_per_byte import read_documents, score_documents
from factory.evaluation.checkpoint import Start, load_checkpoint
from factory.evaluation.likelihood import Model
from factory.evaluation.multiple_choice import read_items, score_items
from factory.evaluation.records import ListFiles, OpenFile, list_local, open_local, read_files
from factory.evaluation.table import EVALUATION
from factory.evaluation.tasks import HIGHER_IS_BETTER, BitsPerByte, MultipleChoice, task_digest

Report = Callable[[str, int, int], None]  # task, items (or choices) done, of how many


def evaluate(
    checkpoint_dir: str | Path,
    tasks: Mapping[str, BitsPerByte | MultipleChoice],
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

    read = {label: read_files(config.uri, open_file, list_files) for label, config in tasks.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = load_checkpoint(checkpoint_dir, device=device, batch_tokens=batch_tokens, start=start)
        return evaluate_model(model, tasks, read, report)
    finally:
        torch.set_num_threads(before)


def evaluate_model(
    model: Model,
    tasks: Mapping[str, BitsPerByte | MultipleChoice],
    files: Mapping[str, Mapping[str, bytes]],
    report: Report | None = None,
) -> pa.Table:
    """The same for a model that is already there; `files` holds the bytes of each task's files, by label and name."""
    if not tasks:
        raise InputError("evaluate: no task is named. Give at least one held-out set with `use: bits_per_byte`.")
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for label, config in tasks.items():
        digest = task_digest(config, files[label])
        scored, settings = _score(model, label, config, files[label], report)
        rows += [{"task": label, "task_digest": digest, "metric": config.metric, **row} for row in scored]
        about[label] = {"metric": config.metric, "digest": digest, **settings, **_summary(config.metric, scored)}
    table = pa.Table.from_pylist(rows, EVALUATION)
    model_facts = {"start_token": model.start, "context": model.context}
    return table.replace_schema_metadata({"tasks": json.dumps(about), "model": json.dumps(model_facts)})


def _score(
    model: Model,
    label: str,
    config: BitsPerByte | MultipleChoice,
    files: Mapping[str, bytes],
    report: Report | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if isinstance(config, BitsPerByte):
        documents = read_documents(config, files)
        return score_documents(model, documents, _progress(label, len(documents), report)), {}
    items, normalize = read_items(config, files)
    total = sum(len(item.continuations) for item in items)
    return score_items(model, items, normalize, _progress(label, total, report)), {"normalize": normalize}


def _progress(label: str, total: int, report: Report | None) -> Callable[[int], None]:
    return lambda done: report(label, done, total) if report else None


def _summary(metric: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a reader of the table wants before averaging; nothing in it decides anything."""
    baselines = [row["baseline"] for row in rows if "baseline" in row]
    return {
        "higher_is_better": HIGHER_IS_BETTER[metric],
        "items": len(rows),
        "domains": len({row["domain"] for row in rows}),
        "tokens": sum(row["tokens"] for row in rows),
        "baseline": sum(baselines) / len(baselines) if baselines else None,
        "ties": sum(row.get("tied", False) for row in rows),
        "truncated": sum(row["truncated"] for row in rows),
        "not_finite": sum(row.get("value") is None for row in rows),
    }
