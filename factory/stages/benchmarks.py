"""The items of benchmark files: what is asked, what may be answered, and the passage it is about, without template text.

In: JSONL (plain, `.gz`, `.zst`) or Parquet, as pinned bytes, or records given in the settings. Out: one item for every record
with its task, its line counted from 0 (blank lines count) and a digest of its content. A schema is recognised by its keys
(`SCHEMAS`), or `fields` names the keys of each part. "Question:", "Passage: … Question:", a block of lettered choices and a
closing "Answer:" are the prompt's and no part of an item: they would be found in every other quiz (arXiv:2411.03923).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pydantic import Field, field_validator, model_validator

from factory.core.config import Config
from factory.core.errors import InputError, suggest
from factory.core.fingerprint import canonical_json
from factory.core.stage import Files
from factory.stages.list_files import unpacked

Record = Mapping[str, Any]

QUESTION, OPTIONS, ANSWER, PASSAGE, ENTITY = PARTS = ("question", "options", "answer", "passage", "entity")
ALIASES = "aliases"
MAX_LINE = 32 << 20
MAX_ITEMS = 20_000_000
MAX_CHOICES = 10_000  # of one item, aliases of its answer included

_QUESTION_NAMES = ("Question:", "Q:", "Problem:", "Query:")
_PASSAGE_NAMES = ("Passage:", "Context:")
_ANSWER_NAMES = ("Answer:", "A:")
_CHOICES_NAMES = ("Choices:", "Options:")


class Benchmark(Config):
    """A benchmark: files at `uri` (a path, glob or folder beside the recipe), or its `records` themselves.

    `fields` says for each part of an item which keys hold it (a dot goes into an object); without it the schema is
    recognised. `where` takes only records with these values. A text is the `uri`.
    """

    uri: str | None = None
    records: tuple[dict[str, Any], ...] = Field(default=(), max_length=10_000)
    fields: dict[str, tuple[str, ...]] | None = None
    where: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_uri(cls, given: Any) -> Any:
        return {"uri": given} if isinstance(given, str) else given

    @field_validator("fields")
    @classmethod
    def _are_parts(cls, fields: dict[str, tuple[str, ...]] | None) -> dict[str, tuple[str, ...]] | None:
        for name in fields or ():
            if name not in PARTS:
                raise ValueError(f"'{name}' is no part of an item; known: {', '.join(PARTS)}")
        if fields is not None and not any(fields.get(name) for name in (QUESTION, PASSAGE)):
            raise ValueError("name the keys of `question` or of `passage`: an item has one of them")
        return fields

    @model_validator(mode="after")
    def _has_one_of_two(self) -> Self:
        if (self.uri is None) == (not self.records):
            raise ValueError("give either `uri`, the path of its files, or `records`")
        return self


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a benchmark; `line` counts from 0 within `file`.

    `entity` are names of what is asked about and `aliases` further names of the answer, where the record has these keys.
    """

    task: str
    file: str
    line: int
    question: str
    options: tuple[str, ...]
    answers: tuple[str, ...]
    passage: str
    entity: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """128 bits over what is asked and answered, wherever the item lies."""
        content = [self.question, list(self.options), list(self.answers), self.passage]
        return xxhash.xxh3_128_hexdigest(canonical_json(content).encode("utf-8", "surrogatepass"))

    @property
    def name(self) -> str:
        return f"{self.task}:{self.line}" if not self.file else f"{self.task}/{self.file}:{self.line}"

    @property
    def place(self) -> str:
        """Where a person finds it: lines, rows and records count from 1, as in messages."""
        named = f"{self.task}/{self.file}" if self.file else self.task
        return f"{named}, {_place(self.file, self.line)}"


class _Wrong(InputError):
    """What is wrong with a file, at a place in it."""

    def __init__(self, message: str, place: str = "") -> None:
        self.message, self.place = message, place
        super().__init__(message)

    def named(self, file: str) -> str:
        return f"{file}, {self.place}: {self.message}" if self.place else f"{file}: {self.message}"


def read_items(benchmarks: Mapping[str, Benchmark], files: Files) -> list[Item]:
    """All items, in the order of tasks, files and lines: the number of an item is its place in this list.

    Raises InputError with what is wrong with every file, the first of each.
    """
    items, wrong = _read_all(benchmarks, files)
    if wrong:
        head = "" if len(wrong) == 1 else f"{len(wrong)} files of benchmarks cannot be read:\n"
        raise InputError(head + "\n".join(wrong))
    return items


