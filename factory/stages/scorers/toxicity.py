"""How toxic the sentences of a text are, by a fastText classifier: the worst, the mean, and how many are over a threshold.

The method is Dolma's (arXiv:2402.00159): sentence by sentence, so that one insult in a long page is seen and a whole page
about medicine is not judged by one word. Either `toxic` and `clean` name files of texts (JSON lines with `text`), and the
factory trains, or `model` names a ready fastText file by path or https address and sha256, with the `label` that means
toxic. Nothing is dropped here. Such classifiers learn the words of their examples: texts by or about minorities score higher
than others, so look at `docs/governance.md` and at your own pages before you drop by a threshold. Hits of a word list come
from `bad_words`.

A sentence is what `factory.kernels.sentences` cuts; what has no word is none. Words are in small letters, without signs
around them, when trained here; a ready model reads what it was made for: the text as it stands, or `lower: true`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.registry import register
from factory.core.stage import BatchFunction, Sample, Training
from factory.stages.fasttext_models import Classifier, Shape, load_predictor, one_line, train
from factory.stages.scorers.fasttext_quality import auc

TOXIC, CLEAN = "toxic", "clean"
MODEL_FILE = "toxicity.bin"
COLUMNS = {"max": pa.float32(), "mean": pa.float32(), "share_above": pa.float32(), "sentences": pa.uint32()}

_HELD_OUT = 10  # one text in ten
_FEWEST = 20
_SIGNS = r"[\p{P}\p{S}]+"


class Settings(Config):
    toxic: str | None = None
    clean: str | None = None
    model: str | None = None
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    label: str = TOXIC
    lower: bool = False
    threshold: float = Field(default=0.4, ge=0, le=1)
    documents: int = Field(default=200_000, ge=_FEWEST)
    word_ngrams: int = Field(default=2, ge=1, le=5)
    minn: int = Field(default=3, ge=0, le=6)
    maxn: int = Field(default=5, ge=0, le=6)
    dim: int = Field(default=16, ge=1, le=1000)
    epoch: int = Field(default=25, ge=1, le=1000)
    lr: float = Field(default=0.5, gt=0, le=10)
    bucket: int = Field(default=100_000, ge=1, le=100_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _has_one_origin(self) -> "Settings":
        if (self.model is None) == (self.toxic is None or self.clean is None):
            raise ValueError("give `toxic` and `clean`, files to learn from, or `model`, a ready one")
        if self.model is None:
            if self.sha256 is not None or self.label != TOXIC or self.lower:
                raise ValueError("`sha256`, `label` and `lower` are said of a ready `model`")
            if self.minn > self.maxn:
                raise ValueError(f"`minn` is {self.minn} and `maxn` {self.maxn}; the smaller one comes first")
            return self
        if "://" in self.model and (not self.model.startswith("https://") or self.sha256 is None):
            raise ValueError("a model comes from a local path, or from an https address with the `sha256` of its file")
        return self


def samples(config: Settings) -> Iterable[Sample]:
    if config.model is not None:
        return ()
    return (
        Sample(role=TOXIC, documents=config.documents, uri=config.toxic),
        Sample(role=CLEAN, documents=config.documents, uri=config.clean),
    )


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """Train on nine texts in ten of each side, chosen by the hash of the text; measure on the others, whole."""
    learned: list[tuple[str, str]] = []
    held_out: list[tuple[str, str]] = []
    for role in (TOXIC, CLEAN):
        # Copies would lie on both sides of the split, and the order in which texts came must not matter.
        lines = sorted({line for line in plain_lines(texts.get(role, [])) if line})
        if len(lines) < _FEWEST:
            where = config.toxic if role == TOXIC else config.clean
            raise FactoryError(
                f"toxicity needs {_FEWEST} different {role} texts; '{where}' has {len(lines)}. Name a larger file."
            )
        lines.sort(key=lambda line: xxhash.xxh3_64_intdigest(line.encode(), seed=seed + config.seed))
        split = max(1, len(lines) // _HELD_OUT)
        held_out += [(role, line) for line in lines[:split]]
        learned += [(role, line) for line in lines[split:]]
    shape = Shape(
        dim=config.dim,
        epoch=config.epoch,
        lr=config.lr,
        bucket=config.bucket,
        word_ngrams=config.word_ngrams,
        minn=config.minn,
        maxn=config.maxn,
    )
    roles = [role for role, _ in learned]
    classifier = train([line for _, line in learned], roles, f"{directory}/{MODEL_FILE}", shape, seed + config.seed)
    truth = np.array([role == TOXIC for role, _ in held_out])
    scores = _asked(classifier, [line for _, line in held_out])
    chosen = scores >= config.threshold
    right = int((chosen & truth).sum())
    return {
        "auc": auc(scores, truth),
        "precision": right / int(chosen.sum()) if chosen.any() else None,
        "recall": right / int(truth.sum()),
        "toxic": roles.count(TOXIC),
        "clean": roles.count(CLEAN),
        "held_out_toxic": int(truth.sum()),
        "held_out_clean": int((~truth).sum()),
    }


def _asked(classifier: Classifier, lines: list[str]) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32] = classifier.probabilities(lines)[:, classifier.labels.index(TOXIC)]
    return scores


TRAINING = Training(
    file=MODEL_FILE,
    samples=samples,
    fit=fit,
    ready=lambda config: None if config.model is None else (config.model, config.sha256),
)


@register("toxicity", version=1, reads=("text",), writes=COLUMNS, config=Settings, train=TRAINING)
def toxicity(config: Settings, model_path: str) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.sentences import cut_sentences
    from factory.kernels.text import view_text

    predictor = load_predictor(model_path, config.sha256)
    if config.label not in predictor.labels:
        raise FactoryError(f"The model knows no label '{config.label}'.{suggest(config.label, predictor.labels)}")
    label = predictor.labels.index(config.label)
    own = config.model is None

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        ends, starts = cut_sentences(view)
        bounds = np.concatenate([view.offsets[:1], ends])
        sentences = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(bounds), pa.py_buffer(view.data))
        asked = plain(sentences) if own else pc.utf8_lower(sentences) if config.lower else sentences
        table, known = predictor.ask(asked)
        rows = np.repeat(np.arange(len(view.valid)), np.diff(starts))
        known &= view.valid[rows]
        rows, values = rows[known], table[known, label]
        counts = np.bincount(rows, minlength=len(view.valid))
        highest = np.zeros(len(view.valid), np.float32)
        np.maximum.at(highest, rows, values)
        totals = np.bincount(rows, weights=values.astype(np.float64), minlength=len(view.valid))
        above = np.bincount(rows[values > config.threshold], minlength=len(view.valid))
        empty = counts == 0
        divisor = np.maximum(counts, 1)
        columns = [
            pa.array(highest, pa.float32(), mask=empty),
            pa.array((totals / divisor).astype(np.float32), pa.float32(), mask=empty),
            pa.array((above / divisor).astype(np.float32), pa.float32(), mask=empty),
            pa.array(counts.astype(np.uint32), pa.uint32(), mask=~view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score


def plain(texts: pa.Array) -> pa.Array:
    """What the factory's own model reads: small letters, and blanks for signs, so that a word is one word everywhere."""
    return pc.replace_substring_regex(pc.utf8_lower(texts), _SIGNS, " ")


def plain_lines(texts: Iterable[str]) -> list[str]:
    made = plain(pa.array([one_line(text) for text in texts], pa.large_string())).to_pylist()
    return [re.sub(r"\s+", " ", line).strip() for line in made]
