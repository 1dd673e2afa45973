"""factory plan: what is there, what would be made, and why."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, Memory, RecipePath, StorePlace, open_workspace, show
from factory.core.sizes import DEFAULT_MEMORY


def command(
    names: Annotated[list[str] | None, typer.Argument(help="Only these datasets: a kind or a name.")] = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    memory: Memory = DEFAULT_MEMORY,
    as_json: Json = False,
) -> None:
    """Show every dataset of a recipe: cached, to be made (and which setting or input is why), or waiting for others."""
    from factory.recipes.status import plan
    from factory.reports import terminal

    show(plan(open_workspace(recipe, store, memory=memory), names), terminal.plan, as_json=as_json)
