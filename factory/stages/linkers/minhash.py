"""Near-duplicates: texts whose sets of n-grams overlap share a key, with a chance that rises steeply with the overlap.

With b bands of r rows, a pair of Jaccard similarity J shares a key with probability 1 - (1 - J**r)**b. The defaults are
FineWeb's (arXiv:2406.17557): 5-grams of words, 14 bands of 8 rows, which finds 56 % of the pairs at 0.7, 92 % at 0.8 and
all but a few at 0.9. `preset` names the numbers of another corpus, `threshold` asks for the bands and rows that err least
at a similarity; what is written beside a preset wins over it.

`words` are those of the normal form (`fold`, see `factory.kernels.folding`) or the pieces of a segmentation, each in normal
form; `unit: characters` takes n-grams of characters instead. A text of fewer than `ngram` of them is one n-gram of all; one
without any, or of fewer than `min_words`, has no keys. `signatures` keeps the minima beside the keys, whose equal share
estimates the similarity. With `verify`, documents are linked only where the true similarity of their sets is at least
that; the sets are then kept beside the keys (`shingles`, which may be asked for alone), and another bound needs no other
keys.
"""

from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.bands import MAX_HASHES, PRESETS, Preset, best_bands
from factory.stages.segmentation import WORDS, known_words, word_packages

FOLD = "fold"


def _known(name: str) -> str:
    return name if name == FOLD else known_words(name)


class Settings(Config):
    preset: Preset | None = Field(default=None, exclude=True)  # what it stands for is in the others
    threshold: float | None = Field(default=None, gt=0, lt=1, exclude=True)  # so is this
    hashes: int | None = Field(default=None, ge=1, le=1024, exclude=True)
    ngram: int = Field(default=5, ge=1, le=64)
    bands: int = Field(default=14, ge=1, le=512)
    rows: int = Field(default=8, ge=1, le=512)
    seed: int = Field(default=1, ge=0, lt=2**63)
    words: Annotated[str, AfterValidator(_known)] = FOLD
    unit: Literal["words", "characters"] = "words"
    min_words: int = Field(default=1, ge=1)
    signatures: bool = False
    shingles: bool = False
    verify: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("verify") is not None:
            given = {**given, "shingles": True}
        preset: dict[str, Any] = PRESETS.get(name, {}) if isinstance(name := given.get("preset"), str) else {}
        threshold, hashes = given.get("threshold"), given.get("hashes")
        if threshold is None:
            return {**preset, **given}
        hashes = 128 if hashes is None else hashes
        if type(threshold) not in (int, float) or type(hashes) is not int:
            raise ValueError(f"'threshold' and 'hashes' are numbers without quotes, not {threshold!r} and {hashes!r}")
        if named := [name for name in ("bands", "rows") if name in given]:
            raise ValueError(f"'threshold' chooses bands and rows; leave out {' and '.join(named)}, or the threshold")
        if not (0 < threshold < 1 and 0 < hashes <= 1024):
            return given  # for the fields to say what is wrong
        bands, rows = best_bands(threshold, hashes)
        return {**preset, **given, "bands": bands, "rows": rows}

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if self.bands * self.rows > MAX_HASHES:
            raise ValueError(
                f"{self.bands} bands of {self.rows} rows are {self.bands * self.rows:,} hashes for every document; "
                f"at most {MAX_HASHES:,} are possible"
            )
        if self.hashes is not None and self.threshold is None:
            raise ValueError("'hashes' says among how many a 'threshold' chooses; give one, or give bands and rows")
        if self.unit == "characters" and (self.words != FOLD or self.min_words > 1):
            raise ValueError("with 'unit: characters' there are no words: leave out words and min_words")
        return self


def _writes(config: Settings) -> dict[str, pa.DataType]:
    columns: dict[str, pa.DataType] = {"keys": pa.list_(pa.uint64())}
    if config.signatures:
        columns["signature"] = pa.list_(pa.uint32())
    if config.shingles:
        columns["shingles"] = pa.list_(pa.uint32())
    return columns


@register(
    "minhash",
    version=2,
    reads=("text",),
    writes=_writes,
    config=Settings,
    packages=word_packages,
    links="documents",
    join_settings=("verify",),
)
def minhash(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.folding import source
    from factory.kernels.hashing import key_column, list_column
    from factory.kernels.minhash import shingle_sets, sign
    from factory.kernels.text import view_text

    cutter = None
    if config.words in WORDS:
        from factory.stages.segmentation import find_cutter

        cutter = find_cutter(config.words)
    schema = pa.schema(_writes(config))

    def keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        units = source(view, cutter(view) if cutter else None, characters=config.unit == "characters")
        bands, smallest, counts = sign(units, config.ngram, config.bands, config.rows, config.seed)
        linked = counts >= config.min_words
        columns = [key_column(bands, linked, view.valid)]
        if config.signatures:
            columns.append(key_column(smallest, linked, view.valid))
        if config.shingles:
            shingles, starts = shingle_sets(units, config.ngram)
            columns.append(list_column(shingles, starts, np.asarray(view.valid)))
        return pa.record_batch(columns, schema=schema)

    return keys
