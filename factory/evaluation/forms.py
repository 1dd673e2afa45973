"""The shapes in which published multiple-choice tasks come, and the one shape in which they are scored.

Whatever the form, an item is k (context, continuation) pairs of which one is right. Texts are joined as they are: where
neither side has white space at the seam, the continuation begins with one space, and nothing is ever stripped.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import xxhash

from factory.core.errors import InputError, suggest
from factory.evaluation.annotations import unify
from factory.evaluation.records import Record, text_of, value_of
from factory.evaluation.tasks import MultipleChoice, Normalization

MAX_NAME = 64  # characters of a passage's name
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Item:
    """One question: the pair at `gold` is the right one. A single pair is right when greedy decoding gives it.

    `measured` are the texts whose lengths normalise, where they are not the continuations as scored. Items of one `passage`
    are no independent evidence.
    """

    id: str
    domain: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int
    measured: tuple[str, ...] = ()
    passage: str | None = None

    @property
    def lengths_of(self) -> tuple[str, ...]:
        return self.measured or self.continuations


@dataclass(frozen=True)
class Parts:
    """What a form takes out of a record: contexts and choices, of which either may be shared by all."""

    contexts: tuple[str, ...]
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Form:
    """`keys` are what a record must have; `normalize` is what the literature uses; `domain` and `passage` are keys of some."""

    keys: tuple[str, ...]
    read: Callable[[Record, str], Parts]
    normalize: Normalization = "char"
    domain: str | None = None
    passage: str | None = None


def find_form(config: MultipleChoice, record: Record, place: str) -> str:
    """The form the settings name, or the one whose keys the record has."""
    if config.columns is not None:
        return ANNOTATED
    if config.form is not None:
        if config.form not in FORMS:
            raise InputError(f"{place}: no form of task is named '{config.form}'.{suggest(config.form, FORMS)}")
        return config.form
    for name, form in FORMS.items():
        if all(key in record for key in form.keys):
            return name
    known = "; ".join(f"{name}: {', '.join(form.keys)}" for name, form in FORMS.items())
    raise InputError(
        f"{place}: the keys {', '.join(sorted(record))} are of no known form of task. Known: {known}. "
        "Rename the keys, or name a form with `form:`."
    )


def read_item(form_name: str, config: MultipleChoice, record: Record, *, item: str, place: str) -> Item:
    form = FORMS[form_name] if form_name != ANNOTATED else Form((), _annotated(config))
    parts = _read(form_name, form, record, place)
    count = max(len(parts.contexts), len(parts.choices))
    if not 0 <= parts.gold < count:
        raise InputError(
            f"{place}: the right choice is number {parts.gold} of {count}. Hidden labels cannot be scored."
        )
    domain = value_of(record, config.domain, place) if config.domain else record.get(form.domain or "", "all")
    if config.formulation == "letters":
        parts = _lettered(form_name, parts, place)
    contexts = tuple(_as_question(text, config) for text in parts.contexts * (count if len(parts.contexts) == 1 else 1))
    choices = parts.choices * (count if len(parts.choices) == 1 else 1)
    continuations = tuple(_join(context, choice) for context, choice in zip(contexts, choices, strict=True))
    return Item(item, str(domain), contexts, continuations, parts.gold, passage=_passage(config, form, record, place))


def _passage(config: MultipleChoice, form: Form, record: Record, place: str) -> str | None:
    """What names the passage an item asks about: as it stands there, or its digest where it is the text itself."""
    key = config.passage or form.passage
    if key is None or (key in record and record[key] is None):
        return None
    found = str(value_of(record, key, place))
    return found if len(found) <= MAX_NAME else xxhash.xxh3_128_hexdigest(found.encode("utf-8", "surrogatepass"))


def read_parts(form_name: str, record: Record, place: str) -> Parts:
    """What a known form takes out of a record."""
    return _read(form_name, FORMS[form_name], record, place)


def _read(form_name: str, form: Form, record: Record, place: str) -> Parts:
    missing = [key for key in form.keys if key not in record]
    if missing:
        raise InputError(
            f"{place}: form '{form_name}' needs {', '.join(missing)}, which this record lacks. "
            f"Its keys: {', '.join(sorted(record))}."
        )
    return form.read(record, place)


def lettered(question: str, choices: tuple[str, ...]) -> str:
    """A question with its choices below it, one a line, each after a letter with a space before it (OLMES)."""
    listed = "\n".join(f" {letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{question}\n{listed}\nAnswer:"


def _lettered(form_name: str, parts: Parts, place: str) -> Parts:
    if len(parts.contexts) > 1 or len(parts.choices) < 2 or not parts.contexts[0]:
        raise InputError(
            f"{place}: letters need one question with several choices, and form '{form_name}' has no such."
        )
    if len(parts.choices) > len(LETTERS):
        raise InputError(f"{place}: {len(parts.choices)} choices; there are {len(LETTERS)} letters.")
    question = _ANSWERED.sub("", parts.contexts[0]).rstrip()
    return Parts((lettered(question, parts.choices),), tuple(LETTERS[: len(parts.choices)]), parts.gold)


def _annotated(config: MultipleChoice) -> Callable[[Record, str], Parts]:
    def read(record: Record, place: str) -> Parts:
        assert config.columns is not None  # such a form is found by them
        row = unify(config.columns, record, place)
        asked = row.inputs if config.prompt == "as_is" else f"Question: {row.inputs}"
        return Parts((asked,), row.choices, row.label)

    return read


_QUESTION = re.compile(r"^(Question|Q): ", re.MULTILINE)
_ANSWERED = re.compile(r"\bA(nswer)?:\s*$")


def _as_question(context: str, config: MultipleChoice) -> str:
    """OLMES (arXiv 2406.08446) asks "Question: …\\nAnswer:"; published files often leave the second line to the reader."""
    if config.prompt == "as_is" or not _QUESTION.search(context) or _ANSWERED.search(context):
        return context
    return context + ("Answer:" if context.endswith("\n") else "\nAnswer:")


def _join(context: str, choice: str) -> str:
    seam = not context or context[-1].isspace() or choice[0].isspace()
    return choice if seam else f" {choice}"


def _texts(record: Record, key: str, place: str) -> tuple[str, ...]:
    values = value_of(record, key, place)
    if not isinstance(values, list) or len(values) < 2:
        raise InputError(f"{place}: '{key}' is {values!r:.60}; a list of at least two texts is wanted.")
    return tuple(text_of({key: value}, key, place) for value in values)


def _number(record: Record, key: str, place: str, *, first: int = 0) -> int:
    """An index, or a letter or number of a list that is counted from `first`."""
    value = value_of(record, key, place)
    if isinstance(value, str) and len(value) == 1 and value.isalpha():
        return ord(value.upper()) - ord("A")
    try:
        return int(value) - first
    except (TypeError, ValueError):
        raise InputError(f"{place}: '{key}' is {value!r:.60}; the number or letter of a choice is wanted.") from None


def _query(record: Record, place: str) -> Parts:
    query = text_of(record, "query", place)
    return Parts((query,), _texts(record, "choices", place), _number(record, "gold", place))


def _schema(record: Record, place: str) -> Parts:
    # The options differ before the seam and share what follows it, which alone is scored (as in DCLM, arXiv 2406.11794).
    shared = text_of(record, "continuation", place)
    return Parts(_texts(record, "context_options", place), (shared,), _number(record, "gold", place))


def _language_modeling(record: Record, place: str) -> Parts:
    return Parts((text_of(record, "context", place),), (text_of(record, "continuation", place),), 0)


def _hellaswag(record: Record, place: str) -> Parts:
    context = text_of(record, "ctx", place)
    return Parts((context,), _texts(record, "endings", place), _number(record, "label", place))


def _answer_key(question: str) -> Callable[[Record, str], Parts]:
    def read(record: Record, place: str) -> Parts:
        choices = value_of(record, "choices", place)
        asked = f"Question: {text_of(record, question, place)}"
        labels = [str(label) for label in value_of(choices, "label", place)]
        key = str(value_of(record, "answerKey", place))
        if key not in labels:
            raise InputError(f"{place}: answerKey '{key}' is none of the labels {', '.join(labels)}.")
        return Parts((asked,), _texts(choices, "text", place), labels.index(key))

    return read


def _mmlu(record: Record, place: str) -> Parts:
    asked = f"Question: {text_of(record, 'question', place)}"
    return Parts((asked,), _texts(record, "choices", place), _number(record, "answer", place))


def _copa(record: Record, place: str) -> Parts:
    # Time's order instead of a connecting word, so that one rule serves all languages of XCOPA: an effect follows its
    # premise, and a cause comes before it, where the premise is what is scored.
    premise = text_of(record, "premise", place)
    choices = (text_of(record, "choice1", place), text_of(record, "choice2", place))
    gold = _number(record, "label", place)
    if record["question"] not in ("cause", "effect"):
        raise InputError(f"{place}: 'question' is {record['question']!r:.60}; 'cause' or 'effect' is wanted.")
    return Parts((premise,), choices, gold) if record["question"] == "effect" else Parts(choices, (premise,), gold)


def _minimal_pair(record: Record, place: str) -> Parts:
    good, bad = text_of(record, "sentence_good", place), text_of(record, "sentence_bad", place)
    # The place of the right one comes from its text: were it always first, every tie would count as right.
    gold = xxhash.xxh3_64_intdigest(good.encode()) & 1
    return Parts(("",), (bad, good) if gold else (good, bad), gold)


def _piqa(record: Record, place: str) -> Parts:
    asked = f"Question: {text_of(record, 'goal', place)}"
    solutions = (text_of(record, "sol1", place), text_of(record, "sol2", place))
    return Parts((asked,), solutions, _number(record, "label", place))


def _winogrande(record: Record, place: str) -> Parts:
    before, blank, after = text_of(record, "sentence", place).partition("_")
    if not blank or not after.strip():
        raise InputError(f"{place}: 'sentence' has no blank ('_') with text after it.")
    options = tuple(before + text_of(record, key, place) for key in ("option1", "option2"))
    return Parts(options, (after,), _number(record, "answer", place, first=1))


def _boolq(record: Record, place: str) -> Parts:
    asked = f"Passage: {text_of(record, 'passage', place)}\nQuestion: {text_of(record, 'question', place)}"
    return Parts((asked,), ("no", "yes"), _number(record, "answer", place))


def _siqa(record: Record, place: str) -> Parts:
    asked = f"{text_of(record, 'context', place)}\nQuestion: {text_of(record, 'question', place)}"
    choices = tuple(text_of(record, f"answer{letter}", place) for letter in "ABC")
    return Parts((asked,), choices, _number(record, "label", place, first=1))


ANNOTATED = "columns"  # not a form of its own: what the settings say of the keys

# No two fit the same record. Normalisations as in OLMES, table 1, where it has the task.
FORMS: Mapping[str, Form] = {
    "multiple_choice": Form(("query", "choices", "gold"), _query),
    "schema": Form(("context_options", "continuation", "gold"), _schema, "raw"),
    "language_modeling": Form(("context", "continuation"), _language_modeling, "raw"),
    "hellaswag": Form(("ctx", "endings", "label"), _hellaswag),
    "arc": Form(("question", "choices", "answerKey"), _answer_key("question")),
    "openbookqa": Form(("question_stem", "choices", "answerKey"), _answer_key("question_stem")),
    "mmlu": Form(("question", "choices", "answer"), _mmlu, domain="subject"),
    "copa": Form(("premise", "choice1", "choice2", "question", "label"), _copa, domain="lang"),
    "minimal_pairs": Form(("sentence_good", "sentence_bad"), _minimal_pair, "raw", domain="UID"),
    "piqa": Form(("goal", "sol1", "sol2", "label"), _piqa),
    "winogrande": Form(("sentence", "option1", "option2", "answer"), _winogrande, "raw"),
    "boolq": Form(("question", "passage", "answer"), _boolq, "raw", passage="passage"),
    "siqa": Form(("context", "question", "answerA", "answerB", "answerC", "label"), _siqa),
}
