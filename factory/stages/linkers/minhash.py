"""Near-duplicates: texts whose sets of word n-grams overlap share a key, with a chance that rises steeply with the overlap.

With b bands of r rows, a pair of Jaccard similarity J shares a key with probability 1 - (1 - J**r)**b. The defaults are
FineWeb's (arXiv:2406.17557): 5-grams, 14 bands of 8 rows, which finds 56 % of the pairs at 0.7, 92 % at 0.8 and all but a
few at 0.9. The normal form, shingles and hashes are those of `factory.kernels.minhash`. A text without words has no keys.
"""

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction

COLUMNS = {"keys": pa.list_(pa.uint64())}


class Settings(Config):
    ngram: int = Field(default=5, ge=1, le=64)
    bands: int = Field(default=14, ge=1, le=512)
    rows: int = Field(default=8, ge=1, le=512)
    seed: int = Field(default=1, ge=0, lt=2**63)


@register("minhash", version=1, reads=("text",), writes=COLUMNS, config=Settings)
def minhash(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.hashing import key_column
    from factory.kernels.minhash import band_keys, folded_characters, hash_family, minima
    from factory.kernels.text import view_text

    folded = folded_characters()
    multipliers, increments = hash_family(config.bands * config.rows, config.seed)

    def keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        smallest, words = minima(*view, folded, config.ngram, multipliers, increments)
        bands = band_keys(smallest, config.bands, config.rows, np.uint64(config.seed))
        return pa.record_batch([key_column(bands, words > 0, view.valid)], schema=pa.schema(COLUMNS))

    return keys
