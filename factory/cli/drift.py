"""factory drift: how far every signal moved since the snapshot before."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, Snapshots, StorePlace, open_workspace, show
from factory.core.errors import FactoryError


def command(
    snapshot: Snapshots = None, recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False
) -> None:
    """Compare the distribution of every column with the snapshot before (population stability index)."""
    from factory.recipes.drift import drifts
    from factory.reports import terminal

    rows = drifts(open_workspace(recipe, store), snapshot or ())
    if not rows and not as_json:
        raise FactoryError("There are not two snapshots to compare yet. 'factory status' shows what is there.")
    show(rows, terminal.drift, as_json=as_json)
