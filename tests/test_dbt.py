"""dbt over a store the factory made: every model is built, every test passes, and the sums are the factory's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from judged_project import EVERY_JOIN, SNAPSHOTS, Judged, judged, write_project

from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace

__all__ = ["judged"]
ROOT = Path(__file__).parent.parent
DBT = str(Path(sys.executable).with_name("dbt"))


def build(store: Path, name: str, folder: Path) -> tuple[str, Path]:
    """`dbt build` on a store; returns what it said and the database."""
    database = folder / "analytics.duckdb"
    environment = {**os.environ, "FACTORY_STORE": str(store), "FACTORY_NAME": name, "FACTORY_ANALYTICS": str(database)}
    command = [DBT, "--no-use-colors", "build", "--project-dir", str(ROOT / "dbt_project")]
    command += ["--profiles-dir", str(ROOT / "dbt_project"), "--target-path", str(folder), "--log-path", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout, database


@pytest.fixture(scope="module")
def built(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return build(judged.store, "judged", tmp_path_factory.mktemp("dbt"))


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_every_model_is_built_and_every_test_passes(built: tuple[str, Path]) -> None:
    said, _ = built
    assert "ERROR=0" in said
    assert "SKIP=0" in said
    assert "WARN=0" in said


def test_the_funnel_says_what_the_manifests_say(built: tuple[str, Path], judged: Judged) -> None:
    decided = [o.manifest for o in judged.outcomes if (o.node.kind, o.node.label) == ("decisions", "full")]
    for rule in ("long", "duplicate"):
        told = [row for manifest in decided for row in manifest.notes["funnel"] if row["rule"] == rule]
        expected = tuple(sum(row[name] for row in told) for name in ("failed", "failed_tokens", "first", "only"))
        query = "select failed_documents, failed_tokens, first_documents, only_documents from funnel"
        assert rows(built[1], f"{query} where experiment = 'full' and rule = '{rule}'") == [expected]


def test_kept_documents_and_tokens_are_the_selections(built: tuple[str, Path], judged: Judged) -> None:
    for outcome in judged.outcomes:
        if outcome.node.kind == "selection":
            expected = (outcome.manifest.rows, sum(outcome.manifest.notes["tokens"].values()))
            query = "select sum(kept_documents), sum(kept_tokens) from domains where experiment = "
            assert rows(built[1], f"{query} '{outcome.node.label}'") == [expected]


def test_the_leaderboard_is_the_judged_one(built: tuple[str, Path], judged: Judged) -> None:
    board = judged.outcomes[-1].manifest.notes["board"]["rows"]
    expected = sorted((row["experiment"], row["verdict"]) for row in board)
    assert sorted(rows(built[1], "select experiment, verdict from leaderboard")) == expected


def test_an_empty_store_builds_empty_models(tmp_path: Path) -> None:
    said, database = build(tmp_path / "store", "nothing", tmp_path)
    assert "ERROR=0" in said
    assert rows(database, "select count(*) from funnel") == [(0,)]


def test_links_of_every_join_are_counted(tmp_path: Path) -> None:
    with Workspace(load_recipe(write_project(tmp_path, EVERY_JOIN)), LocalExecutor(1)) as workspace:
        made = {outcome.node.name: outcome.manifest for outcome in workspace.run(["links", "selection"])}
    said, database = build(tmp_path / "store", "judged", tmp_path / "dbt")
    assert "ERROR=0" in said
    assert "WARN=0" in said
    removed = {
        name: sum(made[f"links/{name}@{snapshot}"].notes["removed_bytes"] for snapshot in SNAPSHOTS)
        for name in ("lines", "seen")
    }
    assert dict(rows(database, "select linker, sum(removed_bytes) from boilerplate group by all")) == removed
    documents = sum(made[f"links/near@{snapshot}"].rows for snapshot in SNAPSHOTS)
    largest = made["links/near@2026-02"].notes["largest"][0]["size"]
    found = rows(database, "select linker, sum(documents), max(members) from clusters group by all")
    assert found == [("near", documents, largest)]
    assert rows(database, "select experiment, sum(repeats) > count(*) from stg_selection group by all order by 1") == [
        ("once", False),
        ("repeated", True),
    ]


def test_models_are_assets_with_lineage_to_what_the_factory_makes(judged: Judged) -> None:
    code = (
        "import json; from assets.analytics.definitions import defs; "
        "print(json.dumps({s.key.to_user_string(): [d.asset_key.to_user_string() for d in s.deps] "
        "for s in defs.resolve_all_asset_specs()}))"
    )
    environment = {**os.environ, "FACTORY_RECIPE": judged.recipe}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lineage = json.loads(done.stdout.strip().splitlines()[-1])
    assert lineage["analytics/stg_decisions"] == ["decisions"]
    assert lineage["analytics/stg_links"] == ["links/near"]
    assert set(lineage["analytics/funnel"]) == {"analytics/stg_decisions", "analytics/stg_encodings"}
