"""The language of a text, with the probability a fastText classifier gives it; the whole text counts.

`model: babel` trains a small classifier of 70 languages from text that every machine has (see
`factory.stages.language_texts`): good enough to tell English documents from others, weak on single sentences of close
relatives (Malay and Indonesian, Galician and Spanish, Slovene and Croatian, Danish and Norwegian, Russian and Bulgarian).
For real work name a published model by path or https address and pin its sha256; `lid.176` (arXiv:1607.01759), `glotlid`
(arXiv:2310.16248) and `openlid` (arXiv:2305.13820) stand for their addresses. `score` is the probability of `label`; each
language of `languages` has a column with its own; `pairs`, if a least probability is set, holds all labels above it
(FineWeb2, arXiv:2506.20920, keeps them from 0.01). English is usually kept from 0.65 (arXiv:2406.17557).
"""

import random
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import xxhash
from pydantic import Field, field_validator, model_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.registry import register
from factory.core.stage import BatchFunction, Columns, Training
from factory.stages.fasttext_models import Shape, load_predictor, train
from factory.stages.language_texts import LANGUAGES, english_prose, letters_of, phrases

OWN = "babel"
PUBLISHED = {
    "lid.176": "https://dl.fbaipublicfiles.com/fasttext/supervised-models/lid.176.bin",
    "glotlid": "https://huggingface.co/cis-lmu/glotlid/resolve/main/model_v3.bin",
    "openlid": "https://huggingface.co/laurievb/OpenLID/resolve/main/model.bin",
}
_SHAPE = Shape(dim=16, epoch=10, lr=0.5, bucket=65536, minn=1, maxn=3, min_count=1000)
_LINES = 600  # of training, per language; English prose has twice as many besides
_HELD_OUT = 10  # one phrase in ten


class Settings(Config):
    model: str = OWN
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    languages: tuple[str, ...] = ("en",)
    pairs: float | None = Field(default=None, gt=0, lt=1)

    @field_validator("languages")
    @classmethod
    def _are_labels(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            if not re.fullmatch(r"[A-Za-z]{2,4}([_-][A-Za-z]+)*", language):
                raise ValueError(f"'{language}' is no label of a language; they look like 'en' or 'eng_Latn'")
        if len(set(languages)) < len(languages):
            raise ValueError("a language is named twice")
        return languages

    @model_validator(mode="after")
    def _is_pinned(self) -> "Settings":
        uri = PUBLISHED.get(self.model, self.model)
        if "://" in uri and not uri.startswith("https://"):
            raise ValueError("a model comes from a local path or an https address")
        if "://" in uri and self.sha256 is None:
            raise ValueError(
                f"a model from an address needs the `sha256` of its file: fetch {uri} once, "
                "look at it, and put what `sha256sum` says into the recipe"
            )
        if self.model == OWN:
            if self.sha256 is not None:
                raise ValueError("`sha256` pins a ready model; the factory makes this one itself")
            for language in self.languages:
                if language not in LANGUAGES:
                    raise ValueError(f"the factory's own model knows no '{language}'.{suggest(language, LANGUAGES)}")
        return self


def model_uri(config: Settings) -> tuple[str, str | None] | None:
    """Where the ready model lies and the digest it must have; None where the factory trains its own."""
    return None if config.model == OWN else (PUBLISHED.get(config.model, config.model), config.sha256)


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """Train on lines of mixed lengths, put together from nine phrases in ten; measure on lines of the others."""
    lines: dict[bool, list[str]] = {True: [], False: []}
    labels: dict[bool, list[str]] = {True: [], False: []}
    material = [(language, phrases(language), _LINES) for language in LANGUAGES]
    material.append(("en", english_prose(), 2 * _LINES))
    for language, known, wanted in material:
        held_out = [xxhash.xxh3_64_intdigest(phrase.encode(), seed=seed) % _HELD_OUT == 0 for phrase in known]
        for learn, count in ((True, wanted), (False, wanted // _HELD_OUT)):
            chosen = [phrase for phrase, out in zip(known, held_out, strict=True) if out != learn]
            lines[learn] += _compose(chosen, count, random.Random(f"{seed} {language} {learn} {wanted}"))
            labels[learn] += [language] * count
    classifier = train(lines[True], labels[True], f"{directory}/{MODEL_FILE}", _SHAPE, seed)
    table = classifier.probabilities(lines[False])
    right: dict[str, list[bool]] = {}
    for row, language in zip(table, labels[False], strict=True):
        right.setdefault(language, []).append(classifier.labels[int(row.argmax())] == language)
    results = [result for language in right.values() for result in language]
    accuracy = {f"accuracy_{language}": sum(found) / len(found) for language, found in sorted(right.items())}
    return {"accuracy": sum(results) / len(results), "lines": len(results), "languages": len(right), **accuracy}


def _compose(known: list[str], count: int, source: random.Random) -> list[str]:
    """Lines of 20 to 200 characters and a little more, short ones as frequent as long ones by order of magnitude."""
    lines = []
    for _ in range(count):
        length = 20 * 10 ** source.random()
        line = ""
        while len(line) < length:
            line += " " + known[int(source.random() * len(known))]
        lines.append(line[1:301])
    return lines


MODEL_FILE = "language.bin"
TRAINING = Training(file=MODEL_FILE, samples=lambda config: (), fit=fit, ready=model_uri)
PAIRS = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))


def _columns(config: Settings) -> Columns:
    pairs = {} if config.pairs is None else {"pairs": PAIRS}
    return {"label": pa.string(), "score": pa.float32(), **dict.fromkeys(config.languages, pa.float32()), **pairs}


@register("fasttext_language", version=2, reads=("text",), writes=_columns, config=Settings, train=TRAINING)
def fasttext_language(config: Settings, model_path: str | None = None) -> BatchFunction:
    import numpy as np

    own = config.model == OWN
    path = model_path or config.model
    if model_path is None and (own or config.model in PUBLISHED or "://" in path):
        raise FactoryError(f"fasttext_language needs its model '{config.model}' as a local file; make that first.")
    predictor = load_predictor(path, config.sha256)
    for language in config.languages:
        if language not in predictor.labels:
            raise FactoryError(f"The model {config.model} knows no '{language}'.{suggest(language, predictor.labels)}")
    indices = [predictor.labels.index(language) for language in config.languages]
    labels = pa.array(predictor.labels, pa.string())

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        table, known = predictor.ask(letters_of(text) if own else text)
        best = table.argmax(axis=1)
        named = labels.take(pa.array(best, mask=~known))
        values = [table.max(axis=1, initial=0), *(table[:, index] for index in indices)]
        columns = [named, *(pa.array(value, pa.float32(), mask=~known) for value in values)]
        if config.pairs is not None:
            columns.append(_pairs(table, known, np.float32(config.pairs)))
        return pa.record_batch(columns, schema=pa.schema(_columns(config)))

    def _pairs(table: Any, known: Any, least: Any) -> pa.Array:
        """The labels of each text from this probability on, the most probable first; null where there is none to tell."""
        rows, found = np.nonzero(table >= least)
        values = table[rows, found]
        order = np.lexsort((found, -values, rows))
        starts = np.searchsorted(rows, np.arange(len(table) + 1)).astype(np.int32)
        items = pa.StructArray.from_arrays(
            [labels.take(pa.array(found[order])), pa.array(values[order])], fields=list(PAIRS.value_type)
        )
        return pa.ListArray.from_arrays(pa.array(starts), items, type=PAIRS, mask=pa.array(~known))

    return score
