"""Which key of a local file is what: a data set declared as a task by names alone (as tasksource does, arXiv 2301.05948).

In: a record and the keys that hold its inputs, choices and label. Out: one unified row: a text, the choices and the number
of the right one. Nothing in a declaration is code: a key may reach into a record (`choices.text`), and labels may be given
names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import InputError, suggest

HIDDEN = ("-1", "", "None", "null", "?")


class Columns(Config):
    """The keys of a task's records. `labels` holds the number, the letter, the name or the text of the right choice."""

    type: Literal["multiple_choice", "classification"] = "multiple_choice"
    inputs: str | tuple[str, ...]  # one key, or several whose texts are joined by a new line
    choices: str | tuple[str, ...] = ()  # the key of a list, or a key for each choice
    labels: str
    names: dict[str, str] = Field(
        default_factory=dict
    )  # value of a label: classification: its text; else its key or number
    first: int = Field(default=0, ge=0, le=1)  # what the first choice is counted as
    max_choices: int | None = Field(default=None, ge=2)  # keep the right one and the first others

    @model_validator(mode="after")
    def _is_of_its_type(self) -> "Columns":
        if self.type == "classification":
            if self.choices or len(self.names) < 2:
                raise ValueError(
                    "a classification has no choices of its own: give names, the text of each label's value"
                )
            if len(set(self.names.values())) < len(self.names):
                raise ValueError("names gives two values one text, so that no answer could tell them apart")
        elif not self.choices:
            raise ValueError("choices is required: the key of a list, or a key for each choice")
        return self


@dataclass(frozen=True)
class Unified:
    """A record as every task has it."""

    inputs: str
    choices: tuple[str, ...]
    label: int


def unify(columns: Columns, record: Mapping[str, Any], place: str) -> Unified:
    """The row of a record; raises InputError naming the key that is missing or makes no sense."""
    keys = (columns.inputs,) if isinstance(columns.inputs, str) else columns.inputs
    inputs = "\n".join(_text(record, key, place) for key in keys)
    if columns.type == "classification":
        choices = tuple(columns.names.values())
        label = _named(columns, record, place)
    else:
        choices = _choices(columns, record, place)
        label = _label(columns, record, choices, place)
    if columns.max_choices is not None and len(choices) > columns.max_choices:
        kept = sorted([label, *[at for at in range(len(choices)) if at != label][: columns.max_choices - 1]])
        choices, label = tuple(choices[at] for at in kept), kept.index(label)
    return Unified(inputs, choices, label)


def _get(record: Mapping[str, Any], key: str, place: str) -> Any:
    found: Any = record
    for step in key.split("."):
        known = found if isinstance(found, Mapping) else {}
        if known.get(step) is None:
            raise InputError(f"{place} has no value for '{key}' (at '{step}').{suggest(step, map(str, known))}")
        found = known[step]
    return found


def _text(record: Mapping[str, Any], key: str, place: str) -> str:
    found = _get(record, key, place)
    if not isinstance(found, str) or not found:
        raise InputError(f"{place}: '{key}' is {found!r:.60}; a text that is not empty is wanted.")
    return found


def _choices(columns: Columns, record: Mapping[str, Any], place: str) -> tuple[str, ...]:
    if not isinstance(columns.choices, str):
        return tuple(_text(record, key, place) for key in columns.choices)
    found = _get(record, columns.choices, place)
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(one, str) and one for one in found):
        raise InputError(f"{place}: '{columns.choices}' is {found!r:.60}; a list of at least two texts is wanted.")
    return tuple(found)


def _named(columns: Columns, record: Mapping[str, Any], place: str) -> int:
    found = _shown(_get(record, columns.labels, place))
    if found not in columns.names:
        hidden = " Hidden labels cannot be scored." if found in HIDDEN else ""
        known = ", ".join(columns.names)
        raise InputError(f"{place}: '{columns.labels}' is '{found}', which names does not have ({known}).{hidden}")
    return list(columns.names).index(found)


def _label(columns: Columns, record: Mapping[str, Any], choices: Sequence[str], place: str) -> int:
    given = _get(record, columns.labels, place)
    shown = _shown(given)
    shown = columns.names.get(shown, shown)
    # A number is a place, even where the choices are numbers; a text that is a choice is that choice.
    if shown in choices and not isinstance(given, int):
        return list(choices).index(shown)
    if len(shown) == 1 and shown.isalpha() and shown.isascii():
        number = ord(shown.upper()) - ord("A")
    else:
        number = int(shown) - columns.first if shown.removeprefix("-").isdigit() and len(shown) < 9 else -1
    if 0 <= number < len(choices):
        return number
    hidden = " Hidden labels cannot be scored." if shown in HIDDEN else ""
    raise InputError(
        f"{place}: '{columns.labels}' is {given!r:.60}, which is none of {len(choices)} choices counted from "
        f"{columns.first}.{hidden}"
    )


def _shown(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
