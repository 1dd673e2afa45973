"""factory duplicates: what linkers found."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, Snapshots, StorePlace, open_workspace, show_each


def command(
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="[LINKER]...", help="Only these linkers. Default: all of them.")
    ] = None,
    snapshot: Snapshots = None,
    largest: Annotated[
        int, typer.Option("--largest", "-n", min=0, max=1000, help="How many of the largest clusters to look into.")
    ] = 10,
    whole: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ID", help="All members of one cluster: its id, or that of any document."),
    ] = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Show what linkers found: copies, sizes of clusters, what the largest hold and who stands for them; removed pieces."""
    from factory.recipes.duplicates import cluster, duplicates
    from factory.reports import clusters

    workspace = open_workspace(recipe, store)
    if whole is not None:
        found, render = cluster(workspace, whole, labels or ()), clusters.members
    else:
        found = duplicates(workspace, labels or (), snapshots=snapshot or (), largest=largest)
        render = clusters.linker
    none = "The recipe has no linker, and so no links. 'linkers:' in the recipe adds some (docs/links.md)."
    show_each(found, render, as_json=as_json, none=none)
