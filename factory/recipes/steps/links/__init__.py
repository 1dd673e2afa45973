"""Links: keys are exchanged so that equal ones meet, and what meets is joined into columns beside the documents.

How keys are joined is the linker's: see `factory.core.links` and the modules of this package, one for each join.
"""

from collections.abc import Callable

from factory.core.links import Needs
from factory.recipes.steps.links import documents, neighbours, paragraphs, spans
from factory.recipes.work import Bench, Made, Step, Work

JOINS: dict[str, Step] = {
    "documents": documents.make_all,
    "spans": spans.make_all,
    "paragraphs": paragraphs.make_all,
    "neighbours": neighbours.make_all,
}

# What each join says it takes: (rows, keys, memory) and settings of its linker by name.
NEEDS: dict[str, Callable[..., Needs]] = {
    "documents": documents.needs,
    "spans": spans.needs,
    "paragraphs": paragraphs.needs,
    "neighbours": neighbours.needs,
}


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots; those of one join go through its phases together."""
    made: dict[str, Made] = {}
    for join, make in JOINS.items():
        joined = [work for work in works if bench.recipe.linker(work.node.label).stage.links == join]
        if joined:
            made.update(make(bench, joined))
    return made
