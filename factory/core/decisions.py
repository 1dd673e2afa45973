"""Verdicts: which rules a document fails. Every rule is evaluated on every document, and every verdict is kept."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

DECISION = {"failed": pa.list_(pa.string())}


def failed_labels(labels: Sequence[str], keeps: np.ndarray) -> pa.Array:
    """A list of the rules each document fails, in the order of the recipe; `keeps` is (rules, documents) of bool."""
    if not len(labels):
        return pa.array([[]] * keeps.shape[1], pa.list_(pa.string()))
    rows, rules = np.nonzero(~keeps.T)
    counts = np.bincount(rows, minlength=keeps.shape[1])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    names = pa.array(labels, pa.string()).take(pa.array(rules))
    return pa.ListArray.from_arrays(pa.array(offsets), names)


def funnel_counts(
    labels: Sequence[str], keeps: np.ndarray, errors: np.ndarray, tokens: np.ndarray
) -> list[dict[str, int | str]]:
    """Per rule: documents and tokens that fail it at all, that fail it first, and that fail nothing else.

    `first` follows the order of the recipe and adds up to all that is dropped; `only` is what taking the rule away would
    bring back. Documents with an error are outside: they are counted by their own kind.
    """
    sound = ~errors
    fails = ~keeps & sound
    total = fails.sum(axis=0)
    before = np.zeros(keeps.shape[1], dtype=bool)
    rows: list[dict[str, int | str]] = []
    for index, label in enumerate(labels):
        own = fails[index]
        row: dict[str, int | str] = {"rule": label}
        for name, chosen in (("failed", own), ("first", own & ~before), ("only", own & (total == 1))):
            row[name] = int(chosen.sum())
            row[f"{name}_tokens"] = int(tokens[chosen].sum())
        before |= own
        rows.append(row)
    return rows


def add_funnels(funnels: Sequence[Sequence[Mapping[str, int | str]]]) -> list[dict[str, int | str]]:
    """Funnels of parts or snapshots, added up rule by rule."""
    total: dict[str, dict[str, int | str]] = {}
    for funnel in funnels:
        for row in funnel:
            known = total.setdefault(str(row["rule"]), {"rule": row["rule"]})
            for name, value in row.items():
                if name != "rule":
                    known[name] = int(known.get(name, 0)) + int(value)
    return list(total.values())
