"""factory export: the corpus an experiment decides on."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, Place, RecipePath, StorePlace, Workers, open_workspace, show


def command(
    to: Annotated[str, typer.Option("--to", help="A folder or URL (s3://bucket/prefix) of its own.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Default: the only one, else the recipe's base.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="parquet, or jsonl (zstd).")] = "parquet",
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    workers: Workers = 0,
    executor: Place = "local",
    as_json: Json = False,
) -> None:
    """Write the documents an experiment keeps, with the recipe's `rewrite` applied. What is there is not written again."""
    from factory.recipes.export import export
    from factory.reports import terminal

    with open_workspace(recipe, store, workers=workers, executor=executor) as workspace:
        made = export(workspace, experiment or workspace.recipe.base, to, form)
    show(made, terminal.exported, as_json=as_json)
