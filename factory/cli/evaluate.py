"""factory evaluate: a checkpoint, or proxies of a recipe, on tasks of local files, beside lm-evaluation-harness where asked."""

import os
from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show
from factory.core.errors import InputError


def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A folder in Hugging Face layout; or of a recipe, EXPERIMENT (all its seeds) or EXPERIMENT/SCALE-SEED.",
        ),
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            "-t",
            metavar="FILE",
            help="A declaration as for lm-evaluation-harness (.yaml), or JSONL; repeat it. Default: the recipe's tasks.",
        ),
    ] = None,
    harness: Annotated[bool, typer.Option("--harness", help="Run lm-eval too, on the tasks declared in YAML.")] = False,
    start: Annotated[
        str, typer.Option("--start", help="What stood before documents in training: auto, bos or eos.")
    ] = "auto",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Items of each task, the same every time.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Evaluate a checkpoint or proxies: scores with what guessing gives, by log-likelihood. Nothing is written."""
    from factory.evaluation.report import evaluate_files
    from factory.reports import evaluated

    settings = {"harness": harness, "start": start, "limit": limit, "device": device, "threads": threads}
    if os.path.isdir(model):
        if not task:
            raise InputError(f"'{model}' is a folder: say what it is asked with --task FILE.")
        show(evaluate_files(model, task, **settings), evaluated.checkpoint, as_json=as_json)
        return
    if not os.path.isfile(recipe):
        raise InputError(
            f"There is no folder '{model}'. To mean an experiment of a recipe, name the recipe: --recipe PATH "
            f"({recipe} is not there)."
        )
    from factory.recipes.evaluate import evaluate_proxies

    show(
        evaluate_proxies(open_workspace(recipe, store), model, task or (), **settings),
        evaluated.proxies,
        as_json=as_json,
    )
