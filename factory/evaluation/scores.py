"""Scores by task, experiment, scale, seed and step as one table: what noise floors, early signals and scaling laws read.

A row is one score of one model, at the end of its training or at a checkpoint on the way; `read_scores` takes CSV, JSON lines
or Parquet with these columns, `of_runs` makes them of evaluated runs. A metric whose better end nobody names is refused: a
sign that is guessed turns every decision round.
"""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.core.errors import InputError, suggest
from factory.evaluation.records import open_local, read_files, records
from factory.evaluation.runs import Run
from factory.evaluation.statistics import Array
from factory.evaluation.tasks import HIGHER_IS_BETTER

UNIFORM_BITS = 8.0  # bits per byte of a model that knows nothing
MAX_ROWS = 5_000_000
REQUIRED = ("task", "experiment", "seed", "value")


@dataclass(frozen=True)
class Score:
    """One number, and what it is of; `step` is None for a model that is finished and has no checkpoints."""

    task: str
    experiment: str
    scale: str
    seed: int
    step: float | None
    value: float
    higher_is_better: bool
    baseline: float | None = None  # what guessing gives
    parameters: float | None = None  # without embedding
    tokens: float | None = None
    flops: float | None = None
    loss: float | None = None  # bits per byte of the right answers, where the value is another metric


@dataclass(frozen=True, eq=False)
class Curves:
    """One task at one scale: (experiments, seeds, steps), NaN where a score is missing; last step last."""

    task: str
    scale: str
    experiments: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: Array
    values: Array
    higher_is_better: bool
    baseline: float | None

    @property
    def gains(self) -> Array:
        """Turned so that more is better, with 0 at guessing where that is known."""
        turned = self.values if self.higher_is_better else -self.values
        if self.baseline is None:
            return turned
        return turned - (self.baseline if self.higher_is_better else -self.baseline)


def read_scores(path: str) -> list[Score]:
    """The scores of a file: columns task, experiment, seed, value, and where known scale, step, metric, baseline, …"""
    rows: Iterable[Mapping[str, Any]]
    if path.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read as Parquet ({error}).") from error
        rows = table.to_pylist() if table.num_rows <= MAX_ROWS else _too_many(path, table.num_rows)
    elif path.endswith((".csv", ".tsv")):
        try:
            with open_local(path) as stream:
                text = stream.read((1 << 30) + 1).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}).") from error
        if len(text) > 1 << 30:
            _too_many(path, len(text))
        rows = csv.DictReader(io.StringIO(text), delimiter="\t" if path.endswith(".tsv") else ",")
    else:
        files = read_files(path)
        rows = (record for name, data in files.items() for _, record in records(name, data))
    return scores_of(rows, os.path.basename(path))


def scores_of(rows: Iterable[Mapping[str, Any]], name: str) -> list[Score]:
    """Checked scores; the message names the row that is wrong."""
    found = [_score(row, f"{name}, row {number}") for number, row in enumerate(rows, 1)]
    if not found:
        raise InputError(
            f"{name} holds no score. Columns wanted: {', '.join(REQUIRED)}, and metric or higher_is_better."
        )
    seen: set[tuple[str, str, str, int, float | None]] = set()
    for score in found:
        key = (score.task, score.experiment, score.scale, score.seed, score.step)
        if key in seen:
            raise InputError(f"{name}: two scores of {key}. Each seed counts once at each step.")
        seen.add(key)
    return found


def of_runs(runs: Sequence[Run]) -> list[Score]:
    """The score of every task of evaluated models: finished ones, and those kept on the way, whose record ends there."""
    found = []
    for run in runs:
        if not run.record.get("valid", True):
            continue
        size = {
            "parameters": _number(run.record.get("parameters"), "non_embedding"),
            "tokens": _number(run.record, "tokens_seen"),
            "flops": _number(run.record, "flops"),
        }
        for task, (metric, value, baseline, loss) in _task_means(run).items():
            higher = HIGHER_IS_BETTER[metric]
            at = size["tokens"]
            found.append(
                Score(task, run.experiment, run.scale, run.seed, at, value, higher, baseline, **size, loss=loss)
            )
    return found


