"""How many of a text's words are stop words of its language: how often they occur, how many different ones, what share.

Without a list these are the eight of arXiv:2112.11446 (Table A1: the, be, to, of, and, that, have, with), which Gopher's
rules ask two of; the rule is read both as two occurrences (`count`) and as two different words (`distinct`). For other
languages name `file`, with an entry a line, or `entries`. `fraction` is per word, marks not counted, as RedPajama-V2's
`rps_doc_stop_word_fraction` (arXiv:2411.12372) is per raw word. A list is in small letters: with `any_case` a word at the
begin of a sentence, or all in capitals, counts too. Words are those of the cutter `words`, by which a list is made.
"""

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files
from factory.stages.segmentation import Words, find_cutter, word_packages
from factory.stages.word_lists import read_entries

COLUMNS = {"count": pa.uint32(), "distinct": pa.uint32(), "fraction": pa.float32()}
GOPHER = ("the", "be", "to", "of", "and", "that", "have", "with")


class Settings(Config):
    file: str | None = None
    entries: tuple[str, ...] = ()
    any_case: bool = True
    words: Words = "unicode"


@register(
    "stop_words",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    files=lambda config: () if config.file is None else (config.file,),
    packages=word_packages,
)
def stop_words(config: Settings, files: Files | None = None) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.columns import count_column, share_column
    from factory.kernels.pieces import IS_MARK, Cut, describe, pieces_of
    from factory.kernels.text import view_text

    entries = config.entries or (() if config.file else GOPHER)
    listed = read_entries("stop_words", config.file, files, entries)
    forms: dict[str, int] = {}  # a word as it may be written, and which entry it is
    for number, word in enumerate(listed):
        for form in (word, word.lower(), word.capitalize(), word.upper()) if config.any_case else (word,):
            forms.setdefault(form, number)
    view = view_text(pa.array(list(forms), pa.large_string()))
    hashes = describe(view, Cut(view.offsets[:-1].copy(), view.offsets[1:].copy(), np.arange(len(forms) + 1))).hashes
    order = np.argsort(hashes)
    known, entry = hashes[order], np.array(list(forms.values()), np.int64)[order]
    cutter = find_cutter(config.words)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view, pieces = pieces_of(batch.column("text"), cutter)
        texts = len(view.valid)
        place = np.minimum(np.searchsorted(known, pieces.hashes), len(known) - 1)
        hits = np.flatnonzero(known[place] == pieces.hashes)
        text = np.searchsorted(pieces.starts, hits, side="right") - 1
        pairs = np.unique(text * len(listed) + entry[place[hits]])
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum((pieces.flags & IS_MARK) == 0, dtype=np.int64)])
        count = np.bincount(text, minlength=texts)
        columns = [
            count_column(count, view.valid),
            count_column(np.bincount(pairs // len(listed), minlength=texts), view.valid),
            share_column(count, np.diff(before[pieces.starts]), view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
