"""From keys to clusters: the same for any order and any cut."""

import time

import numpy as np
import pytest

from factory.kernels.clusters import connect, elect, find, forest, group, link, read_ids, sort_rows, write_ids


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
    assert len(found) == len(roots) == 0


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


def elected(roots, nodes, first, second):
    """The node that stands for each row's cluster, whatever the order of the rows."""
    keys, order = sort_rows(roots.astype(np.uint64), np.arange(len(roots)))
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    none = np.zeros(len(roots), np.uint64)
    winners = elect(starts, first[order], second[order], none, none, nodes[order])
    found = np.empty(len(roots), np.int64)
    found[order] = np.repeat(nodes[order][winners], np.diff(starts, append=len(roots)))
    return found


def test_the_elected_is_the_least_by_the_columns_in_turn_then_by_node():
    roots, nodes = np.array([1, 1, 1, 4, 4]), np.array([1, 2, 3, 4, 5])
    first, second = np.array([1, 0, 0, 7, 7]), np.array([0, 9, 8, 3, 3])
    assert elected(roots, nodes, first, second).tolist() == [3, 3, 3, 4, 4]
    assert elected(roots, nodes, first, 0 * first).tolist() == [2, 2, 2, 4, 4]


def test_the_election_does_not_depend_on_the_order_of_rows():
    source = np.random.default_rng(3)
    nodes, roots = np.arange(1000), source.integers(0, 50, 1000)
    columns = [source.integers(0, 3, 1000), source.integers(0, 3, 1000)]
    order = source.permutation(1000)
    shuffled = elected(roots[order], nodes[order], *(column[order] for column in columns))
    assert np.array_equal(shuffled, elected(roots, nodes, *columns)[order])


@pytest.mark.parametrize("bits", [0, 1, 8, 33, 64])
@pytest.mark.parametrize("count", [0, 1, 2, 31, 5_000])
def test_rows_are_sorted_by_all_bits_of_their_keys_and_equal_ones_stay_in_order(bits, count):
    keys = np.random.default_rng(bits).integers(0, 2**64, count, dtype=np.uint64)
    keys = keys >> np.uint64(64 - bits) if bits else np.zeros(count, np.uint64)
    found, order = sort_rows(keys, np.arange(count))
    assert np.array_equal(order, np.argsort(keys, kind="stable"))
    assert np.array_equal(found, keys[order])


def test_keys_that_share_their_leading_bits_are_sorted_in_no_quadratic_time():
    keys = np.arange(300_000, dtype=np.uint64)[::-1].copy()
    keys[0] = 2**64 - 1
    sort_rows(keys[:100], np.arange(100))
    start = time.process_time()
    found, _ = sort_rows(keys, np.arange(len(keys)))
    assert time.process_time() - start < 1
    assert np.array_equal(found, np.sort(keys))


def test_the_centre_of_a_group_is_the_least_by_snapshot_and_order_not_by_number():
    nodes = np.array([0, 1, (1 << 32) | 5, 2])
    keys, orders = np.array([9, 9, 9, 8], np.uint64), np.array([3, 2, 0, 7], np.uint64)
    _, order, starts, centres = group(keys, nodes, orders=orders, ranks=np.array([1, 0]))
    assert starts.tolist() == [0, 1]
    assert nodes[order[centres]].tolist() == [2, (1 << 32) | 5]
    _, order, _, centres = group(keys, nodes, orders=orders, ranks=np.array([0, 0]))
    assert nodes[order[centres]].tolist() == [2, (1 << 32) | 5]
    _, order, _, centres = group(keys, nodes, orders=orders, ranks=np.array([0, 1]))
    assert nodes[order[centres]].tolist() == [2, 1]


def test_what_is_wanted_is_found_whether_few_or_many():
    have = np.unique(np.random.default_rng(4).integers(0, 10_000, 3_000, dtype=np.uint64))
    for wanted in (np.arange(10_000, dtype=np.uint64), have[::500], have[:0]):
        places = find(have, wanted)
        assert np.array_equal(places >= 0, np.isin(wanted, have))
        assert np.array_equal(have[places[places >= 0]], wanted[places >= 0])


def test_ids_are_read_and_written_as_they_were():
    words = np.random.default_rng(5).integers(0, 2**64, (2, 50), dtype=np.uint64)
    text = write_ids(*words)
    high, low, good = read_ids(text, np.arange(0, 32 * 51, 32))
    assert good
    assert np.array_equal(np.stack([high, low]), words)
    assert text[:32].tobytes().decode() == f"{words[0][0]:016x}{words[1][0]:016x}"
    assert not read_ids(np.frombuffer(b"Z" * 32, np.uint8), np.array([0, 32]))[2]


def test_a_forest_connects_what_the_edges_do_with_one_edge_less_than_nodes():
    source = np.random.default_rng(6)
    left, right = source.integers(0, 300, (2, 1000))
    a, b = forest(left, right)
    nodes, roots = connect(left, right)
    again = connect(a, b)
    assert len(a) == len(nodes) - len(np.unique(roots))
    assert dict(zip(*(ends.tolist() for ends in again), strict=True)).items() <= set(
        zip(nodes.tolist(), roots.tolist(), strict=True)
    )
