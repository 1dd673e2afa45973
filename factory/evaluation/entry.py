"""A row of a leaderboard as others read it: what was measured, on what data, at what price, and what keeps it honest.

In: rows as plain data. Out: problems, none where a row may be shown. What always holds: every task of the board is in every
row, `null` (N/A) where it was not measured, never left out; every metric bears its version, CORE above all, since its numbers
moved with it; every row names its control, which stands on the same board at the same scale, made by the same release; ranks
are shared by rows that are not proven apart.

Tracks follow DCLM (arXiv 2406.11794): *filtering* of a fixed pool, *mixing* of sources, and two of our own, *rewriting* and
*ordering* (packing, phases, metadata).
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from factory.core.errors import FactoryError
from factory.evaluation.plain import plain

TRACKS = ("filtering", "mixing", "rewriting", "ordering", "control")
VERSIONED = re.compile(r"[A-Za-z0-9_.:+-]{1,100}@v?[0-9]{1,9}")

# Column to whether a row must have a value: others may be null where nothing is known.
COLUMNS: Mapping[str, bool] = {
    "rank": False,
    "experiment": True,
    "arm": True,  # digest of what it trains on
    "scale": True,
    "tracks": True,
    "parameters_total": False,
    "parameters": False,  # without embedding
    "tokens": False,
    "flops_6nd": False,
    "flops": False,
    "sources": True,
    "licences": False,  # kept documents by licence
    "selection": True,  # rules and selector
    "tokenizer": True,
    "mixture": True,  # digest of the realised mixture
    "mixture_by": True,
    "synthetic_share": False,
    "unique_tokens": False,
    "epochs": False,
    "documents_kept": False,
    "seeds": True,
    "metric": True,
    "value": False,
    "low": False,
    "high": False,
    "item_low": False,
    "item_high": False,
    "control": True,
    "difference": False,
    "difference_low": False,
    "difference_high": False,
    "p": False,  # after Holm's correction
    "verdict": True,
    "seeds_needed": False,
    "tasks": True,
    "aggregates": False,  # CORE and the like, by name and version
    "contaminated_share": False,
    "clean": False,  # the primary tasks' scores on clean items
    "processing_cpu_hours": False,
    "processing_hours": False,
    "training_hours": False,
    "gpu_hours": False,
    "usd": False,
    "revision": True,
    "manifest": True,
}


def problems(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[str]:
    """Why these rows may not be shown; `tasks` are those of the board."""
    found = []
    for row in rows:
        name = f"{row.get('experiment', '?')} at {row.get('scale', '?')}"
        found += [f"{name}: {problem}" for problem in _of_row(row, tasks)]
        found += [f"{name}: {problem}" for problem in _of_control(row, rows)]
    return found


def require_valid(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> None:
    if found := problems(rows, tasks):
        raise FactoryError(f"{len(found)} problem(s) of the leaderboard's rows:\n" + "\n".join(found[:20]))


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row: lists joined by ';', a task's score, its metric and its interval in columns of their own."""
    tasks = list(dict.fromkeys(task for row in rows for task in row["tasks"]))
    parts = ("metric", "value", "low", "high")
    header = [*(name for name in COLUMNS if name != "tasks"), *(f"{task}.{part}" for task in tasks for part in parts)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cells = [_cell(row.get(name)) for name in COLUMNS if name != "tasks"]
        cells += [_cell((row["tasks"].get(task) or {}).get(part)) for task in tasks for part in parts]
        writer.writerow(cells)
    return out.getvalue()


def _of_row(row: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    found = [f"'{name}' is missing" for name in COLUMNS if name not in row]
    found += [f"'{name}' is empty" for name, needed in COLUMNS.items() if needed and row.get(name, 0) in (None, "", [])]
    given = row.get("tasks")
    if not isinstance(given, Mapping):
        return [*found, "'tasks' is no table of tasks"]
    found += [f"task '{task}' is missing; null says that it was not measured" for task in tasks if task not in given]
    for task, score in given.items():
        metric = score.get("metric") if isinstance(score, Mapping) else None
        if score is not None and not (isinstance(metric, str) and VERSIONED.fullmatch(metric)):
            found.append(f"task '{task}' has the metric '{metric}'; one with its version, such as core@2, is wanted")
    for name in row.get("aggregates") or {}:
        if not VERSIONED.fullmatch(str(name)):
            found.append(f"the aggregate '{name}' has no version; core@v2, say, is wanted")
    metric = row.get("metric")
    if isinstance(metric, str) and metric and not VERSIONED.fullmatch(metric):
        found.append(f"the primary metric '{metric}' has no version")
    if row.get("value") is None and row.get("rank") is not None:
        found.append("it has a rank and no primary score")
    unknown = [track for track in row.get("tracks") or () if track not in TRACKS]
    return [*found, *(f"track '{track}' is not one of {', '.join(TRACKS)}" for track in unknown)]


def _of_control(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    control = row.get("control")
    if not control:
        return []  # said already
    own = [other for other in rows if other.get("experiment") == control and other.get("scale") == row.get("scale")]
    if not own:
        return [f"its control '{control}' has no row at this scale"]
    if own[0].get("revision") != row.get("revision"):
        return [f"its control is of another release ({own[0].get('revision')}, not {row.get('revision')})"]
    return []


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, list):
        return ";".join(str(one) for one in value)
    if isinstance(value, dict):
        return ";".join(f"{key}={one}" for key, one in value.items())
    return "" if value is None else value
