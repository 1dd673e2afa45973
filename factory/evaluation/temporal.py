"""How a corpus ages: what documents of a period cost a model whose data are of another (Pretrainer's Guide, arXiv 2305.13169).

In: losses by period of the training data and period of the evaluated documents. Out: how much each year between the two adds,
with its interval. The loss of a model trained in the evaluated period is subtracted where there is one, since some periods
are harder for every model; with one model alone, the trend over periods cannot be told from topics that changed, and
the result says so. The date of a crawl is not the date of what it holds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from factory.core.errors import InputError
from factory.evaluation.bits_per_byte import HeldOut, read_documents
from factory.evaluation.distributions import t_quantile
from factory.evaluation.tasks import Temporal

_LENGTH = {"year": 4, "month": 7}


def read_dated(config: Temporal, files: Mapping[str, bytes]) -> list[HeldOut]:
    """The documents of a task, each in the domain of its period."""
    dated = config.model_copy(update={"domain": config.date})
    return read_documents(dated, files, lambda date, place: period(date, config.by, place))


def period(date: str, by: str, place: str) -> str:
    """The year or month of an ISO 8601 date."""
    text = date[: _LENGTH[by]]
    parts = text.split("-")
    sound = len(parts[0]) == 4 and all(part.isascii() and part.isdigit() for part in parts) and len(text) == _LENGTH[by]
    if not sound or (by == "month" and not 1 <= int(parts[1]) <= 12):
        raise InputError(
            f"{place}: '{date:.40}' is no date whose {by} can be told; ISO 8601 is wanted, such as 2024-05-31."
        )
    return text


def years(label: str) -> float:
    """A period as a number of years."""
    year, _, month = label.partition("-")
    return int(year) + ((int(month) - 1) / 12 if month else 0.0)


def by_period(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Bits per byte of each period whose documents all have a finite number."""
    sums: dict[str, list[tuple[float | None, float]]] = {}
    for row in rows:
        sums.setdefault(row["domain"], []).append((row["value"], row["weight"]))
    return {
        period: sum(bits * size for bits, size in own if bits is not None) / sum(size for _, size in own)
        for period, own in sorted(sums.items())
        if all(bits is not None for bits, _ in own)
    }


def misalignment(losses: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """The slope of loss over years between (trained, evaluated) periods, its 95 % interval and R²."""
    own = {evaluated: loss for (trained, evaluated), loss in losses.items() if trained == evaluated}
    relative = all(evaluated in own for _, evaluated in losses)
    gaps, excess = [], []
    for (trained, evaluated), loss in losses.items():
        gaps.append(abs(years(trained) - years(evaluated)))
        excess.append(loss - own[evaluated] if relative else loss)
    return regress(gaps, excess) | {"relative": relative}


def regress(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """A line by least squares: slope, 95 % interval by Student's t, R²; None where the points do not decide it."""
    unknown = {"slope": None, "low": None, "high": None, "r2": None, "points": len(x)}
    if len(x) < 3 or len(set(x)) < 2:
        return unknown
    gaps, values = np.asarray(x, float), np.asarray(y, float)
    centred = gaps - gaps.mean()
    spread = float((centred**2).sum())
    slope = float((centred * values).sum() / spread)
    rest = values - values.mean() - slope * centred
    total = float(((values - values.mean()) ** 2).sum())
    half = t_quantile(0.975, len(gaps) - 2) * math.sqrt(float((rest**2).sum()) / (len(gaps) - 2) / spread)
    r2 = 1 - float((rest**2).sum()) / total if total > 0 else None
    return {"slope": slope, "low": slope - half, "high": slope + half, "r2": r2, "points": len(gaps)}
