"""Which tasks are worth reading at a scale, by the criteria FineWeb and FineWeb2 chose theirs with (arXiv 2506.20920, A.5.1).

In: scores of several experiments (datasets) and seeds along training. Out, for each task and scale, a card:

- *monotonicity*: the mean over experiments and seeds of Spearman's ρ of step and score, at least 0.5;
- *signal to noise*: (mean - baseline) over the deviation between seeds at the end, at least 5. Published as mean/deviation
  ≥ 20, which a task that stays at 0.25 ± 0.01 passes; that figure is kept beside it;
- *non-randomness*: how far the best experiment's seed mean ends above the baseline, in deviations between seeds, at least 3.
  Of the mean curve's end: the largest of all seeds and checkpoints passes noise two times in five;
- *ordering consistency*: the mean Kendall τ_a of the experiments' order between one checkpoint and the next; told, not asked.

A criterion that cannot be known (no second seed, no baseline, no checkpoints) is None, and no task is kept on what is unknown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from factory.core.noise import pooled_noise
from factory.core.ranks import spearman
from factory.evaluation.ranks import kendall
from factory.evaluation.scores import Curves, Score, curves
from factory.evaluation.statistics import Array

VERSION = 1
MONOTONICITY = 0.5
SNR = 5.0
NON_RANDOMNESS = 3.0


@dataclass(frozen=True)
class Card:
    """What is known of one task at one scale."""

    task: str
    scale: str
    experiments: int
    seeds: int
    checkpoints: int
    monotonicity: float | None
    snr: float | None
    raw_snr: float | None  # mean/deviation, as published
    non_randomness: float | None
    ordering: float | None
    keep: bool
    why: str  # what it fails, or lacks
    min_scale: str | None = None  # the smallest scale at which the task is kept
    version: int = VERSION


def cards(scores: Sequence[Score]) -> list[Card]:
    """A card for each task and scale. Scales are ordered by their training compute where that is known."""
    size = {one.scale: one.flops or one.parameters or 0.0 for one in scores}
    found = [card(curve) for curve in curves(scores)]
    kept: dict[str, str] = {}
    for one in sorted(found, key=lambda one: (size[one.scale], one.scale)):
        if one.keep:
            kept.setdefault(one.task, one.scale)
    return [replace(one, min_scale=kept.get(one.task)) for one in found]


def card(curve: Curves) -> Card:
    """The criteria on one task."""
    gains = curve.gains
    final = np.stack([_final(row) for row in gains])  # (experiments, seeds)
    deviation = _deviation(gains)
    means = np.array([row[np.isfinite(row)].mean() for row in final if np.isfinite(row).any()])
    known = deviation is not None and deviation > 0
    based = curve.baseline is not None
    snr = float(means.mean()) / deviation if known and based and deviation else None
    offset = (curve.baseline or 0.0) * (1 if curve.higher_is_better else -1)
    raw = abs(float(means.mean()) + offset) / deviation if known and deviation else None
    above = float(means.max()) / deviation if known and based and deviation else None
    rising = _monotonicity(curve.steps, gains)
    keep, why = _judge(rising, snr, above)
    return Card(
        task=curve.task,
        scale=curve.scale,
        experiments=len(curve.experiments),
        seeds=len(curve.seeds),
        checkpoints=len(curve.steps),
        monotonicity=rising,
        snr=snr,
        raw_snr=raw,
        non_randomness=above,
        ordering=_ordering(gains),
        keep=keep,
        why=why,
    )


def _judge(rising: float | None, snr: float | None, above: float | None) -> tuple[bool, str]:
    asked = (
        ("monotonicity", rising, MONOTONICITY),
        ("signal to noise", snr, SNR),
        ("non-randomness", above, NON_RANDOMNESS),
    )
    missing = [name for name, value, _ in asked if value is None]
    failed = [f"{name} {value:.2f} < {least:g}" for name, value, least in asked if value is not None and value < least]
    if failed:
        return False, "; ".join(failed)
    if missing:
        return False, f"not known: {', '.join(missing)}"
    return True, ""


def _final(rows: Array) -> Array:
    """The last score each seed has."""
    return np.array([row[np.isfinite(row)][-1] if np.isfinite(row).any() else np.nan for row in rows])


def _deviation(gains: Array) -> float | None:
    """Between seeds, pooled over experiments and the last quarter of the checkpoints: that of one alone is too uncertain."""
    last = gains[:, :, -max(1, gains.shape[2] // 4) :]
    groups = [own[np.isfinite(own)] for row in last for own in row.T]
    noise = pooled_noise(groups)
    return noise.sigma if noise.dof else None


def _monotonicity(steps: Array, gains: Array) -> float | None:
    found = []
    for row in gains.reshape(-1, gains.shape[2]):
        there = np.isfinite(row)
        if there.sum() >= 3:
            rho = spearman(steps[there], row[there])
            found.append(0.0 if math.isnan(rho) else rho)
    return float(np.mean(found)) if found else None


def _ordering(gains: Array) -> float | None:
    """Kendall's τ of the experiments' seed means between successive checkpoints."""
    there = np.isfinite(gains)
    counts = there.sum(1)
    means = np.where(counts > 0, np.where(there, gains, 0).sum(1) / np.maximum(1, counts), np.nan)
    found = []
    for before, after in zip(means.T[:-1], means.T[1:], strict=True):
        both = np.isfinite(before) & np.isfinite(after)
        if both.sum() >= 2:
            tau = kendall(before[both], after[both])
            found.append(0.0 if math.isnan(tau) else tau)
    return float(np.mean(found)) if found else None
