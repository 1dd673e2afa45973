"""factory check: every mistake of a recipe at once."""

from factory.cli.options import DEFAULT_RECIPE, Json, RecipePath, StorePlace, open_workspace, print_json
from factory.core.errors import RecipeError


def command(recipe: RecipePath = DEFAULT_RECIPE, store: StorePlace = None, as_json: Json = False) -> None:
    """Check a recipe and the files it names; report every problem at once. Nothing is made."""
    from factory.recipes.init import missing_files, wrong_files

    workspace = open_workspace(recipe, store)
    missing = [
        f"{place}: there is no such file. Put it there, or change the line."
        for place in missing_files(workspace.recipe)
    ]
    problems = [*missing, *wrong_files(workspace.recipe)]
    if problems:
        raise RecipeError(problems)
    files = sum(len(found) for sources in workspace.inputs.values() for found in sources.values())
    labels = [experiment.label for experiment in workspace.recipe.experiments]
    datasets = len(workspace.graph)
    if as_json:
        print_json(
            {
                "recipe": workspace.recipe.name,
                "problems": [],
                "snapshots": workspace.snapshots,
                "input_files": files,
                "experiments": labels,
                "datasets": datasets,
            }
        )
        return
    print(
        f"{recipe} is fine: {len(labels)} experiments on {len(workspace.snapshots)} snapshots "
        f"({files:,} files), {datasets} datasets."
    )
