"""How much a text looks like the reference documents rather than like the crawl: P(positive) of a fastText classifier.

The method is DCLM's (arXiv:2406.11794, section 4.4): reference documents against a sample of the crawl, line feeds as
spaces and no other normalisation, word bigrams, 5 passes. DCLM's own settings, for 400,000 documents, are `dim: 100, lr:
0.1, bucket: 2_000_000`; the defaults here are for a few thousand, which need larger steps and learn fewer dimensions.
Both sides are cut to their first `max_words` words, when trained and when scored, so that length does not tell them
apart. The score orders documents of one pool; compare shares (top_share), not values between models.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Sample, Training
from factory.stages.fasttext_models import Classifier, Shape, load, one_line, train

POSITIVE, NEGATIVE = "positive", "negative"
COLUMNS = {"score": pa.float32()}
MODEL_FILE = "quality.bin"

_HELD_OUT = 10  # one document in ten
_FEWEST = 20  # documents a side: fewer leave nothing to measure on


class Settings(Config):
    positives: str = Field(min_length=1)
    negatives: str = Field(min_length=1)
    documents: int = Field(default=20_000, ge=_FEWEST)
    max_words: int = Field(default=1000, ge=1)
    word_ngrams: int = Field(default=2, ge=1, le=5)
    dim: int = Field(default=16, ge=1, le=1000)
    epoch: int = Field(default=5, ge=1, le=1000)
    lr: float = Field(default=0.5, gt=0, le=10)
    bucket: int = Field(default=200_000, ge=1, le=100_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)


def samples(config: Settings) -> Iterable[Sample]:
    return (
        Sample(role=POSITIVE, documents=config.documents, uri=config.positives),
        Sample(role=NEGATIVE, documents=config.documents, source=config.negatives),
    )


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """Train on nine documents in ten of each side, chosen by the hash of their text; measure on the others."""
    learned: list[tuple[str, str]] = []
    held_out: list[tuple[str, str]] = []
    for role in (POSITIVE, NEGATIVE):
        # Copies would lie on both sides of the split, and the order in which documents came must not matter.
        lines = sorted({line for text in texts.get(role, []) if (line := _line(text, config.max_words))})
        if len(lines) < _FEWEST:
            where = f"'{config.positives}'" if role == POSITIVE else f"source '{config.negatives}'"
            raise FactoryError(
                f"fasttext_quality needs {_FEWEST} different {role} documents; {where} has {len(lines)}. Name a larger one."
            )
        lines.sort(key=lambda line: xxhash.xxh3_64_intdigest(line.encode(), seed=seed + config.seed))
        split = max(1, len(lines) // _HELD_OUT)
        held_out += [(role, line) for line in lines[:split]]
        learned += [(role, line) for line in lines[split:]]
    shape = Shape(
        dim=config.dim, epoch=config.epoch, lr=config.lr, bucket=config.bucket, word_ngrams=config.word_ngrams
    )
    roles = [role for role, _ in learned]
    classifier = train([line for _, line in learned], roles, f"{directory}/{MODEL_FILE}", shape, seed + config.seed)
    truth = np.array([role == POSITIVE for role, _ in held_out])
    scores = _scores(classifier, [line for _, line in held_out])
    chosen = scores >= 0.5
    right = int((chosen & truth).sum())
    return {
        "auc": auc(scores, truth),
        "precision": right / int(chosen.sum()) if chosen.any() else None,
        "recall": right / int(truth.sum()),
        "positives": roles.count(POSITIVE),
        "negatives": roles.count(NEGATIVE),
        "held_out_positives": int(truth.sum()),
        "held_out_negatives": int((~truth).sum()),
    }


def auc(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative; equal scores count half (Mann and Whitney, 1947)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives, negatives = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


TRAINING = Training(file=MODEL_FILE, samples=samples, fit=fit)


@register("fasttext_quality", version=1, reads=("text",), writes=COLUMNS, config=Settings, train=TRAINING)
def fasttext_quality(config: Settings, model_path: str) -> BatchFunction:
    classifier = load(model_path)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        lines = [_line(text or "", config.max_words) for text in batch.column("text").to_pylist()]
        unknown = np.array([not line for line in lines], np.bool_)
        columns = [pa.array(_scores(classifier, lines), pa.float32(), mask=unknown)]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score


def _line(text: str, max_words: int) -> str:
    return " ".join(one_line(text).split(None, max_words)[:max_words])


def _scores(classifier: Classifier, lines: list[str]) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32] = classifier.probabilities(lines)[:, classifier.labels.index(POSITIVE)]
    return scores
