"""Puts a line feed in the place of lines that hold nothing but a symbol, `|` by default: what is left of a table's rules.

FineWeb2 (arXiv:2506.20920; datatrove's SymbolLinesFormatter) does this at the end: a run of such lines becomes one
`replacement`. Blanks between the symbols count for nothing; a line of blanks alone is none. With an empty `replacement` the
lines go altogether. Lines end at line feeds. Twice changes nothing.
"""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.schema import EDITS
from factory.core.stage import BatchFunction


class SymbolLines(Config):
    symbols: str = Field(default="|", min_length=1, max_length=200)
    replacement: str = "\n"

    @field_validator("symbols")
    @classmethod
    def _are_signs(cls, symbols: str) -> str:
        if any(symbol.isspace() for symbol in symbols):
            raise ValueError("white space is no symbol; lines of white space alone are kept")
        return symbols

    @field_validator("replacement")
    @classmethod
    def _is_blank(cls, replacement: str) -> str:
        if replacement.strip():
            raise ValueError("what stands in the place of the lines is white space or nothing")
        return replacement


@register("symbol_lines", version=1, reads=("text",), writes={"edits": EDITS}, config=SymbolLines)
def symbol_lines(config: SymbolLines) -> BatchFunction:
    line = rf" *+[{re.escape(config.symbols)}][{re.escape(config.symbols)} ]*+"
    run = re.compile(rf"^{line}(?:\n{line})*+$", re.MULTILINE)
    any_of = "[" + "".join(rf"\x{{{ord(symbol):x}}}" for symbol in config.symbols) + "]"

    def rewrite(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch.column("text")
        doubtful = pc.match_substring_regex(texts, any_of).fill_null(False).to_pylist()
        edits: list[list[dict[str, Any]] | None] = []
        for row, (wanted, known) in enumerate(zip(doubtful, texts.is_valid().to_pylist(), strict=True)):
            text = texts[row].as_py() if wanted else ""
            edits.append(_edits(text, run, config.replacement) if known else None)
        return pa.record_batch([pa.array(edits, EDITS)], names=["edits"])

    return rewrite


def _edits(text: str, run: re.Pattern[str], replacement: str) -> list[dict[str, Any]]:
    edits = []
    seen, size = 0, 0  # characters, and the bytes they take
    for found in run.finditer(text):
        start, end = found.span()
        if not replacement:  # with the line feed that ends the lines, or else the one before them
            end, start = (end + 1, start) if end < len(text) else (end, max(start - 1, 0))
        size += len(text[seen:start].encode())
        width = len(text[start:end].encode())
        edits.append({"start": size, "end": size + width, "replacement": replacement})
        seen, size = end, size + width
    return edits