def find_problems(benchmarks: Mapping[str, Benchmark], ordinary: Sequence[str], files: Files) -> list[str]:
    """What is wrong with the files of benchmarks and with ordinary documents: the first thing of each file given."""
    given = {task: one for task, one in benchmarks.items() if one.uri is None or one.uri in files}
    _, wrong = _read_all(given, files)
    for uri in ordinary:
        for name in sorted(files.get(uri, ())):
            try:
                for _ in read_texts([uri], {uri: {name: files[uri][name]}}):
                    pass
            except InputError as error:
                wrong.append(str(error))
    return wrong


def _read_all(benchmarks: Mapping[str, Benchmark], files: Files) -> tuple[list[Item], list[str]]:
    """The items, and what is wrong with each file that is no benchmark."""
    items: list[Item] = []
    wrong: list[str] = []
    for task in sorted(benchmarks):
        benchmark = benchmarks[task]
        before = len(items), len(wrong)
        for name, shown, records in _sources(benchmark, files):
            try:
                for line, record in records:
                    if all(str(record.get(key)) == value for key, value in (benchmark.where or {}).items()):
                        items.append(_item(task, benchmark, name, line, record))
            except _Wrong as error:
                wrong.append(f"benchmark '{task}': {error.named(shown)}")
            if len(items) > MAX_ITEMS:
                raise InputError(f"more than {MAX_ITEMS:,} items of benchmarks. Name fewer benchmarks in a scorer.")
        if (len(items), len(wrong)) == before:
            wrong.append(
                f"benchmark '{task}': no item in {benchmark.uri or 'its records'}"
                f"{f' with {benchmark.where}' if benchmark.where else ''}. Give a file with a JSON object a line."
            )
    # What would be known is said once.
    first = next((number for number, text in enumerate(wrong) if text.endswith(_expected())), len(wrong))
    return items, [text.removesuffix(_expected()) if number > first else text for number, text in enumerate(wrong)]


def read_texts(uris: Sequence[str], files: Files, key: str = "text") -> Iterator[str]:
    """Texts of ordinary documents: the `text` of JSONL records and Parquet rows, or a whole text file."""
    for uri in uris:
        found = _contents(uri, files)
        for name, content in found.items():
            try:
                yield from _texts_of(name, content, key)
            except _Wrong as error:
                raise InputError(f"ordinary documents: {error.named(_shown(uri, name))}") from error


def _texts_of(name: str, content: bytes, key: str) -> Iterator[str]:
    stem = name.removesuffix(".gz").removesuffix(".zst")
    if not stem.endswith((".jsonl", ".ndjson", ".json", ".parquet")):
        yield _unpacked(name, content).decode("utf-8", "replace")
        return
    for line, row in _records_of(name, content, columns=[key]):
        text = row.get(key)
        if text is not None and not isinstance(text, str):
            raise _Wrong(f"a text is expected under '{key}', and it holds {text!r:.60}.", _place(name, line))
        if text:
            yield text


def _contents(uri: str, files: Files) -> Mapping[str, bytes]:
    if uri not in files:
        raise InputError(f"'{uri}': its files were not read. Give the path of a file or folder beside the recipe.")
    return files[uri]


def _sources(benchmark: Benchmark, files: Files) -> Iterator[tuple[str, str, Iterator[tuple[int, Record]]]]:
    """Each file: its name in items, its name in messages, its records by line."""
    if benchmark.uri is None:
        yield "", "its records", iter(enumerate(benchmark.records))
        return
    found = _contents(benchmark.uri, files)
    for name in sorted(found):
        # One file needs no name of its own: the task says it.
        yield name if len(found) > 1 else "", _shown(benchmark.uri, name), _records_of(name, found[name])


def _shown(uri: str, name: str) -> str:
    """A file by the path the recipe gives; with its own name where that is a folder or a glob."""
    return uri if uri == name or uri.endswith(f"/{name}") else f"{name} of {uri}"


def _place(name: str, line: int) -> str:
    """For a person, who counts from 1."""
    return f"{'row' if name.endswith('.parquet') else 'line'} {line + 1}"


