"""Items of benchmarks: as scorers that look for them number them, and as evaluations name them, by file and line."""

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

from factory.core.registry import find_stage
from factory.recipes.references import content_hash, make_stage, matching_files
from factory.stages.benchmarks import Benchmark, Item
from factory.stages.scorers import contamination, support

Place = tuple[str, int]  # the content hash of a file, and a line of it


class _Config(Protocol):
    @property
    def benchmarks(self) -> Mapping[str, Benchmark]: ...


class Items(Protocol):
    """What both scorers of items build."""

    @property
    def config(self) -> _Config: ...
    @property
    def items(self) -> list[Item]: ...


BUILD: Mapping[str, Callable[..., Any]] = {"contamination": contamination.build, "support": support.build}


@lru_cache(maxsize=4)
def load_items(spec_json: str, inputs: str) -> Any:
    """The index of a scorer of items (its spec as JSON), from its benchmarks as they were pinned."""
    spec = json.loads(spec_json)
    made: list[Any] = []

    def keep(config: Any, files: Any) -> None:
        made.append(BUILD[spec["stage"]](config, files))

    stage = replace(find_stage("scorer", spec["stage"]), make=keep)
    make_stage(stage, stage.config(**spec["settings"]), pinned=spec["files"], folder=inputs)
    return made[0]


def item_places(index: Items, pinned: Mapping[str, Mapping[str, str]]) -> list[Place | None]:
    """The content hash of the file and the line of each item; None for one given in the settings."""
    places: list[Place | None] = []
    for item in index.items:
        uri = index.config.benchmarks[item.task].uri
        if uri is None:
            places.append(None)
            continue
        names = pinned[uri]
        places.append((names[item.file] if item.file else next(iter(names.values())), item.line))
    return places


def file_hashes(uri: str, inputs: str) -> dict[str, str]:
    """The content hash of each file of a task, by the name its items bear (see `factory.evaluation.records`)."""
    paths = matching_files(uri, inputs)
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return {posixpath.relpath(path, folder) if folder else path: content_hash(path) for path in paths}
