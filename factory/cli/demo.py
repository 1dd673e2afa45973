"""factory demo: everything at work on text that is on every machine."""

import importlib.util
import os
import shutil
import sys
import time
from typing import Annotated, Any

import typer

from factory.cli.options import Workers, open_workspace, print_rich, say
from factory.cli.run import Direct
from factory.core.errors import FactoryError, InputError

RECIPE = ("recipes", "demo.yaml")


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where it is made; about 50 MB.")] = "demo",
    pages: Annotated[
        int | None, typer.Option("--pages", min=50, help="Pages to crawl; fewer make a smaller demo.")
    ] = None,
    workers: Workers = 0,
    direct: Direct = False,
) -> None:
    """Crawl installed documentation over HTTP (on this machine only), run the demo recipe on it, and show what came out."""
    from factory.cli import running
    from factory.recipes.funnel import funnels
    from factory.recipes.report import write_report
    from factory.recipes.status import ledger
    from factory.reports import terminal
    from factory.reports.leaderboard import Leaderboard
    from factory.reports.text import duration

    started = time.monotonic()
    folder = os.path.abspath(directory)
    _make_inputs(folder, pages)
    recipe = _put_recipe(folder)
    done = running.run(recipe, None, workers=workers, names=None, direct=direct)
    with open_workspace(recipe, None) as workspace:
        found = funnels(workspace)
        board = workspace.find("leaderboard")
        print_rich(terminal.outcome(done) if not done["made"] else "", terminal.funnel_summary(found))
        print_rich("", terminal.funnel(max(found, key=lambda item: len(item["rules"]))))
        print_rich("", terminal.ledger(ledger(workspace)))
        if board is not None:
            print_rich("", Leaderboard(board.notes))
        report = write_report(workspace)
    shown = os.path.relpath(recipe)
    print()
    print(f"Report:   {report}")
    print(f"Dagster:  {_program()} ui --recipe {shown}")
    print(f"Explain:  {_program()} explain --recipe {shown} ID|URL")
    print(
        f"{len(done['made'])} datasets made, {len(done['cached'])} cached, {duration(time.monotonic() - started)} in all."
    )


def _program() -> str:
    """How a person calls this program from here: by name, or by its path where the name is not known to the shell."""
    return "factory" if shutil.which("factory") == os.path.abspath(sys.argv[0]) else os.path.relpath(sys.argv[0])


def _make_inputs(folder: str, pages: int | None) -> None:
    from factory.cli.progress import make_progress
    from factory.demo.inputs import PAGES, make_inputs

    bars = make_progress()
    state: dict[str, Any] = {"what": None, "done": 0}

    def progress(done: int, total: int | None, what: str) -> None:
        if what != state["what"]:
            bars.finish()
            bars.start(what, total or 0, "pages" if total else "")
            state.update(what=what, done=0)
        bars.advance(max(0, done - state["done"]))
        state["done"] = max(done, state["done"])

    try:
        made = make_inputs(folder, pages=pages or PAGES, progress=progress)
    finally:
        bars.finish()
    fetched = ", ".join(f"{name}: {_fetched(crawl)}" for name, crawl in made["crawls"].items())
    say(f"Inputs in {folder}: documentation of {made['packages']} packages, crawled as {fetched}.")


def _fetched(crawl: Any) -> str:
    pages = crawl.get("fetched", crawl.get("pages", crawl.get("records")))
    return f"{pages:,} pages" if isinstance(pages, int) else "done"


def _put_recipe(folder: str) -> str:
    """The demo's recipe beside its inputs; one that was changed there is kept."""
    spec = importlib.util.find_spec("assets")
    places = list(spec.submodule_search_locations or []) if spec else []
    source = next((path for place in places if os.path.exists(path := os.path.join(place, *RECIPE))), None)
    if source is None:
        raise FactoryError("The demo's recipe is not installed (package 'assets'). Install the project again.")
    target = os.path.join(folder, "recipe.yaml")
    if os.path.isdir(target):
        raise InputError(f"{target} is a folder; the demo's recipe belongs there. Remove it, or name another folder.")
    if not os.path.exists(target):
        shutil.copyfile(source, target)
    return target