def _records_of(name: str, content: bytes, columns: list[str] | None = None) -> Iterator[tuple[int, Record]]:
    if name.endswith(".parquet"):
        yield from _rows(content, columns)
        return
    plain = _unpacked(name, content)
    for number, line in enumerate(plain.removeprefix(b"\xef\xbb\xbf").split(b"\n")):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise _Wrong(f"{len(line):,} bytes; at most {MAX_LINE:,} are read.", _place(name, number))
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise _Wrong(f"this is not JSON ({why}). {_A_LINE}", _place(name, number)) from error
        if not isinstance(record, dict):
            raise _Wrong(f"this is {_kind(record)}. {_A_LINE}", _place(name, number))
        yield number, record


_A_LINE = "A JSON object a line is expected, or a Parquet file (.parquet): convert it."


def _kind(value: Any) -> str:
    return {list: "a list", dict: "an object", str: "a text", bool: "true or false"}.get(
        type(value), "null" if value is None else "a number"
    )


def _unpacked(name: str, content: bytes) -> bytes:
    try:
        return unpacked(name, content)
    except InputError as error:
        raise _Wrong(str(error)) from error


def _rows(content: bytes, columns: list[str] | None) -> Iterator[tuple[int, Record]]:
    number = 0
    try:
        table = pq.ParquetFile(pa.BufferReader(content))
        wanted = None if columns is None else [key for key in columns if key in table.schema_arrow.names]
        for batch in table.iter_batches(batch_size=4096, columns=wanted):
            for record in batch.to_pylist():
                yield number, record
                number += 1
    except pa.ArrowException as error:
        raise _Wrong(f"this is no Parquet file ({error}). Fetch it again.") from error


# --- from a record to an item


@dataclass(frozen=True, slots=True)
class _Parts:
    question: str
    options: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    passage: str = ""
    entity: tuple[str, ...] = ()


def _item(task: str, benchmark: Benchmark, file: str, line: int, record: Record) -> Item:
    place = f"record {line + 1}" if benchmark.uri is None else _place(file or benchmark.uri, line)
    parts = _by_fields(benchmark.fields, record, place) if benchmark.fields else _by_schema(record, place)
    question, options, passage = parts.question, parts.options, parts.passage
    if not benchmark.fields:
        question, own, before = strip_template(question)
        options, passage = (own if own and all(len(option) <= 2 for option in options) else options), passage or before
    answers = tuple(dict.fromkeys(text for text in parts.answers if text.strip()))
    letters = len(parts.options) == len(options) != 0
    # "B" is an answer by the letter of its choice: what is found in a document is the choice.
    answers = tuple(_choice(text, options) if letters or options else text for text in answers)
    entity = parts.entity if benchmark.fields else _names(record, ENTITY)
    aliases = () if benchmark.fields else _names(record, ALIASES)
    said = tuple(text for text in options if text.strip())
    item = Item(task, file, line, question, said, answers, passage, entity, aliases)
    names = (*item.options, *item.answers, *item.entity, *item.aliases)
    if len(names) > MAX_CHOICES:
        raise _Wrong(f"more than {MAX_CHOICES:,} choices and answers. Leave it out, or name other keys.", place)
    for text in (item.question, item.passage, *names):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _Wrong("a text holds half of a surrogate pair, which no UTF-8 can. Write it again.", place) from error
    return item


def _names(record: Record, key: str) -> tuple[str, ...]:
    """The texts under a key that a record of a known schema may have beside its own; what is no text is no name."""
    value = record.get(key)
    found = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(text for text in found if isinstance(text, str) and text.strip()))


def _choice(answer: str, options: Sequence[str]) -> str:
    if len(answer) == 1 and "A" <= answer <= "Z" and ord(answer) - ord("A") < len(options):
        return options[ord(answer) - ord("A")]
    return answer


