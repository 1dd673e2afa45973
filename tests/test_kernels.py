"""Words, marks and lines as the kernels cut them, against the same definitions written with str and re."""

import io
import itertools
import json
import random
import re
import time
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.registry import find_stage
from factory.kernels.text import count_lines, count_words, hash_pieces, hash_segments, view_text

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
ODD = "a b Z1 2,.'’_·\n\t#-…•漢かé\u0301\u200d\u200b\u3000ß🙂क्\x00\ufeff।\"”"
TEXTS = st.one_of(st.text(st.sampled_from(ODD), max_size=60), st.text(max_size=60))
SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\u200b"
WORD = re.compile(r"ae*|(?:de*,(?=d)|[ldn]e*[.'](?=[ldn])|[ldn]e*)+")


def character_class(character):
    category = unicodedata.category(character)
    if character in SPACES:
        return "s"
    if category[0] in "LN" and re.match(
        "[\u3005-\u3007\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]", character
    ):
        return "a"
    if category[0] == "M" or category == "Cf":
        return "e"
    if character == "." or character == ",":
        return character
    return {"L": "l", "N": "d" if category == "Nd" else "n"}.get(category[0], "'" if character in "'’_·" else "m")


def pieces(text):
    """(text, is it a word) of every piece."""
    classes = "".join(map(character_class, text))
    at = 0
    while at < len(text):
        word = WORD.match(classes, at)
        if classes[at] in "se":
            at += 1
        elif word:
            end = word.end()
            last_run = re.split("[.',]", word.group())[-1].replace("e", "")
            if last_run == "l" and classes[end : end + 1] == "." and classes[end : end + 2] != "..":
                end += 1
            yield text[at:end], True
            at = end
        else:
            run = re.compile(re.escape(text[at]) + "+").match(text, at).group()
            yield run, False
            at += len(run)


def naive_words(text):
    cut = list(pieces(text))
    words = [piece for piece, is_word in cut if is_word]
    alphabetic = sum(any(map(str.isalpha, piece)) for piece, _ in cut)
    ellipses = text.count("...") + text.count("…")
    distinct = len(STOP_WORDS.intersection(words))
    return [len(words), sum(map(len, words)), len(cut), alphabetic, text.count("#"), ellipses, distinct]


def naive_lines(text):
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    stripped = [line.strip(SPACES) for line in lines]
    written = [line for line in stripped if line]
    return [
        len(lines),
        len(lines) - len(written),
        sum(line.startswith(("•", "-")) for line in written),
        sum(line.endswith(("...", "…")) for line in written),
        sum(line.endswith((".", "!", "?", "'", '"', "’", "”", "…", "।")) for line in written),
        sum(len(line) <= 30 for line in written),
        text.count("\n"),
        sum(1 for _ in pieces(text)),
    ]


def view(*texts):
    return view_text(pa.array(texts, pa.large_string()))


def real_texts(folder):
    for path in sorted(folder.glob("*.jsonl.zst")):
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(path.open("rb")), "utf-8", newline="\n")
        for line in itertools.islice(lines, 0, None, 400):
            yield json.loads(line)["text"][:8000]


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_words_are_counted_as_their_definition_says(text):
    assert count_words(view(text))[0].tolist() == naive_words(text)


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from(ODD), max_size=80))
def test_lines_are_counted_as_their_definition_says(text):
    assert count_lines(view(text))[0].tolist() == naive_lines(text)


@pytest.mark.parametrize("folder", ["corpus", "multilingual"])
def test_real_documents_are_counted_as_the_definitions_say(shared_data, folder):
    for text in real_texts(shared_data / folder):
        assert count_words(view(text))[0].tolist() == naive_words(text)
        counted, naive = count_lines(view(text))[0].tolist(), naive_lines(text)
        assert [*counted[:4], *counted[5:]] == [*naive[:4], *naive[5:]]  # the naive list of sentence ends is short


@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_equal_pieces_have_equal_hashes_and_no_others(text):
    expected = [piece for piece, _ in pieces(text)]
    hashes, lengths, starts = hash_pieces(view(text), False)
    assert starts.tolist() == [0, len(expected)]
    assert lengths.tolist() == [len(piece) for piece in expected]
    assert [a == b for a, b in itertools.combinations(hashes, 2)] == [
        a == b for a, b in itertools.combinations(expected, 2)
    ]


def test_paragraphs_lie_between_two_or_more_line_feeds():
    _, lengths, starts = hash_segments(view("\n a\nb\n\n\ncdé \n\n", "\n\n", "x"), 2, False)
    assert (lengths.tolist(), starts.tolist()) == ([3, 3, 1], [0, 2, 2, 3])


def test_slices_nulls_and_both_widths_of_strings_read_alike():
    texts = ["zero", "one two", None, "", "three three…", "last"]
    for kind in (pa.string(), pa.large_string()):
        whole = pa.array(texts, kind)
        expected = [naive_words(text) if text is not None else [0] * 7 for text in texts]
        assert count_words(view_text(whole)).tolist() == expected
        assert count_words(view_text(whole[1:5])).tolist() == expected[1:5]
        assert view_text(whole[1:5]).valid.tolist() == [True, False, True, True]
        assert count_words(view_text(whole[2:2])).shape == (0, 7)


def test_bytes_that_are_no_utf8_are_counted_and_never_read_past():
    generator = random.Random(7)
    data = bytes(generator.choice(b"\x80\xbf\xc3\xe2\xf0\xf4\xff a.\n") for _ in range(4000))
    offsets = np.arange(0, 4001, 5, dtype=np.int64)
    array = pa.Array.from_buffers(pa.large_string(), 800, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    whole = count_words(view_text(array))
    for row in range(0, 800, 40):
        copy = pa.py_buffer(data[row * 5 : row * 5 + 5])
        alone = pa.Array.from_buffers(pa.large_string(), 1, [None, pa.py_buffer(offsets[:2]), copy])
        assert count_words(view_text(alone))[0].tolist() == whole[row].tolist()
        assert hash_pieces(view_text(alone), False).starts[-1] == whole[row, 2] <= 5


@pytest.mark.parametrize("stage", ["word_statistics", "line_statistics", "repetition"])
@pytest.mark.parametrize("unit", ["a ", "the very same line\n", "a\n\n", "x", "é", ".", "\n", "ab.", "-'"])
def test_a_megabyte_of_anything_takes_linear_time(stage, unit):
    found = find_stage("scorer", stage)
    score = found.make(found.config())
    score(pa.record_batch({"text": pa.array(["warm up"], pa.large_string())}))
    batch = pa.record_batch({"text": pa.array([unit * (1_000_000 // len(unit.encode()))], pa.large_string())})
    begin = time.thread_time()
    score(batch)
    assert time.thread_time() - begin < 2


@pytest.mark.parametrize("stage", ["word_statistics", "line_statistics", "repetition"])
@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.one_of(st.none(), TEXTS), max_size=6))
def test_a_score_does_not_depend_on_the_neighbours(stage, texts):
    found = find_stage("scorer", stage)
    score = found.make(found.config())
    together = score(pa.record_batch({"text": pa.array(texts, pa.large_string())}))
    assert together.schema == pa.schema(found.writes_for(found.config()))
    alone = [score(pa.record_batch({"text": pa.array([text], pa.large_string())})) for text in texts]
    assert together.to_pylist() == [row for batch in alone for row in batch.to_pylist()]
