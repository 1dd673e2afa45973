"""Dagster on a small recipe: what it shows, what it runs, what it refuses, and that the second time costs nothing."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from judged_project import EVERY_JOIN, RECIPE, SNAPSHOTS, Heard, Judged, judged, text, write_project, write_snapshot

from assets.automation import look
from assets.composition import compose
from assets.instance import DAGSTER_YAML, PID, end_dead_runs, own_tags
from assets.launch import run
from assets.partitions import SNAPSHOT
from assets.plots import bars, line
from assets.resources import Settings, read_settings
from factory.core.errors import FactoryError, LedgerError, RecipeError
from factory.recipes.load import load_recipe

__all__ = ["judged"]
SEARCHED = RECIPE.replace(
    "experiments:\n  raw: {filters: {}}\n  full: {}\nbase: raw",
    """searches:
  grid: {use: fixed, tokens: 600, mixtures: {even: {site0.example: 0.4, site1.example: 0.3, site2.example: 0.3}}}
experiments: {full: {filters: {}}, found: {filters: {}, mixture: {use: searched, search: grid}}}
""",
)
ROOT = Path(__file__).parent.parent
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FACTORY_GX", "0")
    return write_project(tmp_path)


@pytest.fixture(scope="module")
def recorded(judged: Judged) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(judged.store / "dagster")) as instance:
        yield instance


def keys(definitions: dg.Definitions) -> set[str]:
    return {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}


def materialization(instance: dg.DagsterInstance, key: str, partition: str | None = None) -> dg.AssetMaterialization:
    wanted = dg.AssetRecordsFilter(dg.AssetKey(key.split("/")), asset_partitions=[partition] if partition else None)
    found = instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert found is not None
    return found


# --- definitions


def test_every_dataset_of_the_recipe_is_an_asset(project: str) -> None:
    definitions = compose(Settings(project))
    dg.Definitions.validate_loadable(definitions)
    assert keys(definitions) == {
        *("inputs", "documents", "models/tokenizer", "scores/words", "scores/lines", "keys/near", "encodings"),
        *(
            "links/near",
            "decisions",
            "selection",
            "mixture",
            "tokens",
            "proxies",
            "evaluations",
            "leaderboard",
            "report",
        ),
    }


def test_a_recipe_that_only_curates_has_assets_up_to_its_decisions(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: curate\nsources: {web: {use: jsonl, uri: '*.jsonl', snapshot: one}}\n"
        "scorers: {words: {use: word_statistics}}\ntokenizer: none\n"
    )
    keys = {spec.key.to_user_string() for spec in compose(Settings(str(recipe))).resolve_all_asset_specs()}
    assert keys == {"inputs", "documents", "scores/words", "decisions", "report"}


def test_a_recipe_that_only_curates_shows_its_selection_where_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTORY_GX", "0")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: curate\nsources: {web: {use: jsonl, uri: '*.jsonl', snapshot: one}}\nlinkers: {near: {use: minhash}}\n"
        "selection: {use: rehydrate, column: near_cluster_size}\ntokenizer: none\n"
        "experiments: {repeated: {}, once: {selection: null}}\n"
    )
    write_snapshot(tmp_path, "one").rename(tmp_path / "web.jsonl")
    outcomes = run(str(recipe), workers=1)
    assert [o.node.name for o in outcomes if o.node.kind == "selection"] == ["selection/repeated"]
    assert not any(outcome.made for outcome in run(str(recipe), workers=1))
    read = {spec.key: spec.deps for spec in compose(Settings(str(recipe))).resolve_all_asset_specs()}
    assert dg.AssetKey(["links", "near"]) in {dep.asset_key for dep in read[dg.AssetKey("selection")]}


def test_only_the_changed_experiments_chain_gets_another_code_version(project: str) -> None:
    before = {spec.key: spec.code_version for spec in compose(Settings(project)).resolve_all_asset_specs()}
    Path(project).write_text(Path(project).read_text().replace("min: 40", "min: 50"))
    after = {spec.key: spec.code_version for spec in compose(Settings(project)).resolve_all_asset_specs()}
    assert {key.to_user_string() for key in before if before[key] != after[key]} == {"decisions"}


def test_a_recipe_with_mistakes_still_loads_and_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\nsorces: {}\n")
    (spec,) = compose(Settings(str(tmp_path / "recipe.yaml"))).resolve_all_asset_specs()
    assert "Did you mean 'sources'" in (spec.description or "")


def test_a_missing_recipe_still_loads_and_says_so(tmp_path: Path) -> None:
    (spec,) = compose(Settings(str(tmp_path / "none.yaml"))).resolve_all_asset_specs()
    assert "no such recipe" in (spec.description or "")


def test_loading_imports_nothing_heavy_and_warns_of_nothing(project: str) -> None:
    heavy = ("torch", "dbt", "great_expectations", "pandas", "transformers", "matplotlib", "dagster_dbt")
    code = f"import sys, assets.definitions; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "FACTORY_RECIPE": project},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_training_child_speaks_to_dagster_without_importing_it() -> None:
    code = "import sys, assets.training; print([name for name in ('dagster', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dg_checks_the_definitions(project: str) -> None:
    dg_program = str(Path(sys.executable).with_name("dg"))
    environment = {**os.environ, "FACTORY_RECIPE": project, "DAGSTER_HOME": ""}
    done = subprocess.run(
        [dg_program, "check", "defs"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workers_that_are_no_number_are_refused() -> None:
    with pytest.raises(RecipeError, match="FACTORY_WORKERS"):
        read_settings({"FACTORY_WORKERS": "many", "FACTORY_RECIPE": "recipe.yaml"})


def test_the_deployed_instance_is_the_one_a_laptop_gets() -> None:
    assert (ROOT / "deploy" / "dagster.yaml").read_text() == DAGSTER_YAML


# --- the whole chain, once


def test_the_chain_runs_to_a_leaderboard_in_two_runs(judged: Judged, recorded: dg.DagsterInstance) -> None:
    assert all(outcome.made and outcome.passed for outcome in judged.outcomes)
    assert {outcome.node.kind for outcome in judged.outcomes} >= {"documents", "proxies", "leaderboard"}
    assert [item.job_name for item in recorded.get_runs()] == ["judge", "prepare"]


def test_every_partition_carries_its_own_digest_as_data_version(judged: Judged, recorded: dg.DagsterInstance) -> None:
    for outcome in judged.outcomes:
        if outcome.node.kind in ("documents", "scores", "links"):
            key = "/".join(piece for piece in (outcome.node.kind, outcome.node.label) if piece)
            found = materialization(recorded, key, outcome.node.partition)
            assert (found.tags or {})["dagster/data_version"] == outcome.manifest.digest


def test_an_experiment_shows_its_funnel_its_mixture_and_its_loss(recorded: dg.DagsterInstance) -> None:
    assert "| duplicate |" in str(materialization(recorded, "decisions", "full").metadata["funnel"].value)
    assert "site0.example" in str(materialization(recorded, "tokens", "full").metadata["mixture"].value)
    assert "svg" in str(materialization(recorded, "proxies", "full").metadata["loss curve"].value)
    assert "| rank |" in str(materialization(recorded, "leaderboard").metadata["leaderboard"].value)


def test_the_report_is_a_file_that_exists(recorded: dg.DagsterInstance) -> None:
    assert Path(str(materialization(recorded, "report").metadata["report"].value)).exists()


def test_metadata_stays_small(recorded: dg.DagsterInstance) -> None:
    for key in recorded.all_asset_keys():
        if found := recorded.get_latest_materialization_event(key):
            told = found.asset_materialization
            assert told is not None
            assert len(json.dumps({name: str(value.value) for name, value in told.metadata.items()})) < 32_000


def test_great_expectations_looked_at_the_documents(judged: Judged) -> None:
    documents = next(outcome for outcome in judged.outcomes if outcome.node.kind == "documents")
    check = next(check for check in documents.checks if check.name == "expectations")
    assert check.passed, check.text
    assert "sampled rows" in check.text


def test_training_reported_its_progress_from_the_child(judged: Judged) -> None:
    assert judged.progress.done["train proxies"] == 2 * 3000


def test_the_second_run_makes_and_records_nothing(judged: Judged, recorded: dg.DagsterInstance) -> None:
    before, progress, started = recorded.get_runs_count(), Heard(), time.process_time()
    again = run(judged.recipe, workers=1, progress=progress)
    assert time.process_time() - started < 10
    assert not any(outcome.made for outcome in again)
    assert len(again) == len(judged.outcomes)
    assert recorded.get_runs_count() == before
    assert progress.labels == []


# --- parts of it


def test_only_what_was_asked_for_is_made(project: str) -> None:
    outcomes = run(project, workers=1, names=["scores/words@2026-01"])
    assert {outcome.node.name for outcome in outcomes} == {"documents@2026-01", "scores/words@2026-01"}


def test_links_of_every_join_are_made_before_the_texts_they_rewrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTORY_GX", "0")
    recipe = write_project(tmp_path, EVERY_JOIN)
    specs = {spec.key: spec for spec in compose(Settings(recipe, expectations=False)).resolve_all_asset_specs()}
    assert dg.AssetKey(["links", "lines"]) in {dep.asset_key for dep in specs[dg.AssetKey("encodings")].deps}
    outcomes = run(recipe, workers=1, names=["links", "selection"])
    made = {outcome.node.name: outcome.manifest for outcome in outcomes}
    for join, removed in (("lines", "removed_bytes"), ("seen", "removed_bytes"), ("near", "duplicates")):
        assert made[f"links/{join}@2026-02"].notes[removed] > 0
    assert {f"links/{name}@2026-01" for name in ("near", "lines", "seen", "alike")} <= set(made)
    whole, rewritten = (made[f"selection/{name}"].notes["tokens"] for name in ("once", "repeated"))
    assert all(outcome.passed for outcome in outcomes)
    assert sum(rewritten.values()) > sum(whole.values())


def test_searches_are_assets_that_show_what_they_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_GX", "0")
    recipe = write_project(tmp_path, SEARCHED)
    definitions = compose(Settings(recipe, expectations=False))
    dg.Definitions.validate_loadable(definitions)
    read = {spec.key: {dep.asset_key for dep in spec.deps} for spec in definitions.resolve_all_asset_specs()}
    grid, pool = dg.AssetKey(["searches", "grid"]), dg.AssetKey(["pools", "full"])
    assert pool in read[grid]
    assert grid in read[dg.AssetKey("mixture")]
    outcomes = {outcome.node.name: outcome for outcome in run(recipe, workers=1, names=["mixture/found"])}
    assert outcomes["searches/grid"].made
    with dg.DagsterInstance.from_config(str(tmp_path / "store" / "dagster")) as instance:
        told = materialization(instance, "searches/grid").metadata
        assert "| site1.example |" in str(told["shares"].value)
        assert (told["trials"].value, told["failed"].value) == (4, 0)
        assert materialization(instance, "pools/full").metadata["documents"].value == 80
        assert materialization(instance, "mixture", "found").metadata["tokens"].value == 3000
    assert not any(outcome.made for outcome in run(recipe, workers=1, names=["mixture/found"]))


def test_a_new_snapshot_pays_for_itself_alone(project: str) -> None:
    run(project, workers=1, names=["documents"])
    write_snapshot(Path(project).parent, "2026-03")
    made = {outcome.node.name: outcome.made for outcome in run(project, workers=1, names=["documents"])}
    assert made == {"documents@2026-01": False, "documents@2026-02": False, "documents@2026-03": True}


def test_a_partition_of_a_snapshot_that_is_gone_is_explained(project: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(SNAPSHOT, ["2025-12"])
        job = compose(Settings(project, workers=1, expectations=False)).resolve_job_def("prepare")
        result = job.execute_in_process(
            instance=instance, partition_key="2025-12", asset_selection=[dg.AssetKey("documents")],
            run_config=QUIET, raise_on_error=False,
        )  # fmt: skip
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert "'2025-12' is not in the recipe" in (told.description or "")


def test_a_failed_gate_stops_what_is_downstream(project: str, tmp_path: Path) -> None:
    Path(project).write_text(Path(project).read_text() + "max_error_share: 0\n")
    with (tmp_path / "crawl" / "2026-02" / "web.jsonl").open("a") as stream:
        stream.write("{broken\n")
    with pytest.raises(LedgerError, match="documents@2026-02 did not pass: errors"):
        run(project, workers=1, names=["scores/words"])
    with dg.DagsterInstance.from_config(str(tmp_path / "store" / "dagster")) as instance:
        assert instance.get_latest_materialization_event(dg.AssetKey(["scores", "words"])) is None
        # Alone, in a later run, it is refused as well: nothing is current to be read.
        job = compose(Settings(project, workers=1, expectations=False)).resolve_job_def("prepare")
        result = job.execute_in_process(
            instance=instance, partition_key="2026-02", asset_selection=[dg.AssetKey(["scores", "words"])],
            run_config=QUIET, raise_on_error=False,
        )  # fmt: skip
    assert not result.success
    assert not (tmp_path / "store" / "current" / "judged" / "documents" / "2026-02.json").exists()


def test_a_document_that_is_not_what_it_should_be_blocks(judged: Judged) -> None:
    from dataclasses import replace

    from assets.expectations import expect_documents
    from factory.storage.store import Store

    manifest = next(outcome.manifest for outcome in judged.outcomes if outcome.node.kind == "documents")
    check = expect_documents(Store(str(judged.store)), replace(manifest, partition="another"))
    assert not check.passed
    assert check.blocking
    assert "snapshot" in check.text


def test_a_mistake_in_the_inputs_is_the_librarys_own_error(project: str, tmp_path: Path) -> None:
    for path in (tmp_path / "crawl").rglob("*.jsonl"):
        path.unlink()
    with pytest.raises(FactoryError, match=r"sources\.web: nothing matches"):
        run(project, workers=1)


def test_a_run_whose_process_was_killed_is_ended_and_frees_its_pool() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
        )
        job = dg.define_asset_job("job").resolve(asset_graph=dg.Definitions(assets=[noop]).resolve_asset_graph())
        started = instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags={**own_tags(), PID: child.stdout.strip()}
        )
        end_dead_runs(instance)
        found = instance.get_run_by_id(started.run_id)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.FAILURE


@dg.asset
def noop() -> None: ...


# --- what runs by itself


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    result = definitions.resolve_sensor_def("new_snapshots")(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def ends(request: dg.RunRequest) -> tuple[str, str]:
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return request.tags[names[0]], request.tags[names[1]]


def test_the_sensor_believes_a_snapshot_that_stayed_the_same_for_a_tick(project: str) -> None:
    definitions = compose(Settings(project))
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(definitions, instance)
        second = tick(definitions, instance, first.cursor)
        third = tick(definitions, instance, second.cursor)
    assert not first.run_requests
    assert [ends(request) for request in second.run_requests or []] == [SNAPSHOTS]
    assert second.dynamic_partitions_requests
    assert second.dynamic_partitions_requests[0].partition_keys == list(SNAPSHOTS)
    assert not third.run_requests


def test_the_sensor_asks_again_when_content_changed_and_believes_a_finished_crawl_at_once(project: str) -> None:
    definitions = compose(Settings(project))
    with dg.DagsterInstance.ephemeral() as instance:
        before = tick(definitions, instance, tick(definitions, instance).cursor)
        path = write_snapshot(Path(project).parent, "2026-02", documents=50)
        (path.parent / "crawl.json").write_text("{}")
        after = tick(definitions, instance, before.cursor)
    (request,) = after.run_requests or []
    assert ends(request) == ("2026-02", "2026-02")
    assert request.run_key not in {earlier.run_key for earlier in before.run_requests or []}


def test_half_written_files_are_not_seen(project: str, tmp_path: Path) -> None:
    recipe = load_recipe(project)
    before = look(recipe)
    for name in (".2026-03/web.jsonl", "2026-03/.web.jsonl", "2026-03/web.jsonl.part"):
        path = tmp_path / "crawl" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(random.Random(1), 3))
    assert look(recipe) == before


def test_the_schedule_asks_for_all_experiments_in_one_run(project: str) -> None:
    definitions = compose(Settings(project))
    schedule = definitions.resolve_schedule_def("weekly")
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = schedule.evaluate_tick(dg.build_schedule_context(instance)).run_requests or []
    assert ends(request) == ("raw", "full")


def test_both_are_stopped_until_somebody_starts_them(project: str) -> None:
    definitions = compose(Settings(project))
    assert definitions.resolve_sensor_def("new_snapshots").default_status == dg.DefaultSensorStatus.STOPPED
    assert definitions.resolve_schedule_def("weekly").default_status == dg.DefaultScheduleStatus.STOPPED


# --- plots


@pytest.mark.parametrize("count", [1, 2, 24, 25, 500])
def test_plots_are_small_enough_to_stand_inline(count: int) -> None:
    values = [float((index * 7919) % 997) + 1 / 3 for index in range(count)]
    assert len(bars(values)) < 1000
    assert len(line(values)) < 1000
