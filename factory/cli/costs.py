"""factory costs: what the proxies of a recipe took, the failed and the discarded ones included."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, show


def command(recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False) -> None:
    """The ledger of every training there is: tokens, FLOPs, hours and, where a price is given, money."""
    from factory.recipes.costs import costs
    from factory.reports import decisions

    show(costs(open_workspace(recipe, store)), decisions.costs, as_json=as_json)
