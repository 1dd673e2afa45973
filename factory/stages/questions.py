"""By which names a question is found in documents: of what it asks about, and of its answer (arXiv:2211.08411).

In: items of task files. Out: for each the names of its entity and those of its answer, or why it cannot be looked for. The
entity is what the file says (`entity`); else the capitalised run of words of the question that the fewest questions have;
else its rarest two words in a row, or word, without stop words. No linker is asked. A name that is a stop word, too short or
too long is none, and an answer that stands in a name of the entity would be found wherever that is.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from factory.stages.benchmarks import Item

GIVEN, CAPITALS, RARE = "given", "capitals", "rare words"

# English of the Snowball project, without contractions; and what answers every other question.
STOP_WORDS = frozenset(
    """i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
    itself they them their theirs themselves what which who whom this that these those am is are was were be been being have
    has had having do does did doing would should could ought a an the and but if or because as until while of at by for with
    about against between into through during before after above below to from up down in out on off over under again further
    then once here there when where why how all any both each few more most other some such no nor not only own same so than
    too very yes true false none""".split()  # noqa: SIM905
)
_JOINING = frozenset("of the de la le von van der den du da di del al el bin ibn".split())  # noqa: SIM905
# Where no spaces are written, words are not known without a dictionary.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0003ffff]"
)
_TOKEN = re.compile(r"\S{1,200}")
_QUOTED = re.compile(r"""(?<!\w)['"‘“]([^'"‘’“”\n]{2,200})['"’”](?!\w)""")
_MOST_QUESTION = 20_000  # characters of a question that are looked at
_SHORT_TOKEN = 3  # letters before a full stop that ends no sentence: "St. Louis"

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Names of the entity and of the answer; `by` says how the entity was found, `why` why the item cannot be looked for."""

    entity: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    by: str = ""
    why: str = ""


def names_of(items: Sequence[Item], *, max_words: int, min_characters: int) -> list[Asked]:
    """What every item is looked for by."""
    limits = (max_words, min_characters)
    runs = [[] if item.entity else list(_capitalised(item.question)) for item in items]
    rare = [[] if item.entity else list(_content(item.question)) for item in items]
    frequency = _in_items(runs), _in_items(rare)
    return [_asked(item, own, words, frequency, limits) for item, own, words in zip(items, runs, rare, strict=True)]


def words(text: str) -> Key:
    """Small letters, without signs."""
    return tuple(text.casefold().translate(_SIGNS).split())


class _Signs(dict[int, int]):
    """Blanks for all characters but letters, marks, numbers and what is not seen."""

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = code if category[0] in "LMN" or category == "Cf" else 0x20
        return self[code]


_SIGNS = _Signs()


def _asked(
    item: Item,
    runs: Sequence[str],
    rare: Sequence[str],
    frequency: tuple[Counter[Key], Counter[Key]],
    limits: tuple[int, int],
) -> Asked:
    texts = (*item.answers, *item.aliases)
    if not texts:
        return Asked(why="no answer")
    reasons = {text: _no_name(words(text), *limits) for text in texts}
    answers = [text for text, why in reasons.items() if not why]
    if not answers:
        return Asked(why=f"answer: {next(iter(reasons.values()))}")
    if item.entity:
        entity, by = [name for name in item.entity if not _no_name(words(name), *limits)], GIVEN
    else:
        known = [words(text) for text in answers]
        entity, by = _salient(runs, frequency[0], known, limits), CAPITALS
        if not entity:
            entity, by = _salient(rare, frequency[1], known, limits), RARE
    if not entity:
        return Asked(why="no entity")
    keys = [words(name) for name in entity]
    apart = tuple(text for text in answers if not any(_holds(key, words(text)) for key in keys))
    if not apart:
        return Asked(why="answer: stands in the entity")
    return Asked(tuple(entity), apart, by)


def _no_name(key: Key, max_words: int, min_characters: int) -> str:
    """Why this is no name; "" for one."""
    if sum(map(len, key)) < min_characters:
        return "too short"
    if len(key) > max_words:
        return "too long"
    return "stop words" if all(word in STOP_WORDS for word in key) else ""


def _salient(
    found: Iterable[str], frequency: Counter[Key], answers: Sequence[Key], limits: tuple[int, int]
) -> list[str]:
    """The one that the fewest items have, the longest of these, the first of these; none that meets an answer."""
    fit = [
        (frequency[key], -len(key), -len(text), place, text)
        for place, text in enumerate(found)
        if not _no_name(key := words(text), *limits)
        and not any(_holds(key, answer) or _holds(answer, key) for answer in answers)
    ]
    return [min(fit)[-1]] if fit else []


def _in_items(found: Iterable[Sequence[str]]) -> Counter[Key]:
    return Counter(key for texts in found for key in {words(text) for text in texts})


def _holds(long: Key, short: Key) -> bool:
    """Whether the words of one stand in a row in the other."""
    size = len(short)
    return any(long[at : at + size] == short for at in range(len(long) - size + 1))


def _tokens(question: str) -> list[tuple[int, int, str]]:
    plain = question.translate(_SIGNS)
    return [(found.start(), found.end(), found.group()) for found in _TOKEN.finditer(plain)]


def _capitalised(question: str) -> Iterator[str]:
    """Titles in quotation marks, and runs of capitalised words with "of" or "van der" between them.

    Not the word that only begins a sentence.
    """
    question = question[:_MOST_QUESTION]
    yield from (text for text in _QUOTED.findall(question) if text[0].isupper())
    tokens = _tokens(question)
    at = 0
    while at < len(tokens):
        if not _begins(tokens[at][2]):
            at += 1
            continue
        last = at
        ahead = at + 1
        while ahead < len(tokens) and _joined(question, tokens[ahead - 1], tokens[ahead]):
            word = tokens[ahead][2]
            if word[0].isupper() or word.isdigit():
                last = ahead
            elif word not in _JOINING:
                break
            ahead += 1
        alone = (
            last == at and _starts_sentence(question, tokens[at][0]) and not any(map(str.isupper, tokens[at][2][1:]))
        )
        if not alone:
            yield question[tokens[at][0] : tokens[last][1]]
        at = last + 1


def _begins(word: str) -> bool:
    return word[0].isupper() and word.casefold() not in STOP_WORDS


def _joined(question: str, before: tuple[int, int, str], after: tuple[int, int, str]) -> bool:
    """Whether two words are of one name, by what stands between them."""
    between = question[before[1] : after[0]]
    if "\n" in between or after[2] == "s":  # of "Britain's"
        return False
    sign = between.strip()
    return sign in ("", "-", "'", "’", "&") or (sign == "." and len(before[2]) <= _SHORT_TOKEN)


def _starts_sentence(question: str, at: int) -> bool:
    before = question[:at].rstrip(" \"'“‘«„(¿¡")
    return not before or before[-1] in ".?!:\n"


def _content(question: str) -> Iterator[str]:
    """Two words in a row that are no stop words; the words, where there are no such two."""
    question = question[:_MOST_QUESTION]
    tokens = [
        (start, end, word)
        for start, end, word in _tokens(question)
        if len(word) > 2 and word.casefold() not in STOP_WORDS and not _WITHOUT_SPACES.search(word)
    ]
    pairs = [
        question[one[0] : other[1]] for one, other in itertools.pairwise(tokens) if question[one[1] : other[0]] == " "
    ]
    yield from pairs or [word for _, _, word in tokens]
