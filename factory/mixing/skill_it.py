"""Skill-It (arXiv:2307.14430): more of the skills that are not learned yet, and of those that they depend on.

A graph `A` (skills trained on x skills evaluated) says how much training on one lowers the loss of another. Losses of all
rounds come in, the shares of the next round go out: shares are computed from the losses of the last `window` rounds, not
multiplied for ever. With the identity as graph nothing but the loss decides; with a complete one nothing does.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.mixing.simplex import Matrix, Vector, softmax


class SkillItSettings(Config):
    """`eta` is the step, `window` how many rounds of losses count, `rounds` how often the shares change.

    Losses are summed over the window as published, so the effective step grows with it; `mean` averages them. `normalise`
    divides each loss by its first value (losses of unlike scale); `decay_eta` divides the step by the share of the loss
    that is left; `dampen` halves the off-diagonal of the graph each round. `graph` is given, or estimated by short runs of
    `graph_steps`: on pairs and alone (k² + k runs), or alone only.
    """

    eta: float = Field(0.5, gt=0)
    window: int = Field(3, ge=1)
    rounds: int = Field(6, ge=1, le=10_000)
    mean: bool = False
    normalise: bool = False
    decay_eta: bool = False
    dampen: bool = False
    graph: tuple[tuple[FiniteFloat, ...], ...] | Literal["pairs", "alone", "identity"] = "pairs"
    graph_steps: int = Field(50, ge=1)
    binary: float | None = Field(None, gt=0)
    held_out: int = Field(16, ge=1)
    take: Literal["average", "final"] = "average"


def shares(
    graph: npt.ArrayLike,
    losses: Sequence[npt.ArrayLike],
    settings: SkillItSettings,
    start: npt.ArrayLike | None = None,
) -> Vector:
    """The shares of the next round: p_i ∝ exp(η Σ_j A_ij Σ_window L_j); before any loss is known, L = 1.

    `losses` has a row of evaluated skills for each round done. `start` is what `normalise` and `decay_eta` compare with: the
    losses before the first round, else those after it.
    """
    edges = np.asarray(graph, dtype=np.float64)
    if not losses:
        return softmax(settings.eta * edges.sum(axis=1))
    table = np.asarray(losses, dtype=np.float64)
    if edges.ndim != 2 or table.shape[1] != edges.shape[1]:
        raise FactoryError(f"skill-it: a graph of shape {edges.shape} and losses of {table.shape[1]} skills.")
    first = table[0] if start is None else np.asarray(start, dtype=np.float64)
    eta = settings.eta
    if settings.decay_eta:
        eta /= max(float(table[-1].sum() / first.sum()), 1e-9)
    if settings.dampen:
        edges = dampened(edges, len(table) - 1)
    if settings.normalise:
        table = table / first
    recent = table[-settings.window :]
    return softmax(eta * (edges @ (recent.mean(axis=0) if settings.mean else recent.sum(axis=0))))


def dampened(graph: npt.ArrayLike, rounds: int) -> Matrix:
    """The graph with its off-diagonal entries halved so many times."""
    edges = np.array(graph, dtype=np.float64)
    return np.where(np.eye(*edges.shape) > 0, edges, edges * 0.5**rounds)


def graph_from_pairs(
    alone: npt.ArrayLike, paired: npt.ArrayLike, *, least: float = 0.0, binary: float | None = None
) -> Matrix:
    """The graph by brute force: `alone[j]` is the loss of j after training on j, `paired[i, j]` after training on both.

    There is an edge where the pair leaves j with a loss that is lower by more than `least`; its weight is that advantage, or
    `binary`. The diagonal is 1.
    """
    single, both = np.asarray(alone, dtype=np.float64), np.asarray(paired, dtype=np.float64)
    advantage = single[None, :] - both
    edges = np.where(advantage > least, advantage if binary is None else binary, 0.0)
    np.fill_diagonal(edges, 1.0)
    return edges


def graph_from_alone(before: npt.ArrayLike, after: npt.ArrayLike, *, least: float = 0.0) -> Matrix:
    """The linear approximation: `after[i, j]` is the loss of j after training on i alone, `before[j]` at the start.

    Entry (i, j) is the drop of j over the drop that j's own data gives, at least 0; the diagonal is 1. Where a skill's own
    data teach nothing, drops are taken as they are.
    """
    start, end = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    drops = np.where(start[None, :] - end > least, start[None, :] - end, 0.0)
    own = np.diagonal(drops)
    edges: Matrix = drops / np.where(own > 0, own, 1.0)[None, :]
    np.fill_diagonal(edges, 1.0)
    return edges
