"""The line rules of C4, FineWeb and RefinedWeb, against the same rules written with str and re."""

import io
import itertools
import json
import re
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from refinedweb_reference import corrected, counted_words

from factory.core.registry import find_stage
from factory.kernels.characters import SENTENCE_END, SPACE, line_classes
from factory.kernels.edits import apply_edits

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
PARTS = [
    *(" ", "a", "foo bar baz", "the use of cookies", "J", "avascript", "Kk", "coo\u212aie policy", " use coo\u212aies"),
    *("\r\n", "\n", "\n", "\u2028", "\x85", "\x0b", "[12]", "[edit]", "[", "]", "[citation needed]", ". ", "...", '"'),
    *("{", "lorem ipsum", "x" * 1001, "\u3000", "\xa0", "Privacy POLICY", "terms of use", "é", "漢字。", "[١٢]"),
    *("\x1f", "\u200b", "foo bar baz.\n", "y" * 30 + "\n", "y" * 31 + "\n"),
]
WEB_PARTS = [
    *(" ", "a", "foo bar baz.", "\n", "\n", "\xa0", "ABC DEF", "12", "1.2K likes", "\n3 views\n", "۳ follower\u017f"),
    *(
        "5,0 m vie\u212as",
        "7m liKes",
        "b\u212a",
        " a ITEMS IN CART b\n",
        "sign-in ",
        "\u017f\u0130gn-in",
        "\nSign-in x",
    ),
    *("read more...", "read moreabc", "Read More… é", "...", "漢字", "É", "\t", "\x1c", "\n12\n", "\n 12 \n", "x y z"),
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)
WEB_TEXTS = st.lists(st.sampled_from(WEB_PARTS), max_size=12).map("".join)


def score(stage, texts, **config):
    found = find_stage("scorer", stage)
    return found.make(found.config(**config))(pa.record_batch({"text": pa.array(texts, pa.large_string())}))


def edited(texts, batch):
    """The texts after the rewriters have done what a scorer asks for."""
    edits = []
    for column, rewriter, config in (
        ("removed", "remove_spans", {}),
        ("odd_breaks", "replace_spans", {"replacement": "\n"}),
    ):
        if column in batch.schema.names:
            found = find_stage("rewriter", rewriter)
            edits.append(found.make(found.config(column=column, **config))(batch.select([column])).column("edits"))
    return apply_edits(pa.array(texts, pa.large_string()), edits).to_pylist()


def real_texts(folder, step):
    for path in sorted(folder.glob("*/*.jsonl.zst")):
        if path.parent.name in ("corpus", "multilingual"):
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(path.open("rb")), "utf-8", newline="\n")
            yield from (json.loads(line)["text"] for line in itertools.islice(lines, 0, None, step))


def naive_c4(text, terminal_punctuation):
    """The edited text, and whether lorem ipsum and a curly bracket were met."""
    kept, lorem, curly = [], False, False
    for line in map(str.strip, text.splitlines()):
        words = line.split()
        line = CITATION.sub("", line)
        low = line.lower()
        ends_well = line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
        if max(map(len, words), default=0) > 1000 or (terminal_punctuation and not ends_well) or len(words) < 3:
            continue
        lorem |= "lorem ipsum" in low
        if "javascript" in low:
            continue
        curly |= "{" in low
        if not any(phrase in low for phrase in POLICY):
            kept.append(line)
    return "\n".join(kept).strip(), lorem, curly


def naive_fineweb(text):
    ends = tuple(chr(code) for code in np.nonzero(line_classes() & SENTENCE_END)[0])
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return [None] * 3
    copied = sum(len(line) * (count - 1) for line, count in Counter(lines).items())
    ended, short = sum(line.endswith(ends) for line in lines), sum(len(line) <= 30 for line in lines)
    shares = ended / len(lines), short / len(lines), copied / len(text.replace("\n", ""))
    return [float(np.float32(share)) for share in shares]


def check_c4(texts):
    for mark in (False, True):
        batch = score("c4", texts, terminal_punctuation=mark)
        wanted = [naive_c4(text, mark) for text in texts]
        assert edited(texts, batch) == [text for text, _, _ in wanted]
        assert batch.column("lorem_ipsum").to_pylist() == [lorem for _, lorem, _ in wanted]
        assert batch.column("curly_bracket").to_pylist() == [curly for _, _, curly in wanted]


def check_fineweb(texts):
    for after, read in (("none", str), ("c4", lambda text: naive_c4(text, False)[0])):
        rows = score("fineweb", texts, after=after).to_pylist()
        for row, text in zip(rows, texts, strict=True):
            assert list(row.values())[:3] == naive_fineweb(read(text))


def check_refinedweb(texts):
    batch = score("refinedweb_lines", texts)
    wanted = [corrected(text) for text in texts]
    assert edited(texts, batch) == wanted
    assert batch.column("words").to_pylist() == [counted_words(text) for text in texts]
    assert batch.column("words_left").to_pylist() == [counted_words(text) for text in wanted]


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_c4_takes_out_what_its_rules_say(text):
    check_c4([text])


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_fineweb_measures_the_text_as_c4_leaves_it(text):
    check_fineweb([text])


