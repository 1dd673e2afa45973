"""Searches of the world of Markov chains: a proxy is a bigram table, and its noise follows from the trial's name and seed."""

import numpy as np

from factory.core.registry import find_stage
from factory.core.search import Domain, Problem, Trial
from factory.core.seeds import seed_for
from tests.worlds import w1_markov_domains as markov

NAMES = ("a", "b", "c", "d", "e", "f")
# Settings that are small and still find the way: what is drawn to be predicted, and how often a fit is repeated.
SMALL = {
    "regmix": {"trials": 24, "candidates": 2_000, "top": 20, "bootstrap": 2, "confirm_seeds": 2, "confirm_top": 2},
    "olmix": {"trials": 24, "bootstrap": 2, "confirm_seeds": 2, "confirm_top": 2},
    "mixing_law": {"trials": 24, "bootstrap": 2, "confirm_seeds": 2, "confirm_top": 2},
    "climb": {"rounds": [16, 8, 4], "candidates": 2_000, "bootstrap": 2, "confirm_seeds": 2, "confirm_top": 2},
    "leave_one_out": {"seeds": 2, "add_share": 0.05},
    "fixed": {"seeds": 4, "mixtures": {"even": dict.fromkeys("abcd", 0.25), "target": {"a": 0.2, "c": 0.5, "e": 0.3}}},
}


def problem(seed=0, tokens=1_000_000, max_epochs=100.0, names=NAMES):
    domains = tuple(Domain(name, round(1e6 * share), 1000) for name, share in zip(names, markov.NATURAL, strict=True))
    return Problem(domains, tokens, dict.fromkeys(names, max_epochs), 20_000, ("loss",), seed)


def searcher(name, **settings):
    stage = find_stage("searcher", name)
    return stage.make(stage.config(**settings))


def measure(world, proposal, transitions=20_000, seed=0):
    generator = np.random.default_rng([seed_for(seed, proposal.name), proposal.seed])
    loss = world.train(list(proposal.weights.values()), proposal.tokens or transitions, generator)
    return Trial(proposal, {"loss": loss})


def search(world, found, asked, **how):
    """All trials a searcher asks for, as an engine trains them."""
    trials = []
    while waiting := found.ask(asked, trials):
        trials += [measure(world, proposal, **how) for proposal in waiting]
    return trials


def true_loss(world, weights):
    return world.true_loss(list(weights.values()))
