"""Links: keys are exchanged so that equal ones meet, and what meets is joined into columns beside the documents.

How keys are joined is the linker's: see `factory.core.links` and the modules of this package, one for each join.
"""

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from factory.core.links import LINK_COLUMNS, Needs
from factory.recipes.steps.links.parts import clear, exchange_folder
from factory.recipes.work import Bench, Made, Work


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots; those of one join go through its phases together."""
    made: dict[str, Made] = {}
    for join in LINK_COLUMNS:
        joined = [work for work in works if bench.recipe.linker(work.node.label).stage.links == join]
        if joined:
            with _cleared(bench, joined):
                made.update(_join(join).make_all(bench, joined))
    return made


@contextlib.contextmanager
def _cleared(bench: Bench, works: list[Work]) -> Iterator[None]:
    """Leave nothing exchanged behind, above all where a full disk was why it failed; also not what a killed run left."""
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # what went wrong before is what is to be said
            for work in works:
                clear(bench, exchange_folder(work))


def needs_of(join: str) -> Callable[..., Needs]:
    """What a join says it takes: a function of (rows, keys, memory) and of what it asks about its linker by name."""
    asked: Callable[..., Needs] = _join(join).needs
    return asked


def _join(name: str) -> Any:
    # Not above: some import kernels, which takes longer than planning.
    return import_module(f"{__name__}.{name}")