def curves(scores: Sequence[Score]) -> list[Curves]:
    """One for each task and scale, in order of their names."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.task, score.scale), []).append(score)
    return [_curve(task, scale, own) for (task, scale), own in sorted(groups.items())]


def finals(scores: Sequence[Score], task: str, scale: str, experiments: Sequence[str]) -> Array:
    """The last score by (experiment, seed); NaN where a seed is missing."""
    own = [one for one in scores if one.task == task and one.scale == scale and one.experiment in experiments]
    seeds = sorted({one.seed for one in own})
    last: dict[tuple[str, int], Score] = {}
    for one in own:
        key = (one.experiment, one.seed)
        if key not in last or (one.step or 0) >= (last[key].step or 0):
            last[key] = one
    values = np.full((len(experiments), len(seeds)), np.nan)
    for (experiment, seed), one in last.items():
        values[experiments.index(experiment), seeds.index(seed)] = one.value
    return values


def _curve(task: str, scale: str, own: Sequence[Score]) -> Curves:
    experiments = tuple(dict.fromkeys(sorted(one.experiment for one in own)))
    seeds = tuple(sorted({one.seed for one in own}))
    steps = sorted({one.step or 0.0 for one in own})
    directions = {one.higher_is_better for one in own}
    if len(directions) > 1:
        raise InputError(f"Task '{task}' is better when higher in some rows and when lower in others.")
    values = np.full((len(experiments), len(seeds), len(steps)), np.nan)
    places = ({name: at for at, name in enumerate(axis)} for axis in (experiments, seeds, steps))
    by_experiment, by_seed, by_step = places
    for one in own:
        values[by_experiment[one.experiment], by_seed[one.seed], by_step[one.step or 0.0]] = one.value  # type: ignore[index]
    known = [one.baseline for one in own if one.baseline is not None]
    return Curves(
        task,
        scale,
        experiments,
        seeds,
        np.array(steps),
        values,
        directions.pop(),
        float(np.mean(known)) if known else None,
    )


def _task_means(run: Run) -> dict[str, tuple[str, float, float | None, float | None]]:
    """metric, macro mean, baseline and loss of each task of a run; tasks with a number that is not finite are left out."""
    from factory.evaluation.runs import by_task

    found = {}
    for task, table in by_task(run.items).items():
        values, weights = table["value"].to_numpy(), table["weight"].to_numpy()
        if not len(values) or not np.isfinite(values.astype(np.float64)).all():
            continue
        metric = table["metric"][0].as_py()
        if metric not in HIGHER_IS_BETTER:
            continue
        names, domains = np.unique(table["domain"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
        own = [np.average(values[domains == at], weights=weights[domains == at]) for at in range(len(names))]
        bits = (
            table["bpb_gold"].to_numpy().astype(np.float64) if "bpb_gold" in table.column_names else np.full(1, np.nan)
        )
        loss = None
        if HIGHER_IS_BETTER[metric] and np.isfinite(bits).all():
            loss = float(np.mean([bits[domains == at].mean() for at in range(len(names))]))
        given = [one for one in table["baseline"].to_pylist() if one is not None]
        baseline = float(np.mean(given)) if given else UNIFORM_BITS if metric.startswith("bits_per_byte@") else None
        found[task] = (metric, float(np.mean(own)), baseline, loss)
    return found


def _score(row: Mapping[str, Any], place: str) -> Score:
    missing = [name for name in REQUIRED if row.get(name) in (None, "")]
    if missing:
        raise InputError(f"{place} has no {missing[0]}.{suggest(missing[0], [str(name) for name in row])}")
    metric = row.get("metric")
    higher = row.get("higher_is_better")
    if higher in (None, ""):
        if metric not in HIGHER_IS_BETTER:
            raise InputError(
                f"{place}: metric '{metric}' is not one of {', '.join(HIGHER_IS_BETTER)}. Add a column higher_is_better."
            )
        higher = HIGHER_IS_BETTER[str(metric)]
    step = _float(row, "step", place)
    value = _float(row, "value", place)
    if value is None or not math.isfinite(value):
        raise InputError(f"{place}: value '{row['value']}' is no finite number. Leave failed runs out.")
    baseline = _float(row, "baseline", place)
    if baseline is None and metric is not None and str(metric).startswith("bits_per_byte@"):
        baseline = UNIFORM_BITS
    return Score(
        task=str(row["task"]),
        experiment=str(row["experiment"]),
        scale=str(row.get("scale") or ""),
        seed=int(_float(row, "seed", place) or 0),
        step=step,
        value=value,
        higher_is_better=higher if isinstance(higher, bool) else str(higher).strip().lower() in ("true", "1", "yes"),
        baseline=baseline,
        parameters=_float(row, "parameters", place),
        tokens=_float(row, "tokens", place),
        flops=_float(row, "flops", place),
        loss=_float(row, "loss", place),
    )


def _float(row: Mapping[str, Any], name: str, place: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {name} '{value}' is no number.") from error


def _number(record: Any, name: str) -> float | None:
    value = record.get(name) if isinstance(record, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def _too_many(path: str, count: int) -> Any:
    raise InputError(f"{path} is too large for a table of scores ({count:,}). Keep final scores and a few checkpoints.")
