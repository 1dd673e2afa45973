"""factory explain: one document's whole story."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show_each


def command(
    document: Annotated[str, typer.Argument(metavar="ID|URL", help="A doc_id, the beginning of one, or a URL.")],
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Tell everything about a document: scores, every rule with bound and verdict, duplicates, its place in the tokens."""
    from factory.recipes.explain import explain
    from factory.reports import terminal

    show_each(explain(open_workspace(recipe, store), document), terminal.story, as_json=as_json)
