"""factory contamination: what of the benchmarks is in the corpus, and how far that can be trusted."""

from typing import Annotated, Any

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, Snapshots, StorePlace, open_workspace, show_each


def command(
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", "-e", metavar="NAME", help="Whose kept documents count. Default: the base's."),
    ] = None,
    snapshot: Snapshots = None,
    number: Annotated[int, typer.Option("--examples", "-n", min=0, max=1000, help="Spans to show per benchmark.")] = 3,
    plant: Annotated[
        int,
        typer.Option("--plant", min=0, max=100_000, help="Put this many items into documents, in memory, and look."),
    ] = 0,
    judge: Annotated[
        int, typer.Option("--judge", min=0, max=10_000, help="Matched spans drawn at random, for a reader to judge.")
    ] = 0,
    ordinary: Annotated[
        list[str] | None,
        typer.Option("--ordinary", metavar="PATH", help="Reference documents: what share of them is flagged?"),
    ] = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Per benchmark: items found in the corpus and in what an experiment keeps, with the spans; items too short to test."""
    from factory.recipes import contamination as recipes
    from factory.reports import contamination as reports

    workspace = open_workspace(recipe, store)
    found: list[dict[str, Any]] = recipes.contamination_report(
        workspace, experiment, examples=number, snapshots=snapshot or ()
    )
    for item, use in zip(found, recipes.scorers(workspace), strict=True):
        if plant:
            item["planted"] = recipes.planted(workspace, use, plant)
        if judge:
            item["judge"] = recipes.spans(workspace, use, judge, snapshots=snapshot or ())
        if ordinary:
            item["ordinary"] = recipes.ordinary(workspace, use, ordinary)
    show_each(found, reports.contamination, as_json=as_json)
