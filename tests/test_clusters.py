"""From keys to clusters: the same for any order and any cut."""

import time

import numpy as np
import pytest

from factory.kernels.clusters import cluster_sizes, connect, elect, link


def random_keys(documents=3000, keys=4000, seed=5):
    source = np.random.default_rng(seed)
    nodes = np.repeat(np.arange(documents), 3)
    return source.integers(0, keys, len(nodes)).astype(np.uint64), nodes


def clusters(keys, nodes):
    found, roots = connect(*link(keys, nodes))
    return dict(zip(found.tolist(), roots.tolist(), strict=True))


def reference_clusters(keys, nodes):
    """By spreading the smallest node over shared keys until nothing changes."""
    smallest = {node: node for node in nodes.tolist()}
    pairs = list(zip(keys.tolist(), nodes.tolist(), strict=True))
    changed = True
    while changed:
        of_key: dict[int, int] = {}
        for key, node in pairs:
            of_key[key] = min(of_key.get(key, node), smallest[node])
        changed = False
        for key, node in pairs:
            if of_key[key] < smallest[node]:
                smallest[node], changed = of_key[key], True
    sizes = np.unique(list(smallest.values()), return_counts=True)
    alone = {root for root, size in zip(*sizes, strict=True) if size == 1}
    return {node: root for node, root in smallest.items() if root not in alone}


def test_clusters_are_what_shared_keys_connect():
    keys, nodes = random_keys()
    assert clusters(keys, nodes) == reference_clusters(keys, nodes)


def test_the_order_of_rows_does_not_matter():
    keys, nodes = random_keys()
    order = np.random.default_rng(1).permutation(len(nodes))
    assert clusters(keys[order], nodes[order]) == clusters(keys, nodes)


@pytest.mark.parametrize("pieces", [1, 2, 7, 16])
def test_links_found_in_pieces_by_key_give_the_same_clusters(pieces):
    keys, nodes = random_keys()
    edges = [link(keys[keys % pieces == piece], nodes[keys % pieces == piece]) for piece in range(pieces)]
    left, right = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    found, roots = connect(left, right)
    assert dict(zip(found.tolist(), roots.tolist(), strict=True)) == clusters(keys, nodes)


def test_links_are_transitive():
    keys, nodes = np.array([1, 1, 2, 2], np.uint64), np.array([30, 20, 20, 10])
    found, roots = connect(*link(keys, nodes))
    assert found.tolist() == [10, 20, 30]
    assert roots.tolist() == [10, 10, 10]


def test_a_shared_key_with_another_check_links_nothing():
    keys, checks = np.array([7, 7, 7], np.uint64), np.array([1, 2, 1], np.uint64)
    left, right = link(keys, np.array([4, 5, 6]), checks)
    assert (left.tolist(), right.tolist()) == ([4], [6])


def test_a_document_with_one_key_twice_is_not_linked_to_itself():
    left, right = link(np.array([7, 7, 7], np.uint64), np.array([4, 4, 9]))
    assert (left.tolist(), right.tolist()) == ([4], [9])


def test_no_rows_give_no_clusters():
    nothing = np.array([], np.int64)
    found, roots = connect(*link(nothing.astype(np.uint64), nothing))
    assert len(found) == len(roots) == len(elect(roots, found)) == len(cluster_sizes(roots)) == 0


def test_a_hundred_thousand_copies_are_one_cluster_in_less_than_a_second():
    nodes = np.random.default_rng(2).permutation(100_000)
    connect(*link(np.zeros(2, np.uint64), np.arange(2)))  # compiled
    start = time.process_time()
    left, right = link(np.zeros(len(nodes), np.uint64), nodes)
    _, roots = connect(left, right)
    assert time.process_time() - start < 1
    assert len(left) == len(nodes) - 1
    assert not roots.any()


def test_a_long_chain_in_the_worst_order_is_one_cluster():
    nodes = np.arange(200_000)[::-1]
    _, roots = connect(nodes[:-1], nodes[1:])
    assert not roots.any()


def test_the_elected_is_the_least_by_the_priorities_in_turn_then_by_node():
    roots, nodes = np.array([1, 1, 1, 4, 4]), np.array([1, 2, 3, 4, 5])
    first, second = np.array([1, 0, 0, 7, 7]), np.array([0, 9, 8, 3, 3])
    assert elect(roots, nodes, [first, second]).tolist() == [3, 3, 3, 4, 4]
    assert elect(roots, nodes, [first]).tolist() == [2, 2, 2, 4, 4]


def test_the_election_does_not_depend_on_the_order_of_rows():
    source = np.random.default_rng(3)
    nodes, roots = np.arange(1000), source.integers(0, 50, 1000)
    priorities = [source.integers(0, 3, 1000), source.integers(0, 3, 1000)]
    order = source.permutation(1000)
    shuffled = elect(roots[order], nodes[order], [priority[order] for priority in priorities])
    assert np.array_equal(shuffled, elect(roots, nodes, priorities)[order])


def test_sizes_add_up_to_the_rows():
    roots = np.array([3, 1, 3, 3, 8])
    assert cluster_sizes(roots).tolist() == [3, 1, 3, 3, 1]
    assert sum(1 / size for size in cluster_sizes(roots)) == pytest.approx(3)
