"""W3, three bigram tables of 16 symbols each: uniform noise, a hard table, and an almost deterministic cycle.

The noise cannot be learned (2.773 nats whatever one does), the cycle is learned at once; only the hard table is worth more
than its share. A model is a table of logits for each domain, trained on exact gradients of Σ_d w_d · (mean loss of d).
"""

import numpy as np

SYMBOLS = 16
SIZES = np.array([0.45, 0.1, 0.45])
NOISE, HARD, EASY = range(3)
SLIP = 0.0187  # share of the transitions that leave the cycle: 0.144 nats


def make_tables(seed):
    random = np.random.default_rng(seed)
    cycle = np.full((SYMBOLS, SYMBOLS), SLIP / (SYMBOLS - 1))
    cycle[np.arange(SYMBOLS), (np.arange(SYMBOLS) + 1) % SYMBOLS] = 1 - SLIP
    hard = random.dirichlet(np.full(SYMBOLS, 0.15), SYMBOLS)
    return np.stack([np.full((SYMBOLS, SYMBOLS), 1 / SYMBOLS), hard, cycle])


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def descend(logits, tables, weights, rate=1.0):
    """One exact step, the rate being that of a row: the gradient is not divided by the number of rows."""
    return logits - rate * np.asarray(weights)[:, None, None] * (np.exp(log_softmax(logits)) - tables)


def entropies(tables):
    return -(tables * np.log(np.maximum(tables, 1e-300))).sum(axis=-1).mean(axis=-1)


def reference_losses(tables, *, steps=400):
    """The losses of every transition under a model trained on the domains as they are."""
    logits = np.zeros_like(tables)
    for _ in range(steps):
        logits = descend(logits, tables, SIZES)
    return -log_softmax(logits)
