"""Runs of tokens that occur twice: the windows that are marked are those a suffix array and a search by hand find."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from span_project import corpus, keys_of, removed_texts, run, sentence, text_left, write_snapshot
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from factory.core.errors import InputError
from factory.core.registry import find_stage
from factory.core.schema import SPANS
from factory.kernels.edits import apply_edits
from factory.kernels.substrings import window_keys

LENGTH = 50


def tokens_of(texts, **settings):
    """The tokens of each text, as bytes: slices that follow each other from its beginning."""
    found = []
    for text, row in zip(texts, keys_of("exact_substring", *texts, **settings), strict=True):
        cuts = np.concatenate([[0], np.cumsum(row["lengths"], dtype=np.int64)]).tolist()
        data = text.encode()
        found.append([data[start:end] for start, end in pairwise(cuts)])
    return found


def repeated_by_keys(texts, length=LENGTH):
    """(text, token) where a window begins that occurs again anywhere."""
    rows = keys_of("exact_substring", *texts, length=length)
    counts = Counter(key for row in rows for key in row["keys"])
    return {(text, at) for text, row in enumerate(rows) for at, key in enumerate(row["keys"]) if counts[key] > 1}


def repeated_by_hand(texts, length=LENGTH):
    tokens = tokens_of(texts, length=length)
    windows = [
        (text, at, b"\0".join(row[at : at + length]))
        for text, row in enumerate(tokens)
        for at in range(len(row) - length + 1)
    ]
    counts = Counter(window for *_, window in windows)
    return {(text, at) for text, at, window in windows if counts[window] > 1}


def repeated_by_suffix_array(texts, length=LENGTH):
    """As arXiv:2107.06499: a suffix array over token ids of four bytes, a separator of its own behind each text."""
    pydivsufsort = pytest.importorskip("pydivsufsort")
    ids: dict[bytes, int] = {}
    numbers, places = [], []
    for text, row in enumerate(tokens_of(texts, length=length)):
        numbers += [ids.setdefault(token, len(ids)) for token in row]
        places += [(text, at) for at in range(len(row))]
        numbers.append(ids.setdefault(b"separator \0 %d" % text, len(ids)))
        places.append((text, len(row)))
    array = np.array(numbers, np.uint32)
    suffixes = pydivsufsort.divsufsort(array)
    common = pydivsufsort.kasai(array, suffixes)  # of each suffix with the next one
    marked = set()
    for rank in np.flatnonzero(common >= length).tolist():
        marked |= {places[suffixes[rank]], places[suffixes[rank + 1]]}
    return marked


def test_marked_positions_are_those_of_a_suffix_array_and_of_a_search_by_hand(shared_data):
    texts = [text for text in corpus(shared_data, "legal", "techdocs") if len(text) < 40_000]
    total, chosen = 0, []
    for text in texts:
        chosen.append(text)
        total += len(text.encode())
        if total > 1_200_000:
            break
    assert total > 1_000_000
    marked = repeated_by_keys(chosen)
    assert len(marked) > 1000
    assert marked == repeated_by_hand(chosen) == repeated_by_suffix_array(chosen)


@given(st.lists(st.text(alphabet=st.sampled_from("ab \n.é"), max_size=40), max_size=6), st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_short_windows_of_few_letters_are_found_too(texts, length):
    assert repeated_by_keys(texts, length) == repeated_by_hand(texts, length)


@given(st.lists(st.lists(st.integers(0, 3), max_size=30), max_size=5), st.integers(1, 7))
@settings(deadline=None)
def test_windows_of_equal_tokens_have_one_key_and_others_another(rows, length):
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    tokens = np.array([token for row in rows for token in row], np.uint64)
    keys, firsts = window_keys(tokens, starts, length)
    windows = [tuple(row[at : at + length]) for row in rows for at in range(len(row) - length + 1)]
    assert len(keys) == len(windows) == firsts[-1]
    assert len(set(keys.tolist())) == len(set(windows)) == len(set(zip(keys.tolist(), windows, strict=True)))


@pytest.mark.parametrize(("keep", "left"), [("none", [0, 0]), ("first", [1, 0])])
def test_a_shared_passage_goes_from_all_documents_or_from_all_but_the_first(tmp_path, keep, left):
    passage = " ".join(sentence(("p", i), 20) for i in range(4))
    write_snapshot(tmp_path, "a", [f"{sentence(i)} {passage} {sentence((i, 'end'))}" for i in range(2)])
    links, _ = run(tmp_path, use="exact_substring", keep=keep)
    assert [text_left(row).count(passage) for row in links["a"]] == left
    assert all(piece == f". {passage}" for row in links["a"] for piece in removed_texts(row))


def test_a_passage_that_one_document_repeats_goes_as_well(tmp_path):
    passage = " ".join(sentence(("p", i), 20) for i in range(4))
    write_snapshot(tmp_path, "a", [f"{sentence(1)}\n{passage}\n{sentence(2)}\n{passage}\n{sentence(3)}", sentence(4)])
    links, notes = run(tmp_path, use="exact_substring")
    assert sum(len(row["removed"]) for row in links["a"]) == 2
    assert notes["a"]["documents"] == 1


def test_after_one_pass_next_to_nothing_is_left_and_after_two_less(shared_data, tmp_path):
    texts = [text for text in corpus(shared_data, "legal", "government") if len(text) < 60_000][:500]
    before = len(repeated_by_keys(texts))
    left = [before]
    for turn in range(2):
        write_snapshot(tmp_path / str(turn), "a", texts)
        links, _ = run(tmp_path / str(turn), use="exact_substring")
        rewrite = find_stage("rewriter", "remove_spans")
        made = rewrite.make(rewrite.config(column="removed", join="\n\n"))
        schema = pa.schema({"text": pa.large_string(), "removed": SPANS})
        batch = pa.RecordBatch.from_pylist([{name: row[name] for name in schema.names} for row in links["a"]], schema)
        texts = [text for text in apply_edits(batch.column("text"), [made(batch).column("edits")]).to_pylist() if text]
        left.append(len(repeated_by_keys(texts)))
    assert before > 5000
    assert left[1] < 0.001 * before
    assert left[2] <= left[1]


@pytest.fixture(scope="module")
def bpe():
    """A byte-level BPE whose tokens cut characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the cat and the hat, the end of the end"], trainer)
    return {"tokenizer.json": {"tokenizer.json": tokenizer.to_str().encode()}}


