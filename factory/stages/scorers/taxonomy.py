"""Topics, formats or any other labels of documents as domains: a classifier learned from labelled reference documents.

WebOrganizer (arXiv:2502.10341) tells 24 topics and 24 formats apart with a transformer that reads address and text; here a
fastText classifier (hashed words and pairs of words under a softmax) learns from `references`, JSONL or Parquet with `text`, a
`label` and, with `url: true`, a `url`, whose words stand before the text's. `model` names a ready fastText file instead.
`label` is the likeliest and `confidence` its probability; `probabilities` has that of every label, by their names in order.

Spaces and slashes in labels become `_`: a cell of two taxonomies is called `topic/format`. The metrics hold, of one document in
ten that was not learned from, the accuracy, F1 and the confusion matrix, by which shares of domains can be corrected.
"""

import string
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.registry import register
from factory.core.stage import BatchFunction, Sample, Training
from factory.stages.fasttext_models import Shape, load_predictor, one_line, train

LABELLED = "labelled"
COLUMNS = {"label": pa.string(), "confidence": pa.float32(), "probabilities": pa.list_(pa.float32())}
MODEL_FILE = "taxonomy.bin"

_HELD_OUT = 10  # one document in ten
_FEWEST = 20  # documents of a label
_CONFIDENT = 0.75
_MOST_ADDRESS = 2000  # characters
_BREAKS = str.maketrans(dict.fromkeys(string.punctuation, " "))


