"""The tasks a recipe may name, and what pins them: their settings, and the digest of the files they read.

Nothing here needs torch, so that a recipe with an `evaluate` section is checked in no time. A metric carries a version:
it is raised whenever the same model on the same items may give another number, and numbers of different versions are
never compared.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.fingerprint import canonical_json, digest_bytes

Normalization = Literal["raw", "char", "bytes", "token", "pmi"]


class BitsPerByte(Config):
    """How well held-out documents are predicted, per domain: the primary metric of a proxy (Paloma, arXiv 2312.10523)."""

    metric: ClassVar[str] = "bits_per_byte@1"

    uri: str
    text: str = "text"
    domain: str | None = "domain"  # the key that names a document's domain; None: the name of its file
    where: dict[str, str] | None = None  # only records whose keys have these values, e.g. {split: eval}
    limit: int | None = Field(
        default=None, gt=0
    )  # documents per domain, chosen by hash: a larger limit contains a smaller one


class MultipleChoice(Config):
    """Whether the right continuation is the likeliest, by log-likelihood alone (cloze form)."""

    metric: ClassVar[str] = "accuracy@1"

    uri: str
    form: str | None = None  # None: recognised from the keys of the first record
    normalize: Normalization | None = None  # None: the form's own
    prompt: Literal["question_answer", "as_is"] = "question_answer"
    domain: str | None = None  # None: the form's own (subject of MMLU, phenomenon of BLiMP, …)
    where: dict[str, str] | None = None
    limit: int | None = Field(default=None, gt=0)  # items in all, chosen by hash


TASKS: Mapping[str, type[BitsPerByte] | type[MultipleChoice]] = {
    "bits_per_byte": BitsPerByte,
    "multiple_choice": MultipleChoice,
}

HIGHER_IS_BETTER: Mapping[str, bool] = {BitsPerByte.metric: False, MultipleChoice.metric: True}


def find_task(name: str) -> type[BitsPerByte] | type[MultipleChoice]:
    """The settings of the task of this name; raises FactoryError with the nearest known one."""
    if name not in TASKS:
        raise FactoryError(f"No evaluation task is named '{name}'.{suggest(name, TASKS)}")
    return TASKS[name]


def task_digest(config: BitsPerByte | MultipleChoice, files: Mapping[str, bytes]) -> str:
    """What a task asks: its metric, its settings and the bytes of its files by name, wherever those files lie."""
    asked: dict[str, Any] = {
        "metric": config.metric,
        "settings": config.model_dump(mode="json", exclude={"uri"}),
        "files": {name: digest_bytes(data) for name, data in files.items()},
    }
    return digest_bytes(canonical_json(asked).encode())
