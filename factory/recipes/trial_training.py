"""What trainings and evaluations cost, measured on the sample: the real steps, for a few steps of a training.

A training is tried with its own shape on as many sequences at once as a moment allows, over the sample's tokens, repeated
where they are few. An evaluation is tried on a few items of each task, by the model that came out: what a model has learnt
changes no time. How many tokens all items have is counted with the real tokenizer and a model that computes nothing.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from factory.core.errors import FactoryError
from factory.core.manifest import Manifest, Part
from factory.evaluation.likelihood import Row, RowScore
from factory.evaluation.tasks import Core, TaskSettings, find_task
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.recipe import Recipe
from factory.recipes.references import matching_files, open_file
from factory.recipes.steps import evaluations, proxies
from factory.recipes.work import Bench
from factory.storage.store import Store
from factory.training.flops import exact_flops
from factory.training.scales import Scale

# Operations of the sequences that are tried at once: about a second of a core, and of a GPU.
CPU_OPERATIONS, GPU_OPERATIONS = 2e10, 1e14
MOST_OPERATIONS = 20 * CPU_OPERATIONS  # of one sequence on a CPU; what is larger is not tried
PARAMETER_BYTES = 16  # weight, gradient and two moments
FEW_STEPS, MORE_STEPS = 2, 6
FEW_ITEMS, MORE_ITEMS = 2, 12  # of each task, or domain


@dataclass(frozen=True)
class TrainingRate:
    """Seconds of a trained token on `device` and of its CPUs, of a training besides, and of a worker's first one."""

    token: float
    cpu_token: float
    start: float
    boot: float
    device: str
    memory: int | None  # bytes at its peak; None where fewer sequences were tried than a step has
    bytes: int  # of the model's files
    records: int = 0  # finished trainings whose time `token` is; 0: it was tried


@dataclass(frozen=True)
class EvaluationRate:
    """CPU seconds of a token that is fed and of an evaluation besides; by task, how many items and tokens there are."""

    token: float
    start: float
    tasks: Mapping[str, tuple[int, int]]
    item_bytes: float
    memory: int

    def of(self, labels: Sequence[str]) -> tuple[int, float]:
        """Items of these tasks, and the seconds they take."""
        items, tokens = (sum(self.tasks[label][at] for label in labels) for at in (0, 1))
        return items, self.start + tokens * self.token


@dataclass(frozen=True)
class Tried:
    training: TrainingRate
    evaluation: EvaluationRate | None  # None where nothing is evaluated


def try_training(
    bench: Bench, label: str, pool: Manifest, tokenizer: Manifest, measured: Callable[[Task], tuple[Any, int]]
) -> Tried:
    """What an experiment's trainings and their evaluations take here; `measured` runs a task: its result, and peak bytes.

    Raises FactoryError where a step is too large to be tried.
    """
    recipe = bench.recipe
    spec = {"seed": [recipe.seed, 0], "tokens": 0}
    available = {name: int(share * pool.notes["tokens"]) for name, share in pool.notes["shares"].items()}
    train = proxies.payload_of(bench, label, pool, tokenizer, spec, epochs={})
    if not sum(available.values()):
        raise FactoryError("what the sample keeps has no tokens to try it on; a larger --sample may have some")
    payload = {
        "train": {**train, "average": 1, "checkpoints": 1, "usd_per_hour": None},
        "available": sum(available.values()),
        "domains": sorted(available),
        "folder": f"tried/{label}",
    }
    told, peak = measured(Task(f"train {label}", f"{__name__}:train_a_little", payload))
    if told.get("too_large"):
        raise FactoryError(told["too_large"])
    training = TrainingRate(**told["rate"], memory=peak if told["whole"] else None)
    if not recipe.evaluate:
        return Tried(training, None)
    asked = {
        "store": bench.store.url,
        "folder": f"tried/{label}/answers",
        "checkpoint": told["model"],
        "tasks": evaluations.task_settings(recipe.evaluate),
        "inputs": recipe.folder,
        "start": "bos" if recipe.tokenizer is not None and recipe.tokenizer.bos else "eos",
    }
    told, peak = measured(Task(f"evaluate {label}", f"{__name__}:evaluate_a_little", asked))
    return Tried(training, EvaluationRate(**told, memory=peak))


def like(recipe: Recipe, label: str) -> str:
    """What two experiments have in common whose trainings take the same: their shape, and how it is computed."""
    proxy = recipe.experiment(label).proxy
    return proxy.model_copy(update={"seeds": 1, "usd_per_hour": None, "average": 1}).model_dump_json()


