"""From settings to Dagster's definitions: the modules of this package, merged by name."""

import warnings
from collections.abc import Iterator

import dagster as dg

from assets.automation import jobs, new_snapshots, weekly
from assets.experiments import experiment_assets
from assets.models import model_assets
from assets.proxies import proxy_assets
from assets.report import report_assets
from assets.resources import Factory, Settings
from assets.snapshots import snapshot_assets
from factory.core.errors import FactoryError
from factory.recipes.recipe import Recipe


def compose(settings: Settings, held: Factory | None = None) -> dg.Definitions:
    """The definitions of a recipe. A recipe that cannot be read still loads: as one asset that says what is wrong.

    `held` is what assets are made with; without it, every run opens and closes its own.
    """
    try:
        recipe = settings.load()
    except FactoryError as error:
        return _problem(settings, error)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies
        return dg.Definitions.merge(
            dg.Definitions(assets=snapshot_assets(recipe, expectations=settings.expectations)),
            dg.Definitions(assets=model_assets(recipe)),
            dg.Definitions(assets=experiment_assets(recipe)),
            dg.Definitions(assets=proxy_assets(recipe)),
            dg.Definitions(assets=report_assets(recipe)),
            dg.Definitions(jobs=jobs(recipe), schedules=[weekly(recipe)], sensors=[new_snapshots(recipe)]),
            dg.Definitions(
                resources={"factory": held or _factory(settings, recipe)},
                executor=dg.in_process_executor,
                metadata={"recipe": dg.MetadataValue.path(settings.recipe), "store": recipe.store},
            ),
        )


def _factory(settings: Settings, recipe: Recipe) -> dg.ResourceDefinition:
    @dg.resource(description=f"The workspace of {settings.recipe}.")
    def factory(_: dg.InitResourceContext) -> Iterator[Factory]:
        made = Factory(settings, recipe)
        try:
            yield made
        finally:
            made.close()

    return factory


def _problem(settings: Settings, error: FactoryError) -> dg.Definitions:
    text = f"**{settings.recipe}** cannot be shown:\n\n" + "\n".join(f"- {line}" for line in str(error).splitlines())

    @dg.asset(key="recipe", group_name="problems", description=text)
    def recipe() -> None:
        raise dg.Failure(str(error), allow_retries=False)

    return dg.Definitions(assets=[recipe])
