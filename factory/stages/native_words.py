"""Words of Chinese, Japanese, Thai and Korean, by the maintained segmenter of each language.

In: texts. Out: the byte ranges of words and marks, in order, apart from each other, and all that is no white space lies in
one. A text is given to the segmenter line by line, and a line of more than 10,000 characters in parts that end at a mark or
at white space: the segmenters are slow on, or refuse, long input (Sudachi takes 49,149 bytes). A word is therefore a pure
function of its line. They are those that datatrove has for the languages of FineWeb2 (arXiv:2506.20920), on whole texts.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from factory.kernels.pieces import Cut
from factory.kernels.text import TextView
from factory.stages.language_extra import loading

_PART = 10_000  # characters
_BREAK = re.compile(r"[\s。！？!?．；;、，,]")  # a part ends after the last of these, if its second half has one

_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8, as the decoder leaves them

Spans = Iterator[tuple[int, int]]  # characters of a part
Segment = Callable[[str], Spans]


class NativeWords:
    """The cutter that applies a segmenter."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def __call__(self, view: TextView) -> Cut:
        begins: list[int] = []
        ends: list[int] = []
        starts = [0]
        for text, present in enumerate(view.valid.tolist()):
            if present:
                offset = int(view.offsets[text])
                for part, at in _parts(view.data[offset : view.offsets[text + 1]].tobytes(), offset):
                    bytes_at = _byte_offsets(part)
                    part = _ESCAPED.sub("\ufffd", part)
                    for first, last in _tidy(part, self._segment(part)):
                        begins.append(at + bytes_at[first])
                        ends.append(at + bytes_at[last])
            starts.append(len(begins))
        return Cut(np.array(begins, np.int64), np.array(ends, np.int64), np.array(starts, np.int64))


def jieba_words() -> NativeWords:
    """Chinese: jieba's default dictionary, with its hidden Markov model for words it has not."""
    with loading("jieba_zh", "jieba"):
        import jieba
    tokenizer = jieba.Tokenizer()
    # As its initialize() does, which would keep the dictionary in a file that everybody can write to, and trust it.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return NativeWords(lambda part: _lengths_to_spans(map(len, tokenizer.cut(part))))


def sudachi_words() -> NativeWords:
    """Japanese: Sudachi's core dictionary, shortest units (mode A), as spaCy has it."""
    with loading("sudachi_ja", "sudachipy"):
        import sudachidict_core  # noqa: F401  # the dictionary, found by name
        from sudachipy import Dictionary, SplitMode

        tokenizer = Dictionary(dict="core").tokenizer(mode=SplitMode.A)
    return NativeWords(lambda part: ((word.begin(), word.end()) for word in tokenizer.tokenize(part)))


def thai_words() -> NativeWords:
    """Thai: PyThaiNLP's dictionary, longest matches at cluster boundaries (newmm) in short windows.

    Its import makes an empty folder in the user's home unless the environment says PYTHAINLP_READ_ONLY=1.
    """
    with loading("pythainlp_th", "pythainlp"):
        from pythainlp.tokenize import word_tokenize
    return NativeWords(lambda part: _lengths_to_spans(map(len, word_tokenize(part, engine="newmm-safe"))))


def kiwi_words() -> NativeWords:
    """Korean: Kiwi's morphemes; those that share letters (했 is 하 and 었) are one word here."""
    with loading("kiwi_ko", "kiwipiepy"):
        from kiwipiepy import Kiwi

        tokenizer = Kiwi(num_workers=1)
    figures = re.compile(r"[0-9,]{20,}")  # which it stumbles over

    def segment(part: str) -> Spans:
        at = 0
        for match in [*figures.finditer(part), None]:
            end = match.start() if match else len(part)
            for word in tokenizer.tokenize(part[at:end]):
                yield at + word.start, at + word.start + word.len
            if match:
                yield match.span()
                at = match.end()

    return NativeWords(segment)


def _parts(text: bytes, offset: int) -> Iterator[tuple[str, int]]:
    """Lines, and parts of long ones, and the byte each begins at."""
    for line in text.split(b"\n"):
        at = offset
        rest = line.decode(errors="surrogateescape")
        start = 0
        while start < len(rest):
            end = min(start + _PART, len(rest))
            if end < len(rest):
                stops = [match.end() for match in _BREAK.finditer(rest, start + _PART // 2, end)]
                end = stops[-1] if stops else end
            part = rest[start:end]
            yield part, at
            at += len(part.encode(errors="surrogateescape"))
            start = end
        offset += len(line) + 1


def _byte_offsets(part: str) -> list[int] | range:
    """Where each character begins, and where the last ends."""
    if part.isascii():
        return range(len(part) + 1)
    offsets = [0]
    for character in part:
        code = ord(character)
        if code < 0x80 or 0xDC80 <= code < 0xDD00:  # the latter stands for a byte that is no UTF-8
            offsets.append(offsets[-1] + 1)
        else:
            offsets.append(offsets[-1] + (2 if code < 0x800 else 3 if code < 0x10000 else 4))
    return offsets


def _lengths_to_spans(lengths: Iterable[int]) -> Spans:
    at = 0
    for length in lengths:
        yield at, at + length
        at += length


def _tidy(part: str, spans: Spans) -> Spans:
    """In order, apart, without white space around or inside, and with what lies between them."""
    at = 0
    for first, last in spans:
        if first > at:
            yield from _solid(part, at, first)
        first, last = max(first, at), min(last, len(part))
        if first < last:
            yield from _solid(part, first, last)
            at = last
    yield from _solid(part, at, len(part))


def _solid(part: str, first: int, last: int) -> Spans:
    """The runs that are no white space."""
    start = first
    for at in range(first, last):
        if part[at].isspace():
            if start < at:
                yield start, at
            start = at + 1
    if start < last:
        yield start, last
