"""factory whatif: other thresholds, on the scores that are there."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, Snapshots, StorePlace, open_workspace, show
from factory.core.errors import InputError


def command(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RULE.SETTING=VALUE", help="gopher.words.min=100, english.min=0.5; RULE=off drops a rule."
        ),
    ] = None,
    span: Annotated[
        str | None,
        typer.Option(
            "--sweep", metavar="RULE.SETTING=FROM:TO:STEP", help="Documents kept for each value of a setting."
        ),
    ] = None,
    experiment: Annotated[str | None, typer.Option("--experiment", "-e", help="Default: the recipe's base.")] = None,
    snapshot: Snapshots = None,
    number: Annotated[
        int, typer.Option("-n", min=0, max=100, help="How many examples of gained and lost documents.")
    ] = 3,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Say what other thresholds would keep. Nothing is scored again and nothing is written: edit the recipe to have it so."""
    from factory.recipes.whatif import sweep, what_if
    from factory.reports import terminal

    if bool(changes) == bool(span):
        raise InputError(
            "Name changes (factory whatif gopher.words.min=100), or one --sweep (gopher.words.min=10:200:10)."
        )
    workspace = open_workspace(recipe, store)
    label = experiment or workspace.recipe.base
    if span:
        show(sweep(workspace, label, span, snapshots=snapshot or ()), terminal.sweep, as_json=as_json)
        return
    found = what_if(workspace, label, changes or (), snapshots=snapshot or (), examples=number)
    show(found, terminal.what_if, as_json=as_json)
