"""lm-evaluation-harness itself, on a checkpoint and declarations of tasks: what our own scores are compared with.

It is run as it is, offline, with what both have to agree on said to it: the start token, how many tokens can be fed, and
where the files lie. Texts that are predicted whole get one start token from it, where its tokenizer would make it two.
"""

import importlib.util
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.core.errors import InputError
from factory.evaluation.checkpoint import Checkpoint
from factory.evaluation.tasks import Harness


def require_harness() -> None:
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("lm-evaluation-harness is not installed. pip install 'corpus-factory[harness]' brings it.")


def run_harness(
    model: Checkpoint,
    folder: str | Path,
    tasks: Mapping[str, Harness],
    *,
    batch_size: int = 8,
    samples: bool = False,
) -> dict[str, dict[str, Any]]:
    """By label: the harness's metrics, the CPU seconds it took without loading, and its items where `samples` asks."""
    require_harness()
    rolling = {label: task for label, task in tasks.items() if task.output_type == "loglikelihood_rolling"}
    others = {label: task for label, task in tasks.items() if label not in rolling}
    found: dict[str, dict[str, Any]] = {}
    for asked, adds in ((others, None), (rolling, False)):
        if asked:
            found |= _run(model, folder, asked, adds, batch_size, samples)
    return {label: found[label] for label in tasks}


def as_config(label: str, task: Harness) -> dict[str, Any]:
    """A resolved task as the harness takes it."""
    files = {"test": _absolute(task.uri), **({"shots": _absolute(task.shots)} if task.shots else {})}
    made: dict[str, Any] = {
        "task": label,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "output_type": task.output_type,
        "doc_to_text": task.doc_to_text,
        "doc_to_target": task.doc_to_target,
        "description": task.description,
        "target_delimiter": task.target_delimiter,
        "fewshot_delimiter": task.fewshot_delimiter,
        "num_fewshot": task.few_shot,
        "metric_list": [{"metric": metric, **_AGGREGATION[metric]} for metric in task.metrics],
        "metadata": {"version": task.version},
    }
    if task.doc_to_choice is not None:
        choices = task.doc_to_choice
        made["doc_to_choice"] = choices if isinstance(choices, str) else list(choices)
    if task.few_shot:
        made["fewshot_config"] = {"sampler": task.sampler}
        if task.samples:
            made["fewshot_config"]["samples"] = [dict(sample) for sample in task.samples]
        else:
            made["fewshot_split"] = "shots" if task.shots else "test"
    return made


_MEAN = {"aggregation": "mean", "higher_is_better": True}
_AGGREGATION: Mapping[str, dict[str, Any]] = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_mutual_info"), _MEAN),
    "perplexity": {"aggregation": "perplexity", "higher_is_better": False},
    "bits_per_byte": {"aggregation": "bits_per_byte", "higher_is_better": False},
    "byte_perplexity": {"aggregation": "weighted_perplexity", "higher_is_better": False},
    "word_perplexity": {"aggregation": "weighted_perplexity", "higher_is_better": False},
}


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).resolve())


def _run(
    model: Checkpoint,
    folder: str | Path,
    tasks: Mapping[str, Harness],
    adds: bool | None,
    batch_size: int,
    samples: bool,
) -> dict[str, dict[str, Any]]:
    with _quiet():
        import datasets
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        datasets.disable_progress_bars()
        theirs = HFLM(
            pretrained=str(Path(folder).resolve()),
            device=model.device,
            dtype="float32",
            batch_size=batch_size,
            max_length=model.context,
            prefix_token_id=model.start,
            trust_remote_code=False,
            **({} if adds is None else {"add_bos_token": adds}),
        )
        made = {}
        for label, task in tasks.items():  # one by one, for the time of each
            begun = time.process_time()
            result = lm_eval.simple_evaluate(
                model=theirs,
                tasks=[as_config(label, task)],
                limit=task.limit,
                bootstrap_iters=0,
                log_samples=samples,
                task_manager=TaskManager(include_defaults=False),
            )
            seconds = time.process_time() - begun
            scores = result["results"][label]
            metrics = {metric: float(scores[f"{metric},none"]) for metric in task.metrics}
            made[label] = {"metrics": metrics, "cpu_seconds": seconds}
            if samples:
                made[label]["samples"] = result["samples"][label]
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the harness and its libraries tell on the way."""
    import contextlib
    import os
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stderr(nowhere),
            contextlib.redirect_stdout(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
