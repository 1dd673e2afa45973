"""factory support: which questions the corpus has documents for, and what filters and mixtures take from that."""

from typing import Annotated

import typer

from factory.cli.options import (
    DEFAULT_RECIPE,
    Experiments,
    Json,
    RecipePath,
    Snapshots,
    StorePlace,
    open_workspace,
    show,
    show_each,
)


def command(
    experiment: Experiments = None,
    at_least: Annotated[
        list[int] | None,
        typer.Option(
            "--at-least", metavar="N", min=1, help="Documents that are enough; may be repeated. Default: 1, 10."
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="COLUMN", help="A column of texts; twice for cells. Default: the mixture's."),
    ] = None,
    item: Annotated[
        str | None, typer.Option("--item", metavar="TASK:LINE", help="The documents that support this item.")
    ] = None,
    number: Annotated[int, typer.Option("--examples", "-n", min=1, max=1000, help="Documents to show of it.")] = 10,
    as_csv: Annotated[bool, typer.Option("--csv", help="The coverage as CSV on standard output.")] = False,
    items: Annotated[bool, typer.Option("--items", help="Every item with its counts as CSV.")] = False,
    snapshot: Snapshots = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Items with at least N supporting documents in the pool and in every experiment, and the rules that took the others."""
    from factory.recipes import support as recipes
    from factory.reports import support as reports

    workspace = open_workspace(recipe, store)
    asked, snapshots = experiment or (), snapshot or ()
    if item is not None:
        found = recipes.item_documents(workspace, item, asked, number=number, snapshots=snapshots)
        show(found, reports.item, as_json=as_json)
        return
    if items:
        typer.echo(recipes.to_csv(recipes.item_rows(workspace, asked, snapshots=snapshots)), nl=False)
        return
    levels = at_least or recipes.THRESHOLDS
    made = recipes.support(workspace, asked, by=by or (), thresholds=levels, snapshots=snapshots)
    if as_csv:
        typer.echo(recipes.to_csv(recipes.coverage_rows(made)), nl=False)
        return
    show_each(made, reports.support, as_json=as_json)
