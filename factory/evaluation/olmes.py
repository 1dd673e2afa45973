"""OLMES 0.1: how ten tasks are asked so that numbers of different laboratories compare (arXiv 2406.08446, allenai/OLMo-Eval).

In: records of the public data sets. Out: items in the standard's cloze form, or with letters. Five curated examples from a
file, in its order; the normalisation of each task; a sample of 1,000 by Random(1234) where there are more than 1,500; at
most 2,048 tokens. `best` scores both formulations and says which won.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.core.errors import InputError
from factory.evaluation.few_shot import shot
from factory.evaluation.forms import LETTERS, Item, find_form, lettered, read_parts
from factory.evaluation.records import Record, chosen, records, text_of
from factory.evaluation.tasks import Formulation, MultipleChoice, Normalization, Olmes

VERSION = "0.1"
MAX_TOKENS = 2048
SAMPLE, SAMPLED_ABOVE, SEED = 1000, 1500, 1234
BETWEEN = "\n\n"


@dataclass(frozen=True)
class Standard:
    """A task's normalisation in cloze form, the words before its question, and whether it is sampled."""

    normalize: Normalization
    prefix: str = "Question: "
    choices_prefix: str = ""


STANDARDS: Mapping[str, Standard] = {
    "arc_challenge": Standard("pmi"),
    "arc_easy": Standard("char"),
    "boolq": Standard("raw", ""),
    "commonsense_qa": Standard("pmi"),
    "hellaswag": Standard("char", "", "Choose the best continuation:\n"),
    "mmlu": Standard("char"),
    "openbook_qa": Standard("pmi"),
    "piqa": Standard("char", "Goal: "),
    "social_iqa": Standard("char"),
    "winogrande": Standard("raw", "Fill in the blank: "),
}


def sampled(count: int) -> list[int]:
    """Which of so many items are scored, in the standard's order."""
    if count <= SAMPLED_ABOVE:
        return list(range(count))
    return random.Random(SEED).sample(range(count), SAMPLE)


def read_olmes(
    config: Olmes, files: Mapping[str, bytes], shots: Mapping[str, bytes] | None, formulation: Formulation
) -> tuple[list[Item], Normalization]:
    """The items of a task in one formulation, after its examples."""
    named = [(f"{name}:{number}", record) for name in sorted(files) for number, record in records(name, files[name])]
    if not named:
        raise InputError(f"evaluate: no item in {', '.join(sorted(files))}.")
    kept = [named[at] for at in sampled(len(named))] if config.task != "mmlu" else named
    kept = [kept[at] for at in chosen([item for item, _ in kept], config.limit)]
    prompt = _Prompt(config, shots, formulation)
    items = []
    for item, record in kept:
        name, _, line = item.rpartition(":")
        items.append(prompt.asked(record, item, f"{name}, line {line} (from 0)"))
    return items, "raw" if formulation == "letters" else STANDARDS[config.task].normalize


