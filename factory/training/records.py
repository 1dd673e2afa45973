"""The folder of a run: its record, written last, the refusal to go on with a run that was asked otherwise, models of the way."""

import json
import os
from pathlib import Path
from typing import Any

from factory.core.errors import FactoryError


def finished_record(out: Path, spec: dict[str, Any]) -> dict[str, Any] | None:
    path = out / "record.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    check_same_run(out, spec, record["spec"])
    return record


def check_same_run(out: Path, asked: dict[str, Any], found: dict[str, Any]) -> None:
    different = [key for key in asked if asked[key] != found.get(key)]
    if different:
        raise FactoryError(
            f"proxy: {out} holds another run (its {', '.join(different)} differ). Give this run a folder of its own."
        )


def step_name(step: int) -> str:
    """What the folder of a model after so many steps is called; names sort as steps do."""
    return f"step-{step:010d}"


def step_of(name: str) -> int:
    return int(name.removeprefix("step-"))


def kept_steps(steps: int, count: int) -> list[int]:
    """After which of a run's steps models are kept: `count`, evenly spaced, and the last of them is the finished one."""
    if not 1 <= count <= steps:
        raise FactoryError(
            f"proxy: checkpoints {count} of a training of {steps} steps cannot be kept. Ask for 1 to {steps}."
        )
    return [steps * number // count for number in range(1, count + 1)]


def write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n")
    os.replace(temporary, path)
