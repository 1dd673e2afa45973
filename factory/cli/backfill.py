"""factory backfill: partitions through Dagster's own backfills."""

from typing import Annotated

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json
from factory.core.errors import FactoryError, suggest


def command(
    snapshots: Annotated[str, typer.Option("--snapshots", metavar="A,B", help="Snapshots to make again or anew.")] = "",
    experiments: Annotated[str, typer.Option("--experiments", metavar="X,Y", help="Experiments to make.")] = "",
    select: Annotated[
        str, typer.Option("--select", metavar="NAMES", help="Only these datasets, as in 'run': documents,scores/words.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be launched, and stop.")] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Launch a Dagster backfill of snapshots or experiments; the daemon ('factory ui') works it off."""
    wanted = {"snapshots": _list(snapshots), "experiments": _list(experiments)}
    if not any(wanted.values()):
        raise FactoryError("A backfill is of snapshots or of experiments: --snapshots A,B or --experiments X,Y.")
    from factory.cli.running import orchestrator

    workspace = open_workspace(recipe, store)
    labels = [experiment.label for experiment in workspace.recipe.experiments]
    for name, known in ((name, workspace.snapshots) for name in wanted["snapshots"]):
        if name not in known:
            raise FactoryError(f"No snapshot is named '{name}'.{suggest(name, known)}")
    for name in wanted["experiments"]:
        if name not in labels:
            raise FactoryError(f"No experiment is named '{name}'.{suggest(name, labels)}")
    chosen = _list(select)
    if chosen:
        workspace.select(chosen)
    result = orchestrator().backfill(
        recipe, store=store, **wanted, select=chosen, dry_run=dry_run, progress=workspace.progress
    )
    if as_json:
        print_json(result)
    elif result is not None:
        print(result if isinstance(result, str) else "\n".join(f"{key}: {item}" for key, item in dict(result).items()))


def _list(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