def strip_template(text: str) -> tuple[str, tuple[str, ...], str]:
    """The question, the lettered choices and the passage that a prompt puts around it."""
    text = text.strip()
    for name in _ANSWER_NAMES:
        if text.endswith(f"\n{name}"):
            text = text[: -len(name)].rstrip()
            break
    lines = text.split("\n")
    last = len(lines)
    while last > 0 and _lettered(lines[last - 1]) is not None:
        last -= 1
    options: tuple[str, ...] = ()
    if len(lines) - last >= 2 and lines[last][:2] in ("A.", "A)", "A:", "(A"):
        options = tuple(_lettered(line) or "" for line in lines[last:])
        lines = lines[:last]
        if lines and lines[-1].strip() in _CHOICES_NAMES:
            lines.pop()
    text = "\n".join(lines).strip()
    passage = ""
    for name in _PASSAGE_NAMES:
        if text.startswith(name):
            at = max((text.rfind(f"\n{asks}") for asks in _QUESTION_NAMES), default=-1)
            if at > 0:
                passage, text = text[len(name) : at].strip(), text[at + 1 :]
            else:
                text = text[len(name) :].strip()
            break
    for name in _QUESTION_NAMES:
        if text.startswith(name):
            text = text[len(name) :].strip()
            break
    return text, options, passage


def _lettered(line: str) -> str | None:
    """What stands after `A.`, `B)` or `(C)`; None for another line."""
    bare = line.strip().removeprefix("(")
    if len(bare) >= 3 and "A" <= bare[0] <= "Z" and bare[1] in ".):":
        return bare[2:].strip()
    return None


def _by_fields(fields: Mapping[str, Sequence[str]], record: Record, place: str) -> _Parts:
    found = {part: [text for key in keys for text in _found(record, key, place)] for part, keys in fields.items()}
    if not any(found.get(part) for part in (QUESTION, PASSAGE)):
        keys = [key for part in (QUESTION, PASSAGE) for key in fields.get(part, ())]
        raise _Wrong(
            f"no text under {', '.join(keys)}.{suggest(keys[0], record)} Name the right keys in `fields`.", place
        )
    return _Parts(
        "\n".join(found.get(QUESTION, [])),
        tuple(found.get(OPTIONS, [])),
        tuple(found.get(ANSWER, [])),
        "\n".join(found.get(PASSAGE, [])),
        tuple(dict.fromkeys(text for text in found.get(ENTITY, []) if text.strip())),
    )


def _found(record: Any, key: str, place: str) -> list[str]:
    """The texts under a key; `a.b` goes into an object, and a list gives all of its texts."""
    value: Any = record
    for step in key.split("."):
        if isinstance(value, list):
            value = [one.get(step) for one in value if isinstance(one, Mapping)]
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    flat = [one for item in values for one in (item if isinstance(item, list) else [item])]
    for one in flat:
        if one is not None and not isinstance(one, (str, int, float)):
            raise _Wrong(f"a text is expected under '{key}', and it holds {_kind(one)}. Correct `fields`.", place)
    return [str(one) for one in flat if one is not None and str(one)]


def _by_schema(record: Record, place: str) -> _Parts:
    for name, (keys, read) in SCHEMAS.items():
        if all(key in record for key in keys):
            try:
                return read(record)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                raise _Wrong(
                    f"a value is not what the schema {name} ({', '.join(keys)}) has: {error}. "
                    "Correct it, or name the keys in `fields`.",
                    place,
                ) from error
    raise _Wrong(f"the keys {', '.join(sorted(record)) or '(none)'} are of no known schema.{_expected()}", place)


def _expected() -> str:
    known = "; ".join(f"{', '.join(keys)} ({name})" for name, (keys, _) in SCHEMAS.items())
    return (
        " Say in the recipe which keys hold what: "
        "`{uri: ..., fields: {question: [...], options: [...], answer: [...], passage: [...]}}`. "
        f"Without `fields`, one of these sets of keys is expected: {known}."
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.60} is no list of texts")
    return tuple(_text(one) for one in value)


def _gold(options: Sequence[str], number: Any, first: int = 0) -> tuple[str, ...]:
    """The right choice; none where the label is hidden."""
    if isinstance(number, str) and len(number) == 1 and number.isalpha():
        at = ord(number.upper()) - ord("A")
    elif number is None or number == "":
        return ()
    else:
        at = int(number) - first
    return (options[at],) if 0 <= at < len(options) else ()


def _query(record: Record) -> _Parts:
    options = _texts(record["choices"])
    _, lettered, _ = strip_template(_text(record["query"]))
    full = lettered if lettered and all(len(option) <= 2 for option in options) else options
    return _Parts(_text(record["query"]), full, _gold(full, record["gold"]))


