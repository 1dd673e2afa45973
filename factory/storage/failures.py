"""Failure records: what a dataset of a recipe could not be made of, and why; gone as soon as it is made.

A record lies where the dataset's current pointer would, below a folder of its own. It names the manifest that was to be
written, so that a failure of other settings or other inputs is not taken for one of these.
"""

import json
from collections.abc import Mapping
from typing import Any

from factory.storage.manifests import CURRENT, pointer_path
from factory.storage.store import Store

FOLDER = "failures"


def failure_path(recipe: str, kind: str, label: str, partition: str) -> str:
    return FOLDER + pointer_path(recipe, kind, label, partition).removeprefix(CURRENT)


def write_failure(store: Store, path: str, record: Mapping[str, Any]) -> None:
    """Remember a failure, in place of the one before."""
    store.put(path, json.dumps(dict(record), sort_keys=True, indent=1).encode())


def find_failure(store: Store, path: str) -> dict[str, Any] | None:
    """What is remembered of a dataset that could not be made, or None."""
    try:
        record: dict[str, Any] = json.loads(store.read(path))
    except FileNotFoundError:
        return None
    return record


def failure_paths(store: Store, recipe: str) -> list[str]:
    """Where the failures of a recipe are remembered."""
    return [path for path in store.files(f"{FOLDER}/{recipe}") if path.endswith(".json")]


def failures(store: Store, recipe: str) -> list[dict[str, Any]]:
    """Every failure of a recipe that is remembered, in the order of their paths."""
    found = [find_failure(store, path) for path in failure_paths(store, recipe)]
    return [record for record in found if record is not None]
