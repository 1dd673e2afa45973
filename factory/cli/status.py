"""factory status: what is there."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json, print_rich
from factory.core.errors import FactoryError


def command(recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False) -> None:
    """List the current datasets of a recipe: rows, bytes, digest, when they were made, checks; failures; and the ledger."""
    from factory.recipes.status import ledger, status
    from factory.reports import terminal
    from factory.storage.failures import failures

    workspace = open_workspace(recipe, store)
    rows = status(workspace)
    books = ledger(workspace)
    failed = failures(workspace.store, workspace.recipe.name)
    if as_json:
        named = {"recipe": workspace.recipe.name, "store": workspace.store.url}
        print_json({**named, "datasets": rows, "failures": failed, "ledger": books})
        return
    if not rows:
        raise FactoryError(
            f"Nothing of '{workspace.recipe.name}' is in {workspace.store.url} yet. 'factory run' makes it."
        )
    print_rich(terminal.status(rows), "", *([terminal.failures(failed), ""] if failed else []), terminal.ledger(books))