def _schema(record: Record) -> _Parts:
    # The options differ in who is meant and share what follows: the sentence that is right is the text of the item.
    options = _texts(record["context_options"])
    right = _gold(options, record["gold"]) or options[:1]
    return _Parts(" ".join((*right, _text(record["continuation"]).strip())))


def _answers(record: Record) -> _Parts:
    answers = [_text(str(record["answer"])), *_texts(record.get("aliases") or [])]
    return _Parts(_text(record["context"]), (), (*answers, str(record.get("chain_of_thought") or "")))


def _choices_of(record: Record, question: str, key: str) -> _Parts:
    choices = record["choices"]
    if isinstance(choices, Mapping):  # ARC, OpenBookQA: texts and labels side by side
        options, labels = _texts(choices["text"]), [str(label) for label in choices["label"]]
        right = str(record.get(key))
        return _Parts(_text(record[question]), options, (options[labels.index(right)],) if right in labels else ())
    options = _texts(choices)
    return _Parts(_text(record[question]), options, _gold(options, record.get(key)))


def _xcopa(record: Record) -> _Parts:
    options = (_text(record["choice1"]), _text(record["choice2"]))
    return _Parts(_text(record["premise"]), options, _gold(options, record.get("label")))


def _squad(record: Record) -> _Parts:
    answers = record["answers"]
    texts = answers["text"] if isinstance(answers, Mapping) else [one["text"] for one in answers]
    return _Parts(_text(record["question"]), (), _texts(texts), _text(record["context"]))


def _yes_or_no(record: Record) -> _Parts:
    right = ("yes",) if record["answer"] is True else ("no",) if record["answer"] is False else ()
    return _Parts(_text(record["question"]), ("no", "yes"), right, _text(record["passage"]))


def _piqa(record: Record) -> _Parts:
    options = (_text(record["sol1"]), _text(record["sol2"]))
    return _Parts(_text(record["goal"]), options, _gold(options, record.get("label")))


def _blank(record: Record) -> _Parts:
    options = (_text(record["option1"]), _text(record["option2"]))
    right = _gold(options, record.get("answer"), first=1)
    return _Parts(_text(record["sentence"]).replace("_", (right or options)[0]))


def _siqa(record: Record) -> _Parts:
    options = tuple(_text(record[f"answer{letter}"]) for letter in "ABC")
    return _Parts(_text(record["question"]), options, _gold(options, record.get("label"), 1), _text(record["context"]))


def _plain(record: Record) -> _Parts:
    answer = record["answer"]
    return _Parts(_text(record["question"]), (), _texts(answer) if isinstance(answer, list) else (_text(str(answer)),))


# The first whose keys a record has.
SCHEMAS: Mapping[str, tuple[tuple[str, ...], Callable[[Record], _Parts]]] = {
    "multiple_choice": (("query", "choices", "gold"), _query),
    "schema": (("context_options", "continuation", "gold"), _schema),
    "language_modeling": (
        ("context", "continuation"),
        lambda record: _Parts(_text(record["context"]), (), (_text(record["continuation"]),)),
    ),
    "hellaswag": (
        ("ctx", "endings"),
        lambda record: _Parts(
            _text(record["ctx"]), _texts(record["endings"]), _gold(_texts(record["endings"]), record.get("label"))
        ),
    ),
    "openbookqa": (
        ("question_stem", "choices"),
        lambda record: _choices_of(record, "question_stem", "answerKey"),
    ),
    "arc": (("question", "choices", "answerKey"), lambda record: _choices_of(record, "question", "answerKey")),
    "mmlu": (("question", "choices"), lambda record: _choices_of(record, "question", "answer")),
    "xcopa": (("premise", "choice1", "choice2"), _xcopa),
    "xquad": (("context", "question", "answers"), _squad),
    "siqa": (("context", "question", "answerA", "answerB", "answerC"), _siqa),
    "boolq": (("question", "passage", "answer"), _yes_or_no),
    "generation_task_with_answers": (("context", "answer"), _answers),
    "minimal_pairs": (
        ("sentence_good", "sentence_bad"),
        lambda record: _Parts(_text(record["sentence_good"])),
    ),
    "piqa": (("goal", "sol1", "sol2"), _piqa),
    "winogrande": (("sentence", "option1", "option2"), _blank),
    "question_answer": (("question", "answer"), _plain),
}
