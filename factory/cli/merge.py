"""factory merge: several checkpoints into one, whose parameters are their average."""

from typing import Annotated, Any

import typer

from factory.cli.options import Json, show
from factory.core.errors import InputError


def command(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The folder to write; it must not be there.")],
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT...", help="Folders in Hugging Face layout, of one seed model.")
    ],
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="W,W,...", help="Their weights, which sum to 1. Default: alike.")
    ] = None,
    greedy: Annotated[
        str | None,
        typer.Option("--greedy", metavar="TASK", help="Only those that make the average no worse on this task's file."),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option("--texts", metavar="FILE", help="Weigh them by how likely each makes these texts (JSON lines)."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Items of the task, or texts.")] = None,
    start: Annotated[
        str, typer.Option("--start", help="What stood before documents in training: auto, bos or eos.")
    ] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    as_json: Json = False,
) -> None:
    """Average checkpoints: all of them, a greedy soup, or experts by texts. What they were chosen by does not judge them."""
    from factory.recipes.merge import merge_by_texts, merge_by_weights, merge_greedily
    from factory.reports import merged

    if sum(option is not None for option in (weights, greedy, texts)) > 1:
        raise InputError("--weights, --greedy and --texts each say how models are weighed. Give one of them.")
    settings: dict[str, Any] = {"limit": limit, "start": start, "device": device, "threads": threads}
    if greedy is not None:
        data = merge_greedily(checkpoints, out, greedy, **settings)
    elif texts is not None:
        data = merge_by_texts(checkpoints, out, texts, **settings)
    else:
        data = merge_by_weights(checkpoints, out, None if weights is None else _numbers(weights))
    show(data, merged.terminal, as_json=as_json)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"--weights is '{text}'; numbers with commas are meant, such as 0.5,0.3,0.2.") from None
