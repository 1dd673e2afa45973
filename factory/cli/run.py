"""factory run: make what is not there."""

from typing import Annotated

import typer

from factory.cli.options import (
    DEFAULT_MEMORY,
    DEFAULT_RECIPE,
    Json,
    Memory,
    Place,
    RecipePath,
    StorePlace,
    Workers,
    print_rich,
    show,
)

Direct = Annotated[
    bool, typer.Option("--direct", help="Without Dagster: faster to start, and nothing is recorded for its UI.")
]

FailFast = Annotated[
    bool,
    typer.Option("--fail-fast", help="Stop at the first failure, also where other experiments could go on without it."),
]


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Datasets to make, with all they need: a kind (tokens), a name (scores/words), one partition "
            "(documents@2026-10). Default: everything."
        ),
    ] = None,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    workers: Workers = 0,
    executor: Place = "local",
    memory: Memory = DEFAULT_MEMORY,
    direct: Direct = False,
    fail_fast: FailFast = False,
    as_json: Json = False,
) -> None:
    """Make every dataset of a recipe that is not there yet. A killed run goes on where it stopped: the same command again."""
    from factory.cli import running
    from factory.reports import terminal

    done = running.run(
        recipe,
        store,
        workers=workers,
        executor=executor,
        memory=memory,
        names=names or None,
        direct=direct,
        fail_fast=fail_fast,
    )
    show(done, terminal.outcome, as_json=as_json)
    if not as_json and done["made"]:
        print_rich(terminal.ledger(done["ledger"]))
