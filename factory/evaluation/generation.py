"""Tasks that are answered by writing: DCLM's five generating tasks, as llm-foundry asks and reads them (arXiv 2406.11794).

In: records of {context, answer}, with `aliases` of the answer and a `chain_of_thought` before it where there are. Out: a row
for each, right where what the model writes greedily after three examples, cut at what ends an answer, begins with an answer
or alias once both are lower case without articles and punctuation. Of a chain of thought only what follows its last mark
counts. As many tokens are written as the longest answer of the file has, and ten more after a chain of thought.
"""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.core.errors import InputError
from factory.core.seeds import generator_for
from factory.evaluation.checkpoint import Checkpoint
from factory.evaluation.core import TASKS, task_name
from factory.evaluation.likelihood import Progress
from factory.evaluation.records import Record, chosen, records, text_of
from factory.evaluation.sampling import Sampling, write
from factory.evaluation.tasks import Core

MARK = " #### "  # stands between a chain of thought and its answer
STOPS = ("\n\n", "Q:")
BUFFER = 10  # tokens
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_ARTICLE = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Question:
    """What is asked, its example's answer, and what is right; `reasoned` where a chain of thought comes before."""

    id: str
    context: str
    answer: str
    right: tuple[str, ...]
    reasoned: bool


def score_written(
    model: Checkpoint, config: Core, files: Mapping[str, bytes], progress: Progress
) -> list[dict[str, Any]]:
    """The rows of a generating task."""
    kept, prompts, how = _asked(model, config, files)
    texts = [own[0] for own in write(model, prompts, how, progress)]
    written = model.encode([text or " " for text in texts])
    return [
        {
            "domain": "all",
            "item": question.id,
            "value": float(is_right(text, question.right)),
            "weight": 1.0,
            "bytes": len(text.encode("utf-8", "replace")),
            "tokens": len(tokens),
            "truncated": False,
            "baseline": 0.0,
        }
        for question, text, tokens in zip(kept, texts, written, strict=True)
    ]


def count_written(model: Checkpoint, config: Core, files: Mapping[str, bytes]) -> tuple[int, int]:
    """The items of a generating task, and the tokens that are read and written for them, at most."""
    kept, prompts, how = _asked(model, config, files)
    return len(kept), sum(map(len, model.encode(prompts))) + len(kept) * how.tokens


def _asked(model: Checkpoint, config: Core, files: Mapping[str, bytes]) -> tuple[list[Question], list[str], Sampling]:
    """The questions, what is written after, and how."""
    name = task_name(config, files)
    asked = TASKS[name]
    questions = [
        _question(name, record, f"{file}:{number}", f"{file}, line {number} (from 0)")
        for file in sorted(files)
        for number, record in records(file, files[file])
    ]
    if not questions:
        raise InputError(f"evaluate: no item in {', '.join(sorted(files))}.")
    kept = [questions[at] for at in chosen([question.id for question in questions], config.limit)]
    count = asked.shots if config.few_shot is None else config.few_shot
    prompts = [_prompt(question, questions, count, asked.delimiter, config.shot_seed) for question in kept]
    longest = max(len(tokens) for tokens in model.encode([answer for own in questions for answer in _answers(own)]))
    reasoned = any(question.reasoned for question in questions)
    how = Sampling(tokens=longest + BUFFER * reasoned, temperature=0.0, stops=STOPS if reasoned else ())
    return kept, prompts, how


def is_right(text: str, right: Sequence[str]) -> bool:
    """Whether what stands after the last mark begins with a right answer."""
    said = normal(text.split(MARK)[-1])
    # An answer of which nothing is left would be the beginning of everything.
    return any(said.startswith(known) for answer in right if (known := normal(answer)))


def normal(text: str) -> str:
    """Lower case, one space between words, no articles, no punctuation (SQuAD's, arXiv 1606.05250)."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _question(name: str, record: Record, item: str, place: str) -> Question:
    context = text_of(record, "context", place).strip()
    answer = text_of(record, "answer", place)
    aliases = record.get("aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(one, str) for one in aliases):
        raise InputError(f"{place}: 'aliases' is {aliases!r:.60}; a list of texts is wanted.")
    chain = str(record.get("chain_of_thought") or "") if name.endswith("_cot") else ""
    before = "Q: " if name.endswith("_cot") else ""
    full = f"{chain}{MARK}{answer}" if chain else answer
    return Question(item, before + context, full, tuple(dict.fromkeys((answer, *aliases))), bool(chain))


def _answers(question: Question) -> list[str]:
    return [question.answer] if question.reasoned else list(question.right)


def _prompt(question: Question, pool: Sequence[Question], count: int, delimiter: str, seed: int) -> str:
    """The question after `count` others with their answers, drawn by the seed and the item."""
    if count and len(pool) <= count:
        raise InputError(f"evaluate: {count} examples asked of {len(pool)} items, and none may be the question itself.")
    drawn = generator_for(seed, f"shots {question.id}").permutation(len(pool))[: count + 1].tolist() if count else []
    others = [pool[at] for at in drawn if pool[at].id != question.id][:count]
    shown = "".join(f"{other.context}{delimiter}{other.answer}\n" for other in others)
    # A space at the end goes with the answer.
    return shown + question.context + delimiter.rstrip(" ")
