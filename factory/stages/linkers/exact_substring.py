"""Any run of 50 tokens that occurs twice, in another document or in the same one (arXiv:2107.06499, ExactSubstr).

Every window of `length` tokens is a piece with a 64-bit key; windows that occur more than `over` times go, and the union of
their bytes is what is removed. The positions so marked are those where a suffix array finds a common prefix of `length`
tokens or more, but for hashes that collide (n**2 / 2**65 pairs of n windows). `keep: none` is what the authors and
RefinedWeb do; `first` keeps the windows of the first document.

`tokens: words` takes words and marks (any text, no model), each with the white space before it; a path takes the tokens of
that Hugging Face tokenizer.json, as ids. Tokens that share a character are one, so that no character is ever cut.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files

COLUMNS = {"keys": pa.list_(pa.uint64()), "lengths": pa.list_(pa.uint32()), "text_bytes": pa.uint32()}


class Settings(Config):
    tokens: str = Field(default="words", min_length=1)
    length: int = Field(default=50, ge=2, le=1000)
    keep: Literal["first", "none"] = "none"
    over: int = Field(default=1, ge=1, lt=2**31)


def _files(config: Settings) -> tuple[str, ...]:
    return () if config.tokens == "words" else (config.tokens,)


def _packages(config: Settings) -> tuple[str, ...]:
    return () if config.tokens == "words" else ("tokenizers",)


@register(
    "exact_substring",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    files=_files,
    packages=_packages,
    links="spans",
    join_settings=("keep", "over"),
)
def exact_substring(config: Settings, files: Files | None = None) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.hashing import list_column
    from factory.kernels.span_keys import size_column
    from factory.kernels.substrings import window_keys
    from factory.kernels.text import view_text

    tokens_of = _words() if config.tokens == "words" else _subwords(config.tokens, (files or {}).get(config.tokens, {}))

    def keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        view = view_text(text)
        tokens, lengths, starts = tokens_of(text)
        pieces, firsts = window_keys(tokens, starts, config.length)
        columns = [
            list_column(pieces, firsts, view.valid),
            list_column(lengths, starts, view.valid),
            size_column(view),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return keys


# Of a column of texts: a 64-bit number and the bytes of each token, and where the tokens of each text begin.
Tokens = Callable[[pa.Array], tuple[Any, Any, Any]]


def _words() -> Tokens:
    from factory.kernels.pieces import pieces_of
    from factory.kernels.substrings import spaced_tokens
    from factory.stages.segmentation import find_cutter

    cutter = find_cutter("unicode")

    def words(text: pa.Array) -> tuple[Any, Any, Any]:
        view, pieces = pieces_of(text, cutter)
        return *spaced_tokens(view, pieces), pieces.starts

    return words


def _subwords(path: str, files: "dict[str, bytes] | Any") -> Tokens:
    import numpy as np
    from tokenizers import Tokenizer

    if len(files) != 1:
        raise InputError(f"exact_substring.tokens: '{path}' should be one tokenizer.json, and is {len(files)} files.")
    try:
        tokenizer = Tokenizer.from_str(next(iter(files.values())).decode())
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"exact_substring.tokens: '{path}' is no tokenizer.json of Hugging Face ({error}).") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def subwords(text: pa.Array) -> tuple[Any, Any, Any]:
        values: list[str] = ["" if value is None else value for value in text.to_pylist()]
        found = [_units(value, encoding) for value, encoding in zip(values, _encode(tokenizer, values), strict=True)]
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in found], dtype=np.int64)]).astype(np.int64)
        none = [(np.zeros(0, np.uint64), np.zeros(0, np.uint32))]
        ids, lengths = (np.concatenate(column) for column in zip(*(found or none), strict=True))
        return ids, lengths, starts

    return subwords


def _encode(tokenizer: Any, values: list[str]) -> Iterable[Any]:
    encodings: Iterable[Any] = tokenizer.encode_batch(values, add_special_tokens=False)
    return encodings


def _units(text: str, encoding: Any) -> tuple[Any, Any]:
    """Number and bytes of each token; those that share a character are joined into one."""
    import numpy as np

    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    ids = np.array(encoding.ids, np.uint64) + np.uint64(1)
    # Where a token ends, or the longest before it: a normaliser may hand over what it made out of order.
    ends = np.maximum.accumulate(offsets[:, 1]) if len(offsets) else np.zeros(0, np.int64)
    apart = np.ones(len(ids), np.bool_)
    apart[1:] = offsets[1:, 0] >= ends[:-1]
    heads = np.flatnonzero(apart)
    numbers = ids[heads]
    with np.errstate(over="ignore"):
        for head in np.flatnonzero(np.diff(np.append(heads, len(ids))) > 1).tolist():
            stop = heads[head + 1] if head + 1 < len(heads) else len(ids)
            for token in range(int(heads[head]) + 1, int(stop)):
                numbers[head] = numbers[head] * np.uint64(0x9E3779B97F4A7C15) + ids[token]
    lasts = np.append(heads[1:], len(ids))[: len(heads)] - 1
    data = np.frombuffer(text.encode(), np.uint8)
    places = np.append(np.flatnonzero(data & 0xC0 != 0x80), len(data))  # where each character begins, in bytes
    return numbers, np.diff(places[ends[lasts]], prepend=0).astype(np.uint32)
