"""The catalogue of stages: filled by the decorators in `factory.stages`, looked up by name."""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar

import pyarrow as pa

from factory.core.columns import Refusal
from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.stage import KINDS, Columns, Files, Stage, Training

Make = TypeVar("Make", bound=Callable[..., Any])

_stages: dict[tuple[str, str], Stage] = {}


class NoSettings(Config):
    """Settings of a stage that has none."""


def register(
    name: str,
    *,
    version: int,
    reads: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = (),
    writes: Columns | Callable[[Any], Columns] | None = None,
    config: type[Config] = NoSettings,
    train: Training | None = None,
    fit: Callable[[Any, pa.Table], dict[str, Any]] | None = None,
    files: Callable[[Any], tuple[str, ...]] | None = None,
    packages: Callable[[Any], tuple[str, ...]] | None = None,
    links: str = "documents",
    paths: Callable[[Any], tuple[str, ...]] | None = None,
    join_settings: tuple[str, ...] = (),
    check: Callable[[Any, Files], Iterable[str]] | None = None,
    takes: Callable[[Any], Iterable[tuple[str, Refusal]]] | None = None,
) -> Callable[[Make], Make]:
    """Put the decorated factory into the catalogue under its kind, which is the folder its module lies in."""

    def decorate(make: Make) -> Make:
        folder = make.__module__.rsplit(".", 2)[-2]
        kind = KINDS.get(folder)
        if kind is None:
            raise TypeError(f"stage '{name}' lies in {make.__module__}; its folder must be one of {', '.join(KINDS)}")
        known = _stages.get((kind, name))
        if known is not None and known.make.__module__ != make.__module__:
            raise TypeError(f"two {kind}s are named '{name}': {known.make.__module__} and {make.__module__}")
        module_doc = inspect.getmodule(make).__doc__ or ""  # type: ignore[union-attr]
        doc = inspect.cleandoc(module_doc).split("\n\n")[0].replace("\n", " ")
        _stages[kind, name] = Stage(
            name,
            kind,
            version,
            config,
            make,
            reads,
            writes or {},
            train,
            fit,
            files,
            packages,
            links if kind == "linker" else "",
            paths,
            join_settings,
            doc=doc,
            check=check,
            takes=takes,
        )
        return make

    return decorate


@cache
def _load_catalogue(package: str = "factory.stages") -> None:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not module.ispkg:
            importlib.import_module(module.name)


def stages(kind: str | None = None) -> list[Stage]:
    """Every stage of a kind (or all), by name."""
    _load_catalogue()
    return [stage for (stage_kind, _), stage in sorted(_stages.items()) if kind in (None, stage_kind)]


def find_stage(kind: str, name: str) -> Stage:
    """The stage of this kind and name; raises FactoryError with the nearest known name.

    A stage usually lies in the module of its name: that one is tried first, so that a worker that needs one filter does
    not import every scorer.
    """
    if (kind, name) not in _stages and name.isidentifier():
        folder = next((folder for folder, known in KINDS.items() if known == kind), None)
        if folder and importlib.util.find_spec(f"factory.stages.{folder}.{name}"):
            importlib.import_module(f"factory.stages.{folder}.{name}")
    if (kind, name) not in _stages:
        _load_catalogue()
    stage = _stages.get((kind, name))
    if stage is None:
        raise FactoryError(f"No {kind} is named '{name}'.{suggest(name, (n for k, n in _stages if k == kind))}")
    return stage
