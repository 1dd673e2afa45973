"""Assets the curation learns or fetches: the tokenizer, and the model of every scorer that has one."""

import dagster as dg

from assets.making import Events, again, materialize
from assets.nodes import code_versions
from assets.partitions import on_every_partition
from assets.resources import Factory
from assets.snapshots import DOCUMENTS
from factory.recipes.recipe import Recipe, Use


def model_assets(recipe: Recipe) -> list[dg.AssetsDefinition]:
    return [
        *_tokenizer(recipe),
        *(_model(recipe, use.label, _describe(use), learns=_learns(use)) for use in _trained(recipe)),
    ]


def model_keys(recipe: Recipe) -> list[dg.AssetKey]:
    own = [] if recipe.tokenizer is None else ["tokenizer"]
    return [dg.AssetKey(["models", label]) for label in (*own, *(use.label for use in _trained(recipe)))]


def _tokenizer(recipe: Recipe) -> list[dg.AssetsDefinition]:
    if recipe.tokenizer is None:
        return []
    learns = recipe.tokenizer.path is None
    how = "trained on a sample of the first snapshot" if learns else "as it is"
    return [_model(recipe, "tokenizer", f"The tokenizer, {how}.", learns=learns)]


def _trained(recipe: Recipe) -> list[Use]:
    return [use for use in (*recipe.scorers, *recipe.linkers) if use.stage.train is not None]


def _learns(use: Use) -> bool:
    return use.stage.train is not None and use.stage.train.ready(use.config) is None


def _describe(use: Use) -> str:
    how = "learned from documents, with held-out metrics" if _learns(use) else "fetched and verified by its digest"
    return f"The model of `{use.label}` ({use.stage.name}), {how}."


def _model(recipe: Recipe, label: str, description: str, *, learns: bool) -> dg.AssetsDefinition:
    key = dg.AssetKey(["models", label])

    @dg.asset(
        key=key,
        group_name="models",
        deps=on_every_partition(DOCUMENTS) if learns else [],
        kinds={"model"},
        code_version=code_versions(recipe).get(key),
        retry_policy=again,
        description=description,
    )
    def model(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return model
