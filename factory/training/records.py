"""The folder of a run: its record, written last, and the refusal to go on with a run that was asked otherwise."""

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


def write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n")
    os.replace(temporary, path)
