"""factory leaderboard: which experiment gives the better model."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show

Csv = Annotated[bool, typer.Option("--csv", help="Every column of every row as CSV on standard output.")]


def command(
    recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Rank the experiments by what their proxies prove: means with intervals, verdicts against the base, the noise floor."""
    from factory.evaluation.entry import to_csv
    from factory.recipes.entries import entries
    from factory.reports import terminal

    workspace = open_workspace(recipe, store)
    manifest = workspace.need("leaderboard")
    if as_csv:
        typer.echo(to_csv(entries(workspace, manifest)), nl=False)
        return
    data = {**manifest.notes, "entries": entries(workspace, manifest)} if as_json else dict(manifest.notes)
    show(data, terminal.leaderboard, as_json=as_json)
