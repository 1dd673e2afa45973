"""The tasks a recipe may name, and what pins them: their settings, and the digest of the files they read.

Nothing here needs torch, so that a recipe with an `evaluate` section is checked in no time. A metric carries a version:
it is raised whenever the same model on the same items may give another number, and numbers of different versions are
never compared.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.fingerprint import canonical_json, digest_bytes
from factory.evaluation.annotations import Columns

Normalization = Literal["raw", "char", "bytes", "token", "pmi"]
Formulation = Literal["cloze", "letters"]


class TaskSettings(Config):
    """What every task has; `uri` and the other `PLACES` say where files lie, which is no part of what is asked."""

    metric: ClassVar[str] = ""
    PLACES: ClassVar[tuple[str, ...]] = ("uri",)

    uri: str

    @property
    def measure(self) -> str:
        """The metric of its rows."""
        return type(self).metric

    @property
    def places(self) -> dict[str, str]:
        """The paths or patterns of its files, by setting."""
        found = {name: getattr(self, name) for name in self.PLACES}
        return {name: uri for name, uri in found.items() if uri is not None}

    @property
    def identity(self) -> dict[str, Any]:
        """What is asked, wherever the files lie."""
        return {"metric": self.measure, **self.model_dump(mode="json", exclude=set(self.PLACES))}


class BitsPerByte(TaskSettings):
    """How well held-out documents are predicted, per domain: the primary metric of a proxy (Paloma, arXiv 2312.10523)."""

    metric: ClassVar[str] = "bits_per_byte@1"

    text: str = "text"
    domain: str | None = "domain"  # the key that names a document's domain; None: the name of its file
    # Only records whose keys have these values, or one of them: {split: eval, domain: [legal, math]}.
    where: dict[str, str | list[str]] | None = None
    # Documents per domain, chosen by hash: a larger limit contains a smaller one.
    limit: int | None = Field(default=None, gt=0)
    most_characters: int | None = Field(default=None, ge=1)  # of each document, from its beginning


class MultipleChoice(TaskSettings):
    """Whether the right continuation is the likeliest, by log-likelihood alone."""

    metric: ClassVar[str] = "accuracy@1"
    PLACES: ClassVar[tuple[str, ...]] = ("uri", "shots")

    form: str | None = None  # None: recognised from the keys of the first record
    columns: Columns | None = None  # which key is what, for files of no known form
    normalize: Normalization | None = None  # None: the form's own; letters are compared as they are
    prompt: Literal["question_answer", "as_is"] = "question_answer"
    formulation: Formulation = "cloze"  # letters: the choices stand in the question, and the answer is a letter
    few_shot: int = Field(default=0, ge=0, le=64)
    shots: str | None = None  # the file of the examples, taken from its beginning; None: other items of the task, drawn
    shot_seed: int = Field(default=1234, ge=0)
    between: str = "\n\n"  # stands after each example
    max_tokens: int | None = Field(default=None, ge=2)  # of a question with its answer; None: what the model can be fed
    passage: str | None = None  # the key of what several items ask about; null in a record: it asks about its own
    domain: str | None = None  # None: the form's own (subject of MMLU, phenomenon of BLiMP, …)
    where: dict[str, str | list[str]] | None = None
    limit: int | None = Field(default=None, gt=0)  # items in all, chosen by hash

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> "MultipleChoice":
        if self.shots is not None and not self.few_shot:
            raise ValueError("shots names a file of examples and few_shot is 0: say how many of them are shown")
        if self.form is not None and self.columns is not None:
            raise ValueError("form and columns both say how a record is read: name one of them")
        if self.formulation == "letters" and self.normalize not in (None, "raw"):
            raise ValueError(f"letters are all one long: normalize {self.normalize} would change nothing but ties")
        return self


class Core(TaskSettings):
    """A task of DCLM's CORE or EXTENDED as DCLM asks it (arXiv 2406.11794): its shots, delimiter and baseline."""

    metric: ClassVar[str] = "dclm_accuracy@2"

    task: str | None = None  # DCLM's name; None: the name of the file
    few_shot: int | None = Field(default=None, ge=0, le=64)  # None: DCLM's; another number keeps it out of CORE
    shot_seed: int = Field(default=1234, ge=0)
    limit: int | None = Field(default=None, gt=0)


class Olmes(TaskSettings):
    """A task of OLMES (arXiv 2406.08446): its prompt, normalisation, curated examples and sample."""

    metric: ClassVar[str] = "olmes@1"
    PLACES: ClassVar[tuple[str, ...]] = ("uri", "shots")

    task: Literal[
        "arc_challenge",
        "arc_easy",
        "boolq",
        "commonsense_qa",
        "hellaswag",
        "mmlu",
        "openbook_qa",
        "piqa",
        "social_iqa",
        "winogrande",
    ]
    # `best` is the standard's maximum of both; of two noisy scores of a small model it picks the luckier.
    formulation: Literal["cloze", "letters", "best"] = "cloze"
    few_shot: int = Field(default=5, ge=0, le=5)
    shots: str | None = None  # the curated examples, in the form of the task
    limit: int | None = Field(default=None, gt=0)  # after the standard's own sample

    @model_validator(mode="after")
    def _has_its_examples(self) -> "Olmes":
        if self.few_shot and self.shots is None:
            raise ValueError(
                f"OLMES shows {self.few_shot} curated examples: name their file with shots, or ask for few_shot: 0, "
                "which is not the standard"
            )
        return self


