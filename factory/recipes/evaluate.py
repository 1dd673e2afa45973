"""Proxies of a recipe by their names, asked anything: `EXPERIMENT` is all its seeds, `EXPERIMENT/SCALE-SEED` one of them.

What `factory run` evaluates is kept and compared; this only answers, on the recipe's own tasks or on those of files.
"""

import os
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from factory.core.errors import FactoryError, InputError, suggest
from factory.core.manifest import Manifest
from factory.evaluation.report import evaluate_tasks, name_tasks
from factory.evaluation.tasks import TaskSettings
from factory.recipes.lookup import Current
from factory.recipes.references import matching_files, open_file
from factory.recipes.steps.proxies import model_files
from factory.recipes.trial_training import limited
from factory.recipes.workspace import Workspace


def evaluate_proxies(
    workspace: Workspace, name: str, files: Sequence[str] = (), *, limit: int | None = None, **settings: Any
) -> dict[str, Any]:
    """Scores of each proxy of that name, and by task and metric their mean and standard deviation over seeds.

    Raises InputError for a name there is not, and FactoryError where nothing of it has been trained.
    """
    chosen = find_proxies(workspace, name)
    tasks = _tasks(workspace, files, limit)
    tokenizer = workspace.recipe.tokenizer
    if settings.get("start", "auto") == "auto" and tokenizer is not None:
        settings["start"] = "bos" if tokenizer.bos else "eos"
    made: dict[str, Any] = {}
    workspace.progress.start("evaluate", len(chosen), "proxies")
    for proxy in chosen:
        with workspace.store.as_local(*(part.path for part in model_files(proxy))) as paths:
            folder = os.path.dirname(paths[0])
            scored = evaluate_tasks(
                folder,
                tasks,
                open_file=open_file,
                list_files=lambda uri: matching_files(uri, workspace.recipe.folder),
                **settings,
            )
        made[f"{proxy.label}/{proxy.partition}"] = {**scored, "checkpoint": f"{proxy.label}/{proxy.partition}"}
        workspace.progress.advance(1)
    workspace.progress.finish()
    return {"proxies": made, "means": _means(list(made.values()))}


def find_proxies(workspace: Workspace, name: str) -> list[Manifest]:
    """The finished proxies that a name stands for."""
    current = Current(workspace)
    label, slash, partition = name.partition("/")
    labels = [experiment.label for experiment in workspace.recipe.experiments]
    if label not in labels:
        raise InputError(f"No experiment is named '{label}', and no folder '{name}'.{suggest(label, labels)}")
    own = [manifest for manifest in current.of("proxies") if manifest.label == label]
    if not own:
        raise FactoryError(f"'{label}' has no trained proxy yet. 'factory run proxies/{label}' trains it.")
    if slash and partition not in [manifest.partition for manifest in own]:
        known = [manifest.partition for manifest in own]
        raise InputError(f"'{label}' has no proxy '{partition}'.{suggest(partition, known)}")
    found = [manifest for manifest in own if not slash or manifest.partition == partition]
    sound = [manifest for manifest in found if manifest.notes["record"]["valid"]]
    if not sound:
        reason = found[0].notes["record"]["reason"]
        raise FactoryError(f"The training of '{name}' broke down ({reason}), so there is no model to ask.")
    return sound


def _tasks(workspace: Workspace, files: Sequence[str], limit: int | None) -> dict[str, TaskSettings]:
    if files:
        return name_tasks(files, limit)
    if not workspace.recipe.evaluate:
        raise InputError("The recipe has no tasks under 'evaluate:'. Name some with --task FILE.")
    own = {task.label: task.config for task in workspace.recipe.evaluate}
    return own if limit is None else {label: limited(config, limit) for label, config in own.items()}


def _means(made: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Over the proxies; None where one of them has no score."""
    found = {}
    for label, task in made[0]["tasks"].items():
        scores = [one["tasks"][label]["score"] for one in made]
        known = [float(score) for score in scores if score is not None]
        whole = len(known) == len(scores)
        found[label] = {
            "metric": task["metric"].partition("@")[0],
            "mean": fmean(known) if whole else None,
            "deviation": stdev(known) if whole and len(known) > 1 else None,
            "seeds": len(scores),
        }
    return found