class Settings(Config):
    """`labels`, where given, are all there are: others in the references are a mistake."""

    references: str | None = Field(default=None, min_length=1)
    labels: tuple[str, ...] | None = Field(default=None, min_length=2)
    url: bool = False
    documents: int = Field(default=100_000, ge=2 * _FEWEST)
    max_words: int = Field(default=1000, ge=1)
    word_ngrams: int = Field(default=2, ge=1, le=5)
    dim: int = Field(default=32, ge=1, le=1000)
    epoch: int = Field(default=10, ge=1, le=1000)
    lr: float = Field(default=0.5, gt=0, le=10)
    bucket: int = Field(default=200_000, ge=1, le=100_000_000)
    model: str | None = Field(default=None, min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")

    @model_validator(mode="after")
    def _has_one_origin(self) -> "Settings":
        if (self.references is None) == (self.model is None):
            raise ValueError("either `references` to learn from, or a ready `model` is meant")
        if self.model is not None and self.labels is not None:
            raise ValueError("`labels` are those of the references; a ready `model` has its own")
        if self.sha256 is not None and self.model is None:
            raise ValueError("`sha256` is that of a ready `model`")
        return self


def samples(config: Settings) -> Iterable[Sample]:
    columns = ("text", "label", "url") if config.url else ("text", "label")
    return (Sample(LABELLED, config.documents, uri=config.references, columns=columns),)


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """Train on nine documents in ten of each label, chosen by the hash of their text; measure on the others."""
    by_label, unclear = _by_label(config, texts)
    few = sorted(label for label, lines in by_label.items() if len(lines) < _FEWEST)
    if len(by_label) < 2 or few:
        found = f"'{few[0]}' has {len(by_label[few[0]])}" if few else f"there are {len(by_label)} labels"
        raise FactoryError(
            f"taxonomy needs two labels or more and {_FEWEST} different documents of each; in '{config.references}' {found}. "
            "Add documents, or leave the label out."
        )
    learned: list[tuple[str, str]] = []
    held_out: list[tuple[str, str]] = []
    for label, lines in sorted(by_label.items()):
        lines.sort(key=lambda line: xxhash.xxh3_64_intdigest(line.encode(), seed=seed))
        split = max(1, len(lines) // _HELD_OUT)
        held_out += [(label, line) for line in lines[:split]]
        learned += [(label, line) for line in lines[split:]]
    shape = Shape(
        dim=config.dim, epoch=config.epoch, lr=config.lr, bucket=config.bucket, word_ngrams=config.word_ngrams
    )
    path = f"{directory}/{MODEL_FILE}"
    train([line for _, line in learned], [label for label, _ in learned], path, shape, seed)
    labels, table, _ = _asked(path, [line for _, line in held_out])
    truth = np.array([labels.index(label) for label, _ in held_out])
    return {
        "labels": list(labels),
        "documents": {label: len(lines) for label, lines in sorted(by_label.items())},
        "learned": len(learned),
        "held_out": len(held_out),
        "unclear": unclear,
        **_measures(table, truth, labels),
    }


def _ready(config: Settings) -> tuple[str, str | None] | None:
    return None if config.model is None else (config.model, config.sha256)


TRAINING = Training(file=MODEL_FILE, samples=samples, fit=fit, ready=_ready)


@register(
    "taxonomy",
    version=1,
    reads=lambda config: ("url", "text") if config.url else ("text",),
    writes=COLUMNS,
    config=Settings,
    train=TRAINING,
)
def taxonomy(config: Settings, model_path: str) -> BatchFunction:
    predictor = load_predictor(model_path, config.sha256)
    order = np.argsort(predictor.labels)
    labels = pa.array([_name(predictor.labels[index]) for index in order], pa.string())

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch.column("text").to_pylist()
        addresses = batch.column("url").to_pylist() if config.url else [None] * len(texts)
        lines = [
            _line(text, address, config.max_words) if text else ""
            for text, address in zip(texts, addresses, strict=True)
        ]
        table, known = predictor.ask(pa.array(lines, pa.large_string()))
        known = known & np.array([bool(text and text.strip()) for text in texts], np.bool_)
        table = np.ascontiguousarray(table[:, order])
        likeliest = pa.array(table.argmax(axis=1) if len(table) else np.zeros(0, np.int64), mask=~known)
        offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * len(labels))
        columns = [
            labels.take(likeliest),
            pa.array(table.max(axis=1, initial=0), pa.float32(), mask=~known),
            pa.ListArray.from_arrays(offsets, pa.array(table.reshape(-1), pa.float32()), mask=pa.array(~known)),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score


def _by_label(config: Settings, texts: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], int]:
    """Different lines by label, sorted; and how many were left out because they have several labels."""
    given = texts.get(LABELLED, [])
    names = [_name(label) for label in texts.get(f"{LABELLED}.label", [])]
    known = None if config.labels is None else {_name(label) for label in config.labels}
    for label in names:
        if not label:
            raise FactoryError(f"taxonomy: a document of '{config.references}' has no label. References must be sound.")
        if known is not None and label not in known:
            raise FactoryError(
                f"taxonomy: '{config.references}' has the label '{label}', which is none.{suggest(label, known)}"
            )
    addresses = texts.get(f"{LABELLED}.url", [""] * len(given))
    labels_of: dict[str, set[str]] = {}
    for text, label, address in zip(given, names, addresses, strict=True):
        line = _line(text, address, config.max_words)
        if line:
            labels_of.setdefault(line, set()).add(label)
    found: dict[str, list[str]] = {}
    for line, labels in sorted(labels_of.items()):
        if len(labels) == 1:
            found.setdefault(labels.pop(), []).append(line)
    return found, len(labels_of) - sum(map(len, found.values()))


def _name(label: str) -> str:
    """A label without what ends a word, or parts the names of cells."""
    return "_".join(label.replace("/", " ").split())


def _line(text: str, address: str | None, max_words: int) -> str:
    words = one_line(text).split(None, max_words)[:max_words]
    before = one_line(address[:_MOST_ADDRESS].translate(_BREAKS)).split() if address else []
    return " ".join([*before, *words])


def _asked(path: str, lines: list[str]) -> tuple[tuple[str, ...], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Labels in order, and of each line their probabilities and whether it has any."""
    predictor = load_predictor(path)
    order = np.argsort(predictor.labels)
    table, known = predictor.ask(pa.array(lines, pa.large_string()))
    return tuple(predictor.labels[index] for index in order), table[:, order], known


def _measures(
    table: npt.NDArray[np.float32], truth: npt.NDArray[np.integer], labels: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy, F1 (their mean over labels and the worst), and how often each label (row) is taken for each (column)."""
    chosen = table.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, chosen), 1)
    right = np.diag(confusion)
    f1 = 2 * right / (confusion.sum(axis=0) + confusion.sum(axis=1))
    confident = table.max(axis=1) >= _CONFIDENT
    return {
        "accuracy": float(right.sum() / len(truth)),
        "macro_f1": float(f1.mean()),
        "worst_f1": float(f1.min()),
        "worst_label": labels[int(f1.argmin())],
        "confident_share": float(confident.mean()),
        "confident_accuracy": float((chosen == truth)[confident].mean()) if confident.any() else None,
        "confusion": confusion.tolist(),
    }
