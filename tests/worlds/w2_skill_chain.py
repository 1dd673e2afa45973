"""W2, a chain of skills: nothing is learned of a skill before those in front of it. The prerequisite order is the truth.

Per step L_i ← L_i (1 − 0.03 p_i Π_{j<i} (1 − L_j)) from L = 1; losses are observed with noise of 0.01.
"""

import numpy as np

SKILLS = 4
RATE = 0.03
NOISE = 0.01
ROUNDS = 6


def chain(edge=0.5):
    """The true graph: each skill helps the next."""
    return np.eye(SKILLS) + edge * np.eye(SKILLS, k=1)


def learn(losses, shares, steps):
    losses = np.array(losses, dtype=float)
    for _ in range(steps):
        learned = np.concatenate([[1.0], np.cumprod(1.0 - losses)[:-1]])
        losses = losses * (1.0 - RATE * np.asarray(shares) * learned)
    return losses


def run(policy, *, steps, seed, rounds=ROUNDS):
    """The mean final loss when `policy(observed losses of the rounds so far)` gives each round's shares."""
    generator = np.random.default_rng(seed)
    losses, observed = np.ones(SKILLS), []
    for _ in range(rounds):
        losses = learn(losses, policy(observed), steps)
        observed.append(losses + generator.normal(0.0, NOISE, SKILLS))
    return float(losses.mean())
