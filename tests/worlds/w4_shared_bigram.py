"""World W4: one shared table of bigram logits, trained by gradient descent on a mixture of Markov chains.

Everything is known in closed form: the loss against a chain is a cross-entropy, the best possible is the chain's entropy,
and the problem is convex, so what a run ends with follows from what it read and from the rates, not from luck. A step
draws 64 states uniformly, a chain for each from the step's mixture and the next symbol from that chain, and applies
table ← table − rate · gradient · V / 64.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

VOCABULARY = 24
DRAWS = 64
RATE = 0.5

Table = npt.NDArray[np.float64]
Mixture = npt.NDArray[np.float64]


def make_chains(seed: int, count: int = 5, concentration: float = 0.1) -> list[Table]:
    """Random transition matrices, every row from a symmetric Dirichlet distribution."""
    random = np.random.default_rng(seed)
    return [random.dirichlet(np.full(VOCABULARY, concentration), VOCABULARY) for _ in range(count)]


def two_chains(seed: int) -> tuple[Table, Table]:
    """A, and B which shares half of every row with A: what annealing and continual pretraining are tried on."""
    first, other = make_chains(seed, 2)
    return first, 0.5 * first + 0.5 * other


def loss(table: Table, chain: Table) -> float:
    """Cross-entropy in nats against a chain, its states equally likely."""
    return float(-(chain * log_softmax(table)).sum(axis=1).mean())


def entropy(chain: Table) -> float:
    """The least loss any table can have."""
    return float(-(chain * np.log(np.where(chain > 0, chain, 1.0))).sum(axis=1).mean())


def gradient(table: Table, states: npt.NDArray[np.int64], following: npt.NDArray[np.int64]) -> Table:
    """Softmax minus one-hot of every drawn transition, summed by row."""
    counts = np.bincount(states * VOCABULARY + following, minlength=VOCABULARY**2).reshape(table.shape)
    total: Table = np.exp(log_softmax(table)) * counts.sum(axis=1, keepdims=True) - counts
    return total


def log_softmax(table: Table) -> Table:
    shifted: Table = table - table.max(axis=1, keepdims=True)
    normalised: Table = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def warmup_stable_decay(steps: int, rate: float = RATE, decay: float = 0.2) -> Mixture:
    """A constant rate and a linear decay to zero over the last share of the steps."""
    return rate * np.minimum(1.0, (steps - np.arange(steps)) / max(1.0, decay * steps))


def cosine(steps: int, rate: float = RATE) -> Mixture:
    return rate / 2 * (1 + np.cos(np.pi * np.arange(steps) / steps))


def linear_to_zero(steps: int, rate: float = RATE) -> Mixture:
    return rate * (1 - np.arange(steps) / steps)


def constant(steps: int, rate: float = RATE) -> Mixture:
    return np.full(steps, rate)


@dataclass(frozen=True)
class Draws:
    """What every step of a run reads: states, the chain each transition is from, and the symbols that follow."""

    states: npt.NDArray[np.int64]
    chains: npt.NDArray[np.int64]
    following: npt.NDArray[np.int64]


def draw(chains: list[Table], mixtures: npt.ArrayLike, steps: int, seed: int, draws: int = DRAWS) -> Draws:
    """The transitions of `steps` steps; `mixtures` is one mixture of the chains, or one for every step."""
    random = np.random.default_rng(seed)
    shares = np.broadcast_to(np.asarray(mixtures, dtype=np.float64), (steps, len(chains)))
    states = random.integers(VOCABULARY, size=(steps, draws))
    bounds = np.cumsum(shares, axis=1) / shares.sum(axis=1, keepdims=True)
    source = (random.random((steps, draws, 1)) >= bounds[:, None, :-1]).sum(axis=2)
    cumulative = np.cumsum(np.stack(chains), axis=2)[source, states]
    uniform = random.random((steps, draws, 1))
    following = np.minimum((uniform >= cumulative).sum(axis=2), VOCABULARY - 1)
    return Draws(states, source, following)


def train(
    chains: list[Table],
    mixtures: npt.ArrayLike,
    rates: npt.ArrayLike,
    seed: int,
    start: Table | None = None,
    snapshots: list[int] | None = None,
) -> Table:
    """The table after a step for every rate, from `start` or from zeros; `snapshots` (steps) are stacked where asked."""
    rates = np.asarray(rates, dtype=np.float64)
    read = draw(chains, mixtures, len(rates), seed)
    table = np.zeros((VOCABULARY, VOCABULARY)) if start is None else start.copy()
    kept = []
    for step, rate in enumerate(rates):
        table -= rate * VOCABULARY / DRAWS * gradient(table, read.states[step], read.following[step])
        if snapshots is not None and step + 1 in snapshots:
            kept.append(table.copy())
    return table if snapshots is None else np.stack(kept)


def phases(steps: int, *parts: tuple[float, npt.ArrayLike]) -> Mixture:
    """One mixture for every step from (share of the steps, mixture) in order; shares sum to 1."""
    ends = np.rint(np.cumsum([share for share, _ in parts]) * steps).astype(int)
    return np.concatenate(
        [
            np.tile(np.asarray(mixture, dtype=np.float64), (end - begin, 1))
            for begin, end, (_, mixture) in zip([0, *ends[:-1]], ends, parts, strict=True)
        ]
    )
