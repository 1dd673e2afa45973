"""The ids a byte-level BPE of Hugging Face's library gives, made by compiled loops straight from Arrow buffers.

A tokenizer.json comes in; out comes an encoder for it, or the reason why only the library can encode with it. Read are BPE
models over bytes with the pre-tokenizers of GPT-2, Llama 3, Qwen and the tokenizers trained here, with digits that stand
alone, and with NFC as the only normaliser. What a character is, the library itself says: its classes of letters, numbers and
white space are asked of it once per process, so that both have one version of Unicode. Texts that an added token, or NFC,
may change are named by `settled` and left to the library. For all others the ids are equal.
"""

import itertools
import json
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, pre_tokenizers

from factory.kernels import bpe, pretokens
from factory.kernels.text import Bytes, TextView, view_text

MAX_ADDED = 2_000
SLICE_BYTES = 16 << 20  # what room for ids is made for at once

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TIKTOKEN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)


def _lines(numbers: str) -> str:
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + numbers
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


# Which pattern of the kernel each is, and how many digits a number has at most.
PATTERNS = {
    _GPT2: (pretokens.WORDS, 0),
    _lines(r"\p{N}{1,3}"): (pretokens.LINES, 3),  # Llama 3, GPT-4
    _TIKTOKEN: (pretokens.LINES, 3),
    _lines(r"\p{N}"): (pretokens.LINES, 1),  # Qwen 2
    _lines(r"\p{N}+"): (pretokens.LINES, 1 << 40),
}
# Nothing between is a letter, a number or white space, nor ever was.
_PLANES = ((0, 0xD800), (0xE000, 0x40000), (0xE0000, 0xE1000))

Ids = npt.NDArray[np.int32]


class Unreadable(Exception):
    """Why only the library can encode with a tokenizer."""


