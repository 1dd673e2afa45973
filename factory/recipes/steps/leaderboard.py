"""Leaderboard: experiments judged against the base, with intervals over seeds and items; never ranked within the noise.

A task of which an experiment trained on items (see `factory.recipes.steps.evaluations`) is scored twice more, the same for
all experiments: `<task>.clean` on the items none of them trained on, and `<task>.dirty` on those that one of them did.

Runs that could not be made are listed as failed, with the reason, and the others are compared: without them it is another
dataset than with them, so it is made again when they are there. Without a run of the base there is nothing to compare with.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import digest_all
from factory.core.manifest import Manifest, dataset_name
from factory.evaluation.leaderboard import FACTS, MACHINE, leaderboard
from factory.evaluation.runs import Invalid, Run
from factory.evaluation.table import EVALUATION
from factory.recipes.failures import Failure
from factory.recipes.recipe import Experiment, Recipe
from factory.recipes.steps.evaluations import final_answers
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file, write_part

Told = TypeVar("Told")

DIRTY = "dirty_items"  # share of the items that can be tested
ROWS = pa.schema(
    [
        ("rank", pa.int32()),
        ("experiment", pa.string()),
        ("scale", pa.string()),
        ("seeds", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("seed_low", pa.float64()),
        ("seed_high", pa.float64()),
        ("item_low", pa.float64()),
        ("item_high", pa.float64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("verdict", pa.string()),
        ("tokens", pa.float64()),
        ("unique_tokens", pa.float64()),
        ("documents_kept", pa.float64()),
        ("flops", pa.float64()),
        ("arm", pa.string()),  # digest of what it trains on
        ("control", pa.string()),
        ("p", pa.float64()),  # after Holm's correction
        ("seeds_needed", pa.int32()),
        ("parameters", pa.float64()),  # without embedding
        ("parameters_total", pa.float64()),
        ("flops_6nd", pa.float64()),
        ("epochs", pa.float64()),
    ]
)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """The leaderboard of a recipe."""
    return {work.node.name: _make(bench, work) for work in works}


def _make(bench: Bench, work: Work) -> Made:
    failed = failed_runs(bench.recipe, work.failed)
    lost = {(one.experiment, one.scale, one.seed) for one in failed}
    made = [proxy for proxy in work.of("proxies") if (proxy.label, *_scale_and_seed(proxy.partition)) not in lost]
    runs = split_by_contamination([_run(bench, work, proxy) for proxy in made])
    board = leaderboard(runs, bench.recipe.base, failed=failed)
    data = board.to_json()
    for row in data["rows"]:
        row["arm"] = arm_of(work.one("selection", row["experiment"]), work.one("tokens", row["experiment"]))
    header, cells = board.table()
    folder = f"{work.folder}/{runs_digest(work)}"
    with bench.store.scratch() as scratch:
        name = os.path.join(scratch, "leaderboard.json")
        with open(name, "w", encoding="utf-8") as stream:
            json.dump(data, stream, sort_keys=True, indent=1)
        full = write_file(bench.store, folder, "leaderboard.json", name)
    schema = ROWS.append(pa.field(DIRTY, pa.float64())) if any(DIRTY in run.record for run in runs) else ROWS
    ranked = [_row(row, data) for row in data["rows"]]
    batch = pa.RecordBatch.from_pylist([*ranked, *(_unranked(one, data) for one in board.unranked)], schema=schema)
    table = write_part(bench.store, folder, "rows", schema, [batch], ids="")
    return Made((full, table), notes={"header": header, "rows": cells, "board": data})


def runs_digest(work: Work) -> str:
    """What the leaderboard was made of: names its folder, so that boards of other runs stay beside it."""
    there = [f"{name}={manifest.digest}" for name, manifest in work.upstream.items()]
    return digest_all([*there, *(f"failed {name}={reason}" for name, reason in work.failed.items())])


def hindrance(recipe: Recipe, failed: Mapping[str, Failure]) -> str:
    """Why there can be no leaderboard without these datasets; empty where there can."""
    base = recipe.experiment(recipe.base)
    causes = [_cause(recipe, base, seed, failed) for seed in range(recipe.proxy.seeds)]
    if not all(causes):
        return ""
    return (
        f"{causes[0].name if causes[0] else ''}: no run of the base experiment '{recipe.base}' is left to compare with"
    )


def failed_runs(recipe: Recipe, failed: Mapping[str, str]) -> list[Invalid]:
    """The trainings that are not there, or cannot be judged, each with the reason."""
    return [
        Invalid(experiment.label, recipe.proxy.scale, seed, cause, failed=True)
        for experiment in recipe.experiments
        for seed in range(recipe.proxy.seeds)
        if (cause := _cause(recipe, experiment, seed, failed)) is not None
    ]


def _cause(recipe: Recipe, experiment: Experiment, seed: int, failed: Mapping[str, Told]) -> Told | None:
    """What is told of the first dataset that failed of those a run's place on the leaderboard is made from."""
    run = f"{recipe.proxy.scale}-{seed}"
    needed = [dataset_name(kind, experiment.label, "") for kind in ("selection", "mixture", "tokens")]
    needed += [dataset_name(kind, experiment.label, run) for kind in ("proxies", "evaluations")]
    return next((failed[name] for name in needed if name in failed), None)


