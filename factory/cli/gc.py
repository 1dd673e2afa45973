"""factory gc: remove what nothing stands on any more."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json, print_rich


def command(
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, metavar="HOURS", help="Leave alone what is younger.")
    ] = 24.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it. Without this, only say what would be removed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say it, even with --yes.")] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Remove leftovers of dead attempts, and datasets that no recipe of the store leads to. Says only, unless --yes."""
    from factory.recipes.gc import collect, garbage
    from factory.reports import terminal

    place = open_workspace(recipe, store).store
    remove = yes and not dry_run
    found = (collect if remove else garbage)(place, older_than_hours=older_than)
    if as_json:
        print_json({**found, "removed": remove})
    else:
        print_rich(terminal.garbage(found, removed=remove))
