"""Swarms of mixtures: deterministic, sparse and dense, within bounds, and the smaller one first."""

import numpy as np
import pytest

from factory.core.errors import FactoryError
from factory.mixing.shares import raised
from factory.mixing.swarm import Swarm, draw_swarm
from tests.worlds.w1_markov_domains import NATURAL


def test_mixtures_sum_to_one_in_multiples_of_the_smallest_share():
    swarm = draw_swarm(NATURAL, 300, seed=3)
    assert np.allclose(swarm.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(swarm / 2e-4, np.rint(swarm / 2e-4), atol=1e-6)
    assert swarm.min() == 0


def test_a_larger_swarm_begins_with_the_smaller_one():
    assert (draw_swarm(NATURAL, 500, seed=1)[:70] == draw_swarm(NATURAL, 70, seed=1)).all()
    assert (draw_swarm(NATURAL, 70, seed=2) != draw_swarm(NATURAL, 70, seed=1)).any()


def test_no_share_exceeds_its_bound_and_no_two_mixtures_are_near():
    caps = np.array([0.9, 0.5, 0.4, 0.5, 0.4, 0.4])
    swarm = draw_swarm(NATURAL, 100, seed=0, spec=Swarm(distinct=0.05), caps=caps)
    assert (swarm <= caps + 2e-4).all()
    distances = np.abs(swarm[:, None] - swarm[None]).sum(axis=2)[np.triu_indices(100, 1)]
    assert distances.min() >= 0.05


def test_no_share_exceeds_so_many_times_its_prior():
    swarm = draw_swarm(NATURAL, 200, seed=0, spec=Swarm(most=2))
    assert (swarm <= 2 * np.array(raised(NATURAL, 0.5)) + 2e-4).all()


def test_weak_strengths_are_sparse_and_strong_ones_near_the_prior():
    sparse = draw_swarm(NATURAL, 200, seed=0, spec=Swarm(weakest=0.1, strongest=0.1, distinct=1e-9, most=100))
    dense = draw_swarm(NATURAL, 200, seed=0, spec=Swarm(weakest=200, strongest=200))
    assert (sparse > 0).sum(axis=1).mean() < 2.5
    assert (dense > 0).all()
    assert np.abs(dense.mean(axis=0) - np.array(raised(NATURAL, 0.5))).max() < 0.01


def test_sources_are_dense_and_their_topics_sparse():
    names = ["books/a", "books/b", "books/c", "code", "web/a", "web/b", "web/c", "web/d"]
    swarm = draw_swarm(np.full(8, 1 / 8), 60, seed=0, names=names, spec=Swarm(minimum=2e-3))
    sources = np.stack([swarm[:, :3].sum(axis=1), swarm[:, 3], swarm[:, 4:].sum(axis=1)], axis=1)
    assert sources.min() > 0
    assert (swarm == 0).mean() > 0.2


def test_a_domain_without_tokens_has_no_share():
    assert draw_swarm(np.array([0.5, 0.0, 0.5]), 50, seed=0)[:, 1].max() == 0


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(FactoryError, match=r"20 mixtures asked, \d+ found among .* Ask for fewer"):
        draw_swarm(NATURAL, 20, seed=0, caps=np.full(6, 0.17))
