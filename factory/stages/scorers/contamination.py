"""How much of a benchmark's items a document holds, where, and whether it is too much: by one of eight published rules.

`benchmarks` maps a task's label to its files (see `factory.stages.benchmarks`); their content is part of the identity, and
the number of an item is its place among all items, by task, file and line. Words are compared in a normal form, never
characters, so that case, punctuation and line breaks count nowhere (`factory.kernels.overlap`). `rule` gives every setting
that is not named its published value:

| rule | an item is in a document if | source |
|---|---|---|
| `gpt3` | 13 words in a row are the same; fewer where a task's items are short (5th percentile, from 8) | arXiv:2005.14165 |
| `palm` | 70 % of the question's 8-grams are | arXiv:2204.02311 |
| `llama3` | more than `threshold` (0.8) of the question's words are in 8-grams that are | arXiv:2407.21783 |
| `tulu3` | more than half of them are | arXiv:2411.15124 |
| `olmo2` | the weighted share of its 5-grams and answer is 0.8 (SIMPLE of allenai/decon) | arXiv:2501.00656 |
| `fineweb` | 12 words in a row are the same that reach into the answer (datatrove) | arXiv:2406.17557 |
| `dclm` | all of the question is, and one of its choices | arXiv:2406.11794 |
| `default` | 13 words in a row are; or half the question, in 8-grams with one other word, and a choice or answer; or 0.8 | |

Columns: `score`, the highest share of an item (the rule's own measure, 0 to 1); `items`, how many items are in the document,
and `found`, the numbers of all of them; `contaminated`, whether any is; `matches`, at most `max_matches` pieces with item,
bytes, score, longest run of `words` and part, those under the rule (`hit`) first; `removed`, what to cut: hits widened by
`margin` characters either side; `pieces`, how many pieces of text a cut leaves. A text of an item with fewer than `min_words`
words cannot be told from chance and is not searched for; `factory contamination` lists such items. N-grams that occur in more
than `max_texts` texts of items are the benchmark's template, and those in more than `max_documents` documents of the
reference files `ordinary` are common language: both count for nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from factory.core.config import Config
from factory.core.errors import InputError, suggest
from factory.core.registry import register
from factory.core.schema import SPANS
from factory.core.stage import BatchFunction, Files
from factory.stages.benchmarks import Benchmark, Item, find_problems, read_items, read_texts

Rule = Literal["gpt3", "palm", "llama3", "tulu3", "olmo2", "fineweb", "dclm", "default"]
Part = Literal["question", "options", "answer", "passage", "question_answer"]

# What a text of an item is; `question_answer` is each answer with the end of the question before it.
TEXTS: tuple[Part, ...] = ("question", "options", "answer", "passage", "question_answer")
MATCH = pa.struct(
    [
        ("item", pa.uint32()),
        ("start", pa.uint32()),
        ("end", pa.uint32()),
        ("score", pa.float32()),
        ("words", pa.uint32()),
        ("part", pa.string()),
        ("hit", pa.bool_()),
    ]
)
COLUMNS = {
    "score": pa.float32(),
    "items": pa.uint32(),
    "contaminated": pa.bool_(),
    "found": pa.list_(pa.uint32()),
    "matches": pa.list_(MATCH),
    "removed": SPANS,
    "pieces": pa.uint32(),
}
NEVER = 2.0  # a share no text has
LEAST_RUN = 8  # of GPT-3's runs by length
LENGTHS = (10, 20)  # words, between which `threshold` goes over into `long_threshold`
LABEL = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class Settings(Config):
    """What is not given (None) is as the rule was published: see PUBLISHED."""

    benchmarks: dict[str, Benchmark] = Field(min_length=1, max_length=1000)
    rule: Rule = "default"
    normal: Literal["fineweb", "plain"] | None = None
    ngram: int | None = Field(default=None, ge=2, le=50)  # words that count in a row
    misses: int | None = Field(default=None, ge=0, le=3)  # of them that may differ
    seed: int | None = Field(default=None, ge=2, le=50)  # equal words that start a comparison
    run: int | None = Field(default=None, ge=0, le=200)  # equal words in a row that are enough; 0: never
    run_parts: tuple[Part, ...] | None = None
    measure: Literal["words", "rare_words", "ngrams", "rare_ngrams"] | None = None
    threshold: float | None = Field(default=None, gt=0, le=NEVER)  # the share that is enough
    long_threshold: float | None = Field(
        default=None, gt=0, le=NEVER
    )  # of texts of 20 words and more; from 10 on mixed
    thresholds: dict[str, float] = Field(default_factory=dict)  # by task, of texts of any length
    threshold_with_answer: float | None = Field(default=None, gt=0, le=NEVER)
    parts: tuple[Part, ...] | None = None  # texts whose share is measured
    gap: int | None = Field(default=None, ge=0, le=100_000)  # words between pieces judged apart; 0: all together
    answer_window: int | None = Field(default=None, ge=0, le=100_000)  # words around the rest; 0: the document
    min_words: int | None = Field(default=None, ge=2, le=1000)
    max_texts: int | None = Field(default=None, ge=0)  # of items, that may share an n-gram or an answer; 0: no guard
    min_different: int | None = Field(default=None, ge=1, le=50)  # words of an n-gram
    ordinary: tuple[str, ...] = ()
    max_documents: int = Field(default=10, ge=0)
    margin: int | None = Field(default=None, ge=0, le=1_000_000)
    min_piece: int | None = Field(default=None, ge=0, le=1_000_000)
    max_matches: int = Field(default=100, ge=1, le=10_000)

    @field_validator("benchmarks")
    @classmethod
    def _have_labels(cls, benchmarks: dict[str, Benchmark]) -> dict[str, Benchmark]:
        for name in benchmarks:
            if not LABEL.fullmatch(name):
                raise ValueError(f"'{name}' is no name of a task: letters, digits and _.- are meant")
        return benchmarks

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for task in self.thresholds:
            if task not in self.benchmarks:
                raise ValueError(f"`thresholds` names '{task}', no benchmark.{suggest(task, self.benchmarks)}")
        plan = self.plan
        if plan.seed > plan.ngram - plan.misses:
            raise ValueError(f"seed {plan.seed}: an n-gram of {plan.ngram} words less {plan.misses} has none as long")
        if not plan.run and min(plan.threshold, plan.threshold_with_answer, *self.thresholds.values(), NEVER) > 1:
            raise ValueError("no item could ever be found: give `run`, `threshold` or `threshold_with_answer`")
        return self

    @property
    def plan(self) -> "Plan":
        """The rule with what these settings say otherwise."""
        given = self.model_dump(exclude_none=True)
        own = {name: given[name] for name in Plan.model_fields if name in given}
        found = {**PUBLISHED[self.rule], **own}
        if "seed" not in own and {"ngram", "misses", "min_words"} & set(own):
            found.pop("seed", None)
        plan = Plan(**found)
        # Every n-gram with m differing words has a run this long.
        return plan if "seed" in found else plan.model_copy(update={"seed": _longest_run(plan.ngram, plan.misses)})


def _longest_run(ngram: int, misses: int) -> int:
    return -(-(ngram - misses) // (misses + 1))


class Plan(Config):
    """A rule with all of its numbers."""

    normal: str = "plain"
    ngram: int = 8
    misses: int = 0
    seed: int = 8
    run: int = 0
    run_parts: tuple[Part, ...] = ("question", "options", "answer", "passage")
    by_length: bool = False
    measure: Literal["words", "rare_words", "ngrams", "rare_ngrams"] = "words"
    threshold: float = NEVER
    long_threshold: float | None = None
    threshold_with_answer: float = NEVER
    parts: tuple[Part, ...] = ("question",)
    gap: int = 0
    answer_window: int = 0
    min_words: int = 8
    max_texts: int = 0
    min_different: int = 1
    margin: int = 0
    min_piece: int = 0
    combine: bool = False


_MORE = 1e-9  # "more than a half" is a half and this
PUBLISHED: Mapping[str, dict[str, Any]] = {
    "gpt3": {"ngram": 13, "seed": 8, "run": 13, "by_length": True, "parts": (), "margin": 200, "min_piece": 200},
    "palm": {"measure": "ngrams", "threshold": 0.7},
    "llama3": {"threshold": 0.8 + _MORE},
    "tulu3": {"threshold": 0.5 + _MORE},
    "olmo2": {
        "ngram": 5,
        "seed": 5,
        "measure": "rare_ngrams",
        "threshold": 0.8,
        "gap": 11,
        "min_words": 5,
        "run_parts": (),
        "combine": True,
    },
    "fineweb": {
        "normal": "fineweb",
        "ngram": 12,
        "seed": 12,
        "run": 12,
        "run_parts": ("question_answer",),
        "parts": (),
        "min_words": 12,
        "min_different": 2,
    },
    "dclm": {"threshold_with_answer": 1.0},
    "default": {
        "normal": "fineweb",
        "measure": "rare_words",
        "misses": 1,
        "seed": 4,
        "run": 13,
        "gap": 50,
        "answer_window": 100,
        "max_texts": 10,
        "min_different": 4,
        "threshold": 0.8 + _MORE,
        "long_threshold": 0.6 + _MORE,
        "threshold_with_answer": 0.5 + _MORE,
    },
}
# Of SIMPLE: shorter items are not searched for; n-grams of answers and passages.
MIN_ITEM_WORDS, MIN_DIFFERENT = 20, 4
ANSWER_NGRAM, PASSAGE_NGRAM = 3, 4


def files(config: Settings) -> tuple[str, ...]:
    uris = [benchmark.uri for benchmark in config.benchmarks.values() if benchmark.uri is not None]
    return tuple(dict.fromkeys([*uris, *config.ordinary]))


def check(config: Settings, files: Files) -> list[str]:
    return find_problems(config.benchmarks, config.ordinary, files)


@register("contamination", version=2, reads=("text",), writes=COLUMNS, config=Settings, files=files, check=check)
def contamination(config: Settings, files: Files | None = None) -> BatchFunction:
    return build(config, files or {}).score


def build(config: Settings, files: Files) -> "Index":
    """The items of the benchmarks, ready to be looked for."""
    items = read_items(config.benchmarks, files)
    return _build(config, items, read_texts(config.ordinary, files) if config.ordinary else ())


# --- the index


class _Text(NamedTuple):
    """A text that is searched for, by its words."""

    item: int
    part: Part
    hashes: Any
    scale: int = 1  # how many of these words make one, see `_scale`


@dataclass
class Index:
    """Items and what is known of them; `score` is the stage's function."""

    config: Settings
    items: list[Item]
    texts: Any  # overlap.Texts
    answers: Any
    table: Any
    seed: int
    owners: Any
    used: Any
    least: Any
    untested: list[str]  # why an item is not searched for, by number; "" for one that is

    @cached_property
    def plan(self) -> Plan:
        return self.config.plan

    def score(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns of a batch with `text`."""
        import numpy as np

        from factory.kernels import overlap
        from factory.kernels.text import TextView, view_text

        view = view_text(batch.column("text"))
        found = []
        for first, last in overlap.steps(view):
            part = TextView(view.offsets[first : last + 1], view.data, view.valid[first:last])
            rows = self._rows(part)
            if len(rows.document):
                found.append(rows._replace(document=rows.document + np.int32(first)))
        if not found:
            return _nothing(view.valid)
        return self._columns(view, overlap.Rows(*(np.concatenate(column) for column in zip(*found, strict=True))))

    def _rows(self, view: Any) -> Any:
        from factory.kernels import overlap

        plan = self.plan
        words = overlap.split(view, plan.normal)
        segments = overlap.find_segments(
            words, self.table, self.seed, self.texts.words, self.owners, self.texts.first, self.used, self.least
        )
        measure = {"words": overlap.WORDS, "rare_words": overlap.WEIGHTED_WORDS, "ngrams": overlap.NGRAMS}.get(
            plan.measure, overlap.WEIGHTED_NGRAMS
        )
        return overlap.judge(
            segments,
            words,
            self.texts,
            self.answers,
            measure=measure,
            misses=plan.misses,
            gap=plan.gap,
            window=plan.answer_window,
            combine=plan.combine,
        )

    def _columns(self, view: Any, rows: Any) -> pa.RecordBatch:
        import numpy as np

        from factory.kernels.columns import count_column

        size = len(view.valid)
        hit = rows.hit.astype(np.bool_)
        best = np.zeros(size)
        np.maximum.at(best, rows.document, rows.score)
        pairs = np.unique((rows.document[hit].astype(np.int64) << 32) | rows.item[hit])
        items = np.bincount(pairs >> 32, minlength=size)
        order = np.lexsort((rows.end, rows.part, rows.start, rows.item, -rows.words, -rows.score, ~hit, rows.document))
        # The place of a row among those of its document, in that order.
        place = np.arange(len(order)) - np.searchsorted(rows.document[order], rows.document[order])
        kept = order[place < self.config.max_matches]
        part_names = pa.array(TEXTS, pa.string())
        matches = pa.StructArray.from_arrays(
            [
                pa.array(rows.item[kept].astype(np.uint32)),
                pa.array(rows.start[kept].astype(np.uint32)),
                pa.array(rows.end[kept].astype(np.uint32)),
                pa.array(rows.score[kept].astype(np.float32)),
                pa.array(rows.words[kept].astype(np.uint32)),
                part_names.take(pa.array(rows.part[kept].astype(np.int32))),
                pa.array(hit[kept]),
            ],
            fields=list(MATCH),
        )
        removed, pieces = self._removed(view, rows, hit)
        return pa.record_batch(
            [
                pa.array(best.astype(np.float32), mask=~view.valid),
                count_column(items, view.valid),
                pa.array(items > 0, mask=~view.valid),
                _lists(pa.array((pairs & 0xFFFFFFFF).astype(np.uint32)), pairs >> 32, view.valid, COLUMNS["found"]),
                _lists(matches, rows.document[kept], view.valid, COLUMNS["matches"]),
                removed,
                count_column(pieces, view.valid),
            ],
            schema=pa.schema(COLUMNS),
        )

    def _removed(self, view: Any, rows: Any, hit: Any) -> tuple[pa.Array, Any]:
        import numpy as np

        from factory.kernels.overlap import cut_spans

        order = np.lexsort((rows.end[hit], rows.start[hit], rows.document[hit]))
        document, start, end = (column[hit][order].astype(np.int64) for column in (rows.document, rows.start, rows.end))
        texts, starts, ends, pieces = cut_spans(
            document, start, end, view.offsets, view.data, self.plan.margin, self.plan.min_piece
        )
        spans = pa.StructArray.from_arrays(
            [pa.array(starts.astype(np.uint32)), pa.array(ends.astype(np.uint32))], fields=list(SPANS.value_type)
        )
        return _lists(spans, texts, view.valid, SPANS), pieces


def _nothing(valid: Any) -> pa.RecordBatch:
    import numpy as np

    size = len(valid)
    mask = ~valid
    empty = {name: pa.array([], kind.value_type) for name, kind in COLUMNS.items() if pa.types.is_list(kind)}
    none = np.zeros(0, np.int64)
    return pa.record_batch(
        [
            pa.array(np.zeros(size, np.float32), mask=mask),
            pa.array(np.zeros(size, np.uint32), mask=mask),
            pa.array(np.zeros(size, np.bool_), mask=mask),
            _lists(empty["found"], none, valid, COLUMNS["found"]),
            _lists(empty["matches"], none, valid, COLUMNS["matches"]),
            _lists(empty["removed"], none, valid, SPANS),
            pa.array(np.ones(size, np.uint32), mask=mask),
        ],
        schema=pa.schema(COLUMNS),
    )


def _lists(values: pa.Array, documents: Any, valid: Any, kind: pa.DataType) -> pa.Array:
    """Values as lists, by the number of their document, ascending; null where there is no text."""
    import numpy as np

    offsets = np.concatenate([[0], np.cumsum(np.bincount(documents, minlength=len(valid)))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind, mask=pa.array(~valid))


def _build(config: Settings, items: list[Item], ordinary: Iterable[str]) -> Index:
    import numpy as np

    from factory.kernels import overlap

    plan = config.plan
    untested = [""] * len(items)
    longest = [0] * len(items)
    kept: list[_Text] = []
    for text in _texts(items, plan):
        longest[text.item] = max(longest[text.item], len(text.hashes) // text.scale)
        if len(text.hashes) >= plan.min_words * text.scale:
            kept.append(text)
    if plan.combine:
        kept = _long_enough(kept, items, plan, untested)
    # A passage of SIMPLE is looked at beside its question, and never searched for.
    searched = np.array([not (plan.combine and text.part == "passage") for text in kept], np.bool_)
    if not searched.any():
        raise InputError(
            f"contamination: none of the {len(items):,} items is long enough for the rule, so none can be looked for. The first: "
            f"{untested[0] or f'{longest[0]} words of {plan.min_words}'}. Name other benchmarks, or lower `min_words`."
        )
    flat = _flatten([text.hashes for text in kept])
    scales = np.array([text.scale for text in kept])
    runs = _runs(config, plan, kept, items) * scales
    ngrams = np.minimum(np.where(plan.by_length & (runs > 0), runs, plan.ngram * scales), flat.lengths)
    # GPT-3 asks for a text shorter than that as a whole.
    runs = np.where(plan.by_length, np.minimum(runs, flat.lengths), np.where(flat.lengths < runs, 0, runs))
    spoken = _Ordinary(plan, ordinary)
    common, common_run = (_common(config, sizes, flat, spoken) for sizes in (ngrams, runs))
    weight = np.zeros(len(flat.hashes))
    if plan.measure == "rare_ngrams":
        sizes = np.where([text.part == "passage" for text in kept], PASSAGE_NGRAM, ngrams)
        weight = _weights(flat, np.minimum(sizes, flat.lengths))
    elif plan.measure == "rare_words":
        weight = _word_weights(flat)
    total = _totals(plan, flat, ngrams, common, weight)
    measured = np.array([text.part in plan.parts for text in kept]) & (total > 0)
    sure = _sure_shares(plan, flat.lengths / scales)
    thresholds = [config.thresholds.get(items[text.item].task, share) for text, share in zip(kept, sure, strict=True)]
    high, low = np.where(measured, thresholds, NEVER), np.where(measured, plan.threshold_with_answer, NEVER)
    places = flat.places(runs)
    has_run = np.bincount(flat.owners[places[common_run[places] == 0]], minlength=len(kept)) > 0
    judged = {kept[number].item for number in np.flatnonzero(has_run | (high <= 1) | (low <= 1))}
    for number in range(len(items)):
        if number not in judged and not untested[number]:
            short = longest[number] < plan.min_words
            untested[number] = f"{longest[number]} words" if short else "nothing but template and common language"
    passages = {text.item: number for number, text in enumerate(kept) if text.part == "passage"}
    texts = overlap.Texts(
        flat.hashes,
        flat.first,
        flat.lengths.astype(np.int32),
        np.array([text.item for text in kept], np.int32),
        np.array([TEXTS.index(text.part) for text in kept], np.uint8),
        ngrams.astype(np.int32),
        runs.astype(np.int32),
        high.astype(np.float64),
        low.astype(np.float64),
        total,
        np.array([passages.get(text.item, -1) if text.part == "question" else -1 for text in kept], np.int32),
        common,
        common_run,
        weight,
    )
    least = np.where(runs > 0, np.minimum(runs, ngrams), ngrams) if plan.misses == 0 else flat.lengths
    seed = int(min(plan.seed, least[searched].min()))
    places = _starting(plan, flat, seed, searched)
    table = overlap.make_table(overlap.ngram_hashes(flat.hashes, seed)[places], places.astype(np.int32))
    used = np.zeros(len(flat.hashes), np.uint8)
    used[places] = 1
    least = least if plan.misses == 0 else np.full(len(kept), seed)
    return Index(
        config, items, texts, _answers(items, plan), table, seed, flat.owners, used, least.astype(np.int32), untested
    )


def _sure_shares(plan: Plan, lengths: Any) -> Any:
    """The share that is enough by itself: a part of a long text is stronger evidence than the same part of a short one."""
    import numpy as np

    if plan.long_threshold is None:
        return np.full(len(lengths), plan.threshold)
    return np.interp(lengths, LENGTHS, (plan.threshold, plan.long_threshold))


class _Flat(NamedTuple):
    """Texts one after the other in `hashes`, with a 0 before and after each."""

    hashes: Any
    first: Any
    lengths: Any
    owners: Any  # the text of each word; -1 before the first

    def places(self, sizes: Any, chosen: Any = True) -> Any:
        """Where an n-gram of `sizes` words (one for all, or one for each text) begins that lies in a chosen text."""
        import numpy as np

        fits = np.where(chosen & (np.asarray(sizes) > 0), np.maximum(self.lengths - sizes + 1, 0), 0)
        begins = np.repeat(self.first, fits)
        return begins + np.arange(len(begins)) - np.repeat(np.cumsum(fits) - fits, fits)


def _flatten(texts: Sequence[Any]) -> _Flat:
    import numpy as np

    lengths = np.array([len(text) for text in texts], np.int64)
    total = int(lengths.sum()) + len(texts) + 1
    if total >= 1 << 31:
        raise InputError(f"contamination: {total:,} words of items are too many. Name fewer benchmarks.")
    hashes = np.zeros(total, np.uint64)
    first = np.concatenate([[1], np.cumsum(lengths + 1)[:-1] + 1]).astype(np.int64)
    for at, text in zip(first, texts, strict=True):
        hashes[at : at + len(text)] = text
    owners = np.repeat(np.arange(-1, len(texts)), np.concatenate([[1], lengths + 1])).astype(np.int32)
    return _Flat(hashes, first, lengths, owners)


def _texts(items: Sequence[Item], plan: Plan) -> list[_Text]:
    """Every text of every item that the rule looks at, as words."""
    wanted = {*plan.parts, *(plan.run_parts if plan.run else ()), *(("passage",) if plan.combine else ())}
    said: list[tuple[int, Part, str]] = []
    for number, item in enumerate(items):
        if "question" in wanted:
            said.append((number, "question", item.question))
        if "options" in wanted:
            said += [(number, "options", text) for text in item.options if text not in item.answers]
        if "answer" in wanted:
            said += [(number, "answer", text) for text in item.answers]
        if "passage" in wanted:
            said.append((number, "passage", item.passage))
    texts = [
        _Text(number, part, hashes, _scale(text))
        for (number, part, text), hashes in zip(said, _split(said, plan), strict=True)
    ]
    texts = [text for text in texts if len(text.hashes)]
    if "question_answer" in wanted:
        texts += _straddling(items, plan)
    return texts


def _straddling(items: Sequence[Item], plan: Plan) -> list[_Text]:
    """Each answer after the last words of the question: its n-grams are those that reach into the answer."""
    import numpy as np

    questions = _split([(number, "question", item.question) for number, item in enumerate(items)], plan)
    pairs = [(number, "answer", text) for number, item in enumerate(items) for text in item.answers]
    answers = _split(pairs, plan)
    scales = [_scale(item.question) for item in items]
    return [
        _Text(
            number,
            "question_answer",
            np.concatenate([questions[number][1 - plan.ngram * scales[number] :], answer]),
            scales[number],
        )
        for (number, _, _), answer in zip(pairs, answers, strict=True)
        if len(answer)
    ]


def _scale(text: str) -> int:
    """How many words of the normal form make one: where no spaces are written, each character is one by itself.

    A word of Chinese or Japanese is about two characters; of Thai, Lao, Khmer and Burmese, with their vowel signs, four.
    """
    if text.isascii():
        return 1
    codes = [ord(character) for character in text if not character.isspace()]
    signs = sum(0x0E00 <= code < 0x10A0 or 0x1780 <= code < 0x1800 for code in codes)
    ideographs = sum(0x3005 <= code < 0xA000 or 0xF900 <= code < 0xFB00 or 0x20000 <= code < 0x32400 for code in codes)
    return 4 if 2 * signs > len(codes) else 2 if 2 * ideographs > len(codes) else 1


def _split(said: Sequence[tuple[int, Any, str]], plan: Plan) -> list[Any]:
    """The words of each text, by hash."""
    from factory.kernels import overlap
    from factory.kernels.text import view_text

    words = overlap.split(view_text(pa.array([text for _, _, text in said], pa.large_string())), plan.normal)
    return [words.hashes[begin:end] for begin, end in zip(words.firsts[:-1], words.firsts[1:], strict=True)]


def _long_enough(kept: list[_Text], items: Sequence[Item], plan: Plan, untested: list[str]) -> list[_Text]:
    """SIMPLE leaves out items of fewer than 20 words in all, or with fewer than 4 different ones in the question."""
    answers = _split([(n, "answer", max(item.answers, key=len, default="")) for n, item in enumerate(items)], plan)
    passages = _split([(n, "passage", item.passage) for n, item in enumerate(items)], plan)
    chosen = []
    for text in kept:
        words = len(text.hashes) + len(answers[text.item]) + len(passages[text.item])
        if text.part == "question" and words < MIN_ITEM_WORDS:
            untested[text.item] = f"{words} words with answer and passage"
        elif text.part == "question" and len(set(text.hashes.tolist())) < MIN_DIFFERENT:
            untested[text.item] = "too few different words"
        else:
            chosen.append(text)
    return chosen


def _runs(config: Settings, plan: Plan, kept: Sequence[_Text], items: Sequence[Item]) -> Any:
    """How many words in a row are enough, for each text; 0 where a run is not asked for."""
    import numpy as np

    runs = np.array([plan.run if text.part in plan.run_parts else 0 for text in kept])
    if not plan.by_length or config.run is not None:
        return runs
    # GPT-3: the 5th percentile of the lengths of a task's items, from 8 to 13.
    lengths: dict[str, dict[int, int]] = {}
    for text in kept:
        own = lengths.setdefault(items[text.item].task, {})
        own[text.item] = own.get(text.item, 0) + len(text.hashes) // text.scale
    least = {
        task: int(np.clip(np.percentile(list(own.values()), 5, method="lower"), LEAST_RUN, plan.run))
        for task, own in lengths.items()
    }
    return np.where(runs > 0, [least[items[text.item].task] for text in kept], 0)


class _Ordinary:
    """Reference documents, split into words once for n-grams of all sizes."""

    def __init__(self, plan: Plan, texts: Any):
        from factory.kernels import overlap
        from factory.kernels.text import view_text

        self.words: list[Any] = []
        pending: list[str] = []
        size = 0
        for text in texts:
            pending.append(text)
            size += len(text)
            if size >= 1 << 22:
                self.words.append(overlap.split(view_text(pa.array(pending, pa.large_string())), plan.normal))
                pending, size = [], 0
        if pending:
            self.words.append(overlap.split(view_text(pa.array(pending, pa.large_string())), plan.normal))

    def documents(self, table: Any, keys: int, size: int) -> Any:
        """In how many documents each key of the table occurs."""
        import numpy as np

        from factory.kernels import overlap

        counts, stamps = np.zeros(keys, np.int64), np.zeros(keys, np.int64)
        first = 0
        for words in self.words:
            overlap.count_documents(words, table, size, counts, stamps, first)
            first += len(words.firsts) - 1
        return counts


def _common(config: Settings, sizes: Any, flat: _Flat, ordinary: _Ordinary) -> Any:
    """1 at each word where an n-gram of the text's own size begins that is a template's, or common in ordinary documents."""
    import numpy as np

    from factory.kernels import overlap

    common = np.zeros(len(flat.hashes), np.uint8)
    most, different = config.plan.max_texts, config.plan.min_different
    contents = _contents(flat) if most else None
    for size in sorted(set(sizes.tolist()) - {0}):
        values = overlap.ngram_hashes(flat.hashes, size)
        own = flat.places(size, sizes == size)
        if different > 1:
            common[own[_different(flat.hashes, own, size) < min(different, size)]] = 1
        if contents is not None:
            places = flat.places(size)
            once = _first_of_pairs(values[places], contents[flat.owners[places]])
            known, counts = np.unique(values[places[once]], return_counts=True)
            common[own[np.isin(values[own], known[counts > most])]] = 1
        if ordinary.words:
            keys = np.unique(values[own])
            table = overlap.make_table(values[own], own.astype(np.int32))
            found = ordinary.documents(table, len(keys), size)
            common[own[np.isin(values[own], keys[found > config.max_documents])]] = 1
    return common


def _starting(plan: Plan, flat: _Flat, seed: int, searched: Any) -> Any:
    """Where a comparison may start: not at words that are the same at many places, which would start one at each."""
    import numpy as np

    from factory.kernels import overlap

    places = flat.places(seed, searched)
    if plan.min_different > 1:
        places = places[_different(flat.hashes, places, seed) >= min(plan.min_different, seed)]
    if not plan.max_texts:
        return places
    values = overlap.ngram_hashes(flat.hashes, seed)[places]
    known, number = np.unique(values, return_inverse=True)
    once = _first_of_pairs(values, _contents(flat)[flat.owners[places]])
    counts = np.bincount(number[once], minlength=len(known))
    return places[counts[number] <= plan.max_texts]


def _different(hashes: Any, places: Any, size: int) -> Any:
    """How many different words an n-gram has."""
    import numpy as np

    found = np.zeros(len(places), np.int64)
    for step in range(size):
        new = np.ones(len(places), np.bool_)
        for before in range(step):
            new &= hashes[places + step] != hashes[places + before]
        found += new
    return found


def _contents(flat: _Flat) -> Any:
    """A number for each text, one for equal texts: a passage with several questions is one text."""
    import numpy as np

    known: dict[bytes, int] = {}
    pairs = zip(flat.first.tolist(), flat.lengths.tolist(), strict=True)
    return np.array(
        [known.setdefault(flat.hashes[at : at + size].tobytes(), len(known)) for at, size in pairs], np.uint64
    )


def _first_of_pairs(values: Any, owners: Any) -> Any:
    """Where each different pair stands for the first time."""
    import numpy as np

    order = np.lexsort((np.arange(len(values)), owners, values))
    new = np.ones(len(order), np.bool_)
    new[1:] = (values[order][1:] != values[order][:-1]) | (owners[order][1:] != owners[order][:-1])
    return order[new]


def _weights(flat: _Flat, sizes: Any) -> Any:
    """ln(1 + texts / texts with the n-gram) where an n-gram begins for the first time in its text; else 0."""
    import numpy as np

    from factory.kernels import overlap

    weight = np.zeros(len(flat.hashes))
    for size in sorted(set(sizes.tolist()) - {0}):
        values = overlap.ngram_hashes(flat.hashes, size)
        chosen = sizes == size
        places = flat.places(size, chosen)
        places = places[_first_of_pairs(values[places], flat.owners[places])]
        _, number, counts = np.unique(values[places], return_inverse=True, return_counts=True)
        weight[places] = np.log1p(chosen.sum() / counts[number])
    return weight


def _word_weights(flat: _Flat) -> Any:
    """ln(1 + texts / texts with the word), for each word wherever it stands."""
    import numpy as np

    places = np.flatnonzero(flat.hashes)
    words, number = np.unique(flat.hashes[places], return_inverse=True)
    once = _first_of_pairs(flat.hashes[places], flat.owners[places])
    counts = np.bincount(number[once], minlength=len(words))
    weight = np.zeros(len(flat.hashes))
    weight[places] = np.log1p(len(flat.lengths) / counts[number])
    return weight


def _totals(plan: Plan, flat: _Flat, ngrams: Any, common: Any, weight: Any) -> Any:
    """What a share is a share of: words in n-grams that count, such n-grams, or their weights."""
    import numpy as np

    places = flat.places(ngrams)
    places = places[common[places] == 0]
    owners = flat.owners[places]
    size = len(flat.lengths)
    if plan.measure == "ngrams":
        return np.bincount(owners, minlength=size).astype(np.float64)
    if plan.measure == "rare_ngrams":
        return np.bincount(owners, weight[places], minlength=size)
    change = np.zeros(len(flat.hashes) + 1, np.int64)
    np.add.at(change, places, 1)
    np.add.at(change, places + ngrams[owners], -1)
    covered = np.cumsum(change)[:-1] > 0
    counted = weight if plan.measure == "rare_words" else np.ones(len(weight))
    return np.bincount(flat.owners[covered], counted[covered], minlength=size)


def _answers(items: Sequence[Item], plan: Plan) -> Any:
    """What may be answered to each item, as words."""
    import numpy as np

    from factory.kernels import overlap

    said = [
        (number, gold, text)
        for number, item in enumerate(items)
        for gold, texts in ((1, item.answers), (0, [text for text in item.options if text not in item.answers]))
        for text in texts
    ]
    hashes = _split(said, plan)
    if plan.max_texts:
        # "yes", or "4": what answers many items says nothing of one.
        askers: dict[bytes, set[int]] = {}
        for (number, _, _), words in zip(said, hashes, strict=True):
            askers.setdefault(words.tobytes(), set()).add(number)
        telling = [len(askers[words.tobytes()]) <= plan.max_texts for words in hashes]
        said = [one for one, tells in zip(said, telling, strict=True) if tells]
        hashes = [one for one, tells in zip(hashes, telling, strict=True) if tells]
    flat = _flatten(hashes) if said else None
    weight = [np.zeros(0)]
    if flat is not None:
        own = np.zeros(len(flat.hashes))
        if plan.combine:
            own = _weights(flat, np.minimum(ANSWER_NGRAM, flat.lengths))
        weight = [own[at : at + size] for at, size in zip(flat.first, flat.lengths, strict=True)]
    return overlap.Answers(
        np.concatenate([*hashes, np.zeros(0, np.uint64)]).astype(np.uint64),
        np.concatenate([[0], np.cumsum([len(text) for text in hashes])]).astype(np.int64),
        np.searchsorted([number for number, _, _ in said], np.arange(len(items) + 1)).astype(np.int64),
        np.array([gold for _, gold, _ in said], np.uint8),
        np.concatenate([*weight, np.zeros(0)]),
    )
