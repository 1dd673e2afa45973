"""How far every column of a snapshot lies from the snapshot before: the population stability index of its histogram.

Under 0.1 is usually called stable, 0.25 and more a shift; the gates block what `factory.recipes.gates` says.
"""

from collections.abc import Sequence
from typing import Any

from factory.core.errors import InputError, suggest
from factory.core.statistics import drift
from factory.recipes.lookup import Current
from factory.recipes.workspace import Workspace

NULL = "null"


def drifts(workspace: Workspace, snapshots: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row per column and snapshot after the first: both snapshots, the index, and the shares of null; largest first."""
    current = Current(workspace)
    for name in snapshots:
        if name not in current.snapshots:
            raise InputError(f"No snapshot is named '{name}'.{suggest(name, current.snapshots)}")
    rows = []
    for before, after in zip(current.snapshots, current.snapshots[1:], strict=False):
        if snapshots and after not in snapshots:
            continue
        for kind, label in (("documents", ""), *(("scores", use.label) for use in workspace.recipe.scorers)):
            theirs, ours = (current.find(kind, label, name) for name in (before, after))
            if theirs is None or ours is None:
                continue
            old, new = theirs.notes["histograms"], ours.notes["histograms"]
            rows += [
                {
                    "column": f"{label}_{name}" if label else name,
                    "before": before,
                    "after": after,
                    "drift": drift(old[name], new[name]),
                    "null_before": _share(old[name]),
                    "null_after": _share(new[name]),
                }
                for name in new
                if name in old
            ]
    return sorted(rows, key=lambda row: (row["after"], -row["drift"], row["column"]))


def _share(histogram: dict[str, int]) -> float:
    total = sum(histogram.values())
    return histogram.get(NULL, 0) / total if total else 0.0
