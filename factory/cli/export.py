"""factory export: what an experiment decides on, as files for others: its documents, or its tokens."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, Place, RecipePath, StorePlace, Workers, open_workspace, show

TEXTS = ("parquet", "jsonl")


def command(
    to: Annotated[str, typer.Option("--to", help="A folder or URL (s3://bucket/prefix) of its own.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Default: the only one, else the recipe's base.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Texts: parquet, or jsonl (zstd). Tokens: megatron, numpy, mds, huggingface; parquet with --tokens.",
        ),
    ] = "parquet",
    tokens: Annotated[bool, typer.Option("--tokens", help="Token ids instead of texts.")] = False,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Tokens: each document as often as the mixture takes it.")
    ] = False,
    packed: Annotated[
        bool, typer.Option("--packed", help="Tokens: packed sequences in training order, with their masks.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With --packed: of which proxy.")] = 0,
    shard_tokens: Annotated[int, typer.Option("--shard-tokens", min=1, help="About how many tokens a file holds.")] = 1
    << 27,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tokens: say what would be written, and write nothing.")
    ] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    workers: Workers = 0,
    executor: Place = "local",
    as_json: Json = False,
) -> None:
    """Write the documents an experiment keeps (with the recipe's `rewrite` applied), or its tokens, for other programs.

    What is there is not written again.
    """
    from factory.recipes.export import export
    from factory.recipes.token_export import export_tokens
    from factory.reports import terminal

    with open_workspace(recipe, store, workers=workers, executor=executor) as workspace:
        label = experiment or workspace.recipe.base
        if tokens or repeat or packed or dry_run or form not in TEXTS:
            options = {
                "repeat": repeat,
                "packed": packed,
                "seed": seed,
                "shard_tokens": shard_tokens,
                "dry_run": dry_run,
            }
            made = export_tokens(workspace, label, to, form, **options)
            show(made, terminal.exported_tokens, as_json=as_json)
            return
        made = export(workspace, label, to, form)
    show(made, terminal.exported, as_json=as_json)
