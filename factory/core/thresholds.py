"""Thresholds for a language from what its texts measure: the least confidence of language identification, and what becomes of
a bound that was chosen for English (FineWeb2, arXiv:2506.20920).

A bound is carried over by its place in two distributions of the same statistic: over reference texts in English and in the
language (Wikipedia, or the language's part of a crawl). The maps have FineWeb2's names.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]
Side = Literal["min", "max"]

MOST_REMOVED = 0.75  # of a reference; a rule that removes more says nothing about quality
LOWEST_CONFIDENCE, HIGHEST_CONFIDENCE = 0.3, 0.9


class Carried(NamedTuple):
    """A threshold for a language, None where the rule should not be used, the share of the reference it removes, and why."""

    threshold: float | None
    removed: float
    why: str


def lid_threshold(scores: Values) -> float:
    """The least confidence for documents of one label: median minus standard deviation, within 0.3 and 0.9."""
    values = np.asarray(scores, np.float64)
    if not values.size:
        return LOWEST_CONFIDENCE
    return confidence_from(float(np.median(values)), float(np.std(values)))


def confidence_from(median: float, deviation: float) -> float:
    """The same from the two numbers."""
    return max(LOWEST_CONFIDENCE, min(HIGHEST_CONFIDENCE, median - deviation))


def english(stat_en: Values, stat_lang: Values, t_en: float, side: Side = "min") -> float:
    """The bound as it is."""
    return t_en


def mean_std(stat_en: Values, stat_lang: Values, t_en: float, side: Side = "min") -> float:
    """As many standard deviations from the mean; where English does not vary, the mean of the language."""
    deviation = float(np.std(stat_en))
    place = (t_en - float(np.mean(stat_en))) / deviation if deviation else 0.0
    return float(np.mean(stat_lang)) + place * float(np.std(stat_lang))


def quantile(stat_en: Values, stat_lang: Values, t_en: float, side: Side = "min") -> float:
    """The value that removes the same share of the language's reference as the bound removes of English's."""
    if side == "min":
        return float(np.quantile(stat_lang, np.mean(stat_en < t_en)))
    return float(np.quantile(stat_lang, 1 - np.mean(stat_en > t_en)))


def tail_10(stat_en: Values, stat_lang: Values, t_en: float, side: Side = "min") -> float:
    """The value that removes the worst tenth of the language's reference."""
    return float(np.quantile(stat_lang, 0.1 if side == "min" else 0.9))


def median_ratio(stat_en: Values, stat_lang: Values, t_en: float, side: Side = "min") -> float:
    """The bound times the ratio of the medians; not a number where English's median is zero."""
    middle = float(np.median(stat_en))
    return t_en * float(np.median(stat_lang)) / middle if middle else math.nan


MAPS: dict[str, Callable[[Values, Values, float, Side], float]] = {
    "english": english,
    "mean_std": mean_std,
    "quantile": quantile,
    "tail_10": tail_10,
    "median_ratio": median_ratio,
}


def carry(method: str, stat_en: Values, stat_lang: Values, t_en: float, side: Side = "min") -> Carried:
    """A bound carried over by a map of `MAPS`, and not used where it would remove more than three quarters of the
    language's reference or nothing of it."""
    source, target = _numbers(stat_en), _numbers(stat_lang)
    if not source.size or not target.size:
        return Carried(None, 0.0, f"no values to go by: {source.size} in English, {target.size} in the language")
    threshold = MAPS[method](source, target, t_en, side)
    if not math.isfinite(threshold):
        return Carried(None, 0.0, f"{method} gives no number for these references")
    return guard(threshold, target, side)


def keep_share(values: Values, keep: float, side: Side = "min") -> float:
    """The tightest bound that at least this share of the values keeps."""
    ranked = np.sort(_numbers(values))
    if not ranked.size:
        return math.nan
    beyond = math.floor((1 - keep) * ranked.size + 1e-9)
    return float(ranked[beyond] if side == "min" else ranked[-1 - beyond])


def guard(threshold: float, target: Values, side: Side = "min") -> Carried:
    """The bound with the share of the reference it removes; not used where that is nothing, or more than three quarters."""
    removed = float(np.mean(target < threshold) if side == "min" else np.mean(target > threshold))
    if removed > MOST_REMOVED:
        return Carried(None, removed, f"{threshold:.4g} would remove {removed:.0%} of the reference; not used")
    if not removed:
        return Carried(None, removed, f"{threshold:.4g} would remove nothing of the reference; not used")
    return Carried(threshold, removed, f"removes {removed:.1%} of the reference")


def _numbers(values: Values) -> Values:
    found = np.asarray(values, np.float64)
    return found[np.isfinite(found)]
