"""What the evaluated proxies of a recipe say, as plain data: comparisons, noise, tasks worth reading, transfer of decisions.

Everything current counts, whatever scale it was made at: proxies of a scale the recipe named before are evidence, too. The
same questions can be asked of files: leaderboards, evaluations of single runs, and tables of scores.
"""

import glob
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from factory.core.errors import FactoryError, InputError, suggest
from factory.core.manifest import Manifest
from factory.evaluation import compare as comparing
from factory.evaluation.costs import Cost
from factory.evaluation.decision_accuracy import transfer
from factory.evaluation.early_signal import cards
from factory.evaluation.noise import noise_floors
from factory.evaluation.plain import plain
from factory.evaluation.runs import Run
from factory.evaluation.scaling import Fit, crossings, fit_law
from factory.evaluation.scores import Score, finals, of_runs, read_scores
from factory.evaluation.statistics import RESAMPLES
from factory.evaluation.table import EVALUATION
from factory.evaluation.tasks import HIGHER_IS_BETTER
from factory.recipes.costs import proxy_cost
from factory.recipes.lookup import Current
from factory.recipes.steps.leaderboard import facts_of, split_by_contamination
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

LOSS = "training loss"
POINTS = 20  # of a loss curve
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
            raise FactoryError(f"No experiment is named '{name}'.{suggest(name, names)}")
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


def signal(workspace: Workspace | None, table: str | None = None, control: str | None = None) -> dict[str, Any]:
    """For each task and scale the noise floor and the early-signal criteria: which tasks are worth reading."""
    scores = _scores(workspace, table, losses=True)
    floors = noise_floors(scores, control or (workspace.recipe.base if workspace is not None else None))
    return {
        "floors": plain(floors),
        "cards": plain(cards(scores)),
        "usable": sorted({one.task for one in floors if one.usable}),
    }


def transfers(workspace: Workspace | None, table: str | None = None, target: str | None = None) -> dict[str, Any]:
    """What every smaller scale decides at the target's, by task, and what scaling laws expect there."""
    scores = _scores(workspace, table, losses=False)
    sizes = _sizes(scores)
    if len(sizes) < 2:
        raise FactoryError(
            f"Decisions are carried from one scale to another, and all scores are of scale '{next(iter(sizes), '')}'. "
            "Train the experiments at a second scale (proxy.scale), or give a table of scores with --table."
        )
    goal = target or max(sizes, key=lambda scale: sizes[scale])
    if goal not in sizes:
        raise FactoryError(f"No score is of scale '{goal}'.{suggest(goal, sizes)}")
    rows = []
    for task in sorted({one.task for one in scores}):
        for scale in sorted(sizes, key=lambda name: (sizes[name], name)):
            row = _transfer(scores, task, scale, goal) if scale != goal else None
            if row is not None:
                rows.append(row)
    return {"target": goal, "rows": rows, "laws": _laws(scores, goal)}


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
    parts = [read_part(workspace.store, part) for part in evaluated.parts]
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


def _scores(workspace: Workspace | None, table: str | None, *, losses: bool) -> list[Score]:
    if table is not None:
        return read_scores(table)
    assert workspace is not None
    current = Current(workspace)
    scores = of_runs(runs_of(workspace, current))
    if losses:
        scores += _loss_curves(current)
    if not scores:
        raise FactoryError(
            f"No proxy of '{workspace.recipe.name}' has been evaluated yet. 'factory run' makes them, or give --table FILE."
        )
    return scores


def _loss_curves(current: Current) -> list[Score]:
    """The training loss along the way, in so many points; an untrained model's loss is what guessing gives."""
    found = []
    for proxy in current.of("proxies"):
        record = proxy.notes["record"]
        curve = [
            (float(t), float(loss)) for _, t, loss in record["loss_curve"] if loss is not None and np.isfinite(loss)
        ]
        if not record["valid"] or not curve:
            continue
        scale, seed = place_of(proxy)
        found += [
            Score(
                task=LOSS,
                experiment=proxy.label,
                scale=scale,
                seed=seed,
                step=float(piece[-1, 0]),
                value=float(piece[:, 1].mean()),
                higher_is_better=False,
                baseline=record.get("first_loss"),
                flops=record.get("flops"),
            )
            for piece in np.array_split(np.array(curve), min(len(curve), POINTS))
        ]
    return found


def _sizes(scores: Sequence[Score]) -> dict[str, float]:
    """How large each scale is: by compute, else by parameters."""
    found: dict[str, float] = {}
    for one in scores:
        found[one.scale] = max(found.get(one.scale, 0.0), one.flops or one.parameters or 0.0)
    return found


def _transfer(scores: Sequence[Score], task: str, scale: str, goal: str) -> dict[str, Any] | None:
    own = [one for one in scores if one.task == task]
    names = sorted(
        {one.experiment for one in own if one.scale == scale} & {one.experiment for one in own if one.scale == goal}
    )
    if len(names) < 2:
        return None
    proxy, target = finals(scores, task, scale, names), finals(scores, task, goal, names)
    higher = own[0].higher_is_better
    found = transfer(proxy, target, higher_is_better=higher, key=f"{task}/{scale}/{goal}")
    return {"task": task, "scale": scale, "experiments": names, **plain(found)}


def _laws(scores: Sequence[Score], goal: str) -> dict[str, Any]:
    """For each task of which less is better, each experiment's law without the target, held against what was measured there."""
    found: dict[str, Any] = {}
    for task in sorted({one.task for one in scores if not one.higher_is_better}):
        fits: dict[str, Fit] = {}
        points: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name in sorted({one.experiment for one in scores if one.task == task}):
            last: dict[tuple[str, int], Score] = {}
            for one in scores:
                if (one.task, one.experiment) == (task, name) and one.flops:
                    last[(one.scale, one.seed)] = one
            small = [one for (scale, _), one in last.items() if scale != goal]
            large = [one for (scale, _), one in last.items() if scale == goal]
            if not large or len({one.flops for one in small}) < 4:
                continue
            sizes = np.array([one.flops for one in small], dtype=float)
            at = np.array([math.fsum(one.flops or 0.0 for one in large) / len(large)])
            fits[name] = fit_law(sizes, np.array([one.value for one in small]), key=f"{task}/{name}")
            points[name] = (np.array([sizes.min()]), at)
            measured = math.fsum(one.value for one in large) / len(large)
            predicted = float(fits[name].predict(at)[0])
            found.setdefault(task, {"experiments": {}, "crossings": []})["experiments"][name] = {
                "parameters": plain(fits[name].parameters),
                "runs": fits[name].runs,
                "alarm": fits[name].alarm,
                "predicted": predicted,
                "interval": plain(fits[name].interval(at)[0]),
                "measured": measured,
                "error": predicted / measured - 1,
            }
        if len(fits) > 1:
            small_at, large_at = next(iter(points.values()))
            found[task]["crossings"] = plain(crossings(fits, small_at, large_at))
    return found


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
