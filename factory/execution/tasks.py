"""A task is plain data: the name of a function, and its arguments as JSON. Any process can run it.

The function is `function(payload, context) -> dict` and is pure but for the files it writes. `context.at(row)` tells the
supervisor which row is next, so that a row that kills the worker can be named; `context.poison` holds rows that did.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from factory.core.errors import FactoryError

Payload = Mapping[str, Any]

# What is written about a row that kills its worker. How it dies depends on the machine; the text must not.
POISON = "its worker process died on it"


@dataclass(frozen=True)
class Task:
    """`name` is for people; `weight` (bytes, rows, steps) drives largest-first order and the progress bar."""

    name: str
    function: str
    payload: Payload
    weight: int = 1


@dataclass
class Context:
    """What a running task knows of its execution: nothing that may change its result but `poison`.

    `careful` asks for one row at a time, with `at` before each. `poison` maps rows that killed a worker to what happened;
    the task must give them no chance to do it again.
    """

    careful: bool = False
    poison: Mapping[int, str] = field(default_factory=dict)
    threads: int = 1
    at: Callable[[int | None], None] = lambda row: None
    report: Callable[[Mapping[str, Any]], None] = lambda message: None


# What becomes of a task that cannot be done, and of the others: returning lets them go on, raising ends the run.
OnFailed = Callable[[Task, FactoryError], None]


def give_up(task: Task, error: FactoryError) -> None:
    """The first task that cannot be done ends the run."""
    raise error


class Executor(Protocol):
    """Where tasks run. Results come in the order tasks finish; the output of a task never depends on where or when."""

    workers: int

    def run(
        self,
        tasks: Iterable[Task],
        on_done: Callable[[Task, dict[str, Any]], None],
        on_report: Callable[[Task, Mapping[str, Any]], None] = lambda task, message: None,
        on_failed: OnFailed = give_up,
    ) -> None:
        """Run all tasks; what retries and isolation did not cure goes to `on_failed`, which raises if not told otherwise."""

    def close(self) -> None: ...


def resolve(function: str) -> Callable[[Payload, Context], dict[str, Any]]:
    """The function a task names, as `module:function`."""
    module, _, name = function.partition(":")
    found: Callable[[Payload, Context], dict[str, Any]] = getattr(importlib.import_module(module), name)
    return found
