"""Models in fastText's file format, trained and asked; the one place that touches the `fasttext` package.

A plain model (`.bin`) with a softmax or a tree is read here and asked through `factory.kernels.classifiers`, over Arrow's
buffers and many times as fast; others (quantised `.ftz`, one-versus-all) are asked through the package. Both ways give the
same labels and, to 1e-5, the same probabilities.

`fasttext` 0.9.3 does not train reproducibly: with fewer than ten threads it begins with memory nobody initialised (random
results, sometimes NaN), with more its threads race. So it only makes the dictionary and the file; the vectors are learned
by `factory.kernels.bags`, with fastText's own features and update rule, and any fastText reads the result.

A text is one line to fastText, ended by the token `</s>`; words that begin with `__label__` are not words. Both are taken
out of texts, so that a document cannot cut itself short or label itself.
"""

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.errors import FactoryError, IntegrityError

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_MAGIC, _VERSION, _SUPERVISED = 793712314, 12, 3
_HEADER = struct.Struct("<14i d 3i 2q")  # magic, version, the arguments, and the sizes of the dictionary
_SHAPE = struct.Struct("<? 2q")  # of a matrix: whether it is quantised, rows, columns
_KEPT_MEGABYTES = 16  # of sums of words, in each process

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


@dataclass(frozen=True)
class Predictor:
    """A classifier over Arrow columns: probabilities, a row a text and a column a label, and which texts have anything
    that could tell a label. Null, and what has only white space, has not."""

    labels: tuple[str, ...]
    ask: Callable[[pa.Array], tuple[Floats, Flags]]


def load_predictor(path: str, sha256: str | None = None) -> Predictor:
    """The classifier in a file, as `load` has it, ready for whole columns."""
    check(path, sha256)
    found = _read_plain(path)
    if found is not None:
        return found
    classifier = load(path)

    def ask(texts: pa.Array) -> tuple[Floats, Flags]:
        lines = [one_line(text or "") for text in texts.to_pylist()]
        table = classifier.probabilities(lines)
        known = np.array([bool(line.strip()) for line in lines], np.bool_) & (table.max(axis=1, initial=0) > 0)
        return table, known

    return Predictor(classifier.labels, ask)


class _Head(NamedTuple):
    """What the beginning of a file says, as far as it decides how the file is read."""

    version: int
    dim: int
    ngrams: int
    loss: int
    kind: int
    buckets: int
    shortest: int
    longest: int
    entries: int
    words: int
    labels: int
    pruned: int
    dictionary: int  # bytes
    plain: bool  # not quantised


def _read_head(path: str) -> _Head:
    """Raises FactoryError for what is no model, or only a part of one: the package would read on without an end."""
    from factory.kernels.classifiers import skip_entries

    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size or size < _HEADER.size + _SHAPE.size:
        raise FactoryError(f"{path} is no fastText model: it has {size} bytes. Give the path of a .bin or .ftz file.")
    magic, version, dim, _, _, _, _, ngrams, loss, kind, buckets, shortest, longest, *rest = _HEADER.unpack(start)
    _, _, entries, words, labels, _, pruned = rest
    if magic != _MAGIC or min(dim, entries, words, labels, buckets, pruned + 1) < 0 or entries != words + labels:
        raise FactoryError(f"{path} is no fastText model: it begins like none. Give the path of a .bin or .ftz file.")
    content = np.memmap(path, np.uint8, "r", offset=_HEADER.size)
    end = skip_entries(content, entries) if 10 * entries <= size else -1
    dictionary = end + 8 * max(pruned, 0)
    if end < 0 or dictionary + _SHAPE.size > len(content):
        raise FactoryError(f"{path} is no fastText model: it ends within its dictionary. Fetch it again.")
    plain = not content[dictionary]
    if plain:
        at = dictionary
        for _ in range(2):
            if at + _SHAPE.size > len(content):
                break
            _, height, width = _SHAPE.unpack(bytes(content[at : at + _SHAPE.size]))
            at += _SHAPE.size + 4 * height * width
        if at != len(content):
            raise FactoryError(f"{path} is no fastText model: it has {size:,} bytes instead of {_HEADER.size + at:,}.")
    return _Head(
        version, dim, ngrams, loss, kind, buckets, shortest, longest, entries, words, labels, pruned, dictionary, plain
    )


def _read_plain(path: str) -> Predictor | None:
    """A supervised model whose matrices are plain numbers; None for anything else."""
    from factory.kernels import classifiers
    from factory.kernels.text import view_text

    head = _read_head(path)
    usable = head.version == _VERSION and head.kind == _SUPERVISED and head.plain and head.pruned == -1
    if not usable or head.labels < 2 or head.loss not in (classifiers.HIERARCHICAL, classifiers.SOFTMAX):
        return None
    matrices = []
    with open(path, "rb") as file:
        file.seek(_HEADER.size)
        content = np.fromfile(file, np.uint8, head.dictionary)
        lexicon, names, counts = classifiers.build_lexicon(content, head.entries, head.words)
        for height in (head.words + head.buckets, head.labels):
            quantised, *shape = _SHAPE.unpack(file.read(_SHAPE.size))
            if quantised or shape != [height, head.dim]:
                return None
            # A row of 16 numbers is one line of the processor's cache, if the first begins one.
            room = np.empty(height * head.dim + 16, np.float32)
            offset = -(room.ctypes.data // 4) % 16
            matrix = room[offset : offset + height * head.dim]
            file.readinto(matrix.view(np.uint8))  # type: ignore[arg-type]
            matrices.append(matrix.reshape(height, head.dim))
    nodes = np.zeros(0, np.int32)
    left, right = (
        classifiers.build_tree(counts[head.words :]) if head.loss == classifiers.HIERARCHICAL else (nodes, nodes)
    )
    outputs = classifiers.Outputs(np.ascontiguousarray(matrices[1].T), head.loss, left, right)
    vectors = classifiers.Vectors(
        matrices[0],
        head.buckets,
        head.shortest,
        head.longest,
        head.ngrams if head.buckets else 1,
        classifiers.find_word(END.encode(), lexicon),
    )
    kept = classifiers.empty_kept(head.dim, _KEPT_MEGABYTES)
    lock = threading.Lock()  # the kept sums are written by one batch at a time

    def ask(texts: pa.Array) -> tuple[Floats, Flags]:
        with lock:
            return classifiers.predict(*view_text(texts), lexicon, vectors, kept, outputs)

    return Predictor(tuple(name.decode("utf-8", "replace").removeprefix(LABEL) for name in names), ask)


def check(path: str, sha256: str | None) -> None:
    """Refuses a file that is not there, or has another content than `sha256` names."""
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


def load(path: str, sha256: str | None = None) -> Classifier:
    """The classifier in a file; refuses another content than `sha256` names, and what is no fastText classifier."""
    import fasttext

    check(path, sha256)
    _read_head(path)
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
