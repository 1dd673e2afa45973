"""Repairs text that was read in a wrong encoding (`cafÃ©`), and takes out control characters: ftfy, at its most careful.

Only the encoding is repaired, as FineWeb2 has it (arXiv:2506.20920): no quotes are straightened, no width or ligature
changed, nothing normalised. Control characters are those of `ftfy.fixes.remove_control_chars`, the byte order mark among
them. Lines are repaired each for itself, again until nothing changes, so that repairing twice changes nothing. An edit
covers the words that changed and no more, so that it does not get in the way of what other rewriters do on the line. Texts
in ASCII without control characters cost one pass; lines of more than a million bytes stay as they are.
"""

import re
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.registry import NoSettings, register
from factory.core.schema import EDITS
from factory.core.stage import BatchFunction

_LONGEST_LINE = 1_000_000
_ROUNDS = 5
_CONTROLS = "\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc"
_CONTROL = re.compile(f"[{_CONTROLS}]")
# What ftfy looks for are up to seven characters, of which at most two at each end are ASCII.
_RUN = re.compile(r"[^\x00-\x7f](?:[\x00-\x7f]{0,4}[^\x00-\x7f]){0,1000000}+")
_WORD = re.compile(r"\s+|\S+")
_PLAIN = "^[\\t\\n\\f\\r -~]*$"

Edit = tuple[int, int, str]


@register(
    "repair_encoding",
    version=1,
    reads=("text",),
    writes={"edits": EDITS},
    config=NoSettings,
    packages=lambda config: ("ftfy",),
)
def repair_encoding(config: NoSettings) -> BatchFunction:
    def rewrite(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch.column("text")
        doubtful = pc.invert(pc.match_substring_regex(texts, _PLAIN)).fill_null(False).to_pylist()
        edits: list[list[dict[str, Any]] | None] = []
        for row, (wanted, known) in enumerate(zip(doubtful, texts.is_valid().to_pylist(), strict=True)):
            found = edits_of(texts[row].as_py()) if wanted else []
            edits.append([{"start": s, "end": e, "replacement": r} for s, e, r in found] if known else None)
        return pa.record_batch([pa.array(edits, EDITS)], names=["edits"])

    return rewrite


def edits_of(text: str) -> list[Edit]:
    """The edits of a text, in bytes."""
    from ftfy.badness import is_bad

    controls = _CONTROL.search(text) is not None
    edits: list[Edit] = []
    at = 0
    for line in text.split("\n"):
        plain = line.isascii()
        size = len(line) if plain else len(line.encode())
        # What ftfy itself asks first, where it can matter: most lines hold a dash or an accent and nothing bad.
        doubtful = not plain and any(is_bad(line[max(0, m.start() - 2) : m.end() + 2]) for m in _RUN.finditer(line))
        doubtful = doubtful or (controls and _CONTROL.search(line) is not None)
        if doubtful and size <= _LONGEST_LINE:
            edits += [(at + start, at + end, made) for start, end, made in _changes(line, _repaired(line))]
        at += size + 1
    return edits


def _repaired(line: str) -> str:
    import ftfy

    for _ in range(_ROUNDS):
        fixed = line if line.isascii() else ftfy.fix_encoding(line, _config())
        # A line stays one: what is repaired may hold a line break of its own.
        fixed = _CONTROL.sub("", fixed).replace("\n", " ")
        if fixed == line:
            return line
        line = fixed
    return line


@cache
def _config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(unescape_html=False, normalization=None, explain=False)


def _changes(line: str, fixed: str) -> list[Edit]:
    """What makes the one of the other: word by word, or from the first word that differs to the last one."""
    if line == fixed:
        return []
    before, after = _WORD.findall(line), _WORD.findall(fixed)
    if len(before) != len(after):
        first = next(
            (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
        )
        shorter = min(len(before), len(after)) - first
        last = next((n for n in range(shorter) if before[-1 - n] != after[-1 - n]), shorter)
        middle = slice(first, len(before) - last), slice(first, len(after) - last)
        before[middle[0]], after[middle[1]] = ["".join(before[middle[0]])], ["".join(after[middle[1]])]
    edits, at = [], 0
    for old, new in zip(before, after, strict=True):
        end = at + len(old.encode())
        if old != new:
            edits.append((at, end, new))
        at = end
    return edits
