"""What every command shares: its options, opening a recipe, and saying what came of it."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.core.sizes import DEFAULT_MEMORY, read_size

if TYPE_CHECKING:
    from factory.recipes.workspace import Workspace

RecipePath = Annotated[
    str, typer.Option("--recipe", "-r", envvar="FACTORY_RECIPE", metavar="PATH", help="The recipe file.")
]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", envvar="FACTORY_STORE", metavar="URL", help="Another store than the recipe names."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on standard output.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=0, help="Worker processes; 0 takes one for each core.")]
Place = Annotated[
    str,
    typer.Option(
        "--executor", envvar="FACTORY_EXECUTOR", help="local, ray (the cluster of this machine) or ray:ADDRESS."
    ),
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory",
        envvar="FACTORY_MEMORY",
        metavar="SIZE",
        help="What one task of a global step may hold, such as 512MB or 4GB; it spills what is more. Changes no result.",
    ),
]
Snapshots = Annotated[
    list[str] | None, typer.Option("--snapshot", "-s", metavar="NAME", help="Only this snapshot; may be repeated.")
]
Experiments = Annotated[
    list[str] | None, typer.Option("--experiment", "-e", metavar="NAME", help="Only this experiment; may be repeated.")
]

DEFAULT_RECIPE = "recipe.yaml"
PLAIN_WIDTH = 180  # where output is no terminal, lines are cut nowhere a person would see


def open_workspace(
    recipe: str,
    store: str | None,
    *,
    workers: int = 0,
    executor: str = "local",
    wait: bool = True,
    memory: str = DEFAULT_MEMORY,
) -> "Workspace":
    """The recipe with its store, with progress on standard error. Raises FactoryError for what is wrong with it."""
    from factory.cli.progress import make_progress
    from factory.execution.choice import make_executor
    from factory.recipes.load import load_recipe
    from factory.recipes.workspace import Workspace

    found = load_recipe(recipe, store=store)
    held = read_size(memory)
    return Workspace(found, make_executor(executor, workers), make_progress(), wait=wait, memory=held)


def show(data: Any, render: Callable[[Any], Any], *, as_json: bool) -> None:
    """Print data for a machine, or what `render` makes of it for a person."""
    if as_json:
        print_json(data)
    else:
        print_rich(render(data))


def print_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=1, default=str)
    sys.stdout.write("\n")


def print_rich(*renderables: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PLAIN_WIDTH)
    for renderable in renderables:
        console.print(renderable, markup=False)


def say(line: str) -> None:
    """A line for a person, beside the output proper."""
    print(line, file=sys.stderr)
