"""factory explain: one document's whole story."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json, print_rich


def command(
    document: Annotated[str, typer.Argument(metavar="ID|URL", help="A doc_id, the beginning of one, or a URL.")],
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Tell everything about a document: scores, every rule with bound and verdict, duplicates, its place in the tokens."""
    from factory.recipes.explain import explain
    from factory.reports import terminal

    stories = explain(open_workspace(recipe, store), document)
    if as_json:
        print_json(stories)
        return
    print_rich(*(terminal.story(story) for story in stories))