def _scale_and_seed(partition: str) -> tuple[str, int]:
    scale, _, seed = partition.rpartition("-")
    return scale, int(seed)


def _run(bench: Bench, work: Work, proxy: Manifest) -> Run:
    scale, seed = _scale_and_seed(proxy.partition)
    evaluated = next(m for m in work.of("evaluations") if (m.label, m.partition) == (proxy.label, proxy.partition))
    facts = facts_of(proxy, work.one("tokens", proxy.label), work.one("selection", proxy.label))
    parts = final_answers(evaluated)
    items = pa.concat_tables([read_part(bench.store, part) for part in parts]) if parts else EVALUATION.empty_table()
    found = evaluated.notes.get("contaminated")
    if found and found["tested"]:
        facts[DIRTY] = found["dirty"] / found["tested"]
    return Run(proxy.label, scale, seed, facts, items)


def facts_of(proxy: Manifest, tokens: Manifest | None, selection: Manifest | None) -> dict[str, Any]:
    """What a leaderboard tells of a training, apart from what was measured with a clock."""
    record = proxy.notes["record"]
    facts: dict[str, Any] = {name: record[name] for name in ("valid", "reason", "parameters", "tokens_seen", "flops")}
    facts["flops_6nd"] = record.get("flops_6nd")
    facts |= {name: record[name] for name in MACHINE if record.get(name) is not None}
    if tokens is not None:
        facts["unique_tokens"] = tokens.notes["unique_tokens"]
        facts["epochs"] = tokens.notes["tokens"] / max(1, tokens.notes["unique_tokens"])
    if selection is not None:
        facts["documents_kept"] = selection.rows
    return facts


def arm_of(selection: Manifest, tokens: Manifest) -> str:
    """Names what an experiment trains on: equal data, equal arm, whatever the experiment is called."""
    return digest_all([f"selection={selection.digest}", f"tokens={tokens.digest}"])[:16]


def split_by_contamination(runs: list[Run]) -> list[Run]:
    """The runs, with the clean and the dirty items of each task as tasks of their own where there are dirty ones.

    An item is dirty when any of the runs trained on it, so that all are asked the same; one that cannot be tested is neither.
    """
    dirty: dict[tuple[str, str], bool] = {}
    for run in runs:
        if "dirty" not in run.items.column_names:
            continue
        known = run.items.filter(pc.is_valid(run.items["dirty"])).select(["task", "item", "dirty"])
        for row in known.to_pylist():
            place = (row["task"], row["item"])
            dirty[place] = dirty.get(place, False) or row["dirty"]
    split = {task for (task, _), found in dirty.items() if found}
    return [replace(run, items=_with_subsets(run.items, dirty, split)) for run in runs]


def _with_subsets(items: pa.Table, dirty: Mapping[tuple[str, str], bool], split: set[str]) -> pa.Table:
    # Evaluations of a scale the recipe named before may lack a column that came since.
    items = items.select([name for name in EVALUATION.names if name in items.column_names])
    if not split or not items.num_rows:
        return items
    flags = [
        dirty.get(place) if place[0] in split else None
        for place in zip(items["task"].to_pylist(), items["item"].to_pylist(), strict=True)
    ]
    subsets = [items]
    for name, wanted in (("clean", False), ("dirty", True)):
        own = items.filter(pa.array([found is wanted for found in flags], pa.bool_()))
        tasks = pa.array([f"{task}.{name}" for task in own["task"].to_pylist()], pa.string())
        subsets.append(own.set_column(own.schema.get_field_index("task"), EVALUATION.field("task"), tasks))
    return pa.concat_tables(subsets)


def _unranked(one: Invalid, board: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "experiment": one.experiment,
        "scale": one.scale,
        "seeds": 0,
        "metric": board["primary"],
        "verdict": one.outcome,
        "control": board["base"],
    }


def _row(row: dict[str, Any], board: dict[str, Any]) -> dict[str, Any]:
    primary, against = row["primary"] or {}, row["against_base"] or {}
    seeds, items, gap = (
        (primary.get("seed_interval") or {}),
        (primary.get("item_interval") or {}),
        (against.get("interval") or {}),
    )
    return {
        "rank": row["rank"],
        "experiment": row["experiment"],
        "scale": row["scale"],
        "seeds": len(row["seeds"]),
        "metric": board["primary"],
        "value": primary.get("value"),
        "seed_low": seeds.get("low"),
        "seed_high": seeds.get("high"),
        "item_low": items.get("low"),
        "item_high": items.get("high"),
        "difference": against.get("difference"),
        "difference_low": gap.get("low"),
        "difference_high": gap.get("high"),
        "verdict": row["verdict"],
        "arm": row["arm"],
        "control": board["base"],
        "p": row["p_holm"],
        "seeds_needed": against.get("seeds_needed"),
        **{name: row["facts"].get(name) for name in FACTS},
    }
