"""factory leaderboard: which experiment gives the better model."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_whole, show

Wide = Annotated[bool, typer.Option("--wide", help="All columns, as wide as they are.")]
Csv = Annotated[bool, typer.Option("--csv", help="Every column of every row as CSV on standard output.")]


def command(
    wide: Wide = False,
    as_csv: Csv = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Rank the experiments by what their proxies prove: means with intervals, verdicts against the base, the noise floor."""
    from factory.evaluation.entry import to_csv
    from factory.recipes.entries import entries
    from factory.reports.leaderboard import Leaderboard

    workspace = open_workspace(recipe, store)
    manifest = workspace.need("leaderboard")
    if as_csv:
        typer.echo(to_csv(entries(workspace, manifest)), nl=False)
        return
    if wide and not as_json:
        print_whole(Leaderboard(manifest.notes, wide=True))
        return
    data = {**manifest.notes, "entries": entries(workspace, manifest)} if as_json else dict(manifest.notes)
    show(data, Leaderboard, as_json=as_json)
