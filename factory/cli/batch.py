"""factory batch: what a training read at a step."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show


def command(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment whose training is meant.")],
    step: Annotated[int | None, typer.Option("--step", "-n", min=0, help="A step of the training, from 0.")] = None,
    token: Annotated[int | None, typer.Option("--token", min=0, help="A token of the whole run, from 0.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of which proxy: the seeds of a recipe count from 0.")] = 0,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Show the documents a training step reads, or the one a token is of: worked out from the order, nothing is trained."""
    from factory.recipes.batches import batch
    from factory.reports import batches

    show(
        batch(open_workspace(recipe, store), experiment, step=step, token=token, seed=seed),
        batches.batch,
        as_json=as_json,
    )
