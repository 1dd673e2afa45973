"""factory status: what is there."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json, print_rich
from factory.core.errors import FactoryError


def command(recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False) -> None:
    """List the current datasets of a recipe: rows, bytes, digest, when they were made, checks; and the ledger."""
    from factory.recipes.status import ledger, status
    from factory.reports import terminal

    workspace = open_workspace(recipe, store)
    rows = status(workspace)
    books = ledger(workspace)
    if as_json:
        print_json({"recipe": workspace.recipe.name, "store": workspace.store.url, "datasets": rows, "ledger": books})
        return
    if not rows:
        raise FactoryError(
            f"Nothing of '{workspace.recipe.name}' is in {workspace.store.url} yet. 'factory run' makes it."
        )
    print_rich(terminal.status(rows), "", terminal.ledger(books))
