"""The one place that touches the `fasttext` package: models in its file format, trained and asked.

`fasttext` 0.9.3 does not train reproducibly: with fewer than ten threads it begins with memory nobody initialised (random
results, sometimes NaN), with more its threads race. So it only makes the dictionary and the file; the vectors are learned
by `factory.kernels.bags`, with fastText's own features and update rule, and any fastText reads the result.

A text is one line to fastText, ended by the token `</s>`; words that begin with `__label__` are not words. Both are taken
out of texts, so that a document cannot cut itself short or label itself.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError, IntegrityError

Floats = npt.NDArray[np.float32]

LABEL = "__label__"
END = "</s>"


@dataclass(frozen=True)
class Shape:
    """How a model looks and learns; names and meanings are fastText's."""

    dim: int
    epoch: int
    lr: float
    bucket: int
    word_ngrams: int = 1
    minn: int = 0
    maxn: int = 0
    min_count: int = 1


@dataclass(frozen=True)
class Classifier:
    """A model in memory: its labels, without the prefix, and the function behind it."""

    labels: tuple[str, ...]
    model: Any

    def probabilities(self, lines: Sequence[str]) -> Floats:
        """A row per line, a column per label. A line without any word or n-gram the model knows has only zeros."""
        found, values = self.model.predict(list(lines), k=len(self.labels), threshold=-1.0)
        column = {LABEL + label: index for index, label in enumerate(self.labels)}
        table = np.zeros((len(lines), len(self.labels)), np.float32)
        for row, names in enumerate(found):
            table[row, [column[name] for name in names]] = values[row]
        # fastText adds 1e-5 before it takes a logarithm, so a certain label comes back above 1.
        return np.minimum(table, np.float32(1))


def one_line(text: str) -> str:
    """The text as fastText sees it: line feeds are spaces, and what it reads as a command is not there."""
    line = text.replace("\n", " ")
    if END in line:
        line = line.replace(END, " ")
    if LABEL in line:
        line = line.replace(LABEL, " ")
    return line


def load(path: str, sha256: str | None = None) -> Classifier:
    """The classifier in a file; refuses another content than `sha256` names, and what is no fastText classifier."""
    import fasttext

    if not os.path.isfile(path):
        raise FactoryError(f"There is no fastText model at {path}. Give the path of a .bin or .ftz file.")
    if sha256 is not None:
        with open(path, "rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256.lower():
            raise IntegrityError(
                f"The model {path} has sha256 {actual}, and {sha256} was asked for. "
                "Fetch it again, or put the digest of the file you trust into the recipe."
            )
    try:
        model = fasttext.FastText._FastText(model_path=path)  # load_model would print a warning
        labels = tuple(label.removeprefix(LABEL) for label in model.get_labels())
        supervised = model.f.getArgs().model == fasttext.FastText.model_name.supervised
    except (ValueError, RuntimeError, MemoryError) as error:
        raise FactoryError(f"{path} is no fastText model: {error}") from error
    if not supervised:
        raise FactoryError(f"{path} holds word vectors and no classifier. Train it with `supervised`.")
    return Classifier(labels, model)


def train(lines: Sequence[str], labels: Sequence[str], path: str, shape: Shape, seed: int) -> Classifier:
    """Learn to tell the labels of the lines (see `one_line`) apart, write the model to `path` and return it."""
    import fasttext
    import pyarrow as pa

    from factory.kernels.bags import Bags, hash_words, learn
    from factory.kernels.text import view_text

    classes = sorted(set(labels))
    if len(classes) < 2:
        raise FactoryError(f"A classifier needs texts of two classes; there are {len(lines)} texts of {classes}.")
    examples = f"{path}.examples"
    try:
        with open(examples, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{LABEL}{label} {line}\n" for label, line in zip(labels, lines, strict=True))
        model = fasttext.train_supervised(
            input=examples,
            epoch=0,
            thread=1,
            verbose=0,
            loss="softmax",
            dim=shape.dim,
            lr=shape.lr,
            bucket=shape.bucket,
            wordNgrams=shape.word_ngrams,
            minn=shape.minn,
            maxn=shape.maxn,
            minCount=shape.min_count,
        )
    finally:
        if os.path.exists(examples):
            os.remove(examples)
    order = {label: index for index, label in enumerate(model.get_labels())}
    numbers: dict[str, int] = {}
    texts = [[numbers.setdefault(word, len(numbers)) for word in [*_words(line), END]] for line in lines]
    features = [_features(model, word, shape) for word in numbers]
    view = view_text(pa.array(list(numbers), pa.large_string()))
    bags = Bags(
        texts=np.array([word for text in texts for word in text], np.int32),
        starts=_starts(texts),
        classes=np.array([order[LABEL + label] for label in labels], np.int32),
        features=np.array([feature for word in features for feature in word], np.int32),
        bounds=_starts(features),
        hashes=hash_words(view.offsets, view.data),
        first=len(model.get_words()),
        buckets=model.get_input_matrix().shape[0] - len(model.get_words()),
        ngrams=shape.word_ngrams,
    )
    inputs, outputs = learn(bags, dimension=shape.dim, classes=len(order), epochs=shape.epoch, rate=shape.lr, seed=seed)
    if not (np.isfinite(inputs).all() and np.isfinite(outputs).all()):
        raise FactoryError(f"Training the model {path} diverged. Lower `lr`; it is {shape.lr}.")
    model.set_matrices(inputs, outputs)
    model.save_model(path)
    return Classifier(tuple(label.removeprefix(LABEL) for label in order), model)


def _words(line: str) -> list[str]:
    # fastText separates words at these characters only; str.split() would know more.
    for separator in "\t\v\f\r\0":
        line = line.replace(separator, " ")
    return [word for word in line.split(" ") if word]


def _features(model: Any, word: str, shape: Shape) -> list[int]:
    """What fastText adds up for a word: its own vector if it is in the dictionary, and its character n-grams."""
    if shape.maxn > 0:
        return [int(number) for number in model.get_subwords(word)[1]]
    number = int(model.get_word_id(word))
    return [number] if number >= 0 else []


def _starts(lists: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum([len(items) for items in lists], dtype=np.int64)])
