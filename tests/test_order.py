"""The training order: the same batches for everybody, exact shares, and every token found again."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.core.errors import FactoryError
from factory.kernels.interleave import interleave
from factory.storage.tokens import TokenFile, TokenWriter
from factory.training.loader import Permutation, TokenStream, permute
from factory.training.order import StreamOrder, open_order, summary
from factory.training.phases import phase_steps, plan_phases
from factory.training.scales import SCALES

SCALE = replace(SCALES["nano"], context=32, batch=8)
EOS = 0
PACKINGS = {
    "concatenate": {},
    "concatenate, masked": {"stage": "concatenate", "settings": {"document_mask": True}},
    "concatenate, stratified": {"stage": "concatenate", "settings": {"mix": "stratified"}},
    "best_fit": {"stage": "best_fit", "settings": {"document_mask": True}},
    "best_fit, stratified": {"stage": "best_fit", "settings": {"mix": "stratified"}},
    "decomposition": {"stage": "decomposition", "settings": {"shortest": 4}},
    "decomposition, packed tails": {"stage": "decomposition", "settings": {"shortest": 4, "tails": "pack"}},
    "in_context": {"stage": "in_context", "settings": {}},
}
METADATA = {"conditioning": {"column": "source", "share": 0.75, "template": "{value}"}}
every_packing = pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """600 documents of three domains; token i of document d is unique, so that a batch says where each came from."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, 100, 600)
    prefix = tmp_path_factory.mktemp("order") / "tokens"
    ids = np.arange(1, lengths.sum() + 1)
    with TokenWriter(prefix, "int32") as writer:
        writer.append(ids, lengths)
    repeats = random.integers(1, 4, 600)
    first = random.integers(0, repeats + 1)
    index = pa.table(
        {
            "doc_id": [f"document {number}" for number in range(600)],
            "domain": [("web", "code", "wiki")[number % 7 // 3] for number in range(600)],
            "repeats": pa.array(repeats, pa.uint32()),
            "place": random.permutation(600),
            "phases": pa.array(np.stack([first, repeats - first], axis=1).tolist(), pa.list_(pa.uint32())),
            "metadata": pa.array([[10**6 + number % 3, 10**6] if number % 5 else None for number in range(600)]),
        }
    )
    return prefix, index


def opened(corpus, spec, tokens=30_000, seed=5, scale=SCALE):
    return open_order(corpus[0], corpus[1], spec, scale=scale, seed=seed, total_tokens=tokens)


def whole(order, *, steps=None, world=1):
    """The bytes of all global batches, put together from those of the ranks."""
    found = []
    for step in steps or range(order.steps):
        parts = [order.batch(step, rank=rank, world=world) for rank in range(world)]
        rows = sum(len(part.ids) for part in parts)
        for name in ("ids", "targets"):
            arrays = [getattr(part, name) for part in parts]
            if arrays[0] is None:
                continue
            together = np.empty((rows, *arrays[0].shape[1:]), arrays[0].dtype)
            for rank, array in enumerate(arrays):
                together[rank::world] = array
            found.append(together.tobytes())
    return found


def test_one_phase_of_concatenated_documents_is_the_token_stream(corpus):
    prefix, index = corpus
    stream = TokenStream(TokenFile(prefix), index.column("repeats").to_numpy(), context=32, seed=5)
    order = opened(corpus, {})
    assert isinstance(order, StreamOrder)
    assert all(np.array_equal(order.batch(step).ids, stream.batch(step * 8, 8)) for step in range(order.steps))
    assert (order.steps, order.tokens) == (30_000 // 256, 30_000 // 256 * 256)


def test_a_table_of_concatenated_documents_reads_what_the_stream_reads(corpus):
    # A mask changes nothing but the masks.
    stream = opened(corpus, {})
    table = opened(corpus, {"packing": PACKINGS["concatenate, masked"]})
    assert all(np.array_equal(stream.batch(step).ids, table.batch(step).ids) for step in range(stream.steps))


@every_packing
@pytest.mark.parametrize("plan", [{}, METADATA, {**METADATA, "copies": 3}], ids=["plain", "metadata", "copies"])
def test_batches_do_not_depend_on_ranks(corpus, packing, plan):
    order = opened(corpus, {**plan, "packing": packing})
    once = whole(order)
    assert len(once) > 40
    for world in (2, 4):
        assert whole(order, world=world) == once
    again = opened(corpus, {**plan, "packing": packing})
    assert again.digest == order.digest
    # A run that goes on at any step reads what it would have read.
    assert whole(again, steps=range(17, 40)) == whole(order, steps=range(17, 40))


@every_packing
def test_another_seed_or_another_plan_is_another_order(corpus, packing):
    digests = [opened(corpus, {"packing": packing}, seed=seed).digest for seed in (1, 2)]
    digests.append(opened(corpus, {"packing": packing, **METADATA}, seed=1).digest)
    assert len(set(digests)) == 3


@every_packing
@pytest.mark.parametrize("plan", [{}, METADATA], ids=["plain", "metadata"])
def test_every_input_is_found_again_in_its_document(corpus, packing, plan):
    file = TokenFile(corpus[0])
    order = opened(corpus, {**plan, "packing": packing})
    shown = corpus[1].column("metadata").to_pylist()
    step_tokens = SCALE.step_tokens
    for step in range(0, order.steps, 7):
        read = order.batch(step)
        flat = read.ids[:, :-1].reshape(-1)
        found = set()
        for column in range(0, step_tokens, 5):
            place = order.locate(step * step_tokens + column)
            if place is None:
                assert flat[column] == 0
                continue
            found.add(place.document)
            tokens = file.document(place.document).tolist()
            if flat[column] >= 10**6 or place.token >= len(tokens) or tokens[place.token] != flat[column]:
                tokens = [*(shown[place.document] or []), *tokens]
            assert tokens[place.token] == flat[column]
        assert found <= set(order.documents_at(step).tolist())


@every_packing
def test_no_copy_of_a_document_is_read_twice(corpus, packing):
    order = opened(corpus, {"packing": packing}, tokens=60_000)
    inputs = Counter(token for step in range(order.steps) for token in order.batch(step).ids[:, :-1].ravel().tolist())
    inputs.pop(0, None)  # padding
    prefix, index = corpus
    file = TokenFile(prefix)
    most = np.repeat(index.column("repeats").to_numpy(), file.lengths)
    assert all(count <= most[token - 1] for token, count in inputs.items())
    documents, tokens = order.inputs(0, order.steps)
    assert int(tokens.sum()) == sum(inputs.values())
    assert set(documents.tolist()) == set(
        (np.searchsorted(file.starts, np.array(list(inputs)) - 1, side="right") - 1).tolist()
    )


@pytest.mark.parametrize("packing", [PACKINGS["concatenate, masked"], PACKINGS["best_fit"]])
def test_with_a_mask_no_prediction_crosses_from_one_document_to_the_next(corpus, packing):
    starts = set((TokenFile(corpus[0]).starts[:-1] + 1).tolist())
    order = opened(corpus, {"packing": packing})
    for step in range(order.steps):
        batch = order.batch(step)
        following = batch.ids[:, 1:]
        # All inputs have unique neighbours: what follows in a document is the next number.
        inside = (following == batch.ids[:, :-1] + 1) & ~np.isin(following, list(starts))
        assert np.array_equal(batch.targets, inside)
        if batch.documents is not None:
            same = np.diff(batch.documents, axis=1) == 0
            padded = batch.ids[:, 1:-1] == 0
            assert np.array_equal(same | padded, inside[:, :-1] | padded)


def test_metadata_is_read_and_never_predicted(corpus):
    order = opened(corpus, METADATA)
    switch = round(0.75 * order.steps)
    for step in range(order.steps):
        batch = order.batch(step)
        hidden = batch.ids[:, 1:] >= 10**6
        if step < switch:
            assert np.array_equal(~batch.targets, hidden)
        else:
            assert not hidden.any()
            assert batch.targets is None
    made = summary(order)["phases"]
    assert [part["phase"] for part in made] == ["main", "main_plain"]
    assert 0 < made[0]["metadata_tokens"] < 0.1 * made[0]["tokens"]


def test_with_masks_all_of_a_text_and_its_eos_is_predicted_behind_bos_and_metadata(tmp_path):
    # BOS, text, EOS in the file; the metadata comes between BOS and text.
    texts = [[1, 7, 8, 9, 2], [1, 5, 2], [1, 6, 6, 6, 6, 2]]
    with TokenWriter(tmp_path / "t", "uint16") as writer:
        writer.append(np.concatenate(texts), [len(text) for text in texts])
    index = pa.table({"repeats": [1, 1, 1], "metadata": [[40, 41], None, [42]]})
    packing = {"stage": "best_fit", "settings": {"document_mask": True}}
    spec = {"conditioning": {"share": 1.0}, "packing": packing, "bos": True}
    scale = replace(SCALE, context=18, batch=1)
    order = open_order(tmp_path / "t", index, spec, scale=scale, seed=0, total_tokens=18)
    batch = order.batch(0)
    assert batch.ids[0, :17].tolist() == [1, 42, 6, 6, 6, 6, 2, 1, 40, 41, 7, 8, 9, 2, 1, 5, 2]
    predicted = batch.ids[:, 1:][batch.targets].tolist()
    assert predicted == [6, 6, 6, 6, 2, 7, 8, 9, 2, 5, 2]
    assert len(predicted) == sum(len(text) - 2 for text in texts) + len(texts)
    assert batch.documents[0].tolist() == [0] * 7 + [1] * 7 + [2] * 4


def test_phases_lie_end_to_end_and_read_copies_of_their_own(corpus):
    prefix, index = corpus
    spec = {"phases": [{"label": "early", "share": 0.6}, {"label": "late", "share": 0.4}]}
    order = opened(corpus, spec)
    early = round(0.6 * order.steps)
    counts = np.stack(index.column("phases").to_pylist())
    file = TokenFile(prefix)
    for first, stop, own in ((0, early, counts[:, 0]), (early, order.steps, counts[:, 1])):
        documents, tokens = order.inputs(first, stop)
        read = np.bincount(documents, tokens, 600)
        assert (read <= own * file.lengths).all()
    late = {order.locate(offset) for offset in range(early * 256, order.tokens, 3)}
    before = {order.locate(offset) for offset in range(0, early * 256, 3)}
    assert not late & before


@pytest.mark.parametrize("packing", [PACKINGS["concatenate, stratified"], PACKINGS["best_fit, stratified"]])
def test_stratified_domains_are_never_a_sequence_from_their_shares(corpus, packing):
    scale = replace(SCALE, batch=1)
    order = opened(corpus, {"packing": packing}, tokens=50_000, scale=scale)
    names = np.array(corpus[1].column("domain").to_pylist())
    domains = [names[order.documents_at(step)] for step in range(order.steps)]
    assert all(len(set(found)) == 1 for found in domains)
    read = np.stack([[found[0] == name for name in ("code", "web", "wiki")] for found in domains])
    sizes = np.array(
        [
            np.isin(names[order.table.entries.documents[order.table.pieces.entries]], name).sum()
            for name in ("code", "web", "wiki")
        ]
    )
    assert (sizes > 0).all()
    tables = np.bincount(
        np.unique(
            names[order.table.entries.documents[order.table.pieces.entries[order.table.pieces.starts[:-1]]]],
            return_inverse=True,
        )[1]
    )
    shares = tables / tables.sum()
    counts = np.cumsum(read, axis=0)
    assert np.abs(counts - np.arange(1, len(read) + 1)[:, None] * shares).max() <= 1


def test_interleaving_is_within_one_turn_where_taking_the_largest_remainder_is_not():
    def largest_error(weights, chosen):
        counts = np.cumsum(np.eye(len(weights))[chosen], axis=0)
        return np.abs(counts - np.outer(np.arange(1, len(chosen) + 1), weights / weights.sum())).max()

    weights = np.array([47, 33, 15, 5])
    assert largest_error(weights, interleave(weights, 5000)) <= 1 - 1 / 6 + 1e-9
    random = np.random.default_rng(0)
    for _ in range(50):
        weights = np.ceil(random.dirichlet(np.full(random.integers(2, 40), 0.3)) * 1e6).astype(int)
        assert largest_error(weights, interleave(weights, 2000)) < 1
    assert np.bincount(interleave(np.array([3, 0, 1]), 400)).tolist() == [300, 0, 100]


@given(st.floats(0.01, 1), st.integers(0, 5000), st.integers(1, 6))
def test_the_steps_of_phases_are_all_steps_and_each_is_within_one_of_its_share(first, steps, count):
    shares = np.array([first, *np.linspace(0.1, 1, count)])
    found = phase_steps(shares.tolist(), steps)
    assert sum(found) == steps
    assert np.abs(np.array(found) - shares / shares.sum() * steps).max() <= 1


def test_conditioning_that_ends_inside_a_phase_cuts_it():
    phases = [{"label": "a", "share": 0.8}, {"label": "b", "share": 0.2}]
    planned = plan_phases({"phases": phases, "conditioning": {"share": 0.9}})
    assert [(phase.label, phase.conditioned, phase.of) for phase in planned] == [
        ("a", True, 0),
        ("b", True, 1),
        ("b_plain", False, 1),
    ]
    assert [phase.share for phase in planned] == pytest.approx([0.8, 0.1, 0.1])
    said = [{"label": "a", "share": 0.8, "conditioned": False}, {"label": "b", "share": 0.2, "conditioned": True}]
    assert [p.conditioned for p in plan_phases({"phases": said, "conditioning": {"share": 0.9}})] == [False, True]
    with pytest.raises(FactoryError, match="'b' is conditioned and nothing says on what"):
        plan_phases({"phases": said})


def test_too_few_tokens_are_refused_with_the_numbers(corpus):
    with pytest.raises(
        FactoryError, match=r"500,000 tokens asked|499,968 tokens asked, and the mixture gives \d\d,\d{3}"
    ):
        opened(corpus, {}, tokens=500_000)
    with pytest.raises(FactoryError, match=r"phase 'late'.* tokens asked, and the mixture gives"):
        opened(corpus, {"phases": [{"label": "early", "share": 0.05}, {"label": "late", "share": 0.95}]}, tokens=60_000)
    with pytest.raises(FactoryError, match=r"'end' is 0\.10% of 117 steps, less than one"):
        opened(corpus, {"phases": [{"label": "main", "share": 0.999}, {"label": "end", "share": 0.001}]})
    with pytest.raises(FactoryError, match="counts repeats for 2 phases, and the plan has 3"):
        opened(corpus, {"phases": [{"label": name, "share": 1 / 3} for name in "abc"]})


def test_padding_and_dropping_leave_fewer_steps_and_say_so(corpus):
    tokens = int((TokenFile(corpus[0]).lengths * corpus[1].column("repeats").to_numpy()).sum())
    order = opened(corpus, {"packing": PACKINGS["decomposition"]}, tokens=tokens)
    made = summary(order)
    assert 0 < made["left_out"] < 0.1 * tokens
    assert tokens - 2 * 4 * SCALE.step_tokens < order.tokens + made["left_out"] <= tokens


@pytest.mark.parametrize("count", [1, 2, 97, 4096, 100_003])
def test_the_order_of_sequences_is_a_bijection(count):
    positions = np.arange(count)
    places = permute(positions, count, 9)
    assert np.array_equal(np.sort(places), positions)
    shuffled = np.random.default_rng(0).permutation(count)[:5000]
    assert np.array_equal(Permutation(count, 9)(shuffled), places[shuffled])
