"""factory doctor: is this machine fit?"""

import os

import typer

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, Workers, print_json, print_rich
from factory.cli.quiet import QUIET


def command(
    recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, workers: Workers = 0, as_json: Json = False
) -> None:
    """Examine this machine: packages, memory, disk, the store's promises, the recipe, telemetry, open ports, GPU."""
    from factory.recipes.doctor import examine
    from factory.reports import terminal

    findings = [
        finding.to_json()
        for finding in examine(recipe, store=store, environment=os.environ, quiet=QUIET, workers=workers)
    ]
    if as_json:
        print_json(findings)
    else:
        print_rich(terminal.findings(findings))
    if any(finding["state"] == "problem" for finding in findings):
        raise typer.Exit(1)
