"""Knowledge by support: how many training documents speak of what a question asks (arXiv 2211.08411).

In: documents, and questions with the names of their entity and of their answer. Out: for each question the number of
documents that hold both; accuracy by bins of that number with its slope in acc = a·log10(n) + b; and what a filter does to
coverage, without training anything. Names are found as whole words whatever their case; a dictionary of aliases stands for
an entity linker.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.core.errors import InputError
from factory.evaluation.records import records, value_of
from factory.evaluation.tasks import LongTail

FEW = 10  # documents: below, a question is of the tail
MAX_NAME = 200  # characters


@dataclass(frozen=True)
class Question:
    """A question's item id, the names of what it asks about, and the names of its answer."""

    item: str
    entity: tuple[str, ...]
    answer: tuple[str, ...]


def relevance_counts(documents: Iterable[str], questions: Sequence[Question]) -> dict[str, int]:
    """By item, the number of documents that hold a name of its entity and one of its answer."""
    import ahocorasick

    names: dict[str, int] = {}
    for question in questions:
        for name in (*question.entity, *question.answer):
            if not name.strip() or len(name) > MAX_NAME:
                raise InputError(f"{question.item}: '{name:.60}' is no name: 1 to {MAX_NAME} characters are meant.")
            names.setdefault(name.casefold(), len(names))
    counts = {question.item: 0 for question in questions}
    if not names:
        return counts
    automaton = ahocorasick.Automaton()
    for name, number in names.items():
        automaton.add_word(name, (number, len(name)))
    automaton.make_automaton()
    asking: dict[int, list[int]] = defaultdict(list)  # name of an entity: questions
    answers = [{names[name.casefold()] for name in question.answer} for question in questions]
    for at, question in enumerate(questions):
        for name in {name.casefold() for name in question.entity}:
            asking[names[name]].append(at)
    for document in documents:
        found = _names_in(document.casefold(), automaton)
        relevant = {at for name in found if name in asking for at in asking[name] if not answers[at].isdisjoint(found)}
        for at in relevant:
            counts[questions[at].item] += 1
    return counts


def _names_in(text: str, automaton: Any) -> set[int]:
    found = set()
    for end, (number, length) in automaton.iter(text):
        begin = end - length + 1
        touches = (begin > 0 and text[begin - 1].isalnum()) or (end + 1 < len(text) and text[end + 1].isalnum())
        if not touches:
            found.add(number)
    return found


def coverage(before: Mapping[str, int], after: Mapping[str, int], few: int = FEW) -> dict[str, float]:
    """What a filter or mixture does to the support of questions: shares below `few`, and how many fell below it."""
    if set(before) != set(after):
        raise InputError(f"coverage: {len(set(before) ^ set(after))} questions are counted on one side alone.")
    if not before:
        raise InputError("coverage: no question is counted.")
    tail = {side: sum(count < few for count in counts.values()) for side, counts in (("b", before), ("a", after))}
    fell = sum(before[item] >= few > after[item] for item in before)
    size = len(before)
    return {"below_before": tail["b"] / size, "below_after": tail["a"] / size, "fell_below": fell / size}


# --- a task


def read_counts(files: Mapping[str, bytes]) -> dict[str, int]:
    """Counts by item from JSONL of {item, count}."""
    counts: dict[str, int] = {}
    for name in sorted(files):
        for number, record in records(name, files[name]):
            place = f"{name}, line {number} (from 0)"
            item, count = value_of(record, "item", place), value_of(record, "count", place)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise InputError(f"{place}: 'count' is {count!r:.60}; a whole number from 0 up is wanted.")
            if str(item) in counts:
                raise InputError(f"{place}: item '{item}' is counted twice.")
            counts[str(item)] = count
    return counts


def write_counts(counts: Mapping[str, int]) -> bytes:
    """The same as a file."""
    return b"".join(json.dumps({"item": item, "count": count}).encode() + b"\n" for item, count in counts.items())


def group_rows(config: LongTail, rows: Sequence[dict[str, Any]], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rows whose domain is their bin of counts; raises InputError for an item nobody counted."""
    made = []
    for row in rows:
        if row["item"] not in counts:
            raise InputError(
                f"evaluate: item '{row['item']}' has no count. Count all items of the task (file:line, lines from 0); "
                "a question no document speaks of has 0."
            )
        count = counts[row["item"]]
        label = bin_of(count, config.per_decade)
        made.append(row | {"domain": label, "group": label, "extra": {"count": float(count)}})
    return made


def bin_of(count: int, per_decade: int = 1) -> str:
    """The bin of a count on a logarithmic scale: '0', '1-9', '10-99', …"""
    if count == 0:
        return "0"
    step = math.floor(math.log10(count) * per_decade + 1e-9)
    low, high = math.ceil(10 ** (step / per_decade) - 1e-9), math.ceil(10 ** ((step + 1) / per_decade) - 1e-9) - 1
    return f"{low}-{high}" if high > low else str(low)


def trend(counts: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Accuracy against log10 of the count, over items with a count: slope a, intercept b, and rank correlation."""
    from scipy.stats import spearmanr

    known = [(math.log10(count), value) for count, value in zip(counts, values, strict=True) if count > 0]
    if len({x for x, _ in known}) < 2:
        return {"slope": None, "intercept": None, "spearman": None, "items": len(known)}
    x, y = np.array(known).T
    slope, intercept = np.polyfit(x, y, 1)
    rank = float(spearmanr(x, y).statistic) if len(set(y)) > 1 else None
    return {"slope": float(slope), "intercept": float(intercept), "spearman": rank, "items": len(known)}
