"""Domains of a recipe: how many tokens each has, what the filters leave of it, and so the mixture each filter implies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, InputError, suggest
from factory.mixing.domains import correct_shares, implicit_mixture, mutual_information
from factory.mixing.shares import SEPARATOR
from factory.recipes.checks.columns import available_columns
from factory.recipes.graph import column_owners
from factory.recipes.lookup import Current
from factory.recipes.workspace import Workspace

ERROR = "error"
TAXONOMY = "taxonomy"  # the scorer whose metrics hold its confusions
UNKNOWN = "unknown"


def domains(
    workspace: Workspace, experiment: str, by: Sequence[str] = (), snapshots: Sequence[str] = ()
) -> dict[str, Any]:
    """Tokens (documents, where nobody counts tokens) by domain before and after an experiment's rules, and after each alone."""
    names = domain_columns(workspace, experiment, by)
    before: dict[str, float] = {}
    kept: dict[str, float] = {}
    dropped: dict[str, dict[str, float]] = {}
    current = Current(workspace)
    counted = True
    for name in snapshots:
        if name not in current.snapshots:
            raise InputError(f"No snapshot is named '{name}'.{suggest(name, current.snapshots)}")
    for snapshot, part in current.documents():
        if snapshots and snapshot not in snapshots:
            continue
        decided = current.beside("decisions", experiment, snapshot, part)
        columns = [current.column(name, snapshot, part) for name in names]
        if decided is None or any(column is None for column in columns):
            raise FactoryError(
                f"The decisions of '{experiment}' on {snapshot}, or {', '.join(names)}, are not there yet. "
                "'factory run scores decisions' makes them."
            )
        encoded = current.beside("encodings", "", snapshot, part)
        counted &= encoded is not None
        sizes = np.ones(part.rows)
        if encoded is not None:
            sizes = current.thin(encoded, "tokens").fill_null(0).to_numpy().astype(np.float64)
        cells = cells_of([column for column in columns if column is not None])
        failed = current.thin(decided, "failed").combine_chunks()
        parents, rules = pc.list_parent_indices(failed).to_numpy(), failed.flatten()
        sound = np.ones(part.rows, np.bool_)
        sound[parents[pc.equal(rules, ERROR).to_numpy(zero_copy_only=False)]] = False
        stays = pc.equal(pc.list_value_length(failed), 0).to_numpy(zero_copy_only=False)
        _add(before, cells, np.where(sound, sizes, 0.0))
        _add(kept, cells, np.where(sound & stays, sizes, 0.0))
        for rule in workspace.recipe.experiment(experiment).rules:
            fails = np.zeros(part.rows, np.bool_)
            fails[parents[pc.equal(rules, rule.label).to_numpy(zero_copy_only=False)]] = True
            _add(dropped.setdefault(rule.label, {}), cells, np.where(sound & fails, sizes, 0.0))
    before = {name: size for name, size in before.items() if size > 0}
    alone = [
        {
            "rule": rule,
            **implicit_mixture(before, {name: size - gone.get(name, 0.0) for name, size in before.items()}),
        }
        for rule, gone in dropped.items()
    ]
    return {
        "experiment": experiment,
        "by": names,
        "unit": "tokens" if counted else "documents",
        **implicit_mixture(before, kept),
        "rules": alone,
        "overlap": mutual_information(before) if len(names) == 2 and before else None,
        "corrected": _corrected(workspace, names, before),
    }


def domain_columns(workspace: Workspace, experiment: str, by: Sequence[str]) -> list[str]:
    """The columns whose values are the domains: those asked for, or the mixture's of the experiment."""
    labels = [item.label for item in workspace.recipe.experiments]
    if experiment not in labels:
        raise InputError(f"No experiment is named '{experiment}'.{suggest(experiment, labels)}")
    mixture = workspace.recipe.experiment(experiment).mixture
    names = list(by) or list(mixture.by if mixture is not None else ("source",))
    known = available_columns(list(workspace.recipe.scorers), list(workspace.recipe.linkers))
    texts = [name for name, kind in known.items() if pa.types.is_string(kind)]
    for name in names:
        if name not in texts:
            raise InputError(f"No column of texts is named '{name}'.{suggest(name, texts)}")
    return names


def cells_of(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The domain of each document: its value in one column, or in several together."""
    labels = [column.cast(pa.string()).fill_null(UNKNOWN) for column in columns]
    return labels[0] if len(labels) == 1 else pc.binary_join_element_wise(*labels, SEPARATOR)


def _add(sums: dict[str, float], cells: pa.ChunkedArray, sizes: np.ndarray) -> None:
    table = pa.table({"cell": cells, "size": sizes}).group_by("cell").aggregate([("size", "sum")])
    for row in table.to_pylist():
        sums[row["cell"]] = sums.get(row["cell"], 0.0) + row["size_sum"]


def _corrected(workspace: Workspace, names: list[str], before: dict[str, float]) -> dict[str, float] | None:
    """Shares with the classifier's errors taken out, where the domains are its labels and it was measured."""
    owner = column_owners(workspace.recipe).get(names[0]) if len(names) == 1 else None
    if owner is None or owner[0] != "scores" or owner[2] != "label":
        return None
    if workspace.recipe.scorer(owner[1]).stage.name != TAXONOMY:
        return None
    model = workspace.find("models", owner[1])
    metrics = model.notes.get("metrics", {}) if model is not None else {}
    known = {name: size for name, size in before.items() if name in metrics.get("labels", ())}
    return correct_shares(known, metrics["labels"], metrics["confusion"]) if known else None
