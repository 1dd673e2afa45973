"""factory search: what a search for a mixture found."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show_each


def command(
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="[SEARCH]...", help="Only these searches. Default: all of them.")
    ] = None,
    best: Annotated[
        int, typer.Option("--best", "-n", min=0, max=1000, help="How many of the best mixtures to show.")
    ] = 10,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what a search would train first, and what that costs.")
    ] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Show what searches found: the mixture they recommend, the best measured, what was predicted, how far to believe it."""
    from factory.recipes import searches
    from factory.reports import searches as shown

    workspace = open_workspace(recipe, store)
    if dry_run:
        names = labels or [search.label for search in workspace.recipe.searches]
        found, render = [searches.first_round(workspace, name) for name in names], shown.dry_run
    else:
        found, render = searches.searches(workspace, labels or (), best=best), shown.search
    none = "The recipe has no searches. 'searches:' in the recipe adds some (docs/search.md)."
    show_each(found, render, as_json=as_json, none=none)
