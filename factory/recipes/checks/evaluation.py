"""The section `evaluate`: tasks, of a kind we have or declared as lm-evaluation-harness declares them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from factory.core.errors import InputError, suggest
from factory.evaluation.tasks import TASKS
from factory.recipes.checks.checker import Checker, present
from factory.recipes.graph import SUPPORT, asks_for_counts
from factory.recipes.recipe import Task, Use
from factory.recipes.references import matching_files


def read_tasks(checker: Checker, data: Mapping[str, Any]) -> list[Task]:
    return present([_task(checker, label, item) for label, item in checker.section(data, "evaluate").items()])


def _task(checker: Checker, label: str, item: Any) -> Task | None:
    where = f"evaluate.{label}"
    checker.label(where, label)
    if not isinstance(item, Mapping) or "use" not in item:
        checker.report(f"{where}: 'use' is required.{suggest('', TASKS)}")
        return None
    if not isinstance(item["use"], str) or item["use"] not in TASKS:
        checker.report(f"{where}.use: no task kind is named '{item['use']}'.{suggest(str(item['use']), TASKS)}")
        return None
    settings = {key: value for key, value in item.items() if key != "use"}
    if item["use"] == "harness" and "file" in settings:
        # A declaration of its own, whose paths start where it lies; what the recipe says beside it wins.
        from factory.evaluation.harness_tasks import read_declaration  # it needs a template engine

        path = os.path.join(checker.folder, str(settings.pop("file")))
        try:
            settings = {**read_declaration(path)[1].model_dump(), **settings}
        except InputError as error:
            checker.report(f"{where}: {error}")
            return None
    config = checker.values(TASKS[item["use"]], where, settings)
    return Task(label=label, use=item["use"], config=config) if config else None


def check_counts(checker: Checker, tasks: Sequence[Task], scorers: Sequence[Use]) -> None:
    """A task that asks for counts has a file of them, or a scorer of the recipe that counts its items."""
    counted = {
        file
        for use in scorers
        if use.stage.name == SUPPORT
        for uri in use.stage.files_for(use.config)
        for file in _files(uri, checker.folder)
    }
    for task in tasks:
        if asks_for_counts(task) and not counted.issuperset(_files(task.config.uri, checker.folder)):
            checker.report(
                f"evaluate.{task.label}: nothing counts the documents that support its items. Add a scorer that reads the same "
                f"files, `scorers: {{known: {{use: {SUPPORT}, benchmarks: {{{task.label}: {task.config.uri}}}}}}}`, or give "
                "`counts`, a JSONL file of {item, count}."
            )


def _files(uri: str, folder: str) -> list[str]:
    """The files of a path; none where it means none, which is said elsewhere."""
    try:
        return matching_files(uri, folder)
    except InputError:
        return []
