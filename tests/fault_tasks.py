"""Running the tasks of a recipe in real workers that also know the stages of `fault_stages`."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from factory.execution.local import LocalExecutor
from factory.execution.tasks import Context, OnFailed, Payload, Task, give_up, resolve

MODULES = ("fault_stages.extractors.deadly_extractor", "fault_stages.scorers.brittle_scorer")


def run_task(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: another task, once the stages are in this process's catalogue."""
    for module in MODULES:
        importlib.import_module(module)
    return resolve(payload["function"])(payload["payload"], context)


class FaultExecutor(LocalExecutor):
    """Local workers that know the stages."""

    def run(
        self,
        tasks: Iterable[Task],
        on_done: Callable[[Task, dict[str, Any]], None],
        on_report: Callable[[Task, Mapping[str, Any]], None] = lambda task, message: None,
        on_failed: OnFailed = give_up,
    ) -> None:
        own = {task.name: task for task in tasks}
        wrapped = [
            replace(task, function=f"{__name__}:run_task", payload={"function": task.function, "payload": task.payload})
            for task in own.values()
        ]
        super().run(wrapped, lambda task, result: on_done(own[task.name], result), on_report, on_failed)
