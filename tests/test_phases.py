"""Phases in a world where the right answer is known: a shared table of bigrams that two or five chains are learnt into (W4).

Every number is a mean over seeds; `sd` is that of one run.
"""

from itertools import pairwise

import numpy as np
import pytest
from worlds.w4_shared_bigram import (
    constant,
    cosine,
    linear_to_zero,
    loss,
    make_chains,
    phases,
    train,
    two_chains,
    warmup_stable_decay,
)

SEEDS = range(3)
STEPS = 1500


def mean_and_sd(values):
    return float(np.mean(values)), float(np.std(values, ddof=1))


# A fifth of all tokens is from B: throughout, or a tenth of 80 % of the steps and six tenths of the others.
STATIC = ((1.0, [0.8, 0.2]),)
END = ((0.8, [0.9, 0.1]), (0.2, [0.4, 0.6]))
START = ((0.2, [0.4, 0.6]), (0.8, [0.9, 0.1]))


def test_scarce_data_teaches_most_at_the_end_and_the_rest_pays():
    general, scarce = two_chains(0)
    rates = warmup_stable_decay(STEPS)
    on_scarce, on_general = [], []
    for plan in (END, STATIC, START):
        tables = [train([general, scarce], phases(STEPS, *plan), rates, seed) for seed in SEEDS]
        on_scarce.append(mean_and_sd([loss(table, scarce) for table in tables]))
        on_general.append(float(np.mean([loss(table, general) for table in tables])))
    sd = max(found[1] for found in on_scarce)
    end, static, start = (found[0] for found in on_scarce)
    assert end < static - 10 * sd
    assert static < start - 10 * sd
    assert [end, static, start] == pytest.approx([2.167, 2.466, 2.693], abs=0.02)
    assert on_general == pytest.approx([1.784, 1.613, 1.575], abs=0.02)  # what it costs the rest


def test_the_gain_at_the_end_is_smaller_where_the_rate_is_already_low():
    general, scarce = two_chains(0)
    gains = []
    for rates in (warmup_stable_decay(4000), cosine(4000)):
        static, end = (train([general, scarce], phases(4000, *plan), rates, 0) for plan in (STATIC, END))
        gains.append(loss(static, scarce) - loss(end, scarce))
    assert gains[0] > 1.5 * gains[1] > 0.1


def test_an_anneal_ends_where_a_whole_schedule_does_and_goes_on_without_a_jump():
    # Stage two goes on from stage one's weights at its rate, to zero, with data of its own.
    chain = make_chains(0, 1)
    before = train(chain, [1.0], constant(1200), 0)
    after = train(chain, [1.0], constant(1), 1, start=before)
    annealed = train(chain, [1.0], linear_to_zero(300), 1, start=before)
    scheduled = train(chain, [1.0], warmup_stable_decay(1500), 0)
    assert abs(loss(after, chain[0]) / loss(before, chain[0]) - 1) < 0.05
    assert loss(annealed, chain[0]) < loss(before, chain[0])
    assert loss(annealed, chain[0]) == pytest.approx(loss(scheduled, chain[0]), abs=0.005)
    # The mean of the weights of three anneals that read in another order is no worse than they are on average.
    others = [train(chain, [1.0], linear_to_zero(300), seed, start=before) for seed in (1, 2, 3)]
    assert loss(np.mean(others, axis=0), chain[0]) <= np.mean([loss(table, chain[0]) for table in others])


def test_short_anneals_find_the_source_that_helps():
    # From one checkpoint, 200 steps to zero: half a candidate and half what was read before, against only the latter.
    chains = make_chains(0)
    prior = np.array([0.4, 0.05, 0.25, 0.2, 0.1])
    target = 0.8 * chains[1] + 0.2 * chains[0]
    base = train(chains, prior, constant(1200), 0)

    def utilities(steps, share, seeds):
        generic = [loss(train(chains, prior, linear_to_zero(steps), seed, start=base), target) for seed in seeds]
        found = [
            [
                generic[row] - loss(train(chains, mix(share, chain), linear_to_zero(steps), seed, start=base), target)
                for row, seed in enumerate(seeds)
            ]
            for chain in range(1, 5)
        ]
        return np.array(found)

    def mix(share, chain):
        return (1 - share) * prior + share * np.eye(5)[chain]

    short = utilities(200, 0.5, range(5))
    assert (short.argmax(axis=0) == 0).all()
    means = short.mean(axis=1)
    sd = short.std(axis=1, ddof=1).max()
    assert means[0] > 0.5
    assert means[0] - np.sort(means)[-2] >= 10 * sd
    assert (means[1:] < 0).all()
    # Long runs with a tenth of the candidate, at five times the cost, agree on which source it is.
    long = utilities(1000, 0.1, range(2)).mean(axis=1)
    assert long.argmax() == 0


def test_replay_keeps_what_was_known_and_costs_little():
    old, new = two_chains(0)
    base = train([old, new], [1.0, 0.0], constant(2500), 0)
    found = {}
    for replay in (0.0, 0.05, 0.25, 0.5):
        tables = [train([old, new], [replay, 1 - replay], warmup_stable_decay(1500), seed, base) for seed in SEEDS]
        found[replay] = [np.mean([loss(table, chain) for table in tables]) for chain in (old, new)]
    forgotten = [found[replay][0] for replay in (0.0, 0.05, 0.25, 0.5)]
    assert all(later < earlier for earlier, later in pairwise(forgotten))
    assert loss(base, old) < forgotten[-1]
    assert found[0.05][1] - found[0.0][1] < 0.005
    assert found[0.25][1] - found[0.0][1] < 0.04
