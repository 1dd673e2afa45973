"""factory domains: tokens by domain, and the mixture that filters imply."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, Snapshots, StorePlace, open_workspace, show


def command(
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="COLUMN", help="A column of texts; twice for cells. Default: the mixture's."),
    ] = None,
    experiment: Annotated[str | None, typer.Option("--experiment", "-e", help="Default: the recipe's base.")] = None,
    snapshot: Snapshots = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Tokens of every domain before and after the filters, and how each filter alone changes their shares."""
    from factory.recipes.domains import domains
    from factory.reports import terminal

    workspace = open_workspace(recipe, store)
    found = domains(workspace, experiment or workspace.recipe.base, by or (), snapshot or ())
    show(found, terminal.domains, as_json=as_json)
