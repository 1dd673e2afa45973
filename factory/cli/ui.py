"""factory ui: Dagster on this recipe."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, RecipePath, StorePlace


def command(
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=65535, help="Where it listens, on this machine only.")
    ] = 3000,
) -> None:
    """Open Dagster on this recipe: the graph, what was made, checks, schedules. Stays until interrupted."""
    from factory.cli.running import orchestrator
    from factory.recipes.load import load_recipe

    load_recipe(recipe, store=store)  # mistakes are told here, not in a server's log
    raise typer.Exit(orchestrator().ui(recipe, store=store, port=port) or 0)