def macro(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The standard's score: the mean over subjects of their accuracies."""
    subjects: dict[str, list[float]] = {}
    for row in rows:
        if row.get("value") is None:
            return None
        subjects.setdefault(row["domain"], []).append(row["value"])
    return sum(sum(own) / len(own) for own in subjects.values()) / len(subjects) if subjects else None


class _Prompt:
    """The examples of a task, by subject where it has subjects."""

    def __init__(self, config: Olmes, shots: Mapping[str, bytes] | None, formulation: Formulation) -> None:
        self.config, self.formulation = config, formulation
        self.examples: dict[str, list[str]] = {}
        for name in sorted(shots or {}):
            for number, record in records(name, (shots or {})[name]):
                item = self.item(record, f"{name}:{number}", f"{name}, line {number} (from 0)")
                self.examples.setdefault(item.domain, []).append(shot(item) + BETWEEN)

    def item(self, record: Record, item: str, place: str) -> Item:
        return read_standard(self.config.task, record, self.formulation, item=item, place=place)

    def asked(self, record: Record, item: str, place: str) -> Item:
        found = self.item(record, item, place)
        own = self.examples.get(found.domain, [])
        count = self.config.few_shot
        if len(own) < count:
            of = f" of '{found.domain}'" if found.domain != "all" else ""
            raise InputError(f"{place}: OLMES shows {count} curated examples, and the file has {len(own)}{of}.")
        before = "".join(own[:count])
        if self.config.task == "mmlu":
            subject = found.domain.replace("_", " ")
            before = f"The following are multiple choice questions (with answers) about {subject}.{BETWEEN}{before}"
        contexts = tuple(before + context for context in found.contexts)
        return Item(found.id, found.domain, contexts, found.continuations, found.gold, passage=found.passage)


def read_standard(task: str, record: Record, formulation: Formulation, *, item: str, place: str) -> Item:
    """One item as the standard words it, without examples."""
    standard = STANDARDS[task]
    if task == "winogrande":
        return _winogrande(record, formulation, item, place)
    question, choices, gold, domain = _question(task, record, place)
    if not 0 <= gold < len(choices):
        raise InputError(
            f"{place}: the right choice is number {gold} of {len(choices)}. Hidden labels cannot be scored."
        )
    if formulation == "letters":
        body = lettered(f"{standard.prefix}{question}\n{standard.choices_prefix}".removesuffix("\n"), tuple(choices))
        return _same_context(item, domain, body, LETTERS[: len(choices)], gold)
    context = question if task == "hellaswag" else f"{standard.prefix}{question}\nAnswer:"
    return _same_context(item, domain, context, choices, gold)


def _same_context(item: str, domain: str, context: str, choices: Sequence[str], gold: int) -> Item:
    return Item(item, domain, (context,) * len(choices), tuple(f" {choice}" for choice in choices), gold)


def _question(task: str, record: Record, place: str) -> tuple[str, Sequence[str], int, str]:
    """A record's question without what stands before and after it, its choices, the right one, its domain."""
    if task == "hellaswag" and "activity_label" in record and "ctx_a" in record:
        endings = read_parts("hellaswag", record, place)
        # The second half is left out where it is empty: capitalising nothing would leave a space.
        halves = f"{text_of(record, 'ctx_a', place)} {str(record.get('ctx_b') or '').capitalize()}"
        text = _plain(f"{text_of(record, 'activity_label', place)}: {halves}")
        return text, [_plain(ending) for ending in endings.choices], endings.gold, "all"
    if task == "boolq" and "passage" in record:
        parts = read_parts("boolq", record, place)
        asked = f"{text_of(record, 'passage', place)}\nQuestion: {text_of(record, 'question', place)}?"
        return asked, ["yes", "no"], 1 - parts.gold, "all"
    form = find_form(MultipleChoice(uri=""), record, place)
    parts = read_parts(form, record, place)
    domain = str(record.get("subject") or "all") if task == "mmlu" else "all"
    text = parts.contexts[0]
    if task == "social_iqa" and form == "siqa":
        text = f"{text_of(record, 'context', place)} {text_of(record, 'question', place)}"
    for start in ("Question: ", "Goal: ", "Q: "):
        text = text.removeprefix(start)
    return text.strip().removesuffix("Answer:").rstrip(), parts.choices, parts.gold, domain


def _winogrande(record: Record, formulation: Formulation, item: str, place: str) -> Item:
    if formulation == "cloze":
        form = find_form(MultipleChoice(uri=""), record, place)
        parts = read_parts(form, record, place)
        return Item(item, "all", parts.contexts, (f" {parts.choices[0].strip()}",) * len(parts.contexts), parts.gold)
    if "sentence" not in record:
        raise InputError(f"{place}: letters need the sentence with its blank ('_'), and this record has none.")
    parts = read_parts("winogrande", record, place)
    sentence = text_of(record, "sentence", place).replace("_", "___")
    options = tuple(text_of(record, key, place) for key in ("option1", "option2"))
    context = lettered(f"{STANDARDS['winogrande'].prefix}{sentence}", options)
    return _same_context(item, "all", context, LETTERS[:2], parts.gold)


def _plain(text: str) -> str:
    """HellaSwag's texts without WikiHow's brackets."""
    text = text.strip()
    for mark in (". [title]", " [title]"):
        text = text.replace(mark, ". ")
    while "[" in text:
        before, _, rest = text.partition("[")
        inside, closed, after = rest.partition("]")
        if not closed or "\n" in inside:
            break
        text = before + after
    return text.replace("  ", " ")
