"""factory transfer: whether small proxies decide like large ones."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show
from factory.cli.signal import Table

Target = Annotated[
    str | None, typer.Option("--target", metavar="SCALE", help="The scale to decide for; else the largest.")
]


def command(
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    table: Table = None,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Decision accuracy and rank correlations of every smaller scale, and what scaling laws expect at the target's."""
    from factory.recipes import evidence
    from factory.reports import decisions

    workspace = open_workspace(recipe, store) if table is None else None
    show(evidence.transfers(workspace, table, target), decisions.transfer, as_json=as_json)
