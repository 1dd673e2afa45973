"""factory backfill: partitions through Dagster's own backfills."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, Memory, RecipePath, StorePlace, Workers, open_workspace, show
from factory.core.errors import InputError
from factory.core.sizes import DEFAULT_MEMORY


def command(
    snapshots: Annotated[str, typer.Option("--snapshots", metavar="A,B", help="Snapshots to make.")] = "",
    experiments: Annotated[str, typer.Option("--experiments", metavar="X,Y", help="Experiments to make.")] = "",
    select: Annotated[
        str, typer.Option("--select", metavar="NAMES", help="Only these datasets, as in 'run': documents,scores/words.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be launched, and stop.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it to its end, or leave it to the daemon of 'factory ui'.")
    ] = True,
    workers: Workers = 0,
    memory: Memory = DEFAULT_MEMORY,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Make snapshots or experiments by a Dagster backfill. Without a running daemon one is started for as long as it takes."""
    wanted = {"snapshots": _list(snapshots), "experiments": _list(experiments)}
    if not any(wanted.values()):
        raise InputError("A backfill is of snapshots or of experiments: --snapshots A,B or --experiments X,Y.")
    from factory.cli.running import orchestrator
    from factory.reports import terminal

    workspace = open_workspace(recipe, store, memory=memory)
    result = orchestrator().backfill(
        recipe,
        store=store,
        workers=workers,
        memory=memory,
        **{name: labels or None for name, labels in wanted.items()},
        select=_list(select) or None,
        dry_run=dry_run,
        wait=wait,
        progress=workspace.progress,
    )
    show(result, terminal.backfill, as_json=as_json)


def _list(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
