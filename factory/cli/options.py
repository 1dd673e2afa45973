"""What every command shares: its options, opening a recipe, and saying what came of it."""

import json
import os
import sys
from collections.abc import Callable, Sequence
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
# Where output is no terminal there is no width to keep to; this is one that a page, a log and a mail still show whole.
PLAIN_WIDTH = 120
MOST_WIDTH = 10_000


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


def show_each(items: Sequence[Any], render: Callable[[Any], Any], *, as_json: bool, none: str = "") -> None:
    """The same of several things, one below the other; `none` is said to a person where there is none."""
    if as_json:
        print_json(items)
    else:
        print_rich(*(render(item) for item in items), *([none] if none and not items else []))


def print_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=1, default=str)
    sys.stdout.write("\n")


def print_rich(*renderables: Any) -> None:
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ  # then rich knows the width
    console = Console(highlight=False) if known else Console(highlight=False, width=PLAIN_WIDTH)
    for renderable in renderables:
        console.print(renderable, markup=False)


def print_whole(renderable: Any) -> None:
    """The same with lines as long as they are: nothing is folded or left out."""
    from rich.console import Console

    Console(highlight=False, width=MOST_WIDTH).print(renderable, markup=False, soft_wrap=True)


def say(line: str) -> None:
    """A line for a person, beside the output proper."""
    print(line, file=sys.stderr)
