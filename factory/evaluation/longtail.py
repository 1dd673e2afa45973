"""Knowledge by support: how many training documents speak of what a question asks (arXiv 2211.08411).

In: the number of documents of each question that hold a name of its entity and one of its answer, from a file or from the
scorer `support`. Out: accuracy by bins of that number, with its slope in acc = a·log10(n) + b.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from factory.core.errors import InputError
from factory.evaluation.records import records, value_of
from factory.evaluation.tasks import LongTail

NOT_COUNTED = "not counted"  # the bin of a question that has no names to be looked for by


def read_counts(files: Mapping[str, bytes]) -> dict[str, int]:
    """Counts by item from JSONL of {item, count}."""
    counts: dict[str, int] = {}
    for name in sorted(files):
        for number, record in records(name, files[name]):
            place = f"{name}, line {number} (from 0)"
            item, count = value_of(record, "item", place), value_of(record, "count", place)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise InputError(f"{place}: 'count' is {count!r:.60}; a whole number from 0 up is wanted.")
            if str(item) in counts:
                raise InputError(f"{place}: item '{item}' is counted twice.")
            counts[str(item)] = count
    return counts


def group_rows(config: LongTail, rows: Sequence[dict[str, Any]], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rows whose domain is their bin of counts; raises InputError for an item nobody counted."""
    made = []
    for row in rows:
        if row["item"] not in counts:
            raise InputError(
                f"evaluate: item '{row['item']}' has no count. Count all items of the task (file:line, lines from 0); "
                "a question no document speaks of has 0."
            )
        count = counts[row["item"]]
        label = bin_of(count, config.per_decade)
        made.append(row | {"domain": label, "group": label, "extra": {"count": float(count)}})
    return made


def bin_of(count: int, per_decade: int = 1) -> str:
    """The bin of a count on a logarithmic scale: '0', '1-9', '10-99', …"""
    if count == 0:
        return "0"
    step = math.floor(math.log10(count) * per_decade + 1e-9)
    low, high = math.ceil(10 ** (step / per_decade) - 1e-9), math.ceil(10 ** ((step + 1) / per_decade) - 1e-9) - 1
    return f"{low}-{high}" if high > low else str(low)


def trend(counts: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Accuracy against log10 of the count, over items with a count: slope a, intercept b, and rank correlation."""
    from scipy.stats import spearmanr

    known = [(math.log10(count), value) for count, value in zip(counts, values, strict=True) if count > 0]
    if len({x for x, _ in known}) < 2:
        return {"slope": None, "intercept": None, "spearman": None, "items": len(known)}
    x, y = np.array(known).T
    slope, intercept = np.polyfit(x, y, 1)
    rank = float(spearmanr(x, y).statistic) if len(set(y)) > 1 else None
    return {"slope": float(slope), "intercept": float(intercept), "spearman": rank, "items": len(known)}
