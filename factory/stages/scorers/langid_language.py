"""The language of a text by the model that comes with py3langid: on any machine, without a download.

It is the classifier of langid.py (Lui and Baldwin, ACL 2012) over byte n-grams as py3langid (BSD licence) trains it, with
its shares: `score` is the one of `label`, each language of `languages` has a column with its own. Labels are ISO 639-1. A text
all in capitals is read in small letters, and in Unicode's composed form. What has none of the model's features has no
language. The package's model is read and walked over Arrow's buffers here; its own Python loop is not used.
"""

import unicodedata
from importlib import metadata

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.registry import register
from factory.core.stage import BatchFunction, Columns


def _installed() -> str:
    try:
        return metadata.version("py3langid")
    except metadata.PackageNotFoundError:
        return "none"


class Settings(Config):
    """`model` is the version of the installed py3langid; it need not be given and is part of what the columns are made of."""

    languages: tuple[str, ...] = ("en",)
    model: str = Field(default_factory=_installed)

    @field_validator("model")
    @classmethod
    def _is_installed(cls, model: str) -> str:
        if model == "none" or model != _installed():
            raise ValueError(f"py3langid {model} is asked for and {_installed()} is installed: pip install py3langid")
        return model

    @field_validator("languages")
    @classmethod
    def _differ(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(languages)) < len(languages):
            raise ValueError("a language is named twice")
        return languages


def _columns(config: Settings) -> Columns:
    return {"label": pa.string(), "score": pa.float32(), **dict.fromkeys(config.languages, pa.float32())}


@register("langid_language", version=1, reads=("text",), writes=_columns, config=Settings)
def langid_language(config: Settings) -> BatchFunction:
    import numpy as np
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    from factory.kernels.naive_bayes import Automaton, are_plain, classify
    from factory.kernels.text import view_text

    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    names = list(dict.fromkeys(model.nb_classes))  # a language in two scripts is two classes of one name
    for language in config.languages:
        if language not in names:
            raise FactoryError(f"py3langid {config.model} knows no '{language}'.{suggest(language, names)}")
    rows = np.asarray(model.tk_row, np.int64) << 8
    automaton = Automaton(np.asarray(model.tk_nextmove, np.int32), rows, np.asarray(model.tk_output, np.int32))
    weights = np.ascontiguousarray(model.nb_ptc, np.float32)
    prior = np.ascontiguousarray(model.nb_pc, np.float32)
    indices = np.array([names.index(name) for name in model.nb_classes])
    labels = pa.array(names, pa.string())

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        classes, known = classify(*view_text(_readable(batch.column("text"))), automaton, weights, prior)
        table = np.zeros((len(classes), len(names)), np.float32)
        for column, index in enumerate(indices):
            table[:, index] += classes[:, column]
        np.minimum(table, 1, out=table)
        named = labels.take(pa.array(table.argmax(axis=1), mask=~known))
        values = [table.max(axis=1, initial=0), *(table[:, names.index(language)] for language in config.languages)]
        columns = [named, *(pa.array(value, pa.float32(), mask=~known) for value in values)]
        return pa.record_batch(columns, schema=pa.schema(_columns(config)))

    def _readable(texts: pa.Array) -> pa.Array:
        view = view_text(texts)
        plain = are_plain(view.offsets, view.data) | ~view.valid
        others = np.flatnonzero(~plain)
        if not len(others):
            return texts
        changed = {}
        for row, text in zip(others.tolist(), texts.take(pa.array(others)).to_pylist(), strict=True):
            read = unicodedata.normalize("NFC", text.lower() if text.isupper() else text)
            if read != text:
                changed[row] = read
        if not changed:
            return texts
        mask = np.zeros(len(texts), np.bool_)
        mask[list(changed)] = True
        return pc.replace_with_mask(texts, pa.array(mask), pa.array(list(changed.values()), texts.type))

    return score
