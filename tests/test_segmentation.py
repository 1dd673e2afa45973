"""The cutters of words: what holds for each of them, and that `spacy_en` gives spaCy's tokens and sentences."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError
from factory.kernels.chunks import count_sentences, sentence_classes, sentence_counts
from factory.kernels.text import character_classes, view_text
from factory.stages.segmentation import WORDS, find_cutter

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
LIBRARIES = {
    "spacy_en": "spacy",
    "jieba_zh": "jieba",
    "sudachi_ja": "sudachipy",
    "pythainlp_th": "pythainlp",
    "kiwi_ko": "kiwipiepy",
    "auto": "jieba",
}
TEXTS = [
    "It isn't easy: 10km/h, U.S. $5 (e.g., http://example.org/a?b=c or me@example.org)... “Mr. Smith’s” state-of-the-art!",
    "",
    None,
    " \t\n\u00a0\u3000",
    "我来到北京清华大学，他来到了网易杭研大厦。\n第二行 hello",
    "国家公務員は…東京に\u3000行きました。😀㍿ok",
    "ฉันรักภาษาไทย เพราะฉันเป็นคนไทย 1,000 บาท",
    "안녕하세요 저는 😀 학교에 갔다. 했었다 123456789012345678901234",
    "ພາສາລາວ ສະບາຍດີ",
    "zero\u200bwidth a\u0301 \u2028next" + "x" * 300 + "。" * 300,
]
# What the tokenizer's rules look at, so that random texts meet many of them.
CORNERS = [
    *"abxoODPSsC0138'’\"“”.,:;!?()[]{}<>-–—…_/=*#&%$+~^|\\@。！é中ö😀°€ಠ \n\t\u00a0\u3000\u200b",
    *("..", "……", "--", "  ", "Mr", "co", "it", "km", "am", "p.m", "n't", "can", "not", "US$", "://", "www.", ".com"),
    *("e.g.", "1.2.3.4", ":)", ":-(", "):", "'s", "’s", "and", "or", "Ph.D", "°C"),
]


@pytest.fixture(params=WORDS)
def cutter(request: pytest.FixtureRequest) -> Any:
    library = LIBRARIES.get(request.param)
    if library:
        _needs(library)
    return find_cutter(request.param)


def test_pieces_are_in_order_and_hold_all_but_white_space(cutter: Any) -> None:
    view = view_text(pa.array(TEXTS, pa.large_string()))
    begins, ends, starts = cutter(view)
    assert starts[0] == 0
    assert starts[-1] == len(begins) == len(ends)
    assert np.all(begins < ends)
    assert np.all(ends[:-1] <= begins[1:])
    for text, value in enumerate(TEXTS):
        mine = slice(starts[text], starts[text + 1])
        if mine.start < mine.stop:
            assert view.offsets[text] <= begins[mine][0]
            assert ends[mine][-1] <= view.offsets[text + 1]
        kept = "".join(_pieces(view, begins[mine], ends[mine]))
        assert _solid(kept) == _solid(value or "")


def test_a_batch_is_cut_as_its_texts_are_alone(cutter: Any) -> None:
    batch = _cut(cutter, TEXTS)
    assert batch == [_cut(cutter, [text])[0] for text in TEXTS]
    assert batch[::-1] == _cut(cutter, TEXTS[::-1])


def test_a_slice_of_a_column_is_cut_like_the_column(cutter: Any) -> None:
    column = pa.array(TEXTS, pa.large_string()).slice(4, 3)
    view = view_text(column)
    cut = cutter(view)
    assert [_pieces(view, *_of(cut, text)) for text in range(3)] == _cut(cutter, TEXTS[4:7])


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(FactoryError, match="spacy_en"):
        find_cutter("spacy-en")


@pytest.mark.parametrize(
    "text",
    [
        "x:) ))",
        "x:) :) ):( (: ;)) :-)",
        "IS_ALPHA and (IS_ALPHA)",
        "wait..no ...and…… more. U.S.A. a.b Ph.D.'s x-Mr. and/or-w/o",
        "US$5 5US$ 3-4-5 a--b 5--3 1,000,000 10km/h 5m/s. +1 1+ 1+1 C$ $",
        "http://a.bc/d?x=1#y foo@bar.com:8080/x a@b.c 1.2.3.4/x www.x_y.com -a.com a..com //a.co a://b.co",
        "don't cannot 'bout ''cause' it’s O’Brien’s rock'n'roll y'all're",
        "(" * 300 + "a" * 300 + ")" * 300,
        "。" * 300 + "中" * 300 + "……" * 99,
        "a.b" * 300 + " " + "@" * 300 + ".com",
    ],
)
def test_spacy_words_of_hard_chunks(text: str) -> None:
    assert _cut(_spacy_words(), [text])[0] == _spacy_tokens(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(st.sampled_from(CORNERS), max_size=12).map("".join), min_size=1, max_size=5))
def test_spacy_words_of_random_corners(texts: list[str]) -> None:
    assert _cut(_spacy_words(), texts) == [_spacy_tokens(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_spacy_words_of_random_unicode(texts: list[str]) -> None:
    assert _cut(_spacy_words(), texts) == [_spacy_tokens(text) for text in texts]


def test_spacy_words_of_real_documents() -> None:
    texts = _real_texts()
    assert _cut(_spacy_words(), texts) == [_spacy_tokens(text) for text in texts]


def test_spacy_words_do_not_depend_on_what_was_seen_before() -> None:
    _needs("spacy")
    from factory.stages.spacy_words import SpacyWords

    texts = [text for text in TEXTS if text is not None] * 3
    forgetful = SpacyWords(table_bytes=0)
    assert _cut(forgetful, texts) == _cut(_spacy_words(), texts) == _cut(forgetful, texts)


def test_sentence_marks_are_those_of_spacy() -> None:
    _needs("spacy")
    from spacy.pipeline import Sentencizer

    marks = np.flatnonzero(sentence_classes() & 2)
    assert set(map(chr, marks)) == set(Sentencizer.default_punct_chars)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*'a.!?)" \n。…’', "  ", "b c", "..", "Mr.", "։"]), max_size=15).map("".join))
def test_sentences_are_counted_as_spacy_does(text: str) -> None:
    assert _sentences([text]) == [_spacy_sentences(text)]


def test_sentences_of_real_lines_are_counted_as_spacy_does() -> None:
    lines = [line.strip() for text in _real_texts()[::4] for line in text.splitlines() if line.strip()]
    assert _sentences(lines) == [_spacy_sentences(line) for line in lines]


def test_sentences_of_lines_are_those_of_lines_as_texts() -> None:
    lines = ["One. Two! Three", "", "Four?", "...", "Five.  (Six.) Seven"]
    view = view_text(pa.array(["\n".join(lines)], pa.large_string()))
    ends = np.cumsum([len(line) + 1 for line in lines]) - 1
    begins = ends - [len(line) for line in lines]
    assert sentence_counts(view, _spacy_words()(view), begins, ends).tolist() == _sentences(lines) == [3, 0, 1, 1, 3]


def _needs(library: str) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(library, reason=f"{library} is of the extra 'languages': pip install -e '.[languages]'")


def _spacy_words() -> Any:
    _needs("spacy")
    return find_cutter("spacy_en")


@cache
def _spacy() -> Any:
    _needs("spacy")
    import spacy

    english = spacy.blank("en")
    english.add_pipe("sentencizer")
    english.max_length = 10**9
    return english


def _spacy_tokens(text: str) -> list[str]:
    return [token.text for token in _spacy().tokenizer(text) if token.text.strip()]


def _spacy_sentences(text: str) -> int:
    return sum(1 for sentence in _spacy()(text).sents if sentence.text.strip())


def _sentences(texts: list[str]) -> list[int]:
    view = view_text(pa.array(texts, pa.large_string()))
    return list(count_sentences(view, _spacy_words()(view)).tolist())


def _cut(cutter: Any, texts: list[str | None] | list[str]) -> list[list[str]]:
    view = view_text(pa.array(texts, pa.large_string()))
    cut = cutter(view)
    return [_pieces(view, *_of(cut, text)) for text in range(len(texts))]


def _of(cut: Any, text: int) -> tuple[Any, Any]:
    mine = slice(cut.starts[text], cut.starts[text + 1])
    return cut.begins[mine], cut.ends[mine]


def _pieces(view: Any, begins: Any, ends: Any) -> list[str]:
    return [view.data[begin:end].tobytes().decode() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _solid(text: str) -> str:
    """Without white space, and without marks and formats that join nothing, which `unicode` words leave out."""
    classes = character_classes()
    return "".join(one for one in text if not one.isspace() and one != "\u200b" and classes[ord(one)] & 16 == 0)


@cache
def _real_texts() -> list[str]:
    if not DATA.exists():
        pytest.skip(f"the real data is not there: {DATA}")
    texts = []
    for path, step in ((DATA / "corpus" / "howto.jsonl.zst", 4), (DATA / "multilingual" / "udhr.jsonl.zst", 40)):
        lines = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().split(b"\n")
        texts += [json.loads(line)["text"] for line in lines[::step] if line]
    return texts
