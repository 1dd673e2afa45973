"""Assets of a search: the pool its trials read, and the trials with what they show. Not partitioned: it is of one experiment."""

import dagster as dg

from assets.checks import check_specs
from assets.making import Events, again, materialize
from assets.nodes import code_versions
from assets.partitions import on_every_partition
from assets.resources import Factory
from factory.recipes.recipe import Recipe

SELECTION = dg.AssetKey("selection")
TOKENIZER = dg.AssetKey(["models", "tokenizer"])
GPU = "gpu"


def pool_keys(recipe: Recipe) -> list[dg.AssetKey]:
    return [dg.AssetKey(["pools", label]) for label in recipe.pools]


def search_keys(recipe: Recipe) -> list[dg.AssetKey]:
    return [dg.AssetKey(["searches", search.label]) for search in recipe.searches]


def search_assets(recipe: Recipe, of_snapshots: list[dg.AssetDep]) -> list[dg.AssetsDefinition]:
    """`of_snapshots` are the documents and encodings that a pool is written from."""
    found = [_pools(recipe, of_snapshots)] if recipe.pools else []
    return [*found, _searches(recipe)] if recipe.searches else found


def _pools(recipe: Recipe, of_snapshots: list[dg.AssetDep]) -> dg.AssetsDefinition:
    deps = [*on_every_partition(SELECTION), *of_snapshots, dg.AssetDep(TOKENIZER)]
    return _assets(recipe, pool_keys(recipe), "pools", deps, "Every document an experiment selects, once, as tokens.")


def _searches(recipe: Recipe) -> dg.AssetsDefinition:
    deps = [*on_every_partition(SELECTION), *(dg.AssetDep(key) for key in (*pool_keys(recipe), TOKENIZER))]
    return _assets(
        recipe, search_keys(recipe), "searches", deps, "Proxies on mixtures, round by round, and what they show."
    )


def _assets(
    recipe: Recipe, keys: list[dg.AssetKey], name: str, deps: list[dg.AssetDep], description: str
) -> dg.AssetsDefinition:
    """One step for all assets of a kind: their trials share the workers."""
    versions = code_versions(recipe)
    specs = [
        dg.AssetSpec(
            key,
            deps=deps,
            group_name="search",
            kinds={"parquet"},
            code_version=versions.get(key),
            description=f"{description} {_of(recipe, key)}",
        )
        for key in keys
    ]

    @dg.multi_asset(
        name=name,
        specs=specs,
        can_subset=True,
        pool=GPU if name == "searches" else None,
        check_specs=[spec for key in keys for spec in check_specs(name, key)],
        retry_policy=again,
    )
    def assets(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return assets


def _of(recipe: Recipe, key: dg.AssetKey) -> str:
    if key.path[0] == "pools":
        return f"Experiment `{key.path[1]}`."
    search = recipe.search(key.path[1])
    return f"`{search.stage.name}` on the domains of `{search.experiment}`, {search.tokens:,} tokens a trial."
