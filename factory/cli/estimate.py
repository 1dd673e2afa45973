"""factory estimate: what a run would take, before it runs."""

from typing import Annotated

import typer

from factory.cli.options import (
    DEFAULT_RECIPE,
    Json,
    Memory,
    RecipePath,
    StorePlace,
    Workers,
    open_workspace,
    show,
)
from factory.core.sizes import DEFAULT_MEMORY


def command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Only these datasets, with all they need. Default: everything.")
    ] = None,
    number: Annotated[int, typer.Option("--sample", "-n", min=20, max=100_000, help="Documents to measure on.")] = 500,
    again: Annotated[
        bool, typer.Option("--again", help="As if nothing were there: an estimate beside what was really made.")
    ] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    workers: Workers = 0,
    memory: Memory = DEFAULT_MEMORY,
    as_json: Json = False,
) -> None:
    """Say what a run would take: documents, CPU time, memory, disk. Measured on a sample; nothing is made."""
    from factory.recipes.estimate import estimate
    from factory.reports import estimates

    with open_workspace(recipe, store, workers=workers, memory=memory) as workspace:
        found = estimate(workspace, names, sample=number, again=again)
    show(found, estimates.estimate, as_json=as_json)
    if found["refused"]:
        raise typer.Exit(found["exit_code"])