class Harness(TaskSettings):
    """A task in the form of lm-evaluation-harness, resolved: see `harness_tasks.read_declaration`."""

    metric: ClassVar[str] = "harness@1"
    PLACES: ClassVar[tuple[str, ...]] = ("uri", "shots")

    output_type: Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling"]
    doc_to_text: str | int = ""
    doc_to_target: str | int = ""
    doc_to_choice: str | tuple[str, ...] | None = None
    description: str = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    few_shot: int = Field(default=0, ge=0, le=64)
    shots: str | None = None  # None: the items of the task themselves
    samples: tuple[dict[str, Any], ...] = ()
    sampler: Literal["default", "first_n"] = "default"
    metrics: tuple[str, ...]
    version: str = "0"
    limit: int | None = Field(default=None, gt=0)  # the first items, as the harness counts them

    @property
    def measure(self) -> str:
        return HARNESS_MEASURES[self.metrics[0]]


class LongTail(MultipleChoice):
    """Accuracy by how many training documents hold both the question's entity and the answer's (arXiv 2211.08411)."""

    metric: ClassVar[str] = "accuracy_by_count@1"
    PLACES: ClassVar[tuple[str, ...]] = ("uri", "shots", "counts")

    # JSONL of {item, count}; None: a recipe's scorer `support` counts them for every experiment.
    counts: str | None = None
    per_decade: int = Field(default=1, ge=1, le=10)  # bins of a factor of ten


class Temporal(BitsPerByte):
    """Bits per byte of dated documents, by period (misalignment as in arXiv 2305.13169)."""

    metric: ClassVar[str] = "bits_per_byte_by_date@1"

    date: str = "date"  # the key of an ISO 8601 date
    by: Literal["year", "month"] = "year"
    trained: str | None = None  # the period the model's data come from; None: no slope


class Toxicity(BitsPerByte):
    """Bits per byte of toxic and of benign texts, by their labels."""

    metric: ClassVar[str] = "bits_per_byte_by_toxicity@1"

    label: str = "label"
    toxic: tuple[str, ...]  # the values that mean toxic …
    benign: tuple[str, ...]  # … and benign; other records are an error


class Membership(TaskSettings):
    """Whether a model tells texts it was trained on from others by its likelihoods: Min-K% Prob (arXiv 2310.16789)."""

    metric: ClassVar[str] = "min_k@1"

    text: str = "text"
    member: str = "member"  # the key that is true for texts that were trained on
    k: float = Field(default=0.2, gt=0, le=1)
    where: dict[str, str | list[str]] | None = None
    limit: int | None = Field(default=None, gt=0)  # of members, and of others


TASKS: Mapping[str, type[TaskSettings]] = {
    "bits_per_byte": BitsPerByte,
    "multiple_choice": MultipleChoice,
    "core": Core,
    "olmes": Olmes,
    "harness": Harness,
    "long_tail": LongTail,
    "temporal": Temporal,
    "toxicity": Toxicity,
    "membership": Membership,
}

# The metrics of the harness that are read, and the measure whose values they are computed from.
HARNESS_MEASURES: Mapping[str, str] = {
    "acc": MultipleChoice.metric,
    "acc_norm": MultipleChoice.metric,
    "acc_bytes": MultipleChoice.metric,
    "acc_mutual_info": MultipleChoice.metric,
    "perplexity": "nats@1",
    "bits_per_byte": "rolling_bits_per_byte@1",
    "byte_perplexity": "rolling_bits_per_byte@1",
    "word_perplexity": "rolling_bits_per_byte@1",
}

HIGHER_IS_BETTER: Mapping[str, bool] = {
    BitsPerByte.metric: False,
    MultipleChoice.metric: True,
    Core.metric: True,
    Olmes.metric: True,
    LongTail.metric: True,
    Temporal.metric: False,
    Toxicity.metric: False,
    Membership.metric: False,  # the higher, the surer that a text was trained on
    "nats@1": False,
    "rolling_bits_per_byte@1": False,
}


def find_task(name: str) -> type[TaskSettings]:
    """The settings of the task of this name; raises FactoryError with the nearest known one."""
    if name not in TASKS:
        raise FactoryError(f"No evaluation task is named '{name}'.{suggest(name, TASKS)}")
    return TASKS[name]


def task_digest(config: TaskSettings, files: Mapping[str, bytes]) -> str:
    """What a task asks: its metric, its settings and the bytes of its files by name, wherever those files lie."""
    identity = config.identity
    asked: dict[str, Any] = {
        "metric": identity.pop("metric"),
        "settings": identity,
        "files": {name: digest_bytes(data) for name, data in files.items()},
    }
    return digest_bytes(canonical_json(asked).encode())
