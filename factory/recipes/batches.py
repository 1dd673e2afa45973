"""What a training reads at a step or a token of it: the documents, from the order alone and without training anything.

For a loss that jumps at step 812, or a model that says what it should not have read.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.errors import InputError, suggest
from factory.core.manifest import Manifest, Part
from factory.core.schema import DOCUMENT
from factory.recipes.token_export import opened_order, read_by, training_plan
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

SHOWN = 160  # characters of a text
COLUMNS = ["doc_id", "snapshot", "domain", "part", "row", "length", "repeats"]


def batch(
    workspace: Workspace, label: str, *, step: int | None = None, token: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """The documents a step reads (with how many tokens of each), or the one that a token of the run is of.

    Tokens are counted from 0 over the whole run, step by step and sequence by sequence. Raises InputError for a step or
    token that the run does not have.
    """
    known = [experiment.label for experiment in workspace.recipe.experiments]
    if label not in known:
        raise InputError(f"No experiment is named '{label}'.{suggest(label, known)}")
    if (step is None) == (token is None):
        raise InputError("A step or a token is meant: give --step N or --token N.")
    experiment = workspace.recipe.experiment(label)
    tokens = read_by(workspace, experiment, seed)
    plan = training_plan(workspace, experiment, tokens, seed)
    parts = {part.name: part.to_json() for part in tokens.parts}
    with opened_order(workspace.store, {"plan": plan, "parts": parts}) as order:
        whole = {"experiment": label, "seed": seed, "steps": order.steps, "tokens": order.tokens}
        asked, most = ("step", order.steps) if step is not None else ("token", order.tokens)
        number = step if step is not None else token
        assert number is not None
        if not 0 <= number < most:
            raise InputError(
                f"The training of '{label}' has {most:,} {asked}s, 0 to {most - 1:,}; there is no {number:,}."
            )
        if token is not None:
            place = order.locate(token)
            told = {**whole, "token": token, "step": token // (order.tokens // order.steps)}
            if place is None:
                return {**told, "documents": [], "padding": True}
            found = _documents(workspace, tokens, np.array([place.document]))
            return {**told, "documents": [{**found[0], "copy": place.copy, "token": place.token}], "padding": False}
        documents, read = order.inputs(number, number + 1)
        own, places = np.unique(documents, return_inverse=True)
        counts = np.bincount(places, read, len(own)).astype(np.int64)
    rows = _documents(workspace, tokens, own)
    for row, count in zip(rows, counts.tolist(), strict=True):
        row["read"] = count
    rows.sort(key=lambda row: (-row["read"], row["doc_id"]))
    return {**whole, "step": number, "documents": rows, "padding": order.tokens // order.steps - int(read.sum())}


def _documents(workspace: Workspace, tokens: Manifest, numbers: Any) -> list[dict[str, Any]]:
    """Documents by their number in the token file, with where they come from and how they begin."""
    index = next(part for part in tokens.parts if part.name == "index")
    rows = read_part(workspace.store, index, COLUMNS).take(pa.array(numbers)).to_pylist()
    shown = [name for name in ("url", "title", "source") if name in DOCUMENT.names]
    stored = _document_parts(workspace)
    for name in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == name]
        table = read_part(workspace.store, stored[name], [*shown, "text"]).take(pa.array([row["row"] for row in own]))
        for row, beside in zip(own, table.to_pylist(), strict=True):
            row.update({key: beside[key] for key in shown})
            row["begins"] = (beside["text"] or "")[:SHOWN]
    return [{key: value for key, value in row.items() if key not in ("part", "row")} for row in rows]


def _document_parts(workspace: Workspace) -> dict[str, Part]:
    found = {}
    for snapshot in workspace.snapshots:
        found.update({part.digest: part for part in workspace.need("documents", "", snapshot).parts})
    return found
