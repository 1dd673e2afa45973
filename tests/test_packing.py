"""Packing: what is cut, what is dropped, what stands beside what, and that a model sees nothing of its neighbours."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds.w5_planted_clusters import as_texts, planted

from factory.core.errors import FactoryError
from factory.core.packing import cut
from factory.core.registry import find_stage
from factory.kernels.bins import best_fit
from factory.kernels.neighbours import nearest_neighbours, walk
from factory.kernels.vectors import unit_vectors
from factory.stages.packers.decomposition import curriculum, decompose
from factory.storage.tokens import TokenWriter
from factory.training.loader import permute
from factory.training.order import open_order
from factory.training.scales import SCALES

WEB = np.exp(np.random.default_rng(0).normal(6, 1.1, 20_000)).astype(np.int64) + 1
CONTEXT = 2048


def packer(name, **settings):
    stage = find_stage("packer", name)
    return stage.make(stage.config(**settings))


def inputs(pieces):
    """(entry, first, last + 1) of the tokens of every sequence that are inputs."""
    rows = []
    for number, size in enumerate(pieces.sizes):
        at = 0
        for piece in range(pieces.starts[number], pieces.starts[number + 1]):
            length = min(int(pieces.lengths[piece]), int(size) - at)
            begin = int(pieces.begins[piece])
            rows.append((int(pieces.entries[piece]), begin, begin + length))
            at += length
        assert at <= size
    return rows


def cut_share(pieces):
    return float((np.bincount(pieces.entries, minlength=len(WEB)) > 1).mean())


def test_best_fit_cuts_only_what_is_longer_than_a_sequence_and_fills_as_well():
    joined, fitted = cut(WEB, CONTEXT), packer("best_fit").pack(WEB, CONTEXT, 0)
    longer = float((WEB > CONTEXT).mean())
    assert cut_share(joined) == pytest.approx(0.299, abs=0.01)
    assert cut_share(fitted) <= longer + 1e-9
    assert cut_share(fitted) == pytest.approx(0.068, abs=0.005)
    assert len(fitted) <= len(joined) + 2
    assert WEB.sum() / (len(fitted) * CONTEXT) >= 0.999


def test_each_token_is_in_one_sequence_and_each_prediction_inside_a_document_is_made():
    lengths = WEB[:500]
    pieces = packer("best_fit").pack(lengths, CONTEXT, 0)
    seen = np.zeros(lengths.sum(), dtype=int)
    starts = np.cumsum(lengths) - lengths
    for entry, first, stop in inputs(pieces):
        seen[starts[entry] + first : starts[entry] + stop] += 1
    assert (seen == 1).all()
    # The pieces of a document overlap by the one token that is a target of one and an input of the next.
    targets = np.bincount(pieces.entries, pieces.lengths - 1, minlength=500)
    assert np.array_equal(targets, lengths - 1)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(40, 80))
def test_every_item_goes_where_it_fits_best(lengths, size):
    items = np.array(lengths, dtype=np.int64)
    rooms: list[int] = []
    for item, found in zip(lengths, best_fit(items, size).tolist(), strict=True):
        fitting = [room for room in rooms if room >= item]
        if found == len(rooms):
            assert not fitting
            rooms.append(size)
        assert rooms[found] == min(fitting, default=size)
        rooms[found] -= item


def test_documents_are_decomposed_into_their_binary_digits():
    pieces, used = decompose(np.array([3000, 20_000]), 256, 8192)
    assert pieces.sizes.tolist() == [2048, 512, 256, 8192, 8192, 2048, 1024, 512]
    assert (np.array([3000, 20_000]) - used).tolist() == [184, 32]
    # Each piece has the token behind it as its last target.
    assert pieces.lengths.tolist() == [2049, 513, 257, 8193, 8193, 2049, 1025, 513]


def test_nothing_is_lost_in_decomposition_but_the_tails():
    pieces, used = decompose(WEB, 256, 8192)
    assert pieces.sizes.sum() + (WEB - used).sum() == WEB.sum()
    assert (WEB - used).sum() / WEB.sum() == pytest.approx(0.17, abs=0.01)
    packed = packer("decomposition", tails="pack", shortest=256).pack(WEB, 8192, 0)
    kept = np.bincount(packed.entries, np.minimum(packed.lengths, 8192), minlength=len(WEB))
    assert (kept >= WEB - 1).all()
    assert WEB.sum() / packed.sizes.sum() > 0.999


def test_steps_have_the_same_tokens_and_short_sequences_come_more_often_first():
    pieces, _ = decompose(WEB, 256, 8192)
    read = curriculum(pieces.sizes, 1 << 16, 10_000, odds=2.0, cycles=8, seed=1)
    sizes = [pieces.sizes[read.sequences[a:b]] for a, b in zip(read.starts[:-1], read.starts[1:], strict=True)]
    assert {int(step.sum()) for step in sizes} == {1 << 16}
    assert {len(set(step.tolist())) for step in sizes} == {1}
    assert len(np.unique(read.sequences)) == len(read.sequences)
    order = np.array([step[0] for step in sizes])
    cycles = np.array_split(order, 8)
    assert all(set(cycle.tolist()) >= {256, 512, 1024, 2048} for cycle in cycles)
    # Within a cycle the short ones are drawn before the long ones.
    firsts = [np.median(cycle[: len(cycle) // 3]) for cycle in cycles]
    lasts = [np.median(cycle[-len(cycle) // 3 :]) for cycle in cycles]
    assert np.mean(firsts) < np.mean(lasts)
    # A shorter run has the same lengths in the same shares.
    half = curriculum(pieces.sizes, 1 << 16, len(read) // 2, odds=2.0, cycles=8, seed=1)
    own = pieces.sizes[half.sequences[half.starts[:-1]]]
    for size in np.unique(order):
        assert abs((own == size).sum() - (order == size).sum() / 2) <= 1


def test_the_walk_keeps_related_documents_together():
    points, labels = planted()
    shuffled = np.random.default_rng(0).permutation(len(points))
    points, labels = points[shuffled], labels[shuffled]
    found, cosines = nearest_neighbours(unit_vectors(points), 10, most=1.0, probes=8, seed=0)
    path = walk(found, cosines)
    assert np.array_equal(np.sort(path), np.arange(2000))
    together = float((labels[path][1:] == labels[path][:-1]).mean())
    by_chance = float((labels[1:] == labels[:-1]).mean())
    near = float((points[path][1:] * points[path][:-1]).sum(axis=1).mean())
    assert together >= 0.8
    assert together >= 10 * by_chance
    assert near >= 0.7
    linked = {(row, int(other)) for row in range(2000) for other in found[row]}
    jumps = sum((a, b) not in linked and (b, a) not in linked for a, b in itertools.pairwise(path))
    assert jumps <= 250
    # Sequences of ten documents are shuffled: what stands beside what in a batch says nothing of the topic.
    contexts = labels[path].reshape(-1, 10)[:, 0].astype(float)
    orders = [contexts[permute(np.arange(200), 200, key)] for key in range(100)]
    correlations = [float(np.corrcoef(order[1:], order[:-1])[0, 1]) for order in orders]
    assert abs(np.mean(correlations)) < 0.05


def test_neighbours_found_through_clusters_are_nearly_those_of_an_exact_search(monkeypatch):
    points, _ = planted()
    units = unit_vectors(points)
    exact, _ = nearest_neighbours(units, 10, most=1.0, probes=8, seed=0)
    monkeypatch.setattr("factory.kernels.neighbours.EXACT", 100)
    monkeypatch.setattr("factory.kernels.neighbours.PER_CLUSTER", 100)
    probed, _ = nearest_neighbours(units, 10, most=1.0, probes=4, seed=0)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), probed.tolist(), strict=True)]
    assert np.mean(shared) >= 9


def test_texts_are_put_in_order_by_their_words_and_near_duplicates_do_not_follow_each_other():
    points, labels = planted()
    some = np.random.default_rng(1).permutation(2000)[:400]
    texts = as_texts(points[some])
    texts += texts[:40]  # each of these twice
    arrange = packer("in_context").arrange
    place = arrange(lambda: [pa.array(texts[:100], pa.large_string()), pa.array(texts[100:], pa.large_string())], 0)
    order = np.argsort(place)
    of = np.concatenate([some, some[:40]])[order]
    assert float((labels[of][1:] == labels[of][:-1]).mean()) >= 0.5
    assert not (of[1:] == of[:-1]).any()


@pytest.fixture(scope="module")
def short_documents(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("packing") / "tokens"
    lengths = np.random.default_rng(0).integers(3, 40, 80)
    with TokenWriter(prefix, "uint16") as writer:
        writer.append(np.random.default_rng(1).integers(1, 300, lengths.sum()), lengths)
    return prefix, pa.table({"repeats": np.ones(80, np.uint32)})


def test_a_model_gives_a_packed_document_the_logits_it_gives_it_alone(short_documents):
    torch = pytest.importorskip("torch")
    from factory.storage.tokens import TokenFile
    from factory.training.loop import reproducible
    from factory.training.model import build_model, model_config

    scale = replace(SCALES["nano"], context=64, batch=4)
    spec = {"packing": {"stage": "best_fit", "settings": {"document_mask": True}}}
    order = open_order(*short_documents, spec, scale=scale, seed=0, total_tokens=1024)
    file = TokenFile(short_documents[0])
    checked, worst = 0, 0.0
    with reproducible("cpu", threads=1, seed=0), torch.inference_mode():
        model = build_model(model_config(scale, vocabulary=300, bos_id=None, eos_id=None), seed=0).eval()
        for step in range(2):
            batch = order.batch(step)
            logits = model(
                torch.from_numpy(batch.ids[:, :-1].copy()), documents=torch.from_numpy(batch.documents).long()
            )
            for row in range(4):
                for number in np.unique(batch.documents[row]):
                    columns = np.flatnonzero(batch.documents[row] == number)
                    place = order.locate(step * 256 + row * 64 + int(columns[0]))
                    text = torch.from_numpy(file.document(place.document).astype(np.int64))
                    alone = model(text[None])[0]
                    worst = max(worst, float((logits[row, columns[: len(text)]] - alone).abs().max()))
                    checked += 1
    assert checked >= 16
    assert worst <= 1e-5


def test_settings_that_make_no_sense_are_refused(short_documents):
    with pytest.raises(ValueError, match="a power of two is meant"):
        packer("decomposition", shortest=100)
    with pytest.raises(FactoryError, match=r"makes powers of two, and the scale's context is 96\."):
        packer("decomposition").pack(WEB, 96, 0)
    with pytest.raises(FactoryError, match=r"256 is above the scale's context of 128"):
        packer("decomposition", shortest=256).pack(WEB, 128, 0)
    index = short_documents[1].append_column("domain", pa.array(["one"] * 80))
    spec = {"packing": {"stage": "concatenate", "settings": {"mix": "stratified"}}}
    with pytest.raises(FactoryError, match="less than a sequence of 2,048"):
        open_order(short_documents[0], index, spec, scale=replace(SCALES["nano"], context=2048), seed=0, total_tokens=9)