@given(texts=st.lists(st.text(alphabet=st.sampled_from("the cat é中😀\n"), max_size=30), max_size=4))
@settings(deadline=None, max_examples=60)
def test_tokens_of_a_tokenizer_never_cut_a_character(bpe, texts):
    for text, row in zip(texts, keys_of("exact_substring", *texts, files=bpe, tokens="tokenizer.json"), strict=True):
        cuts = np.concatenate([[0], np.cumsum(row["lengths"], dtype=np.int64)]).tolist()
        pieces = [text.encode()[start:end].decode() for start, end in pairwise(cuts)]
        assert "".join(pieces) == text
        assert all(pieces)


def test_ids_of_a_tokenizer_are_compared_and_not_the_letters_around(bpe):
    settings = {"files": bpe, "tokens": "tokenizer.json", "length": 3}
    texts = ("the 😀 end", "cat 😀 end", "the 😁 end")
    first, second, other = (set(row["keys"]) for row in keys_of("exact_substring", *texts, **settings))
    assert first & second > first & other


def test_a_file_that_is_no_tokenizer_is_named():
    with pytest.raises(InputError, match=r"'t.json' is no tokenizer\.json"):
        keys_of("exact_substring", "a", files={"t.json": {"t.json": b"{}"}}, tokens="t.json")
