"""Assets people read: the leaderboard of all experiments, and one HTML report of everything behind it."""

import dagster as dg

from assets.checks import check_specs
from assets.experiments import DECISIONS, SELECTION, TOKENS
from assets.making import Events, again, explained, materialize
from assets.nodes import code_versions
from assets.partitions import on_every_partition
from assets.proxies import EVALUATIONS, PROXIES
from assets.resources import Factory
from factory.recipes.recipe import Recipe

LEADERBOARD = dg.AssetKey("leaderboard")
REPORT = dg.AssetKey("report")


def report_assets(recipe: Recipe) -> list[dg.AssetsDefinition]:
    return [*([_leaderboard(recipe)] if recipe.evaluate else []), _report(recipe)]


def _leaderboard(recipe: Recipe) -> dg.AssetsDefinition:
    @dg.asset(
        key=LEADERBOARD,
        group_name="report",
        deps=on_every_partition(EVALUATIONS, PROXIES, TOKENS, SELECTION),
        kinds={"parquet"},
        code_version=code_versions(recipe).get(LEADERBOARD),
        check_specs=check_specs("leaderboard", LEADERBOARD),
        retry_policy=again,
        description=f"Experiments ranked by what their proxies can prove, against `{recipe.base}`.",
    )
    def leaderboard(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return leaderboard


def _decided(recipe: Recipe) -> list[dg.AssetKey]:
    return [DECISIONS] if recipe.tokenizer is None else [DECISIONS, TOKENS]


def _report(recipe: Recipe) -> dg.AssetsDefinition:
    @dg.asset(
        key=REPORT,
        group_name="report",
        deps=[LEADERBOARD] if recipe.evaluate else on_every_partition(*_decided(recipe)),
        kinds={"html"},
        code_version="1",
        retry_policy=again,
        description="One HTML file: funnel, ledger, mixtures, training, leaderboard.",
    )
    def report(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> dg.MaterializeResult[None]:
        with explained(factory):
            from factory.recipes.report import write_report

            path = write_report(factory.workspace)
        return dg.MaterializeResult(metadata={"report": dg.MetadataValue.path(path), "dagster/uri": path})

    return report
