"""How often the entries of a word list occur: `hits`, how many different ones, and hits per 1,000 words.

The list is the user's: `file`, an entry a line in the form of LDNOOBW (list C4 drops documents by, arXiv:1910.10683;
RedPajama-V2 counts, arXiv:2411.12372, and so does this: dropping at the first hit removes medicine, news and minorities'
own texts). Entries may have several words, and one inside another counts too. Case does not matter, nor how much white
space there is. An entry is found as a whole, where no letter, number, combining mark or low line touches it, so that
`Scunthorpe` never hits; `anywhere: true` finds it within words as well, which is the default where `language` writes no
spaces (ja, th, zh). `allow` takes entries out of the list. Nothing is normalised but case: an accent written as a
combining mark is another character. A word is what the cutter `words` makes, marks not counted.
"""

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files
from factory.stages.segmentation import Words, find_cutter, word_packages
from factory.stages.word_lists import read_entries

COLUMNS = {"hits": pa.uint32(), "distinct": pa.uint32(), "per_1000_words": pa.float32()}
WITHOUT_SPACES = ("ja", "th", "zh")


class Settings(Config):
    file: str | None = None
    entries: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    language: str = "en"
    anywhere: bool | None = None
    words: Words = "unicode"


@register(
    "bad_words",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    files=lambda config: () if config.file is None else (config.file,),
    packages=word_packages,
)
def bad_words(config: Settings, files: Files | None = None) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.columns import count_column, share_column
    from factory.kernels.entries import build_trie, count_entries
    from factory.kernels.pieces import IS_MARK, pieces_of
    from factory.kernels.text import view_text

    listed = read_entries("bad_words", config.file, files, config.entries)
    small = pc.utf8_lower(pa.array([*listed, *config.allow], pa.string())).to_pylist()
    allowed = set(small[len(listed) :])
    entries = sorted({entry.encode() for entry in small[: len(listed)] if entry not in allowed})
    trie = build_trie(entries)
    anywhere = config.language in WITHOUT_SPACES if config.anywhere is None else config.anywhere
    cutter = find_cutter(config.words)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        import numpy as np

        text = batch.column("text")
        view, pieces = pieces_of(text, cutter)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum((pieces.flags & IS_MARK) == 0, dtype=np.int64)])
        hits, distinct = count_entries(view_text(pc.utf8_lower(text)), trie, len(entries), anywhere).T
        columns = [
            count_column(hits, view.valid),
            count_column(distinct, view.valid),
            share_column(1000 * hits, np.diff(before[pieces.starts]), view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
