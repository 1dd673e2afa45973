"""How an error crosses from a worker to whoever gave it the task: as plain data, and back as the error it was."""

import errno
import traceback
from collections.abc import Mapping
from typing import Any

from factory.core import errors
from factory.core.errors import FactoryError, StoreError, TaskFailed
from factory.execution.tasks import Task

FULL = (errno.ENOSPC, errno.EDQUOT)


def describe(error: Exception) -> dict[str, Any]:
    """What the other side must know; a trace only of errors that are bugs of ours."""
    if isinstance(error, OSError) and error.errno in FULL:  # beside the store, where checkpoints and scratch files lie
        where = f" ({error.filename})" if error.filename else ""
        error = StoreError(f"The disk is full{where}: free space and run again; finished parts are kept.")
    known = isinstance(error, FactoryError)
    return {
        "type": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "known": known,
        "trace": "" if known else traceback.format_exc(limit=-8),
    }


def failure(task: Task, told: Mapping[str, Any]) -> FactoryError:
    """The error to raise for what a worker described."""
    kind = getattr(errors, told["type"], None) if told["known"] else None
    if isinstance(kind, type) and issubclass(kind, FactoryError) and kind is not errors.RecipeError:
        return kind(told["message"])
    return TaskFailed(f"{task.name}: {told['type']}: {told['message']}\n{told['trace']}".rstrip())
