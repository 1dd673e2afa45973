"""The code location `analytics`: dbt-duckdb over the store's current datasets, with lineage to the assets that made them.

The manifest is made by `dbt parse` where it is missing or older than the project.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from assets.instance import dagster_home
from assets.resources import Settings, read_settings
from factory.core.errors import FactoryError
from factory.recipes.recipe import Recipe

FOLDER = Path(__file__).parent.parent.parent / "dbt_project"
GROUP = "analytics"
LINKS = "stg_links"  # reads the links of every linker
DBT = str(Path(sys.executable).with_name("dbt"))  # of this environment, whether or not it is activated


class Translator(DagsterDbtTranslator):
    """Models are `analytics/<name>`; sources keep the key of the asset that writes them, links of all that do."""

    def __init__(self, linkers: Sequence[str]) -> None:
        super().__init__()
        self.linkers = linkers

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if not unique_id.startswith("model."):
            return spec
        name = unique_id.rsplit(".", 1)[1]
        spec = spec.replace_attributes(key=dg.AssetKey([GROUP, name]), group_name=GROUP, kinds={"dbt", "duckdb"})
        if name == LINKS:
            return spec.replace_attributes(deps=[dg.AssetKey(["links", linker]) for linker in self.linkers])
        return spec


def connect(recipe: Recipe) -> dict[str, str]:
    """The variables dbt's profile and macros read."""
    remote = "://" in recipe.store
    database = dagster_home(recipe) / "analytics.duckdb" if remote else Path(recipe.store) / "analytics.duckdb"
    database.parent.mkdir(parents=True, exist_ok=True)
    return {
        "FACTORY_STORE": recipe.store.rstrip("/"),
        "FACTORY_NAME": recipe.name,
        "FACTORY_ANALYTICS": str(database),
        "FACTORY_DBT_TARGET": "s3" if recipe.store.startswith("s3://") else "local",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def prepare(project: DbtProject) -> None:
    """Write the manifest if it is not there or something is newer than it."""
    sources = [path for path in FOLDER.rglob("*") if path.suffix in (".sql", ".yml") and "target" not in path.parts]
    newest = max(path.stat().st_mtime for path in sources)
    if not project.manifest_path.exists() or project.manifest_path.stat().st_mtime < newest:
        DbtCliResource(project, dbt_executable=DBT).cli(["parse", "--quiet"], target_path=project.target_path).wait()


def compose_analytics(settings: Settings) -> dg.Definitions:
    """The models as assets; nothing where the recipe cannot be read, which the other location tells in full."""
    try:
        recipe = settings.load()
    except FactoryError as error:
        return dg.Definitions(metadata={"problem": str(error)})
    os.environ.update(connect(recipe))
    project = DbtProject(project_dir=FOLDER, profiles_dir=FOLDER)
    prepare(project)
    translator = Translator([linker.label for linker in recipe.linkers])

    @dbt_assets(manifest=project.manifest_path, project=project, dagster_dbt_translator=translator, pool="duckdb")
    def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        yield from dbt.cli(["build"], context=context).stream()

    job = dg.define_asset_job(GROUP, dg.AssetSelection.groups(GROUP), description="Every model and its tests.")
    return dg.Definitions(
        assets=[models],
        jobs=[job],
        resources={"dbt": DbtCliResource(project, dbt_executable=DBT)},
        executor=dg.in_process_executor,
    )


defs = compose_analytics(read_settings())
