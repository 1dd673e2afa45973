"""What the evaluated proxies of a recipe say of two experiments, as plain data.

Everything current counts, whatever scale it was made at: proxies of a scale the recipe named before are evidence, too. The
same can be asked of files: leaderboards, and evaluations of single runs. What tasks are worth: `factory.recipes.signals`.
"""

import glob
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.core.errors import FactoryError, InputError, suggest
from factory.core.manifest import Manifest
from factory.evaluation import compare as comparing
from factory.evaluation.costs import Cost
from factory.evaluation.runs import Run
from factory.evaluation.statistics import RESAMPLES
from factory.evaluation.table import EVALUATION
from factory.evaluation.tasks import HIGHER_IS_BETTER
from factory.recipes.costs import proxy_cost
from factory.recipes.lookup import Current
from factory.recipes.steps.evaluations import final_answers
from factory.recipes.steps.leaderboard import facts_of, split_by_contamination
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

FILES = (".json", ".parquet")
BOARD_BYTES = 256 << 20


def compare(
    workspace: Workspace,
    base: str,
    other: str,
    *,
    scale: str | None = None,
    primary: str | None = None,
    current: Current | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """`other` against `base`, two experiments of a recipe, at a scale both were trained at."""
    names = [experiment.label for experiment in workspace.recipe.experiments]
    for name in (base, other):
        if name not in names:
            raise InputError(f"No experiment is named '{name}'.{suggest(name, names)}")
    found = current or Current(workspace)
    runs = runs_of(workspace, found)
    chosen = _scale(workspace, runs, base, other, scale)
    own = [run for run in runs if run.scale == chosen]
    spent = _costs(workspace, found, chosen)
    made = comparing.compare(
        split_by_contamination(own), base, other, primary=primary, costs=spent, resamples=resamples
    )
    price = workspace.recipe.proxy.usd_per_hour
    return {**made.to_json(), "usd_per_hour": price}


def compare_files(base: str, other: str, *, primary: str | None = None) -> dict[str, Any]:
    """The same of two leaderboards (FILE.json#EXPERIMENT), or of the evaluations of two experiments, a Parquet file a seed."""
    kinds = {_is_board(base), _is_board(other)}
    if len(kinds) > 1:
        raise InputError(
            "A leaderboard and evaluations are not compared: the one has no items. Name two files of a kind."
        )
    if kinds == {True}:
        made = comparing.compare_told(_told(base, primary), _told(other, primary))
    else:
        runs = [*_evaluated(base), *_evaluated(other)]
        if base == other:
            raise InputError(f"'{base}' is compared with itself. Name two experiments.")
        made = comparing.compare(runs, base, other, primary=primary)
    return {**made.to_json(), "usd_per_hour": None}


def is_file(name: str) -> bool:
    """Whether an argument means files, not an experiment of the recipe."""
    path = name.partition("#")[0]
    return path.endswith(FILES) or glob.has_magic(path) or os.path.isdir(path)


def runs_of(workspace: Workspace, current: Current) -> list[Run]:
    """Every current proxy that was trained and evaluated, of the recipe's experiments."""
    names = {experiment.label for experiment in workspace.recipe.experiments}
    evaluated = {(m.label, m.partition): m for m in current.of("evaluations")}
    runs = []
    for proxy in current.of("proxies"):
        found = evaluated.get((proxy.label, proxy.partition))
        if found is None or proxy.label not in names:
            continue
        scale, seed = place_of(proxy)
        selection, tokens = current.find("selection", proxy.label), current.find("tokens", proxy.label)
        facts = facts_of(proxy, tokens, selection)
        runs.append(Run(proxy.label, scale, seed, facts, items_of(workspace, found)))
    return runs


def place_of(proxy: Manifest) -> tuple[str, int]:
    """Scale and seed of a proxy."""
    scale, _, seed = proxy.partition.rpartition("-")
    return scale, int(seed)


def items_of(workspace: Workspace, evaluated: Manifest) -> pa.Table:
    """What the finished model answered."""
    parts = [read_part(workspace.store, part) for part in final_answers(evaluated)]
    return pa.concat_tables(parts, promote_options="default") if parts else EVALUATION.empty_table()


def _costs(workspace: Workspace, current: Current, scale: str) -> list[Cost]:
    return [
        proxy_cost(workspace, proxy, current=True) for proxy in current.of("proxies") if place_of(proxy)[0] == scale
    ]


def _scale(workspace: Workspace, runs: Sequence[Run], base: str, other: str, asked: str | None) -> str:
    """The scale to compare at: the one asked for, the recipe's, or the only one."""
    by_name = {name: {run.scale for run in runs if run.experiment == name} for name in (base, other)}
    for name, scales in by_name.items():
        if not scales:
            raise FactoryError(
                f"'{name}' has no evaluated proxy yet. 'factory run' makes it; 'factory plan' shows what is missing."
            )
    common = by_name[base] & by_name[other]
    if not common:
        raise FactoryError(
            f"'{base}' was trained at {', '.join(by_name[base])}, '{other}' at {', '.join(by_name[other])}: no scale of both."
        )
    if asked is not None and asked not in common:
        raise FactoryError(f"No runs of both are at scale '{asked}'.{suggest(asked, common)}")
    own = workspace.recipe.proxy.scale
    if asked is None and own not in common and len(common) > 1:
        raise FactoryError(f"Both were trained at {', '.join(sorted(common))}. Say which with --scale.")
    return asked or (own if own in common else next(iter(common)))


# --- files


def _is_board(name: str) -> bool:
    return name.partition("#")[0].endswith(".json")


def _told(name: str, primary: str | None) -> comparing.Told:
    """The row of a leaderboard, as `leaderboard.json` of a store or `factory leaderboard --json` has it."""
    path, _, experiment = name.partition("#")
    try:
        if os.path.getsize(path) > BOARD_BYTES:
            raise InputError(f"{path} is larger than {BOARD_BYTES:,} bytes: no leaderboard.")
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a leaderboard ({error}).") from error
    board = data.get("board", data) if isinstance(data, Mapping) else None
    try:
        return _told_row(path, board, experiment, primary)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is no leaderboard ({type(error).__name__}: {error}). 'factory leaderboard --json' writes one."
        ) from error


