"""factory verify: is everything still what was written?"""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show
from factory.core.errors import IntegrityError


def command(
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged, so that 'run' makes it again.")
    ] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Compare every byte of the current datasets with its digest, and the books with the rows. Exit status 5: damage."""
    from factory.recipes.verify import verify
    from factory.reports import terminal

    found = verify(open_workspace(recipe, store), repair=repair)
    show(found, terminal.verification, as_json=as_json)
    if found["damaged"] or found["wrong"]:
        raise typer.Exit(IntegrityError.exit_code)
