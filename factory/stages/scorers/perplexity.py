"""How surprised a language model of reference text is by a document: CCNet's perplexity (arXiv:1911.00359).

Lines are brought into the normal form `nf-ccnet-lm` (lower case, NFD without combining marks, digits as 0, curly and CJK
punctuation as ASCII, no control characters), cut into the pieces of a SentencePiece unigram model, and scored by an n-gram
model with begin and end of each line; perplexity is 10 to the minus sum of log10 probabilities over the sum of pieces + 1.
Lines without anything visible do not count. Low is like the reference; lowest of all is repetitive text. CCNet keeps
`head` and `middle`, up to the 30th and 60th percentile of each language: the filter `in_quantiles`.

Either the factory trains both models itself, from documents at `reference` or of the source `source`: pieces by
SentencePiece on one thread, n-grams by interpolated modified Kneser-Ney. Or `model` is a KenLM file (.arpa or .binary, by
path or https address with its sha256) and `pieces` the SentencePiece model it was made with; that needs the package
kenlm. A full-stop-less rest of a table or a list surprises any model of prose: the value orders documents of one language.
Unlike cc_net, tabs are spaces, and its table's slip (a full-width 1 as a quotation mark) is not repeated.
"""

import io
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files, Sample, Training

REFERENCE = "reference"
COLUMNS = {"perplexity": pa.float32(), "pieces": pa.uint32()}
MODEL_FILE = "perplexity.safetensors"

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
# log10 of the probability, and the pieces, of each line.
LineScorer = Callable[[list[str]], tuple[Doubles, Integers]]

_HELD_OUT = 10  # one document in ten
_FEWEST = 20
_LONGEST_LINE = 2000  # characters SentencePiece learns from in one piece
_MOST_TEXT = 20_000_000  # characters it learns from
_MARKS = {
    **dict.fromkeys("„”“«»」「《》", '"'),
    **dict.fromkeys("´’‘", "'"),
    **dict.fromkeys("，、", ","),
    **dict.fromkeys("∶：", ":"),
    **dict.fromkeys("–━►", "-"),
    **dict(zip("。．？！（）；～〈〉【】％", "..?!();~<>[]%", strict=True)),
    "—": " - ",
    "…": "...",
    "\t": " ",
    "\n": "\n",
}


