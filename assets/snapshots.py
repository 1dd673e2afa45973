"""Assets of a snapshot: its documents, every column beside them, and its links."""

import dagster as dg

from assets.checks import check_specs
from assets.making import Events, again, materialize
from assets.nodes import code_versions
from assets.partitions import on_every_partition, snapshots
from assets.resources import Factory
from factory.recipes.graph import COLUMN_KINDS, column_owners
from factory.recipes.recipe import LinkerUse, Recipe, Use

INPUTS = dg.AssetKey("inputs")
DOCUMENTS = dg.AssetKey("documents")
ENCODINGS = dg.AssetKey("encodings")


def snapshot_assets(recipe: Recipe, *, expectations: bool) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """The inputs as they land, documents, columns, and one asset for each linker."""
    links = [_links(recipe, linker) for linker in recipe.linkers]
    # What rewrites texts may read links, which read keys, which may wait for rules that read scores: steps of their own.
    late = [ENCODINGS] if recipe.rewrite and recipe.tokenizer is not None else []
    ruled = [dg.AssetKey(["keys", linker.label]) for linker in recipe.linkers if linker.after]
    early = [key for key in column_keys(recipe) if key not in (*late, *ruled)]
    steps = (("columns", early), ("ruled_keys", ruled), ("encoded", late))
    columns = [_columns(recipe, name, keys) for name, keys in steps if keys]
    return [_inputs(recipe), _documents(recipe, expectations=expectations), *columns, *links]


def column_keys(recipe: Recipe) -> list[dg.AssetKey]:
    labels = {"scores": [use.label for use in recipe.scorers], "keys": [use.label for use in recipe.linkers]}
    encoded = [] if recipe.tokenizer is None else [ENCODINGS]
    return [*encoded, *(dg.AssetKey([kind, label]) for kind, found in labels.items() for label in found)]


def link_keys(recipe: Recipe) -> list[dg.AssetKey]:
    return [dg.AssetKey(["links", linker.label]) for linker in recipe.linkers]


def _inputs(recipe: Recipe) -> dg.AssetSpec:
    lines = [f"- `{source.label}`: {source.stage.name} from `{source.uri}`" for source in recipe.sources]
    return dg.AssetSpec(
        INPUTS,
        group_name="documents",
        partitions_def=snapshots,
        kinds={"file"},
        description="What has landed. The sensor `new_snapshots` reports it.\n\n" + "\n".join(lines),
    )


def _documents(recipe: Recipe, *, expectations: bool) -> dg.AssetsDefinition:
    @dg.asset(
        key=DOCUMENTS,
        group_name="documents",
        partitions_def=snapshots,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[INPUTS],
        kinds={"parquet"},
        code_version=code_versions(recipe).get(DOCUMENTS),
        check_specs=check_specs("documents", DOCUMENTS, expectations=expectations),
        retry_policy=again,
        description="Every record of a snapshot as a row: a document with its text, or an error with its reason.",
    )
    def documents(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return documents


def _columns(recipe: Recipe, name: str, keys: list[dg.AssetKey]) -> dg.AssetsDefinition:
    """One step for several columns, so that stale ones share one pass over the text."""
    versions = code_versions(recipe)
    assert all(key.path[0] in COLUMN_KINDS for key in keys)

    @dg.multi_asset(
        name=name,
        specs=[
            dg.AssetSpec(
                key,
                group_name="scores",
                deps=[DOCUMENTS, *_models(recipe, key), *_beside(recipe, key)],
                kinds={"parquet"},
                code_version=versions.get(key),
                description=_describe(recipe, key),
            )
            for key in keys
        ],
        check_specs=[spec for key in keys for spec in check_specs(key.path[0], key)],
        partitions_def=snapshots,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=again,
        can_subset=True,
    )
    def columns(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return columns


def _beside(recipe: Recipe, key: dg.AssetKey) -> list[dg.AssetKey]:
    """The columns that texts are rewritten by, or that rules read which keys wait for."""
    owners, use = column_owners(recipe), _use(recipe, key)
    reads: set[str] = set()
    if key == ENCODINGS:
        reads = {name for use in recipe.rewrite for name in use.stage.reads_for(use.config) if name in owners}
    elif isinstance(use, LinkerUse):
        reads = {name for rule in use.after for name in rule.reads if name in owners}
    return [dg.AssetKey(list(key)) for key in sorted({owners[name][:2] for name in reads})]


def _links(recipe: Recipe, linker: LinkerUse) -> dg.AssetsDefinition:
    key, keys = dg.AssetKey(["links", linker.label]), dg.AssetKey(["keys", linker.label])
    alone = linker.scope == "snapshot"
    owners = column_owners(recipe)
    judged_by = [dg.AssetKey(list(owners[linker.best][:2]))] if linker.best is not None else []

    @dg.asset(
        key=key,
        group_name="links",
        partitions_def=snapshots,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[DOCUMENTS, keys, *judged_by] if alone else on_every_partition(DOCUMENTS, keys, *judged_by),
        kinds={"parquet"},
        code_version=code_versions(recipe).get(key),
        check_specs=check_specs("links", key),
        retry_policy=again,
        description=f"Which documents are duplicates of which, by {linker.stage.name}. Scope: {linker.scope}.",
    )
    def links(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return links


def _use(recipe: Recipe, key: dg.AssetKey) -> Use | None:
    uses = {"scores": recipe.scorers, "keys": recipe.linkers}.get(key.path[0], ())
    return next((use for use in uses if use.label == key.path[-1]), None)


def _models(recipe: Recipe, key: dg.AssetKey) -> list[dg.AssetKey]:
    use = _use(recipe, key)
    if key == ENCODINGS:
        return [dg.AssetKey(["models", "tokenizer"])]
    return [dg.AssetKey(["models", use.label])] if use and use.stage.train is not None else []


def _describe(recipe: Recipe, key: dg.AssetKey) -> str:
    use = _use(recipe, key)
    if use is None:
        return "Token ids of every document, encoded once for all experiments."
    columns = ", ".join(f"`{name}`" for name in use.columns)
    what = f"Columns {columns}" if key.path[0] == "scores" else "The keys that duplicates share"
    settings = use.config.model_dump(mode="json")
    return f"{what}, by {use.stage.name}@{use.stage.version}" + (f" with `{settings}`." if settings else ".")
