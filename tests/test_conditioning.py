"""Metadata conditioning where the right answer is known: bigram tables that metadata adds to (MeCo's cooldown, arXiv:2501.01956).

Logits are table[state] + shift[source, state] where a step shows its source, and table[state] where it does not. Each step
reads 64 transitions of one of four sources.
"""

import numpy as np
import pytest
from worlds.w4_shared_bigram import VOCABULARY, log_softmax, make_chains, warmup_stable_decay

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
STEPS = 4000


def train(chains, shown, seed=0):
    """(table, shift) after STEPS steps; `shown` says for each whether metadata stand before the text."""
    random = np.random.default_rng(seed)
    table, shift = np.zeros((VOCABULARY, VOCABULARY)), np.zeros((4, VOCABULARY, VOCABULARY))
    cumulative = np.cumsum(np.stack(chains), axis=2)
    sources = random.choice(4, STEPS, p=SHARES)
    for step, rate in enumerate(warmup_stable_decay(STEPS)):
        source, states = sources[step], random.integers(VOCABULARY, size=64)
        following = np.minimum((random.random((64, 1)) >= cumulative[source, states]).sum(axis=1), VOCABULARY - 1)
        counts = np.bincount(states * VOCABULARY + following, minlength=VOCABULARY**2).reshape(table.shape)
        logits = table + shift[source] if shown[step] else table
        change = rate * VOCABULARY / 64 * (np.exp(log_softmax(logits)) * counts.sum(axis=1, keepdims=True) - counts)
        table = table - change
        if shown[step]:
            shift[source] -= change
    return table, shift


def losses(chains, table, shift):
    """(without, with) metadata at the prompt."""
    without = [-(chain * log_softmax(table)).sum(axis=1).mean() for chain in chains]
    behind = [-(chain * log_softmax(table + own)).sum(axis=1).mean() for chain, own in zip(chains, shift, strict=True)]
    return float(SHARES @ without), float(SHARES @ behind)


def test_a_cooldown_makes_the_model_work_without_metadata_and_keeps_what_they_taught():
    chains = make_chains(0, 4, concentration=0.12)
    never = losses(chains, *train(chains, np.zeros(STEPS, bool)))
    cooled = losses(chains, *train(chains, np.arange(STEPS) < 0.9 * STEPS))
    always = losses(chains, *train(chains, np.ones(STEPS, bool)))
    marginal = sum(share * chain for share, chain in zip(SHARES, chains, strict=True))
    least = float(-(marginal * np.log(marginal)).sum(axis=1).mean())
    assert never[0] == pytest.approx(least, abs=0.05)
    assert cooled[0] - never[0] <= 0.03
    assert always[0] - never[0] >= 0.15
    assert [never[0], cooled[0], always[0]] == pytest.approx([2.504, 2.519, 2.749], abs=0.02)
    assert [never[1], cooled[1], always[1]] == pytest.approx([2.504, 1.802, 1.657], abs=0.02)
    # With metadata: what was seen with it to the end is best, and nothing is learnt from what was never shown.
    assert always[1] < cooled[1] < never[1] - 0.5
