"""Which questions a document could answer: it holds a name of what is asked about, and one of the answer (arXiv:2211.08411).

`benchmarks` maps a task's label to its files (see `factory.stages.benchmarks`); their content is part of the identity, and the
number of an item is its place among all items, by task, file and line. Further names of the answer are its other answers and
the record's `aliases`; names of what is asked about are its `entity`, or else taken from the question
(`factory.stages.questions`). With `fields`, the keys of `answer` and `entity` name them all.

Names are found as whole words in a row, in a normal form (`factory.kernels.overlap`: small letters, no diacritics, no
punctuation, numbers as they are; where no spaces are written, a character is a word). That does not say that the document
states the fact: short answers stand in long documents by chance, which `within`, the most words from the end of one name to
the end of the other, is against (the published rule has none); and a name that is in no list is not found.

Columns: `found`, the numbers of the items, and `items`, how many. Null without text. An item with no answer, or none that
is a name (a stop word, fewer than `min_characters`, more than `max_words`), is not looked for; `factory support` counts those.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, StringConstraints

from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files
from factory.stages.benchmarks import Benchmark, Item, find_problems, read_items
from factory.stages.questions import Asked, names_of

COLUMNS = {"items": pa.uint32(), "found": pa.list_(pa.uint32())}
ENTITY, ANSWER = 1, 2  # roles of a name in an item
MAX_NAME_WORDS = 10_000_000  # of all names together: the automaton takes about 100 bytes for each

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,80}$")]


class Settings(Config):
    benchmarks: dict[Label, Benchmark] = Field(min_length=1, max_length=1000)
    max_words: int = Field(default=10, ge=1, le=50)  # of a name
    min_characters: int = Field(default=2, ge=1, le=100)  # of a name, signs and spaces not counted
    within: int | None = Field(
        default=None, ge=1, le=100_000
    )  # words between both names; None: anywhere in the document


def files(config: Settings) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.uri for one in config.benchmarks.values() if one.uri is not None))


def check(config: Settings, files: Files) -> list[str]:
    problems = find_problems(config.benchmarks, (), files)
    given = {task: one for task, one in config.benchmarks.items() if one.uri is None or one.uri in files}
    if problems or not given:
        return problems
    items = read_items(given, files)
    return _unanswered(items, _names(config, items))


@register("support", version=1, reads=("text",), writes=COLUMNS, config=Settings, files=files, check=check)
def support(config: Settings, files: Files | None = None) -> BatchFunction:
    return build(config, files or {}).score


@dataclass
class Index:
    """Items and the names they are looked for by; `score` is the stage's function."""

    config: Settings
    items: list[Item]
    asked: list[Asked]
    automaton: Any
    uses: Any

    @property
    def untested(self) -> list[str]:
        """Why an item is not looked for, by number; "" for one that is."""
        return [one.why for one in self.asked]

    def score(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns of a batch with `text`."""
        import numpy as np

        from factory.kernels import overlap
        from factory.kernels.columns import count_column
        from factory.kernels.phrases import find_items
        from factory.kernels.text import TextView, view_text

        view = view_text(batch.column("text"))
        counts, found = np.zeros(len(view.valid), np.int64), [np.zeros(0, np.int32)]
        for first, last in overlap.steps(view):
            part = TextView(view.offsets[first : last + 1], view.data, view.valid[first:last])
            documents, items = find_items(
                overlap.split(part, overlap.PLAIN), self.automaton, self.uses, self.config.within or 0
            )
            counts[first:last] = np.bincount(documents, minlength=last - first)
            found.append(items)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        lists = pa.ListArray.from_arrays(
            offsets, pa.array(np.concatenate(found).astype(np.uint32)), mask=pa.array(~view.valid)
        )
        return pa.record_batch([count_column(counts, view.valid), lists], schema=pa.schema(COLUMNS))


def build(config: Settings, files: Files) -> Index:
    """The items of the benchmarks, ready to be looked for."""
    import numpy as np

    from factory.kernels import overlap
    from factory.kernels.phrases import Uses, build_automaton
    from factory.kernels.text import view_text

    items = read_items(config.benchmarks, files)
    asked = _names(config, items)
    if problems := _unanswered(items, asked):
        raise InputError("\n".join(problems))
    said = [
        (number, role, name)
        for number, one in enumerate(asked)
        for role, names in ((ENTITY, one.entity), (ANSWER, one.answers))
        for name in names
    ]
    words = overlap.split(view_text(pa.array([name for _, _, name in said], pa.large_string())), overlap.PLAIN)
    if (total := int(words.firsts[-1])) > MAX_NAME_WORDS:
        raise InputError(
            f"support: the names of {len(items):,} items have {total:,} words together; at most {MAX_NAME_WORDS:,} are "
            "looked for in one pass. Name fewer benchmarks in a scorer, or take only some records with `where`."
        )
    automaton, phrases = build_automaton(words)
    owners, roles = (np.array(column) for column in zip(*((item, role) for item, role, _ in said), strict=True))
    # A name without words in the kernel's form is found nowhere.
    order = np.lexsort((owners, phrases))
    order = order[phrases[order] >= 0]
    firsts = np.searchsorted(phrases[order], np.arange(int(phrases.max(initial=-1)) + 2)).astype(np.int64)
    uses = Uses(firsts, owners[order].astype(np.int32), roles[order].astype(np.uint8), len(items))
    return Index(config, items, asked, automaton, uses)


def _names(config: Settings, items: Sequence[Item]) -> list[Asked]:
    return names_of(items, max_words=config.max_words, min_characters=config.min_characters)


def _unanswered(items: Sequence[Item], asked: Sequence[Asked]) -> list[str]:
    """The tasks of which no item can be looked for, each with the reasons."""
    reasons: dict[str, Counter[str]] = {}
    for item, one in zip(items, asked, strict=True):
        reasons.setdefault(item.task, Counter())[one.why] += 1
    return [
        f"benchmark '{task}': none of its {sum(found.values()):,} items can be looked for "
        f"({', '.join(f'{why}: {number:,}' for why, number in found.most_common())}). Name the keys that hold short answers: "
        "`{uri: ..., fields: {question: [...], answer: [...], entity: [...]}}`, or leave the benchmark out."
        for task, found in reasons.items()
        if "" not in found
    ]
