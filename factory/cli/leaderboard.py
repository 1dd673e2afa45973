"""factory leaderboard: which experiment gives the better model."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show


def command(recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False) -> None:
    """Rank the experiments by what their proxies prove: means with intervals, verdicts against the base, the noise floor."""
    from factory.reports import terminal

    manifest = open_workspace(recipe, store).need("leaderboard")
    show(dict(manifest.notes), terminal.leaderboard, as_json=as_json)
