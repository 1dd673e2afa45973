"""factory evaluate: any Hugging Face checkpoint on tasks of local files, beside lm-evaluation-harness where asked."""

from typing import Annotated

import typer

from factory.cli.options import Json, show


def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A folder in Hugging Face layout.")],
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            "-t",
            metavar="FILE",
            help="A declaration as for lm-evaluation-harness (.yaml), or JSONL; repeat it.",
        ),
    ],
    harness: Annotated[bool, typer.Option("--harness", help="Run lm-eval too, on the tasks declared in YAML.")] = False,
    start: Annotated[
        str, typer.Option("--start", help="What stood before documents in training: auto, bos or eos.")
    ] = "auto",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Items of each task, the same every time.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    as_json: Json = False,
) -> None:
    """Evaluate a checkpoint: scores with what guessing gives, by log-likelihood. Nothing is written."""
    from factory.evaluation.report import evaluate_files
    from factory.reports import terminal

    made = evaluate_files(checkpoint, task, harness=harness, start=start, limit=limit, device=device, threads=threads)
    show(made, terminal.evaluated, as_json=as_json)