def _told_row(path: str, board: Any, experiment: str, primary: str | None) -> comparing.Told:
    rows = board["rows"]
    names = [row["experiment"] for row in rows]
    if experiment not in names:
        raise InputError(
            f"Say which experiment of {path} is meant: {path}#{names[0] if names else 'NAME'}.{suggest(experiment, names)}"
        )
    if names.count(experiment) > 1:
        raise InputError(f"{path} has '{experiment}' at several scales. Take the others out.")
    row = rows[names.index(experiment)]
    others = [other for other in rows if other is not row and other["scale"] == row["scale"]]
    metrics = {**board["metrics"], board["primary"]: board["metric"]}
    known = {task: metric for task, metric in metrics.items() if metric in HIGHER_IS_BETTER}
    return comparing.Told(
        name=f"{path}#{experiment}",
        scale=row["scale"],
        primary=primary or board["primary"],
        metric=metrics[primary or board["primary"]],
        higher_is_better={task: HIGHER_IS_BETTER[metric] for task, metric in known.items()},
        metrics=known,
        scores={task: told for task in known if (told := _told_scores(row, board, task)) is not None},
        pool={
            task: [scores[0] for other in others if (scores := _told_scores(other, board, task)) is not None]
            for task in known
        },
    )


def _told_scores(row: Mapping[str, Any], board: Mapping[str, Any], task: str) -> tuple[tuple[float, ...], float] | None:
    found = row["primary"] if task == board["primary"] else row["tasks"].get(task)
    if found is None:
        return None
    items = found["item_interval"]
    return tuple(float(one) for one in found["by_seed"]), (items["high"] - items["low"]) / (2 * 1.959964)


def _evaluated(name: str) -> list[Run]:
    """A run for each Parquet file of evaluations below a folder, matching a pattern, or named."""
    pattern = os.path.join(name, "*.parquet") if os.path.isdir(name) else name
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise InputError(
            f"No Parquet file matches '{name}'. Give a file, a folder or a pattern of evaluations, a file a seed."
        )
    runs = []
    for seed, path in enumerate(paths):
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read as Parquet ({error}).") from error
        runs.append(Run(name, "files", seed, {}, table))
    return runs
