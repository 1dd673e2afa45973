"""A checkpoint and tasks in, scores out as plain data: what `factory evaluate` shows.

A YAML file declares a task as for lm-evaluation-harness. A JSONL file is multiple choice where its records have a known form,
and held-out documents where they have a text.
"""

import json
import posixpath
import time
from collections.abc import Mapping, Sequence
from typing import Any

from factory.core.errors import InputError
from factory.evaluation.evaluate import evaluate_model, read_task
from factory.evaluation.forms import find_form
from factory.evaluation.harness_tasks import read_declaration
from factory.evaluation.records import ListFiles, OpenFile, list_local, open_local, read_files, records
from factory.evaluation.tasks import BitsPerByte, Harness, MultipleChoice, TaskSettings

STARTS = ("auto", "bos", "eos")


def evaluate_files(
    checkpoint: str, files: Sequence[str], *, limit: int | None = None, **settings: Any
) -> dict[str, Any]:
    """Scores on the tasks of files, by the names they declare (see `evaluate_tasks`)."""
    return evaluate_tasks(checkpoint, name_tasks(files, limit), **settings)


def evaluate_tasks(
    checkpoint: str,
    tasks: Mapping[str, TaskSettings],
    *,
    harness: bool = False,
    start: str = "auto",
    device: str = "auto",
    threads: int = 1,
    open_file: OpenFile = open_local,
    list_files: ListFiles = list_local,
) -> dict[str, Any]:
    """Scores by task, and the harness's beside them where it is asked."""
    import torch

    from factory.evaluation.checkpoint import load_checkpoint
    from factory.evaluation.harness import require_harness, run_harness

    if start not in STARTS:
        raise InputError(f"--start is '{start}'; one of {', '.join(STARTS)} is wanted.")
    declared = {label: config for label, config in tasks.items() if isinstance(config, Harness)}
    if harness:
        require_harness()
        if not declared:
            raise InputError("--harness compares tasks declared in YAML, and none is named with --task FILE.yaml.")
    read = {label: read_task(config, open_file, list_files) for label, config in tasks.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = load_checkpoint(checkpoint, device=device, start=start)  # type: ignore[arg-type]
        theirs = run_harness(model, checkpoint, declared) if harness else {}
        made: dict[str, Any] = {
            "checkpoint": checkpoint,
            "start": model.start_is,
            "context": model.context,
            "tasks": {},
        }
        for label, config in tasks.items():
            begun = time.process_time()
            table = evaluate_model(model, {label: config}, {label: read[label]})
            about = json.loads((table.schema.metadata or {})[b"tasks"])[label]
            about["cpu_seconds"] = time.process_time() - begun
            if label in theirs:
                about["lm_eval"] = theirs[label]
                about["differences"] = differences(about["harness"], theirs[label]["metrics"])
            made["tasks"][label] = about
    finally:
        torch.set_num_threads(before)
    return made


def differences(ours: dict[str, float | None], theirs: dict[str, float]) -> dict[str, float | None]:
    """How far both are apart; of perplexities, which grow without bound, relative to theirs."""
    found: dict[str, float | None] = {}
    for name, value in ours.items():
        scale = abs(theirs[name]) if name.endswith("perplexity") else 1.0
        found[name] = None if value is None else abs(value - theirs[name]) / (scale or 1.0)
    return found


def name_tasks(files: Sequence[str], limit: int | None = None) -> dict[str, TaskSettings]:
    """The tasks of files, by the names they declare or the files' own."""
    made: dict[str, TaskSettings] = {}
    for path in files:
        if path.endswith((".yaml", ".yml")):
            label, config = read_declaration(path)
            found: TaskSettings = config.model_copy(update={"limit": limit}) if limit else config
        else:
            label, found = posixpath.basename(path).split(".")[0], _by_records(path, limit)
        if label in made:
            raise InputError(f"evaluate: two tasks are named '{label}'. Rename one of them.")
        made[label] = found
    return made


def _by_records(path: str, limit: int | None) -> TaskSettings:
    name, data = next(iter(read_files(path).items()))
    first = next((record for _, record in records(name, data)), None)
    if first is None:
        raise InputError(f"{path}: no record.")
    if isinstance(first.get("text"), str):
        return BitsPerByte(uri=path, domain="domain" if "domain" in first else None, limit=limit)
    config = MultipleChoice(uri=path, limit=limit)
    find_form(config, first, f"{name}, line 0 (from 0)")
    return config
