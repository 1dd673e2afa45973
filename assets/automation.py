"""What runs by itself, when it is switched on: a sensor for snapshots that arrive, a schedule that judges them weekly.

Both are stopped until somebody starts them.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from assets.experiments import experiment_keys
from assets.models import model_keys
from assets.partitions import SNAPSHOT, experiments, snapshots
from assets.proxies import EVALUATIONS, PROXIES
from assets.report import LEADERBOARD, REPORT
from assets.snapshots import DOCUMENTS, INPUTS, column_keys, link_keys
from factory.core.errors import FactoryError
from factory.core.fingerprint import fingerprint
from factory.core.stage import InputFile
from factory.recipes.inputs import source_files
from factory.recipes.recipe import Recipe

PREPARE = "prepare"
JUDGE = "judge"
WEEKLY = "0 4 * * 1"
COMPLETE = "crawl.json"  # the crawler writes it last


def prepare_keys(recipe: Recipe) -> list[dg.AssetKey]:
    """All that is made of a snapshot, and the models that it needs."""
    return [DOCUMENTS, *model_keys(recipe), *column_keys(recipe), *link_keys(recipe)]


def judge_keys(recipe: Recipe) -> list[dg.AssetKey]:
    """All that is made of an experiment, and what compares them."""
    trained = [] if recipe.tokenizer is None else [PROXIES]
    judged = [EVALUATIONS, LEADERBOARD] if recipe.evaluate else []
    return [*experiment_keys(recipe), *trained, *judged, REPORT]


def jobs(recipe: Recipe) -> list[Any]:
    return [
        dg.define_asset_job(
            PREPARE,
            dg.AssetSelection.assets(*prepare_keys(recipe)),
            description="Documents, columns and links of a snapshot.",
        ),
        dg.define_asset_job(
            JUDGE,
            dg.AssetSelection.assets(*judge_keys(recipe)),
            description="An experiment from its decisions to its place on the leaderboard.",
        ),
    ]


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make one run of a range of partitions."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def weekly(recipe: Recipe) -> dg.ScheduleDefinition:
    """All experiments in one run: what did not change costs nothing."""
    labels = experiments(recipe).get_partition_keys()

    @dg.schedule(
        name="weekly",
        job_name=JUDGE,
        cron_schedule=WEEKLY,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Judges all experiments on everything that has arrived.",
    )
    def schedule() -> dg.RunRequest:
        return dg.RunRequest(tags=range_tags(labels[0], labels[-1]))

    return schedule


def new_snapshots(recipe: Recipe) -> dg.SensorDefinition:
    """Sees a snapshot that is there and complete, registers it, and asks for what is made of it."""

    @dg.sensor(
        name="new_snapshots",
        job_name=PREPARE,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="A new or changed snapshot among the inputs starts a run of `prepare` on it.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            landed = look(recipe)
        except FactoryError as error:
            return dg.SkipReason(str(error))
        before: dict[str, dict[str, str]] = json.loads(context.cursor or "{}")
        asked = {name: before.get(name, {}).get("asked", "") for name in landed}
        # A crawl says when it is complete; of anything else only a version that was there a tick ago is believed.
        changed = [name for name, seen in landed.items() if seen.version != asked[name]]
        growing = [
            name
            for name in changed
            if not landed[name].complete and before.get(name, {}).get("seen") != landed[name].version
        ]
        # Later snapshots are linked against earlier ones, so nothing starts while one of them is still being written.
        settled = [] if growing else changed
        asked.update({name: landed[name].version for name in settled})
        cursor = {name: {"seen": seen.version, "asked": asked[name]} for name, seen in landed.items()}
        registered = [name for name in context.instance.get_dynamic_partitions(SNAPSHOT) if name in landed]
        ordered = [*registered, *(name for name in landed if name not in registered)]
        return dg.SensorResult(
            dynamic_partitions_requests=[snapshots.build_add_request(settled)] if settled else [],
            run_requests=[
                dg.RunRequest(run_key=_run_key(recipe, settled, landed, run), tags=range_tags(run[0], run[-1]))
                for run in unbroken(ordered, _concerned(recipe, settled, ordered))
            ],
            asset_events=[landing(name, landed[name]) for name in settled],
            cursor=json.dumps(cursor, sort_keys=True),
            skip_reason=None
            if settled
            else f"{len(landed)} snapshots, new: {len(changed)}, still growing: {len(growing)}",
        )

    return sensor


def _concerned(recipe: Recipe, settled: Sequence[str], known: Sequence[str]) -> set[str]:
    """What a change of these snapshots may change: themselves, and links of later ones, or of all."""
    if settled and any(linker.scope == "global" for linker in recipe.linkers):
        return set(known)
    return {name for name in known if settled and name >= min(settled)}


def _run_key(recipe: Recipe, settled: Sequence[str], landed: Mapping[str, "Landed"], run: Sequence[str]) -> str:
    # Run keys are remembered for ever: the versions in them make changed content a new request.
    versions = {name: landed[name].version for name in settled}
    return f"{recipe.name}:{run[0]}...{run[-1]}:{fingerprint(versions)}"


def unbroken(ordered: Sequence[str], wanted: Collection[str]) -> Iterator[list[str]]:
    """The wanted partitions as runs of neighbours: a range of partitions has no gaps."""
    run: list[str] = []
    for name in ordered:
        if name in wanted:
            run.append(name)
        elif run:
            yield run
            run = []
    if run:
        yield run


@dataclass(frozen=True)
class Landed:
    """A snapshot as its files say: how many, how large, and whether whoever writes them is done."""

    version: str
    files: int
    bytes: int
    complete: bool


def landing(snapshot: str, seen: Landed) -> dg.AssetMaterialization:
    metadata = {"files": seen.files, "bytes": seen.bytes}
    return dg.AssetMaterialization(
        INPUTS, partition=snapshot, metadata=metadata, tags={"dagster/data_version": seen.version}
    )


def look(recipe: Recipe) -> dict[str, Landed]:
    """Every snapshot by its listing alone: names, sizes and times, nothing is opened and nothing is cached."""
    found: dict[str, dict[str, InputFile]] = {}
    for source in recipe.sources:
        for snapshot, file in source_files(source, recipe.folder, _Marks()):
            found.setdefault(snapshot, {})[f"{source.label}:{file.name}"] = file
    return {snapshot: _landed(files) for snapshot, files in sorted(found.items())}


def _landed(files: Mapping[str, InputFile]) -> Landed:
    folders = {os.path.dirname(file.uri) for file in files.values() if "://" not in file.uri}
    complete = bool(folders) and all(os.path.exists(os.path.join(folder, COMPLETE)) for folder in folders)
    version = fingerprint({name: file.identity for name, file in files.items()})
    return Landed(version, len(files), sum(file.size for file in files.values()), complete)


class _Marks:
    """Pins a file by size and time or etag, where the library would read it."""

    def pin(self, fs: Any, path: str, name: str, local: bool) -> InputFile:
        fs.invalidate_cache()
        info = fs.info(path)
        mark = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified")
        uri = path if local else fs.unstrip_protocol(path)
        return InputFile(uri, name, int(info["size"]), f"{info['size']}:{mark}")