@settings(deadline=None, max_examples=300)
@given(WEB_TEXTS)
def test_refinedweb_takes_out_what_its_rules_say(text):
    check_refinedweb([text])


@pytest.mark.parametrize("check", [check_c4, check_fineweb, check_refinedweb])
def test_real_documents_come_out_as_the_rules_say(shared_data, check):
    check([text[:20000] for text in real_texts(shared_data, 60)])


@pytest.mark.parametrize("words", ["unicode", "whitespace", "spacy_en"])
@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_words_of_an_edited_text_are_those_of_the_text_itself(words, text):
    left = naive_c4(text, False)[0]
    after, itself = (score("fineweb", [of], after=when, words=words) for of, when in ((text, "c4"), (left, "none")))
    assert after.to_pylist() == itself.to_pylist()


def test_the_sentence_ends_are_those_of_datatrove():
    datatrove = pytest.importorskip("datatrove.utils.text", reason="datatrove is not installed (extra dev)")
    ours = {chr(code) for code in np.nonzero(line_classes() & SENTENCE_END)[0]}
    assert ours == datatrove.TERMINAL_PUNCTUATION


def test_white_space_is_that_of_python():
    assert {code for code in range(0x110000) if chr(code).isspace()} == set(np.nonzero(line_classes() & SPACE)[0])


@pytest.mark.parametrize(("junk", "share"), [(25, 0.05), (26, 0.052)])
def test_the_share_of_removed_words_is_that_of_the_golden_vector(junk, share):
    text = "\n".join(["word"] * junk + ["plain words " * ((500 - junk) // 2) + "end" * (junk % 2)])
    row = score("refinedweb_lines", [text]).to_pylist()[0]
    assert (row["words"], row["removed_word_share"]) == (500, pytest.approx(share))


def test_a_page_with_a_little_junk_stays_without_it_and_one_with_much_does_not():
    prose = "This is a line of plain prose with some ten words.\n"
    little, much = (prose * lines + "LOG IN\n123\nhome\n" * times for lines, times in ((40, 1), (44, 15)))
    shares = score("refinedweb_lines", [little, much]).column("removed_word_share").to_pylist()
    assert shares[0] < 0.05 < shares[1]
    assert edited([little], score("refinedweb_lines", [little])) == [(prose * 40).strip()]


def test_settings_that_are_off_drop_nothing():
    off = {"terminal_punctuation": False, "citations": False, "min_words_per_line": None, "max_word_length": None}
    text = "a\n\nthe javascript[1]\n" + "x" * 2000
    assert edited([text], score("c4", [text], **off, javascript=False, policy=False)) == [text]
    nothing = dict.fromkeys(("max_uppercase", "max_numeric", "min_words_per_line", "max_words_of_edited_lines"))
    text = "LOUD\n12\n1 likes\nitems in cart"
    assert edited([text], score("refinedweb_lines", [text], **nothing, counters=False)) == [text]


def test_rules_over_slices_and_nulls_are_those_of_each_text():
    texts = ["one line\nof [1] two words here", None, "", "LOUD\nwords and more words\n" * 400, "x" * 5000]
    whole = pa.array(texts * 30, pa.large_string())
    for stage in ("c4", "fineweb", "refinedweb_lines"):
        found = find_stage("scorer", stage)
        run = found.make(found.config())
        alone = [run(pa.record_batch({"text": pa.array([text], pa.large_string())})).to_pylist()[0] for text in texts]
        assert run(pa.record_batch({"text": whole})).to_pylist() == alone * 30
        assert run(pa.record_batch({"text": whole[1:4]})).to_pylist() == alone[1:4]


@pytest.mark.parametrize("stage", ["c4", "fineweb", "refinedweb_lines"])
@pytest.mark.parametrize(
    "unit",
    [
        "a ",
        "[1",
        "[[",
        "[1]",
        "[citation needed",
        "items in cart ",
        "items in car",
        "i",
        "1,",
        "1 likes\n",
        "\n",
        " ",
        "K",
    ],
)
def test_a_megabyte_of_anything_takes_linear_time(stage, unit):
    score(stage, ["warm up"])
    text = unit * (1_000_000 // len(unit.encode()))
    begin = time.thread_time()
    score(stage, [text])
    assert time.thread_time() - begin < 2


@pytest.mark.parametrize("stage", ["c4", "fineweb", "refinedweb_lines"])
def test_bytes_that_are_no_utf8_do_no_harm(stage):
    data = bytes(
        np.random.default_rng(3).choice(np.frombuffer(b"\x80\xbf\xc3\xe2\xf0\xf4\xff a.\n[1]k", np.uint8), 4000)
    )
    offsets = pa.py_buffer(np.arange(0, 4001, 8, dtype=np.int64))
    texts = pa.Array.from_buffers(pa.large_string(), 500, [None, offsets, pa.py_buffer(data)])
    found = find_stage("scorer", stage)
    result = found.make(found.config())(pa.record_batch({"text": texts}))
    result.validate(full=True)
    assert result.num_rows == 500
