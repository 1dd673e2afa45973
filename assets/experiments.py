"""Assets of an experiment: what it decides, keeps, mixes and writes as tokens, over all snapshots."""

import dagster as dg

from assets.checks import check_specs
from assets.making import Events, again, materialize
from assets.nodes import code_versions
from assets.partitions import experiments, on_every_partition
from assets.resources import Factory
from assets.searches import SELECTION, TOKENIZER, pool_keys, search_assets, search_keys
from assets.snapshots import DOCUMENTS, ENCODINGS, column_keys, link_keys
from factory.recipes.graph import column_owners
from factory.recipes.recipe import Recipe

DECISIONS = dg.AssetKey("decisions")
MIXTURE = dg.AssetKey("mixture")
TOKENS = dg.AssetKey("tokens")


def experiment_keys(recipe: Recipe) -> list[dg.AssetKey]:
    if recipe.tokenizer is not None:
        return [DECISIONS, SELECTION, *pool_keys(recipe), *search_keys(recipe), MIXTURE, TOKENS]
    return [DECISIONS, SELECTION] if any(item.selection is not None for item in recipe.experiments) else [DECISIONS]


def experiment_assets(recipe: Recipe) -> list[dg.AssetsDefinition]:
    beside = [key for key in column_keys(recipe) if key.path[0] == "scores"]
    of_snapshots = on_every_partition(*([DOCUMENTS] if recipe.tokenizer is None else [DOCUMENTS, ENCODINGS]))
    decisions = _asset(
        recipe,
        DECISIONS,
        "decisions",
        [*on_every_partition(*beside, *link_keys(recipe)), *of_snapshots],
        "The rules every document fails, in every snapshot; an empty list is a kept document.",
    )
    if SELECTION not in experiment_keys(recipe):
        return [decisions]
    selection = _asset(
        recipe,
        SELECTION,
        "decisions",
        [dg.AssetDep(DECISIONS), *of_snapshots, *on_every_partition(*_selected_by(recipe))],
        "The documents an experiment keeps: the one place where rows disappear.",
    )
    if recipe.tokenizer is None:
        return [decisions, selection]
    return [
        decisions,
        selection,
        *search_assets(recipe, of_snapshots),
        _asset(
            recipe,
            MIXTURE,
            "mixture",
            [dg.AssetDep(SELECTION), *(dg.AssetDep(key) for key in search_keys(recipe))],
            "How many epochs of each domain the training sees.",
        ),
        _asset(
            recipe,
            TOKENS,
            "tokens",
            [dg.AssetDep(SELECTION), dg.AssetDep(MIXTURE), *of_snapshots, dg.AssetDep(TOKENIZER)],
            "What the training reads: a token file and its index, and the mixture that came out.",
        ),
    ]


def _selected_by(recipe: Recipe) -> list[dg.AssetKey]:
    """The columns beside documents by which selections say how often a document is taken, and of which domain it is."""
    owners = column_owners(recipe)
    chosen = [experiment.selection for experiment in recipe.experiments if experiment.selection is not None]
    reads = {name for selection in chosen for name in selection.reads if name in owners}
    mixtures = [experiment.mixture for experiment in recipe.experiments if experiment.mixture is not None]
    reads |= {name for mixture in mixtures for name in (*mixture.by, mixture.best_first) if name is not None}
    reads &= set(owners)
    return [dg.AssetKey(list(key)) for key in sorted({owners[name][:2] for name in reads})]


def _asset(
    recipe: Recipe, key: dg.AssetKey, group: str, deps: list[dg.AssetDep], description: str
) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        group_name=group,
        partitions_def=experiments(recipe),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=deps,
        kinds={"parquet"},
        code_version=code_versions(recipe).get(key),
        check_specs=check_specs(key.path[0], key),
        retry_policy=again,
        description=description,
    )
    def asset(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return asset
