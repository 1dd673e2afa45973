"""How each kind of task is asked: its files and a model in, rows of the EVALUATION table and what is to say of them out."""

from collections.abc import Callable, Mapping
from typing import Any

from factory.core.errors import InputError
from factory.evaluation import core, harness_tasks, longtail, membership, olmes, temporal, toxicity
from factory.evaluation.bits_per_byte import read_documents, score_documents
from factory.evaluation.likelihood import Model, Progress, TokenModel
from factory.evaluation.multiple_choice import read_items, score_items
from factory.evaluation.tasks import (
    BitsPerByte,
    Core,
    Formulation,
    Harness,
    LongTail,
    Membership,
    MultipleChoice,
    Olmes,
    TaskSettings,
    Temporal,
    Toxicity,
)

Files = Mapping[str, bytes]
Counted = Callable[[int], Progress]  # how many items there are, and then how many are done
Answers = tuple[list[dict[str, Any]], dict[str, Any]]


def ask(model: TokenModel, config: TaskSettings, files: Files, counted: Counted) -> Answers:
    """The rows of a task, and its settings and findings; `files` as `evaluate.read_task` gives them."""
    own = {name: data for name, data in files.items() if not name.startswith("@")}
    match config:
        case Temporal():
            return _temporal(model, config, own, counted)
        case Toxicity():
            labelled = toxicity.read_labelled(config, own)
            rows = score_documents(model, labelled, counted(len(labelled)))
            return rows, {"known": toxicity.known(rows)}
        case BitsPerByte():
            documents = read_documents(config, own)
            return score_documents(model, documents, counted(len(documents))), {}
        case Membership():
            rows = membership.score_texts(model, config, own, counted(0))
            return rows, {"separation": membership.separated(rows), "k": config.k}
        case Core():
            return _core(model, config, own, counted)
        case Olmes():
            return _olmes(model, config, own, of(files, "shots"), counted)
        case Harness():
            rows = harness_tasks.score_harness(model, config, own, of(files, "shots"), counted(0))
            return rows, {"harness": harness_tasks.harness_metrics(rows, config.metrics), "version": config.version}
        case MultipleChoice():
            return _multiple_choice(model, config, own, files, counted)
    raise InputError(f"evaluate: nobody knows how to ask a {type(config).__name__}.")


def of(files: Files, place: str) -> Files | None:
    """The files of a setting; None where it names none."""
    prefix = f"@{place}/"
    return {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)} or None


def _multiple_choice(model: Model, config: MultipleChoice, own: Files, files: Files, counted: Counted) -> Answers:
    items, normalize = read_items(config, own, of(files, "shots"))
    total = sum(len(item.continuations) for item in items)
    rows = score_items(model, items, normalize, counted(total), context=config.max_tokens)
    settings: dict[str, Any] = {"normalize": normalize, "formulation": config.formulation}
    if isinstance(config, LongTail) and config.counts is not None:
        rows = longtail.group_rows(config, rows, longtail.read_counts(of(files, "counts") or {}))
        known = [row for row in rows if row.get("value") is not None]
        settings["trend"] = longtail.trend([row["extra"]["count"] for row in known], [row["value"] for row in known])
    return [row | {"formulation": config.formulation} for row in rows], settings


def _core(model: Model, config: Core, own: Files, counted: Counted) -> Answers:
    name = core.task_name(config, own)
    if core.TASKS[name].kind == "generation":
        return _written(model, config, own, counted, name)
    items, normalize = core.read_core(config, own)
    rows = score_items(model, items, normalize, counted(sum(len(item.continuations) for item in items)))
    guessing = core.baseline(name)
    settings = {"normalize": normalize, "core_task": name, "core_standard": core.is_standard(config, name)}
    # One domain: DCLM's scores are means over items.
    return [row | {"domain": "all", "group": row["domain"], "baseline": guessing} for row in rows], settings


def _written(model: Model, config: Core, own: Files, counted: Counted, name: str) -> Answers:
    from factory.evaluation.checkpoint import Checkpoint
    from factory.evaluation.generation import score_written

    if not isinstance(model, Checkpoint):
        raise InputError(f"core: '{name}' is answered by writing, which a {type(model).__name__} does not.")
    rows = score_written(model, config, own, counted(0))
    return rows, {"core_task": name, "core_standard": core.is_standard(config, name)}


def _olmes(model: Model, config: Olmes, own: Files, shots: Files | None, counted: Counted) -> Answers:
    asked: tuple[Formulation, ...] = ("cloze", "letters") if config.formulation == "best" else (config.formulation,)
    found: dict[str, list[dict[str, Any]]] = {}
    for formulation in asked:
        items, normalize = olmes.read_olmes(config, own, shots, formulation)
        total = sum(len(item.continuations) for item in items)
        rows = score_items(model, items, normalize, counted(total), context=olmes.MAX_TOKENS)
        found[formulation] = [row | {"formulation": formulation} for row in rows]
    scores = {formulation: olmes.macro(rows) for formulation, rows in found.items()}
    best = max(asked, key=lambda one: (scores[one] if scores[one] is not None else -1.0, one == "cloze"))
    settings = {"olmes": olmes.VERSION, "formulation": best, "formulations": scores}
    return found[best], settings | {"standard": config.few_shot == 5 and config.limit is None}


def _temporal(model: Model, config: Temporal, own: Files, counted: Counted) -> Answers:
    documents = temporal.read_dated(config, own)
    rows = score_documents(model, documents, counted(len(documents)))
    settings: dict[str, Any] = {"by": config.by}
    if config.trained is not None:
        trained = temporal.period(config.trained, config.by, "trained")
        settings["misalignment"] = temporal.misalignment(
            {(trained, period): bits for period, bits in temporal.by_period(rows).items()}
        )
    return rows, settings
