"""factory signal: which tasks can tell experiments apart at this scale."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show

Table = Annotated[
    str | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="Scores from a CSV, JSONL or Parquet file (task, experiment, scale, seed, step, metric, value), not a recipe's.",
    ),
]
Control = Annotated[
    str | None,
    typer.Option("--control", metavar="NAME", help="The experiment of at least 5 seeds that tells the noise."),
]
Csv = Annotated[bool, typer.Option("--csv", help="A row for each task and scale as CSV on standard output.")]


def command(
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    table: Table = None,
    control: Control = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """The noise floor of every task and the early-signal criteria along training: what is worth reading at this scale."""
    from factory.recipes import signals
    from factory.reports import decisions

    workspace = open_workspace(recipe, store) if table is None else None
    data = signals.signal(workspace, table, control)
    if as_csv:
        typer.echo(signals.to_csv(data["rows"]), nl=False)
        return
    show(data, decisions.signal, as_json=as_json)
