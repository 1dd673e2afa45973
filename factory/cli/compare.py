"""factory compare: is one experiment better than another, worse, or not yet decided, and what it would cost to know."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show

First = Annotated[
    str,
    typer.Argument(
        metavar="A", help="An experiment, or files: LEADERBOARD.json#EXPERIMENT, or Parquet evaluations, a file a seed."
    ),
]
Second = Annotated[str, typer.Argument(metavar="B", help="What is judged against A: of the same kind.")]
Scale = Annotated[str | None, typer.Option("--scale", metavar="NAME", help="Where both were trained at several.")]
Primary = Annotated[
    str | None,
    typer.Option("--primary", metavar="TASK", help="The task that decides; else bits per byte of all held-out sets."),
]
Html = Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write the comparison as one HTML page, too.")]


def command(
    a: First,
    b: Second,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    scale: Scale = None,
    primary: Primary = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Judge experiment B against A: better, worse or undecided, task by task, with intervals and what deciding would cost."""
    from factory.core.errors import InputError
    from factory.recipes import evidence
    from factory.reports import comparison

    if evidence.is_file(a) != evidence.is_file(b):
        raise InputError("An experiment of a recipe is not compared with a file. Name two experiments, or two files.")
    if evidence.is_file(a):
        data = evidence.compare_files(a, b, primary=primary)
    else:
        data = evidence.compare(open_workspace(recipe, store), a, b, scale=scale, primary=primary)
    if html is not None:
        with open(html, "w", encoding="utf-8") as stream:
            stream.write(comparison.page(data))
    show(data, comparison.terminal, as_json=as_json)
