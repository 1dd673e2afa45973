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
    """Decision accuracy of every smaller scale and of models on the way, and what scaling laws expect at the target's end."""
    from factory.recipes import signals
    from factory.reports import decisions

    workspace = open_workspace(recipe, store) if table is None else None
    show(signals.transfers(workspace, table, target), decisions.transfer, as_json=as_json)
