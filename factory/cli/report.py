"""factory report: everything on one page."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json


def command(recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False) -> None:
    """Write one self-contained HTML file: funnels, thresholds, dropped examples, duplicates, mixtures, losses, leaderboard."""
    from factory.recipes.report import write_report

    path = write_report(open_workspace(recipe, store))
    if as_json:
        print_json({"report": path})
    else:
        print(f"Report: {path}")
