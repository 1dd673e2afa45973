"""factory plan: what is there, what would be made, and why."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show


def command(
    names: Annotated[list[str] | None, typer.Argument(help="Only these datasets: a kind or a name.")] = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Show every dataset of a recipe: cached, to be made (and which setting or input is why), or waiting for others."""
    from factory.recipes.status import plan
    from factory.reports import terminal

    workspace = open_workspace(recipe, store)
    data = plan(workspace, names)
    show(data, terminal.plan, as_json=as_json)
