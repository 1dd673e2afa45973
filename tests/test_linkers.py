"""Keys that duplicates share: exact ones always, near ones with the chance theory gives."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.kernels.hashing import hash_contents
from factory.kernels.minhash import band_keys, folded_characters, hash_family, minima
from factory.kernels.text import view_text
from factory.stages.linkers.exact import Settings as Exact
from factory.stages.linkers.exact import exact, normal_url
from factory.stages.linkers.minhash import Settings as MinHash
from factory.stages.linkers.minhash import minhash


def texts(*values):
    return pa.record_batch([pa.array(values, pa.large_string())], names=["text"])


def exact_keys(*values):
    batch = exact(Exact())(texts(*values))
    return list(zip(batch["keys"].to_pylist(), batch["check"].to_pylist(), strict=True))


def near_keys(*values, **config):
    return minhash(MinHash(**config))(texts(*values))["keys"].to_pylist()


def planted_pairs(jaccard, pairs, seed=0, words=300):
    """Pairs of texts whose sets of words overlap that much."""
    shared = round(2 * words * jaccard / (1 + jaccard))
    letters = np.random.default_rng(seed).choice(list("abcdefghijklmnopqrstuvwxyz"), (pairs, 2 * words - shared, 9))
    rows = [["".join(word) for word in pair] for pair in letters]
    left, right = (
        [" ".join(words_of(row)) for row in rows] for words_of in (lambda r: r[:words], lambda r: r[-words:])
    )
    return left, right, shared / (2 * words - shared)


def smallest(values, hashes=112):
    return minima(*view_text(pa.array(values, pa.large_string())), folded_characters(), 1, *hash_family(hashes, 1))[0]


# 1 - (1 - J**r)**b; at .75 with 14 x 8 that is .7716
@pytest.mark.parametrize("jaccard", [0.5, 0.7, 0.75, 0.8, 0.9])
def test_pairs_become_candidates_as_often_as_the_curve_says(jaccard):
    left, right, actual = planted_pairs(jaccard, 1000)
    keys = [band_keys(smallest(side), 14, 8, np.uint64(1)) for side in (left, right)]
    found = (keys[0] == keys[1]).any(axis=1).mean()
    assert found == pytest.approx(1 - (1 - actual**8) ** 14, abs=0.04)


@pytest.mark.parametrize("jaccard", [0.5, 0.75, 0.9])
def test_equal_minima_estimate_the_similarity_as_well_as_independent_hashes(jaccard):
    left, right, actual = planted_pairs(jaccard, 1000, seed=1)
    estimates = (smallest(left) == smallest(right)).mean(axis=1)
    error = np.sqrt(((estimates - actual) ** 2).mean())
    assert error == pytest.approx(np.sqrt(actual * (1 - actual) / 112), rel=0.1)
    assert estimates.mean() == pytest.approx(actual, abs=0.005)


def test_near_copies_are_found_and_strangers_are_not():
    source = np.random.default_rng(4)
    vocabulary = ["".join(word) for word in source.choice(list("abcdefghijklmnop"), (5000, 6))]
    originals = [list(source.choice(vocabulary, 400)) for _ in range(200)]
    edited = [[*words[:200], "changed", *words[201:]] for words in originals]
    keys = near_keys(*(" ".join(words) for words in [*originals, *edited]))
    linked = [(i, j) for i in range(400) for j in range(i) if set(keys[i]) & set(keys[j])]
    assert linked == [(i + 200, i) for i in range(200)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The CAFÉ, at 12:30 — open!", "the cafe at 7 30 open"),
        ("Café", "Cafe\u0301"),
        ("costs 1,234.5 euros", "costs 7 euros"),
        ("costs ١٢٣ euros", "costs 7 euros"),
        ("co\u00adoperate", "cooperate"),
        ("ΑΘΉΝΑ Ёлка", "αθηνα елка"),
    ],
)
def test_texts_equal_in_the_normal_form_have_equal_keys(one, other):
    first, second = near_keys(one, other)
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [("कि", "की"), ("ไก่", "ไก้"), ("שָׁלוֹם", "שלום"), ("a b", "ab"), ("is it", "it is"), ("a1", "a"), ("が", "か")],
)
def test_texts_that_differ_in_the_normal_form_have_other_keys(one, other):
    first, second = near_keys(one, other)
    assert not set(first) & set(second)


def test_a_text_in_a_script_without_spaces_has_many_shingles():
    text = "计算机科学是系统性研究信息与计算的理论基础以及它们在计算机系统中如何实现与应用的实用技术的学科" * 3
    first, second = near_keys(text, text.replace("应用", "运用"), ngram=3)
    assert set(first) & set(second)


def test_texts_without_words_are_not_each_others_duplicates():
    assert near_keys("", "  \n", "?! --", None, "word") == [[], [], [], None, near_keys("word")[0]]
    assert exact_keys("", " \n\t\n", None) == [([], None), ([], None), (None, None)]


def test_a_short_text_is_one_shingle():
    one, other, longer = near_keys("only three words", "Only, three words!", "only three words more")
    assert one == other
    assert not set(one) & set(longer)


def test_keys_of_another_seed_are_others():
    assert not set(near_keys("the same text here", seed=1)[0]) & set(near_keys("the same text here", seed=2)[0])


def test_a_text_longer_than_a_block_counts_to_its_end():
    text = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(5000))
    # Hash 0 of the whole is the least over overlapping halves, whichever block a shingle fell into.
    words = text.split()
    whole, front, back = smallest([text, " ".join(words[:3000]), " ".join(words[2000:])])
    assert np.array_equal(whole, np.minimum(front, back))


@given(st.lists(st.one_of(st.none(), st.text()), max_size=12), st.data())
@settings(deadline=None, max_examples=60)
def test_keys_do_not_depend_on_how_a_batch_lies_in_memory(values, data):
    at = data.draw(st.integers(0, len(values)))
    for stage in (exact(Exact()), minhash(MinHash(bands=2, rows=2))):
        whole = stage(texts(*values))
        parts = [stage(texts("before", *values, None).slice(1, at)), stage(texts(*values[at:]))]
        assert pa.Table.from_batches([whole]).equals(pa.Table.from_batches(parts).combine_chunks())


def test_bytes_that_are_not_utf8_are_hashed_and_not_read_past():
    broken = pa.array([b"a \xff\xe2\x80", b"\xf0\x9f", b"\xcc"], pa.large_binary()).cast(pa.large_binary())
    array = pa.Array.from_buffers(pa.large_string(), 3, broken.buffers())
    _, _, filled = hash_contents(*view_text(array))
    assert filled.all()
    assert minima(*view_text(array), folded_characters(), 5, *hash_family(4, 1))[1].tolist() == [1, 0, 0]


def test_line_ends_and_trailing_white_space_do_not_matter_and_other_space_does():
    same = exact_keys("one\ntwo", "one \r\ntwo\t", "one\r\ntwo  ", "one\t\ntwo\r")
    assert len({str(keys) for keys in same}) == 1
    different = exact_keys("one\ntwo", "one\n two", "one\n\ntwo", "one two", "one\ntwo\n")
    assert len({str(keys) for keys in different}) == 5


@given(st.text(alphabet=st.sampled_from("ae\u0301\u0327é\u00a0 \n\r\t가\u1100\u1161\u2000\u2019\u212b"), max_size=12))
@settings(deadline=None)
def test_the_exact_key_is_the_one_of_the_normal_form(text):
    lines = unicodedata.normalize("NFC", text).split("\n")
    plain = "\n".join(line.rstrip(" \t\r") for line in lines)
    assert exact_keys(text) == exact_keys(plain)


def test_a_composed_and_a_decomposed_text_are_one():
    assert len({str(keys) for keys in exact_keys("Ångström", "A\u030angstro\u0308m", "\u212bngström")}) == 1


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        (" HTTPS://User@Example.ORG/Path?Q=1#part ", "https://User@example.org/Path?Q=1"),
        ("//Host.net", "//host.net"),
        ("mailto:A@b", "mailto:A@b"),
        ("no address", "no address"),
    ],
)
def test_addresses_are_compared_without_fragment_and_case_of_the_host(url, normal):
    assert normal_url(url) == normal == normal_url(normal)


def test_errors_and_missing_addresses_have_no_key():
    batch = pa.record_batch(
        {"url": ["http://a/", "http://A/#x", None, "", "http://a/"], "error": [None] * 4 + ["json: x"]}
    )
    keys = exact(Exact(of="url"))(batch)["keys"].to_pylist()
    assert keys[0] == keys[1]
    assert keys[2:] == [None, [], None]
