"""How much likelier a text is under a model of the reference documents than under one of the crawl: DSIR's log-ratio.

Both models are bags of hashed words and pairs of words (arXiv:2302.03169): small letters, `\\w+|[^\\w\\s]+`, SHA-256 modulo
`buckets`, smoothed by 1e-8. `score` is the sum over a text's grams of log p(target) − log p(raw), as in
`rps_doc_{books,openwebtext,wikipedia}_importance` of RedPajama-V2 (arXiv:2411.12372), whose own hash is salted by Python
and differs in every run. A sum grows with length, so that a draw by it takes long texts: `per_gram` is the mean.
`length_corrected` adds the log-ratio of Poisson models of the number of words, also smoothed by 1e-8; upstream asks models
of words about characters. Natural logarithms. A text without words has no score. Name one scorer per target.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Sample, Training
from factory.stages.scorers.fasttext_quality import auc

TARGET, RAW = "target", "raw"
COLUMNS = {"score": pa.float64(), "per_gram": pa.float32(), "length_corrected": pa.float64()}
MODEL_FILE = "importance.safetensors"

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_HELD_OUT = 10  # one document in ten
_FEWEST = 20  # documents a side
_SMOOTHING = 1e-8


class Settings(Config):
    target: str = Field(min_length=1)
    raw: str = Field(min_length=1)
    documents: int = Field(default=20_000, ge=_FEWEST)
    buckets: int = Field(default=10_000, ge=2, le=10_000_000)


def samples(config: Settings) -> Iterable[Sample]:
    return (
        Sample(role=TARGET, documents=config.documents, uri=config.target),
        Sample(role=RAW, documents=config.documents, source=config.raw),
    )


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """Count nine documents in ten of each side, chosen by the hash of their text; measure on the others."""
    from safetensors.numpy import save_file

    counted: dict[str, Integers] = {}
    words: dict[str, float] = {}
    held_out: list[str] = []
    truth: list[bool] = []
    for role in (TARGET, RAW):
        documents = sorted({text for text in texts.get(role, []) if text.strip()})
        if len(documents) < _FEWEST:
            where = f"'{config.target}'" if role == TARGET else f"source '{config.raw}'"
            raise FactoryError(
                f"importance needs {_FEWEST} different {role} documents; {where} has {len(documents)}. Name a larger one."
            )
        documents.sort(key=lambda text: xxhash.xxh3_64_intdigest(text.encode(), seed=seed))
        split = max(1, len(documents) // _HELD_OUT)
        held_out += documents[:split]
        truth += [role == TARGET] * split
        found, _, lengths = _grams(pa.array(documents[split:], pa.large_string()), config.buckets)
        counted[role] = np.bincount(found, minlength=config.buckets)
        words[role] = float(lengths.mean())
    ratios = _logs(counted[TARGET]) - _logs(counted[RAW])
    means = np.array([words[TARGET], words[RAW]])
    save_file({"ratios": ratios, "words": means}, f"{directory}/{MODEL_FILE}")
    score, grams, _ = _scores(pa.array(held_out, pa.large_string()), ratios, means)
    return {
        "auc": auc((score / np.maximum(grams, 1)).astype(np.float32), np.array(truth)),
        "target_words": words[TARGET],
        "raw_words": words[RAW],
        "target_grams": int(counted[TARGET].sum()),
        "raw_grams": int(counted[RAW].sum()),
        "held_out": len(held_out),
    }


TRAINING = Training(file=MODEL_FILE, samples=samples, fit=fit)


@register("importance", version=1, reads=("text",), writes=COLUMNS, config=Settings, train=TRAINING)
def importance(config: Settings, model_path: str) -> BatchFunction:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        model = load_file(model_path)
        ratios, means = model["ratios"], model["words"]
    except (OSError, SafetensorError, KeyError) as error:
        raise FactoryError(f"{model_path} is no model of importance that this factory made: {error}") from error

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        sums, grams, corrections = _scores(batch.column("text"), ratios, means)
        unknown = grams == 0
        columns = [
            pa.array(sums, mask=unknown),
            pa.array((sums / np.maximum(grams, 1)).astype(np.float32), mask=unknown),
            pa.array(sums + corrections, mask=unknown),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score


def _grams(text: pa.Array, buckets: int) -> tuple[npt.NDArray[np.int32], Integers, Integers]:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.buckets import bucket_grams
    from factory.kernels.text import view_text

    return bucket_grams(view_text(pc.utf8_lower(text)), buckets)


def _scores(text: pa.Array, ratios: Doubles, means: Doubles) -> tuple[Doubles, Integers, Doubles]:
    """Of each text the sum of log-ratios, its grams, and what its length adds."""
    found, starts, words = _grams(text, len(ratios))
    grams = np.diff(starts)
    # A text's own sum: a running one would depend on the rows before.
    sums = np.add.reduceat(np.append(ratios[found], 0.0), starts[:-1]) if len(words) else np.zeros(0)
    sums[grams == 0] = 0.0
    target, raw = (np.log(_poisson(words, mean) + _SMOOTHING) for mean in means)
    return sums, grams, target - raw


def _logs(counts: Integers) -> Doubles:
    logs: Doubles = np.log(counts / counts.sum() + _SMOOTHING)
    return logs


def _poisson(words: Integers, mean: float) -> Doubles:
    """The chance of so many words."""
    from math import lgamma

    factorials = np.array([lgamma(count + 1.0) for count in words.tolist()])
    chances: Doubles = np.exp(words * np.log(mean) - mean - factorials)
    return chances