def train_a_little(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: three short trainings of one shape. The first pays what a worker pays once, the last reads more tokens."""
    from factory.training.proxy import choose_device
    from factory.training.tokenizer import Encoder

    train = payload["train"]
    scale, processes = Scale(**train["scale"]), int(train["processes"])
    with Store(train["store"]).as_local(train["tokenizer"]) as (path,):
        vocabulary = Encoder(path, **train["policy"]).vocabulary
    on_gpu = choose_device("auto") == "cuda"
    operations = exact_flops(scale, vocabulary, scale.context)
    if not on_gpu and (operations > MOST_OPERATIONS or _too_much(scale, vocabulary)):
        large = (
            f"a step of {scale.name} ({scale.parameters(vocabulary).total:,} parameters) is too large to be tried here"
        )
        return {"too_large": f"{large}; the record of a finished training tells"}
    most = int((GPU_OPERATIONS if on_gpu else CPU_OPERATIONS) / operations)
    rows = max(processes, min(scale.batch, most))
    # A schedule that has room in a few steps.
    small = replace(scale, batch=rows, schedule="cosine", warmup_steps=1, warmup_share=0.0, ema=0.0)
    made = []
    for name, steps in (("first", FEW_STEPS), ("again", FEW_STEPS), ("more", FEW_STEPS + MORE_STEPS)):
        budget = steps * small.step_tokens
        times = math.ceil((budget + small.context + 1) / payload["available"]) + 1
        asked = {
            **train,
            "scale": asdict(small),
            "budget": budget,
            "epochs": dict.fromkeys(payload["domains"], float(times)),
            "folder": f"{payload['folder']}/{name}",
        }
        begun = time.process_time()
        result = proxies.make(asked, context)
        made.append((time.process_time() - begun, result))
    (first, _), (again, less), (more, last) = made
    record, parts = last["record"], [Part.from_json(part) for part in last["parts"] if part["name"] != proxies.RECORD]
    tokens = MORE_STEPS * small.step_tokens
    device = str(record.get("device") or ("cuda" if on_gpu else "cpu"))
    token = (
        max(0.0, record["seconds"] - less["record"]["seconds"]) / tokens or record["seconds"] / record["tokens_seen"]
    )
    # Several processes compute beside this one, whose time alone is known.
    cpu = max(0.0, more - again) / tokens if processes == 1 else token * processes
    if device == "cpu" and processes == context.threads == 1:
        token = cpu  # what others compute on this machine now is no part of it
    return {
        "rate": {
            "token": token,
            "cpu_token": cpu,
            "start": max(0.0, again - cpu * FEW_STEPS * small.step_tokens),
            "boot": max(0.0, first - again),
            "device": device,
            "bytes": sum(part.bytes for part in parts),
        },
        "whole": rows == scale.batch,
        "model": [part.path for part in parts],
    }


def _too_much(scale: Scale, vocabulary: int) -> bool:
    import psutil

    return bool(scale.parameters(vocabulary).total * PARAMETER_BYTES > psutil.virtual_memory().available / 2)


def evaluate_a_little(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: a few items of each task, answered three times; and all items, counted."""
    from factory.evaluation.checkpoint import load_checkpoint
    from factory.evaluation.evaluate import read_task

    tasks = {label: find_task(item["use"])(**item["settings"]) for label, item in payload["tasks"].items()}
    spent, part = [], None
    for name, most in (("first", FEW_ITEMS), ("again", FEW_ITEMS), ("more", MORE_ITEMS)):
        asked = {
            label: {**payload["tasks"][label], "settings": limited(config, most).model_dump(mode="json")}
            for label, config in tasks.items()
        }
        begun = time.process_time()
        made = evaluations.make({**payload, "tasks": asked, "name": name}, context)
        spent.append(time.process_time() - begun)
        part = Part.from_json(made["part"])
    files = {
        label: read_task(config, open_file, lambda uri: matching_files(uri, payload["inputs"]))
        for label, config in tasks.items()
    }
    with Store(payload["store"]).as_local(*payload["checkpoint"]) as paths:
        model = load_checkpoint(os.path.dirname(paths[0]), start=payload["start"])
    counted: list[dict[str, tuple[int, int]]] = []
    for limit in (FEW_ITEMS, MORE_ITEMS, None):
        found = {}
        for label, config in tasks.items():
            found[label] = count_items(model, config if limit is None else limited(config, limit), files[label])
        counted.append(found)
    few, more = (sum(tokens for _, tokens in found.values()) for found in counted[:2])
    token = max(0.0, spent[2] - spent[1]) / max(1, more - few) or spent[2] / max(1, more)
    assert part is not None
    return {
        "token": token,
        "start": max(0.0, spent[1] - token * few),
        "tasks": counted[2],
        "item_bytes": part.bytes / max(1, part.rows),
    }


def limited(config: TaskSettings, most: int) -> TaskSettings:
    """A task with at most so many items (of each domain, where its limit is of those); as it is where it has no limit."""
    if "limit" not in type(config).model_fields:
        return config
    return config.model_copy(update={"limit": min(most, getattr(config, "limit", None) or most)})


def count_items(model: Any, config: TaskSettings, files: Mapping[str, bytes]) -> tuple[int, int]:
    """The items of a task, and the tokens a model is fed for them."""
    from factory.evaluation import asking, core, generation

    if isinstance(config, Core):
        own = {name: data for name, data in files.items() if not name.startswith("@")}
        if core.TASKS[core.task_name(config, own)].kind == "generation":
            return generation.count_written(model, config, own)
    counting = Counting(model)
    rows, _ = asking.ask(counting, config, files, lambda total: lambda done: None)
    return len(rows), counting.tokens


class Counting:
    """A model that computes nothing and counts what it is fed."""

    def __init__(self, model: Any) -> None:
        self.model, self.tokens = model, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def score(self, rows: Sequence[Row]) -> list[RowScore]:
        self.tokens += sum(len(row.tokens) for row in rows)
        return [RowScore(float(row.scored), False) for row in rows]

    def token_nats(self, rows: Sequence[Row]) -> list[list[float]]:
        self.tokens += sum(len(row.tokens) for row in rows)
        return [[1.0] * row.scored for row in rows]