class BytePairs:
    """Encodes texts; raises Unreadable for a tokenizer that is not one of these."""

    def __init__(self, data: bytes, added: Sequence[str]) -> None:
        described = json.loads(data)
        self._normalises = _normalises(described.get("normalizer"))
        self._added = _search_for(added)
        pattern, self._numbers, alone = _pattern(described.get("pre_tokenizer"))
        self._merges, known = _model(described["model"])
        self._pattern, self._classes = pattern, _classes(alone)
        self._known = bpe.known_pieces(known)
        self._memory = bpe.memory(self._known)
        self._lock = threading.Lock()

    def settled(self, texts: pa.Array) -> npt.NDArray[np.bool_]:
        """Which texts hold nothing that comes before the merges: an added token, or characters that NFC may change."""
        found = np.ones(len(texts), np.bool_)
        if self._added is not None:
            found &= ~pc.match_substring_regex(texts, self._added).to_numpy(zero_copy_only=False).astype(np.bool_)
        if self._normalises:
            found &= pretokens.only(view_text(texts), _composed(), np.uint8(1))
        return found

    def encode(
        self,
        texts: pa.Array,
        chosen: npt.NDArray[np.bool_],
        *,
        begin: int | None,
        end: int | None,
        dtype: np.dtype[Any],
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Ids of the chosen texts one after the other, framed, and how many each text has: none where it is not chosen."""
        texts.validate(full=True)  # the loops trust in valid UTF-8
        view = view_text(texts)
        made, lengths = [np.empty(0, dtype)], np.zeros(len(texts), np.int64)
        with self._lock:
            for first, last in _slices(view):
                ids, lengths[first:last] = bpe.encode(
                    TextView(view.offsets[first : last + 1], view.data, chosen[first:last]),
                    self._classes,
                    self._pattern,
                    self._numbers,
                    self._merges,
                    self._memory,
                    self._known,
                    begin=-1 if begin is None else begin,
                    end=-1 if end is None else end,
                )
                made.append(ids.astype(dtype))
        return np.concatenate(made), lengths


def _slices(view: TextView) -> list[tuple[int, int]]:
    """Texts in runs of about SLICE_BYTES, so that room for their ids is small beside a large batch."""
    groups = (view.offsets[1:] - view.offsets[0]) // SLICE_BYTES
    starts = np.flatnonzero(np.diff(groups, prepend=-1)).tolist()
    return list(itertools.pairwise([*starts, len(view.valid)]))


def _normalises(described: Mapping[str, Any] | None) -> bool:
    """Whether there is NFC to be done."""
    if described is None:
        return False
    if described["type"] == "Sequence":
        found = [_normalises(item) for item in described["normalizers"]]  # each is looked at
        return any(found)
    if described["type"] != "NFC":
        raise Unreadable(f"normaliser {described['type']}")
    return True


def _pattern(described: Mapping[str, Any] | None) -> tuple[int, int, str | None]:
    """The pattern, its numbers, and what stands alone."""
    if described is None:
        raise Unreadable("no pre-tokenizer")
    steps = described["pretokenizers"] if described["type"] == "Sequence" else [described]
    alone = None
    if steps and (alone := _alone(steps[0])) is not None:
        steps = steps[1:]
    if not steps or steps[-1]["type"] != "ByteLevel":
        raise Unreadable(f"pre-tokenizer {' + '.join(step['type'] for step in steps)}")
    last = steps[-1]
    if last.get("add_prefix_space", True):
        raise Unreadable("a blank before each text")
    asked = [_regex(step) for step in steps[:-1]] + ([_GPT2] if last.get("use_regex", True) else [])
    if len(asked) != 1 or asked[0] not in PATTERNS:
        raise Unreadable(f"pattern {' then '.join(map(str, asked)) or 'none'}")
    return *PATTERNS[asked[0]], alone


def _alone(step: Mapping[str, Any]) -> str | None:
    """`regex` or `digits`, where a step makes each number a piece of its own."""
    if step["type"] == "Digits" and step["individual_digits"]:
        return "digits"
    return "regex" if step["type"] == "Split" and _regex(step) == r"\p{N}" else None


def _regex(step: Mapping[str, Any]) -> str | None:
    plain = step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]
    return step["pattern"].get("Regex") if plain else None


def _model(described: Mapping[str, Any]) -> tuple[bpe.Merges, dict[bytes, int]]:
    """Its merges, and the pieces that are one token whatever they say."""
    if described.get("type", "BPE") != "BPE" or "merges" not in described:
        raise Unreadable(f"model {described.get('type')}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if described.get(name):
            raise Unreadable(name)
    vocabulary: dict[str, int] = described["vocab"]
    if len(set(vocabulary.values())) != len(vocabulary):
        raise Unreadable("two tokens of one id")
    alphabet = _alphabet()
    if any(letter not in vocabulary for letter in alphabet):
        raise Unreadable("bytes that are no token")
    ranked: dict[tuple[int, int], int] = {}
    pairs = [item.split(" ") if isinstance(item, str) else item for item in described["merges"]]
    for rank, (left, right) in enumerate(pairs):
        ranked[vocabulary[left], vocabulary[right]] = rank  # of two alike the library keeps the last
    if len(pairs) >= bpe.MAX_MERGES:
        raise Unreadable(f"{len(pairs):,} merges")
    # A pair that is named again later never has its first rank; the place is kept, so that ranks stay what they are.
    rows = np.full((len(pairs), 2), -1, np.int32)
    for pair, rank in ranked.items():
        rows[rank] = pair
    becomes = np.fromiter((vocabulary[left + right] for left, right in pairs), np.int32, len(pairs))
    of_bytes = np.fromiter((vocabulary[letter] for letter in alphabet), np.int32, 256)
    known: dict[bytes, int] = {}
    if described.get("ignore_merges"):
        numbers = {letter: number for number, letter in enumerate(alphabet)}
        for token, number in vocabulary.items():
            if token and all(letter in numbers for letter in token):
                known[bytes(numbers[letter] for letter in token)] = number
        if max(map(len, known)) > bpe.LONGEST_KNOWN:
            raise Unreadable("very long tokens")
    return bpe.merges(of_bytes, rows, becomes), known


@cache
def _alphabet() -> tuple[str, ...]:
    """The letter that stands for each byte: itself where it can be seen, else the next from U+0100 on (GPT-2)."""
    seen = [byte for byte in range(256) if 0x21 <= byte <= 0x7E or (byte >= 0xA1 and byte != 0xAD)]
    hidden = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in seen else chr(next(hidden)) for byte in range(256))


def _search_for(added: Sequence[str]) -> str | None:
    """A pattern that finds any of these, and their composed forms, in a text."""
    wanted = sorted({form for item in added if item for form in (item, unicodedata.normalize("NFC", item))})
    if len(wanted) > MAX_ADDED:
        raise Unreadable(f"{len(wanted):,} added tokens that are not special")
    escaped = [
        "".join(f"\\x{{{ord(letter):x}}}" if not letter.isalnum() else letter for letter in item) for item in wanted
    ]
    return "|".join(escaped) or None


@cache
def _classes(alone: str | None) -> Bytes:
    """The classes of `factory.kernels.pretokens` of every code point, as the library sees them."""
    classes = np.zeros(0x110000, np.uint8)
    for kind, pattern in ((pretokens.LETTER, r"\p{L}+"), (pretokens.NUMBER, r"\p{N}+"), (pretokens.SPACE, r"\s+")):
        found = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
        _mark(classes, kind, found)
    if alone == "regex":
        classes[(classes & pretokens.NUMBER) != 0] |= pretokens.ALONE
    elif alone == "digits":
        # Every character twice: what is cut from its twin is a digit.
        _mark(classes, pretokens.ALONE, pre_tokenizers.Digits(individual_digits=True), pattern=False)
    for letter in "\r\n":
        classes[ord(letter)] |= pretokens.LINE_END
    classes.flags.writeable = False
    return classes


def _mark(classes: Bytes, kind: np.uint8, cutter: Any, *, pattern: bool = True) -> None:
    """Give `kind` to the characters of the pieces a pattern finds; or, of every character twice, to those cut from their twin."""
    for begin, stop in _PLANES:
        for first in range(begin, stop, 4096):
            letters = map(chr, range(first, min(first + 4096, stop)))
            text = "".join(letters if pattern else (2 * letter for letter in letters))
            for _, (start, end) in cutter.pre_tokenize_str(text):
                if pattern:
                    classes[first + start : first + end] |= kind
                elif end - start == 1:
                    classes[first + start // 2] |= kind


@cache
def _composed() -> Bytes:
    """1 for every character that stays as it is under NFC, whatever stands beside it, in all versions of Unicode."""
    table = np.zeros(0x110000, np.uint8)
    seconds = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
    for code in (*range(0xD800), *range(0xE000, 0x323B0)):
        letter = chr(code)
        parts = unicodedata.decomposition(letter).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(int(parts[1], 16))
        assigned = unicodedata.category(letter) not in ("Cn", "Co")
        if assigned and not unicodedata.combining(letter) and unicodedata.is_normalized("NFC", letter):
            table[code] = 1
    table[sorted(seconds)] = 0
    table.flags.writeable = False
    return table
