"""The script most letters of a text are written in, by its ISO 15924 name, and the share of letters that are.

Kana and Han together are `Jpan` where a letter in twenty or more is kana, Hangul and Han together `Kore` where Hangul is
not less than Han: so are the labels of GlotLID and FineWeb2 (arXiv:2506.20920), whose script this can be compared with.
`share` is of all letters. A text without letters has no script.
"""

import pyarrow as pa

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction

COLUMNS = {"script": pa.string(), "share": pa.float32()}


@register("script", version=1, reads=("text",), writes=COLUMNS)
def script(config: NoSettings) -> BatchFunction:
    import numpy as np

    from factory.kernels.alphabets import count_letters, script_table
    from factory.kernels.columns import share_column
    from factory.kernels.text import view_text

    names, _ = script_table()
    han, kana, hangul = names.index("Hani"), [names.index("Hira"), names.index("Kana")], names.index("Hang")
    labels = pa.array([*names, "Jpan", "Kore"], pa.string())
    japanese, korean = len(names), len(names) + 1

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        counts = count_letters(*view)
        together = np.zeros((len(counts), len(names) + 2), np.int64)
        together[:, : len(names)] = counts
        syllables = counts[:, kana].sum(axis=1)
        # A name in kana makes no Japanese of a Chinese text; in Japanese about every second letter is kana.
        as_japanese = (syllables > 0) & (20 * syllables >= counts[:, han])
        together[:, japanese] = np.where(as_japanese, syllables + counts[:, han], 0)
        as_korean = (counts[:, hangul] > 0) & (counts[:, hangul] >= counts[:, han]) & ~as_japanese
        together[:, korean] = np.where(as_korean, counts[:, hangul] + counts[:, han], 0)
        for merged, own in ((as_japanese, [han, *kana]), (as_korean, [han, hangul])):
            for column in own:
                together[merged, column] = 0
        best = together.argmax(axis=1)
        known = view.valid & (together.max(axis=1, initial=0) > 0)
        columns = [
            labels.take(pa.array(best, mask=~known)),
            share_column(together[np.arange(len(best)), best], counts.sum(axis=1), view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
