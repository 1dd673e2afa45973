"""Both readings of the repetition rules: golden vectors, and the same shares counted with Counter and lists."""

import io
import itertools
import json
import re
import time
from collections import Counter

import pyarrow as pa
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from factory.core.registry import find_stage
from factory.kernels.pieces import cut_unicode, pieces_of
from factory.kernels.repetition import repeated_ngrams

LINES = "the cat sat\nthe cat sat\nthe cat sat\na dog ran far away"
GRAMS = "one two three four five six one two three four five six seven eight nine ten one two three four five"
GOLDEN = [
    ("G10", LINES, "duplicate_lines", 0.5, 0.75),
    ("G10", LINES, "duplicate_line_characters", 22 / 54, 33 / 51),
    ("G11", GRAMS, "duplicate_5_grams", 0.38, 0.7875),
    ("G12", GRAMS, "duplicate_6_grams", 0.22, 0.55),
    ("G13 and G13b", GRAMS, "top_2_gram", 0.21, 27 / 80),
]
# Few different lines and words, so that much repeats; single spaces keep pieces and str.split alike.
WORDS = st.sampled_from(["a", "bb", "ccc", "dé", "é", "漢"])
LINE = st.lists(WORDS, max_size=5).map(" ".join)
TEXTS = st.lists(LINE, max_size=14).map("\n".join)


def scores(text, reading="datatrove", words="unicode"):
    stage = find_stage("scorer", "repetition")
    score = stage.make(stage.config(reading=reading, words=words))
    return score(pa.record_batch({"text": pa.array([text], pa.large_string())})).to_pylist()[0]


def real_texts(folder):
    for path in sorted(folder.glob("*.jsonl.zst")):
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(path.open("rb")), "utf-8", newline="\n")
        for line in itertools.islice(lines, 0, None, 400):
            yield json.loads(line)["text"]


def grams(words, n):
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def after_the_first(items):
    return [item for at, item in enumerate(items) if item in items[:at]]


def naive_datatrove(text):
    if not text:
        return dict.fromkeys(scores(None))
    result = {}
    lines = re.split("\n+", text)
    paragraphs = re.split("\n{2,}", text.strip())
    for name, items in (("line", lines), ("paragraph", paragraphs)):
        copies = after_the_first(items)
        result[f"duplicate_{name}s"] = len(copies) / len(items)
        result[f"duplicate_{name}_characters"] = sum(map(len, copies)) / len(text)
    words = text.split()
    for n in (2, 3, 4):
        top = Counter(" ".join(gram) for gram in grams(words, n)).most_common(1)
        result[f"top_{n}_gram"] = sum(len(gram) * count for gram, count in top) / len(text)
    for n in range(5, 11):
        seen, characters, at = set(), 0, 0
        while at + n <= len(words):
            gram = tuple(words[at : at + n])
            characters += len("".join(gram)) if gram in seen else 0
            at += n if gram in seen else 1
            seen.add(gram)
        result[f"duplicate_{n}_grams"] = characters / len(text)
    return result


def naive_dclm(text):
    result = dict.fromkeys(scores(None))
    for name, separator in (("line", "\n"), ("paragraph", "\n\n")):
        items = [item.strip() for item in text.split(separator) if item.strip()]
        copies = [item for item in items if items.count(item) > 1]
        if items:
            result[f"duplicate_{name}s"] = len(copies) / len(items)
            result[f"duplicate_{name}_characters"] = sum(map(len, copies)) / sum(map(len, items))
    words = text.split()
    if not words:
        return result
    total = len("".join(words))
    for n in range(2, 11):
        counts = Counter(grams(words, n))
        most = max(counts.values(), default=0)
        if n <= 4:
            longest = max((len("".join(gram)) for gram, count in counts.items() if count == most), default=0)
            result[f"top_{n}_gram"] = most * longest / total if most > 1 else 0
            continue
        repeated = (at for at, gram in enumerate(grams(words, n)) if counts[gram] > 1)
        covered = {word for at in repeated for word in range(at, at + n)}
        result[f"duplicate_{n}_grams"] = sum(len(words[word]) for word in covered) / total
    return result


@pytest.mark.parametrize(("vector", "text", "column", "datatrove", "dclm"), GOLDEN)
def test_both_readings_give_the_golden_vectors(vector, text, column, datatrove, dclm):
    assert scores(text)[column] == pytest.approx(datatrove, abs=1e-6), vector
    assert scores(text, "dclm")[column] == pytest.approx(dclm, abs=1e-6), vector


@settings(deadline=None, max_examples=200)
@given(TEXTS)
@example("a bb a bb a bb a bb a bb a bb a bb a bb a bb a bb a bb a bb")
@example("a\n\na\n\nbb\na\n\nbb")
@example("\n\n")
@example("\na\n")
@example(" ".join(str(number * number % 89) for number in range(400)))
def test_the_datatrove_reading_is_what_its_definition_says(text):
    assert scores(text) == pytest.approx(naive_datatrove(text), abs=1e-6, nan_ok=True)


@settings(deadline=None, max_examples=200)
@given(TEXTS)
@example("a bb ccc é dé a bb ccc é dé a bb ccc é dé a bb")
@example("a\n\na\n\nbb\na\n\nbb")
@example(" ".join(str(number * number % 89) for number in range(400)))
def test_the_dclm_reading_is_what_its_definition_says(text):
    assert scores(text, "dclm") == pytest.approx(naive_dclm(text), abs=1e-6, nan_ok=True)


def test_marks_are_in_the_ngrams_of_datatrove_and_not_of_dclm():
    _, pieces = pieces_of(pa.array(["yes, no ..."]), cut_unicode)
    assert repeated_ngrams(pieces, covering=False)[1].tolist() == [9]
    assert repeated_ngrams(pieces, covering=True)[1].tolist() == [5]
    assert scores("a, b. a, b.")["top_2_gram"] == pytest.approx(2 * 3 / 11)
    assert scores("aa, bb. aa, bb.", "dclm")["top_2_gram"] == pytest.approx(2 * 4 / 8)


def test_words_and_marks_are_those_of_the_cutter():
    assert scores("a, b. a, b.", words="whitespace")["top_2_gram"] == pytest.approx(2 * 5 / 11)


def test_real_documents_repeat_as_much_as_counted_by_hand(shared_data):
    for text in itertools.islice(real_texts(shared_data / "corpus"), 0, None, 4):
        text = " ".join(text[:3000].split())
        assert scores(text, words="whitespace") == pytest.approx(naive_datatrove(text), abs=1e-6), text[:80]


def test_a_text_of_one_word_repeats_in_linear_time():
    begin = time.thread_time()
    found = scores("word " * 200_000)
    assert found["duplicate_10_grams"] == pytest.approx(0.8, abs=1e-3)
    assert time.thread_time() - begin < 2


def test_a_footer_repeated_forty_times_is_flagged_and_the_article_alone_is_not():
    article = "\n".join(f"Sentence {n} says something new about the {n * n} things in town." for n in range(12))
    footer = "\nShare this page with your friends"
    bound = 0.2
    assert scores(article + footer * 40, "dclm")["duplicate_line_characters"] > bound
    assert scores(article + footer, "dclm")["duplicate_line_characters"] <= bound