class Settings(Config):
    reference: str | None = None
    source: str | None = None
    documents: int = Field(default=20_000, ge=_FEWEST)
    vocab_size: int = Field(default=16_000, ge=100, le=1_000_000)
    order: int = Field(default=5, ge=2, le=6)
    prune: int = Field(default=1, ge=0)
    model: str | None = None
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    pieces: str | None = None

    @model_validator(mode="after")
    def _names_one_model(self) -> "Settings":
        named = [name for name in ("reference", "source", "model") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(
                "name one of `reference` (files to learn from), `source` (a source of the recipe to learn from) and "
                f"`model` (a ready KenLM file); named: {', '.join(named) or 'none'}"
            )
        if (self.model is None) != (self.pieces is None):
            raise ValueError("`model`, a KenLM file, and `pieces`, its SentencePiece model, go together")
        if self.model is None and self.sha256 is not None:
            raise ValueError("`sha256` pins a ready model; the factory makes this one itself")
        if self.model is not None and "://" in self.model:
            if not self.model.startswith("https://"):
                raise ValueError("a model comes from a local path or an https address")
            if self.sha256 is None:
                raise ValueError("a model from an address needs the `sha256` of its file")
        return self


def document_perplexity(scores: Sequence[float], pieces: Sequence[int]) -> float:
    """From log10 probabilities of lines and their numbers of pieces; the end of each line counts as one more."""
    return float(10.0 ** (-sum(scores) / (sum(pieces) + len(pieces))))


def normal_lines(text: str) -> list[str]:
    """The lines of a text in the normal form nf-ccnet-lm; those with nothing visible are left out."""
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
    lines = (line.strip() for line in text.translate(_normal).split("\n"))
    return [line for line in lines if line]


def samples(config: Settings) -> Iterable[Sample]:
    return (Sample(role=REFERENCE, documents=config.documents, uri=config.reference, source=config.source),)


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """Train on nine documents in ten, chosen by the hash of their text; measure on the others, as they are and shuffled."""
    from safetensors.numpy import save_file

    from factory.kernels.ngrams import learn_ngrams

    documents = sorted({text for text in texts.get(REFERENCE, []) if normal_lines(text)})
    if len(documents) < _FEWEST:
        where = f"'{config.reference}'" if config.reference else f"source '{config.source}'"
        raise FactoryError(
            f"perplexity learns from {_FEWEST} different documents at least; {where} has {len(documents)}. "
            "Name a larger one."
        )
    documents.sort(key=lambda text: xxhash.xxh3_64_intdigest(text.encode(), seed=seed))
    split = max(1, len(documents) // _HELD_OUT)
    learned = [line for text in documents[split:] for line in normal_lines(text)]
    proto = _train_pieces(learned, config.vocab_size)
    processor = _processor(proto)
    size = processor.get_piece_size()
    ids, starts = _encode(processor, learned)
    marked = np.full(len(ids) + 2 * len(learned), size, np.int32)  # each line between `begin` and `end`
    line = np.repeat(np.arange(len(learned)), np.diff(starts))
    marked[np.arange(len(ids)) + 2 * line + 1] = ids
    marked[starts[1:] + 2 * np.arange(1, len(learned) + 1) - 1] = size + 1
    model = learn_ngrams(marked, size + 2, config.order, config.prune)
    save_file(
        {
            "pieces": np.frombuffer(proto, np.uint8),
            "order": np.array([model.order]),
            "unigrams": model.unigrams,
            "keys": model.keys,
            "scores": model.scores,
        },
        f"{directory}/{MODEL_FILE}",
    )
    score = _own_model(f"{directory}/{MODEL_FILE}")
    plain = [normal_lines(text) for text in documents[:split]]
    mixed = [[_shuffled(line, seed) for line in lines] for lines in plain]
    return {
        "perplexity": _perplexity(score, list(itertools.chain(*plain))),
        "perplexity_of_shuffled_words": _perplexity(score, list(itertools.chain(*mixed))),
        "documents": len(documents) - split,
        "held_out_documents": split,
        "pieces": len(ids),
        "vocabulary": size,
        "ngrams": len(model.keys),
    }


TRAINING = Training(
    file=MODEL_FILE,
    samples=samples,
    fit=fit,
    ready=lambda config: None if config.model is None else (config.model, config.sha256),
)


@register(
    "perplexity",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    train=TRAINING,
    files=lambda config: () if config.pieces is None else (config.pieces,),
)
def perplexity(config: Settings, model_path: str, files: Files | None = None) -> BatchFunction:
    if config.pieces is None:
        scorer = _own_model(model_path)
    else:
        found = (files or {}).get(config.pieces, {})
        if len(found) != 1:
            raise FactoryError(
                f"perplexity needs one SentencePiece model at '{config.pieces}'; there are {len(found)}."
            )
        scorer = _kenlm_model(model_path, next(iter(found.values())))

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        documents = [normal_lines(text or "") for text in batch.column("text").to_pylist()]
        starts = np.cumsum([0, *map(len, documents)])
        scores, pieces = scorer(list(itertools.chain.from_iterable(documents)))
        values, counts = np.zeros(len(documents)), np.zeros(len(documents), np.int64)
        for row, (start, stop) in enumerate(itertools.pairwise(starts)):
            if stop > start:
                # A sum of its own: a running one would depend on the rows before.
                counts[row] = pieces[start:stop].sum()
                values[row] = document_perplexity(scores[start:stop].tolist(), pieces[start:stop].tolist())
        absent = batch.column("text").is_null().to_numpy(zero_copy_only=False)
        columns = [
            pa.array(values.astype(np.float32), mask=np.diff(starts) == 0),
            pa.array(counts, mask=absent).cast(pa.uint32()),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score


class _Normal(dict[int, str | None]):
    """For str.translate: what becomes of a character; None: it goes."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        category = unicodedata.category(char)
        made: str | None = _MARKS.get(char, char)
        if char not in _MARKS and category in ("Mn", "Cc"):
            made = None
        elif category == "Nd":
            made = "0"
        self[code] = made
        return made


_normal = _Normal()


def _own_model(path: str) -> LineScorer:
    """The factory's own file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from factory.kernels.ngrams import NgramModel, hash_table, sentence_scores

    try:
        found = load_file(path)
        model = NgramModel(int(found["order"][0]), found["unigrams"], found["keys"], found["scores"])
    except (OSError, SafetensorError, KeyError) as error:
        raise FactoryError(f"{path} is no model of perplexity that this factory made: {error}") from error
    processor = _processor(found["pieces"].tobytes())
    table = hash_table(model)

    def score(lines: list[str]) -> tuple[Doubles, Integers]:
        ids, starts = _encode(processor, lines)
        return sentence_scores(model, table, ids, starts), np.diff(starts)

    return score


def _kenlm_model(path: str, proto: bytes) -> LineScorer:
    """A file of KenLM's, and the SentencePiece model whose pieces are its words."""
    try:
        import kenlm
    except ImportError as error:
        raise FactoryError(
            "A ready KenLM model needs the package kenlm: pip install 'corpus-factory[perplexity]'."
        ) from error
    quiet = kenlm.Config()
    quiet.show_progress = False
    quiet.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        model = kenlm.Model(path, quiet)
    except OSError as error:
        raise FactoryError(f"{path} is no KenLM model: {str(error)[:300]}") from error
    processor = _processor(proto)

    def score(lines: list[str]) -> tuple[Doubles, Integers]:
        pieces = processor.encode(lines, out_type=str, num_threads=1) if lines else []
        scores = [model.score(" ".join(line), bos=True, eos=True) for line in pieces]
        return np.array(scores, np.float64), np.array([len(line) for line in pieces], np.int64)

    return score


def _train_pieces(lines: list[str], vocab_size: int) -> bytes:
    import sentencepiece

    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_bounded(lines)),
            model_writer=out,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            normalization_rule_name="identity",  # it is in normal form
            character_coverage=0.9995,
            bos_id=-1,
            eos_id=-1,
            max_sentence_length=8 * _LONGEST_LINE,
            num_threads=1,  # more would add up in another order
            minloglevel=2,
        )
    except RuntimeError as error:
        raise FactoryError(f"SentencePiece finds no {vocab_size:,} pieces in the reference text: {error}") from error
    return out.getvalue()


def _bounded(lines: Iterable[str]) -> Iterable[str]:
    left = _MOST_TEXT
    for line in lines:
        for start in range(0, len(line), _LONGEST_LINE):
            yield line[start : start + _LONGEST_LINE]
        left -= len(line)
        if left < 0:
            return


def _processor(proto: bytes) -> Any:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError as error:
        raise FactoryError(f"That is no SentencePiece model: {error}") from error


def _encode(processor: Any, lines: list[str]) -> tuple[npt.NDArray[np.int32], Integers]:
    """The pieces of all lines in a row, and where each line's begin."""
    encoded = processor.encode(lines, out_type=int, num_threads=1) if lines else []
    starts = np.cumsum([0, *map(len, encoded)])
    ids = np.fromiter(itertools.chain.from_iterable(encoded), np.int32, count=int(starts[-1]))
    return ids, starts


def _perplexity(score: LineScorer, lines: list[str]) -> float:
    scores, pieces = score(lines)
    return document_perplexity(scores.tolist(), pieces.tolist())


def _shuffled(line: str, seed: int) -> str:
    """The words of a line in the order of their hashes and places."""
    words = enumerate(line.split())
    return " ".join(word for place, word in sorted(words, key=lambda item: _draw(item, seed)))


def _draw(item: tuple[int, str], seed: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{item[0]} {item[1]}".encode(), seed=seed)
