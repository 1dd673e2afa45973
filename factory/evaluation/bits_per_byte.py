"""Bits per byte of held-out documents: -Σ ln p / (ln 2 · UTF-8 bytes), each document scored apart (arXiv 2312.10523).

All tokens of a document count and no others: what follows it (an EOS) holds none of its bytes. Two models with different
tokenizers can be compared, since bytes are the same for both.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from factory.core.errors import InputError
from factory.evaluation.likelihood import Model, Progress, likelihoods
from factory.evaluation.records import chosen, has_values, records, text_of, value_of
from factory.evaluation.tasks import BitsPerByte


@dataclass(frozen=True)
class HeldOut:
    """One document of a held-out set."""

    id: str
    domain: str
    text: str


def read_documents(
    config: BitsPerByte, files: Mapping[str, bytes], domain_of: Callable[[str, str], str] = lambda value, place: value
) -> list[HeldOut]:
    """The documents of a task, in the order of their files; raises InputError for one without text or domain.

    `domain_of` makes a domain of what the record says, at a place.
    """
    documents = []
    for name in sorted(files):
        for number, record in records(name, files[name]):
            if not has_values(record, config.where):
                continue
            place = f"{name}, line {number} (from 0)"
            said = str(value_of(record, config.domain, place)) if config.domain else _stem(name)
            domain = domain_of(said, place)
            text = text_of(record, config.text, place)[: config.most_characters]
            documents.append(HeldOut(f"{name}:{number}", domain, text))
    if not documents:
        raise InputError(
            f"evaluate: no document in {', '.join(sorted(files))} that the task asks for ({config.where})."
        )
    return _limited(documents, config.limit)


def score_documents(model: Model, documents: list[HeldOut], progress: Progress) -> list[dict[str, Any]]:
    rows = []
    scores = likelihoods(model, [("", document.text) for document in documents], progress)
    for document, score in zip(documents, scores, strict=True):
        size = len(document.text.encode())
        bits = score.nats / (math.log(2) * size)
        rows.append(
            {
                "domain": document.domain,
                "group": document.domain,
                "item": document.id,
                "value": bits if math.isfinite(bits) else None,
                "weight": float(size),
                "nats": score.nats,
                "bytes": size,
                "tokens": score.tokens,
                "truncated": False,
            }
        )
    return rows


def _stem(name: str) -> str:
    return PurePosixPath(name).name.split(".")[0]


def _limited(documents: list[HeldOut], limit: int | None) -> list[HeldOut]:
    places = defaultdict(list)
    for at, document in enumerate(documents):
        places[document.domain].append(at)
    kept = [own[at] for own in places.values() for at in chosen([documents[at].id for at in own], limit)]
    return [documents[at] for at in sorted(kept)]
