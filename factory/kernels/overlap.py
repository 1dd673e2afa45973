"""Where the words of many short texts (items of benchmarks) stand in documents, as byte spans, and how much of an item.

*Words* are those of the normal form FineWeb hashes (arXiv:2406.17557; `factory.kernels.folding`): small letters without
diacritics, every number `0`, nothing of punctuation; in the `plain` form numbers stay as they are. Each has 64 bits, its
place in bytes, and is never 0, which lies between items.

*Search*: every item is indexed by all of its n-grams of `seed` words, in a hash table behind a filter of bits. A document is
read once; where an n-gram of it is known, the run of equal words is followed to its end, and a *segment* says (document,
item's text, first word of both, words). A run is found whole: from where the words before differ.

*Judgement*, of the few documents with segments: an n-gram of an item counts when its words stand in the document in a row,
of which `misses` may differ; a word is covered when it is in such an n-gram. Pieces of a document further apart than `gap`
words are judged apart, or (0) together. All follows from the document and the items alone.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel, inner, kernel
from factory.kernels.folding import ALONE, DIGIT, SEPARATOR, folded_characters
from factory.kernels.text import Bytes, Flags, Hashes, Integers, TextView
from factory.kernels.utf8 import decode

Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Places = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint32]

FINEWEB, PLAIN = "fineweb", "plain"

_BASE = np.uint64(0x9E3779B97F4A7C15)
_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_BASIS = np.uint64(0xCBF29CE484222325)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_STEP = 2 << 20  # bytes of text at a time: their words stay in the outer cache
_ROOM = 1 << 17  # segments of such a step; where there are more, they are looked for again
_APART = 50  # words between pieces of one item that are judged together


class Words(NamedTuple):
    """Word i of text t is at `firsts[t] + i`: its hash, and its bytes [start, end) in the text."""

    hashes: Hashes
    starts: Places
    ends: Places
    firsts: Integers


class Table(NamedTuple):
    """`places[begins[number]:begins[number + 1]]` are the places of the key whose slot holds that number."""

    keys: Hashes
    numbers: Places
    begins: Integers
    places: Places
    bits: Hashes  # a filter, which at most one in sixteen of the keys that are not there pass


class Segments(NamedTuple):
    """Runs of equal words: word `at` of a document on, word `word` of an item's text on."""

    document: Places
    target: Places
    at: Places
    word: Places
    length: Places


@cache
def normal_form(name: str) -> Codes:
    """What every code point is to a word."""
    table = folded_characters()
    if name == FINEWEB:
        return table
    import unicodedata

    plain = table.copy()
    for code in np.flatnonzero(table == DIGIT).tolist():
        plain[code] = 0x30 + int(unicodedata.decimal(chr(code)))
    plain.flags.writeable = False
    return plain


def split(view: TextView, form: str) -> Words:
    """The words of each text; a text that is not there has none."""
    sizes = np.diff(view.offsets)
    # A word takes two bytes with what separates it, or is a character of three that stands alone.
    room = int((sizes // 2 + 1).sum())
    hashes, firsts = np.empty(room, np.uint64), np.zeros(len(sizes) + 1, np.int64)
    starts, ends = np.empty(room, np.int32), np.empty(room, np.int32)
    _split(*view, normal_form(form), hashes, starts, ends, firsts)
    return Words(hashes, starts, ends, firsts)


def steps(view: TextView) -> list[tuple[int, int]]:
    """Ranges of texts, of at most some megabytes together where no single one has more."""
    ranges, first = [], 0
    while first < len(view.valid):
        last = int(np.searchsorted(view.offsets, view.offsets[first] + _STEP, side="right")) - 1
        last = min(max(last, first + 1), len(view.valid))
        ranges.append((first, last))
        first = last
    return ranges


def ngram_hashes(hashes: Hashes, size: int) -> Hashes:
    """For each place the hash of `size` words from there on; those that reach over the end, or a 0, mean nothing."""
    total = np.zeros(max(len(hashes) - size + 1, 0), np.uint64)
    for step in range(size):
        total = total * _BASE + hashes[step : len(hashes) - size + 1 + step]
    return total


def make_table(keys: Hashes, places: Places) -> Table:
    """Which places bear which key."""
    order = np.lexsort((places, keys))
    known, begins = np.unique(keys[order], return_index=True)
    slots = 1 << max(4, (2 * len(known)).bit_length())
    bits = 1 << max(10, (16 * len(known)).bit_length())
    table = Table(
        np.zeros(slots, np.uint64),
        np.full(slots, -1, np.int32),
        np.append(begins, len(keys)).astype(np.int64),
        places[order].astype(np.int32),
        np.zeros(bits // 64, np.uint64),
    )
    _fill(known.astype(np.uint64), table.keys, table.numbers, table.bits)
    return table


def find_segments(
    words: Words, table: Table, size: int, targets: Hashes, owners: Places, firsts: Integers, used: Bytes, least: Places
) -> Segments:
    """Every run of equal words of documents and the texts of items that has at least the text's `least`."""
    capacity = _ROOM
    while True:
        segments = Segments(*(np.empty(capacity, np.int32) for _ in Segments._fields))
        found = _find_segments(
            words.hashes, words.firsts, *table, size, _power(size), targets, owners, firsts, used, least, *segments
        )
        if found <= capacity:
            return Segments(*(column[:found] for column in segments))
        capacity = found


def count_documents(words: Words, table: Table, size: int, counts: Integers, stamps: Integers, first: int) -> None:
    """Adds, for each key of a table of n-grams, the documents that have it; `first` is the number of the first one."""
    _count_documents(words.hashes, words.firsts, *table, size, _power(size), counts, stamps, first)


def _power(size: int) -> np.uint64:
    power = 1
    for _ in range(size):
        power = power * int(_BASE) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(power)


@bare_kernel
def _split(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: Codes,
    hashes: Hashes,
    starts: Places,
    ends: Places,
    firsts: Integers,
) -> None:
    count = np.int64(0)
    for text in range(offsets.size - 1):
        if valid[text]:
            count = _split_text(data, offsets[text], offsets[text + 1], folded, hashes, starts, ends, count)
        firsts[text + 1] = count


@bare_inner
def _split_text(
    data: Bytes,
    begin: Whole,
    end: Whole,
    folded: Codes,
    hashes: Hashes,
    starts: Places,
    ends: Places,
    count: Whole,
) -> Whole:
    at = begin
    value = _FNV_BASIS
    inside = False
    last = begin
    while at < end:
        code = np.int64(data[np.uintp(at)])
        width = np.int64(1)
        if code >= 0x80:
            code, width = decode(data, at, end)
        letter = folded[np.uintp(code)]
        if letter > DIGIT:
            if letter & ALONE:
                if inside:
                    hashes[np.uintp(count)], ends[np.uintp(count)] = _mix(value) | _ONE, last - begin
                    count += 1
                hashes[np.uintp(count)] = _mix((_FNV_BASIS ^ np.uint64(letter)) * _FNV_PRIME) | _ONE
                starts[np.uintp(count)], ends[np.uintp(count)] = at - begin, at + width - begin
                count += 1
                value = _FNV_BASIS
                inside = False
            else:
                if not inside:
                    starts[np.uintp(count)] = at - begin
                    inside = True
                value = (value ^ np.uint64(letter)) * _FNV_PRIME
                last = at + width
            at += width
        elif letter == DIGIT:
            if not inside:
                starts[np.uintp(count)] = at - begin
                inside = True
            value = (value ^ np.uint64(0x30)) * _FNV_PRIME
            at = _skip_number(data, at + width, end, folded)
            last = at
        else:
            if letter == SEPARATOR and inside:
                hashes[np.uintp(count)], ends[np.uintp(count)] = _mix(value) | _ONE, last - begin
                count += 1
                value = _FNV_BASIS
                inside = False
            at += width
    if inside:
        hashes[np.uintp(count)], ends[np.uintp(count)] = _mix(value) | _ONE, last - begin
        count += 1
    return count


@bare_kernel
def _fill(known: Hashes, keys: Hashes, numbers: Places, bits: Hashes) -> None:
    last = np.uint64(keys.size - 1)
    for number in range(known.size):
        mixed = _mix(known[number])
        _set_bit(bits, mixed)
        slot = mixed & last
        while numbers[slot] >= 0:
            slot = (slot + _ONE) & last
        keys[slot], numbers[slot] = known[number], number


@bare_inner
def _set_bit(bits: Hashes, mixed: np.uint64) -> None:
    place = mixed >> np.uint64(20)
    bits[(place >> np.uint64(6)) & np.uint64(bits.size - 1)] |= _ONE << (place & np.uint64(63))


@bare_inner
def _number(
    value: np.uint64, keys: Hashes, numbers: Places, bits: Hashes, last: np.uint64, last_bits: np.uint64
) -> Whole:
    """The number of a key, or -1."""
    mixed = _mix(value)
    place = mixed >> np.uint64(20)
    if not (bits[np.uintp((place >> np.uint64(6)) & last_bits)] >> (place & np.uint64(63))) & _ONE:
        return np.int64(-1)
    slot = mixed & last
    while numbers[np.uintp(slot)] >= 0:
        if keys[np.uintp(slot)] == value:
            return np.int64(numbers[np.uintp(slot)])
        slot = (slot + _ONE) & last
    return np.int64(-1)


@bare_kernel
def _find_segments(
    hashes: Hashes,
    documents: Integers,
    keys: Hashes,
    numbers: Places,
    begins: Integers,
    places: Places,
    bits: Hashes,
    size: int,
    power: np.uint64,
    targets: Hashes,
    owners: Places,
    firsts: Integers,
    used: Bytes,
    least: Places,
    found_document: Places,
    found_target: Places,
    found_at: Places,
    found_word: Places,
    found_length: Places,
) -> Whole:
    last, last_bits = np.uint64(keys.size - 1), np.uint64(bits.size - 1)
    found = np.int64(0)
    for document in range(documents.size - 1):
        begin, end = documents[document], documents[document + 1]
        if end - begin < size:
            continue
        rolling = np.uint64(0)
        for at in range(begin, begin + size - 1):
            rolling = rolling * _BASE + hashes[np.uintp(at)]
        gone = np.uint64(0)
        for at in range(begin, end - size + 1):
            rolling = rolling * _BASE + hashes[np.uintp(at + size - 1)] - gone * power
            gone = hashes[np.uintp(at)]
            number = _number(rolling, keys, numbers, bits, last, last_bits)
            if number < 0:
                continue
            for index in range(begins[number], begins[number + 1]):
                place = np.int64(places[index])
                # A run that goes on from the word before was followed from there.
                if at > begin and used[place - 1] and hashes[at - 1] == targets[place - 1]:
                    continue
                length = np.int64(size)
                while at + length < end and hashes[at + length] == targets[place + length]:
                    length += 1
                # What starts no comparison (see `used`) may stand before: a run is found whole.
                back = np.int64(0)
                while at - back > begin and hashes[at - back - 1] == targets[place - back - 1]:
                    back += 1
                length += back
                target = np.int64(owners[place])
                if length < least[target]:
                    continue
                if found < found_document.size:
                    found_document[found], found_target[found] = document, target
                    found_at[found], found_word[found] = at - back - begin, place - back - firsts[target]
                    found_length[found] = length
                found += 1
    return found


@bare_kernel
def _count_documents(
    hashes: Hashes,
    documents: Integers,
    keys: Hashes,
    numbers: Places,
    begins: Integers,
    places: Places,
    bits: Hashes,
    size: int,
    power: np.uint64,
    counts: Integers,
    stamps: Integers,
    first: int,
) -> None:
    last, last_bits = np.uint64(keys.size - 1), np.uint64(bits.size - 1)
    for document in range(documents.size - 1):
        begin, end = documents[document], documents[document + 1]
        if end - begin < size:
            continue
        rolling = np.uint64(0)
        for at in range(begin, begin + size - 1):
            rolling = rolling * _BASE + hashes[np.uintp(at)]
        gone = np.uint64(0)
        for at in range(begin, end - size + 1):
            rolling = rolling * _BASE + hashes[np.uintp(at + size - 1)] - gone * power
            gone = hashes[np.uintp(at)]
            number = _number(rolling, keys, numbers, bits, last, last_bits)
            if number >= 0 and stamps[number] != first + document + 1:
                stamps[number] = first + document + 1
                counts[number] += 1


# --- judgement


class Texts(NamedTuple):
    """The texts of items that are searched for, one after the other in `words`, with a 0 before and after each.

    Of text t: `first` and `length` of its words, its `item`, its `part`; `ngram` words that count in a row (fewer where the
    text is shorter) and `run`, which are enough (0: never); `high` and `low`, the shares that are enough alone and with an
    answer (above 1: never); `total`, what a share is of; `passage`, the text of the item's passage (-1: none). Of a word:
    `common` and `common_run`, whether the n-gram and the run that begin there count for nothing; `weight`, of it or of
    the n-gram.
    """

    words: Hashes
    first: Integers
    length: Places
    item: Places
    part: Bytes
    ngram: Places
    run: Places
    high: Weights
    low: Weights
    total: Weights
    passage: Places
    common: Bytes
    common_run: Bytes
    weight: Weights


class Answers(NamedTuple):
    """What may be answered: sequence s is `words[first[s]:first[s + 1]]`; those of item i are `item[i]:item[i + 1]`.

    `gold` tells answers from mere choices; `weight` is of the n-gram of three words that begins there.
    """

    words: Hashes
    first: Integers
    item: Integers
    gold: Bytes
    weight: Weights


class Rows(NamedTuple):
    """What was found: a row for each piece of a document that holds words of an item's text."""

    document: Places
    item: Places
    part: Bytes
    start: Places
    end: Places
    score: Weights
    words: Places  # of the longest run of equal ones
    hit: Bytes


WORDS, WEIGHTED_WORDS, NGRAMS, WEIGHTED_NGRAMS = range(4)  # what a share is a share of


def judge(
    segments: Segments,
    words: Words,
    texts: Texts,
    answers: Answers,
    *,
    measure: int,
    misses: int,
    gap: int,
    window: int,
    combine: bool,
) -> Rows:
    """What the segments come to: ordered by document, item's text and place."""
    order = np.lexsort((segments.word, segments.at, segments.target, segments.document))
    size = len(order)  # there are at most as many pieces
    rows = Rows(
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.uint8),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.float64),
        np.empty(size, np.int32),
        np.empty(size, np.uint8),
    )
    sorted_segments = Segments(*(column[order] for column in segments))
    found = _judge(sorted_segments, words, texts, answers, measure, misses, gap, window, combine, rows)
    columns: Any = (column[:found] for column in rows)
    return Rows(*columns)


@kernel
def _judge(
    segments: Segments,
    words: Words,
    texts: Texts,
    answers: Answers,
    measure: int,
    misses: int,
    gap: int,
    window: int,
    combine: bool,
    rows: Rows,
) -> Whole:
    made = np.int64(0)
    room = np.int64(0)
    for text in range(texts.length.size):
        room = max(room, np.int64(texts.length[text]))
    covered, grams = np.zeros(room, np.uint8), np.zeros(room, np.uint8)
    first = np.int64(0)
    while first < segments.document.size:
        document, target = segments.document[first], np.int64(segments.target[first])
        reach = np.int64(segments.at[first]) + segments.length[first]
        last = first + 1
        while last < segments.document.size and segments.document[last] == document and segments.target[last] == target:
            if 0 < gap < segments.at[last] - reach:
                break
            reach = max(reach, np.int64(segments.at[last]) + segments.length[last])
            last += 1
        made = _judge_piece(
            segments, first, last, words, texts, answers, measure, misses, window, combine, covered, grams, rows, made
        )
        first = last
    return made


@inner
def _judge_piece(
    segments: Segments,
    first: Whole,
    last: Whole,
    words: Words,
    texts: Texts,
    answers: Answers,
    measure: int,
    misses: int,
    window: int,
    combine: bool,
    covered: Bytes,
    grams: Bytes,
    rows: Rows,
    made: Whole,
) -> Whole:
    document, target = segments.document[first], np.int64(segments.target[first])
    begin, end = words.firsts[document], words.firsts[document + 1]
    said = words.hashes[begin:end]
    own, size = texts.first[target], np.int64(texts.length[target])
    asked = texts.words[own : own + size]
    common, common_run = texts.common[own : own + size], texts.common_run[own : own + size]
    ngram, run = np.int64(texts.ngram[target]), np.int64(texts.run[target])
    covered[:size] = 0
    grams[:size] = 0
    enough = False
    longest = np.int64(0)
    before = made
    lowest, highest = np.int64(0), np.int64(0)  # words of the document, of the row in hand
    for index in range(first, last):
        at, word = np.int64(segments.at[index]), np.int64(segments.word[index])
        count = np.int64(segments.length[index])
        low, high = _cover(said, asked, ngram, misses, at, word, count, common, covered, grams)
        if run > 0 and _counts(common_run, word, count, run):
            enough = True
            low, high = (min(low, at), max(high, at + count)) if high > 0 else (at, at + count)
        if high == 0:
            continue
        longest = max(longest, count)
        if made == before or low - highest > _APART:
            lowest, highest = low, high
            rows.document[made], rows.item[made], rows.part[made] = document, texts.item[target], texts.part[target]
            rows.words[made] = count
            made += 1
        else:
            lowest, highest = min(lowest, low), max(highest, high)
            rows.words[made - 1] = max(np.int64(rows.words[made - 1]), count)
        rows.start[made - 1] = words.starts[begin + lowest]
        rows.end[made - 1] = words.ends[begin + highest - 1]
    if made == before:
        return made
    share = _share(measure, covered, grams, texts.weight[own : own + size], texts.total[target])
    if combine:
        share = _combined(share, lowest, highest, said, texts, target, answers)
    hit = enough or share >= texts.high[target]
    if not hit and share >= texts.low[target]:
        near, far = np.int64(0), np.int64(said.size)
        if window > 0:
            near, far = max(np.int64(0), lowest - window), min(far, highest + window)
        hit = _answered(said[near:far], texts.item[target], answers)
    if not hit and longest < ngram:
        return before
    for row in range(before, made):
        rows.score[row], rows.hit[row] = share, hit
    return made


@inner
def _cover(
    said: Hashes,
    asked: Hashes,
    ngram: Whole,
    misses: Whole,
    at: Whole,
    word: Whole,
    count: Whole,
    common: Bytes,
    covered: Bytes,
    grams: Bytes,
) -> tuple[Whole, Whole]:
    """Marks the n-grams around a run of equal words that count; the words of the document they are, (0, 0) for none."""
    low = high = np.int64(0)
    first, last = word, word + count - ngram
    if misses > 0:
        first, last = max(np.int64(0), word - ngram + 1), min(word + count - 1, asked.size - ngram)
    for place in range(first, last + 1):
        there = at + place - word
        if common[place] or there < 0 or there + ngram > said.size:
            continue
        same = np.int64(0)
        for step in range(ngram):
            same += said[there + step] == asked[place + step]
        if same < ngram - misses:
            continue
        grams[place] = 1
        for step in range(ngram):
            if said[there + step] == asked[place + step]:
                covered[place + step] = 1
                low = there + step if high == 0 else min(low, there + step)
                high = max(high, there + step + 1)
    return low, high


@inner
def _counts(common_run: Bytes, word: Whole, count: Whole, run: Whole) -> bool:
    free = False
    for place in range(word, word + count - run + 1):
        free = free or not common_run[place]
    return free


@inner
def _share(measure: Whole, covered: Bytes, grams: Bytes, weight: Weights, total: float) -> float:
    found = 0.0
    for place in range(weight.size):
        if measure == WORDS:
            found += covered[place]
        elif measure == WEIGHTED_WORDS:
            found += covered[place] * weight[place]
        elif measure == NGRAMS:
            found += grams[place]
        elif grams[place]:
            found += weight[place]
    return min(1.0, found / total) if total > 0 else 0.0


@inner
def _answered(said: Hashes, item: Whole, answers: Answers) -> bool:
    """Whether a choice or an answer stands there, word for word."""
    for sequence in range(answers.item[item], answers.item[item + 1]):
        if _occurs(said, answers.words[answers.first[sequence] : answers.first[sequence + 1]]):
            return True
    return False


@inner
def _occurs(said: Hashes, sought: Hashes) -> bool:
    if sought.size == 0:
        return False
    for at in range(said.size - sought.size + 1):
        if said[at] == sought[0]:
            step = 1
            while step < sought.size and said[at + step] == sought[step]:
                step += 1
            if step == sought.size:
                return True
    return False


# SIMPLE, the algorithm of allenai/decon: its numbers are tokens, here words.
_SHORT_ANSWER = 3
_ANSWER_NGRAM = 3
_PASSAGE_NGRAM = 4
_ANSWER_NEAR = 50
_LONG_NEAR = 100
_SURE = 20  # n-grams of a question from which on it is trusted
_PERFECT, _LENIENT = 20, 50  # words of an item: up to the first every n-gram has to be there, from the second on 0.8


@inner
def _combined(
    asked: float, low: Whole, high: Whole, said: Hashes, texts: Texts, target: Whole, answers: Answers
) -> float:
    """The share of the question's weights with those of answer and passage, lowered for a short item."""
    own, size = texts.first[target], np.int64(texts.length[target])
    item, passage = np.int64(texts.item[target]), np.int64(texts.passage[target])
    answered, answer_words = -1.0, np.int64(0)
    for sequence in range(answers.item[item], answers.item[item + 1]):
        first, last = answers.first[sequence], answers.first[sequence + 1]
        if not answers.gold[sequence] or first == last:
            continue
        near = max(np.int64(_ANSWER_NEAR if last - first <= _SHORT_ANSWER else _LONG_NEAR), 2 * (last - first))
        around = said[max(np.int64(0), low - near) : high + near]
        if last - first <= _SHORT_ANSWER:
            found = 1.0 if _occurs(around, answers.words[first:last]) else 0.0
        else:
            found = _overlap(around, answers.words[first:last], answers.weight[first:last], _ANSWER_NGRAM)
        if found > answered:
            answered, answer_words = found, last - first
    read, passage_words = -1.0, np.int64(0)
    if passage >= 0:
        first, passage_words = texts.first[passage], np.int64(texts.length[passage])
        near = max(np.int64(_LONG_NEAR), 2 * passage_words)
        around = said[max(np.int64(0), low - near) : high + near]
        read = _overlap(
            around,
            texts.words[first : first + passage_words],
            texts.weight[first : first + passage_words],
            _PASSAGE_NGRAM,
        )
    if answered >= 0 and read >= 0:
        weights = (0.7, 0.2, 0.1)
    elif answered >= 0:
        weights = (0.75, 0.25, 0.0)
    elif read >= 0:
        weights = (0.85, 0.0, 0.15)
    else:
        weights = (1.0, 0.0, 0.0)
    different = np.int64(0)
    for place in range(own, own + size):
        different += texts.weight[place] > 0
    trust = 1.0
    if different < _SURE and weights[0] < 1.0:
        trust = 0.5 + 0.5 * different / _SURE
    # What a short question does not weigh, the other parts do.
    more = 1.0 + weights[0] * (1.0 - trust) / (1.0 - weights[0]) if weights[0] < 1.0 else 1.0
    total = asked * weights[0] * trust + more * (max(answered, 0.0) * weights[1] + max(read, 0.0) * weights[2])
    if total >= 1.0 - 1e-9:
        return 1.0
    words = size + answer_words + passage_words
    lenient = min(1.0, max(0.0, (words - _PERFECT) / (_LENIENT - _PERFECT)))
    return total * (0.8 + 0.2 * lenient)


@inner
def _overlap(said: Hashes, sought: Hashes, weight: Weights, ngram: Whole) -> float:
    """The share of the weights of n-grams of a text that stand in another, anywhere."""
    size = min(ngram, sought.size)
    found = total = 0.0
    for place in range(sought.size - size + 1):
        if weight[place] <= 0.0:
            continue
        total += weight[place]
        if _occurs(said, sought[place : place + size]):
            found += weight[place]
    return found / total if total > 0 else 0.0


# --- what is cut


@kernel
def cut_spans(
    rows: Integers,
    starts: Integers,
    ends: Integers,
    offsets: Integers,
    data: Bytes,
    margin: int,
    shortest: int,
) -> tuple[Integers, Integers, Integers, Integers]:
    """Spans widened by `margin` characters, joined where they meet or leave fewer than `shortest` characters between them.

    Spans come ordered by text (`rows`) and start. Back come text, start and end of each cut, and for each text how many
    pieces are left. What is left before the first and after the last cut is held to the same length.
    """
    size = rows.size
    texts, lows, highs = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    pieces = np.ones(offsets.size - 1, np.int64)
    count = np.int64(0)
    index = np.int64(0)
    while index < size:
        text = rows[index]
        begin, end = offsets[text], offsets[text + 1]
        first = count
        while index < size and rows[index] == text:
            low = _back(data, begin, begin + starts[index], margin)
            high = _forth(data, end, begin + ends[index], margin)
            if count == first and _fewer(data, begin, low, shortest):
                low = begin
            if count > first and (low <= highs[count - 1] or _fewer(data, highs[count - 1], low, shortest)):
                highs[count - 1] = max(highs[count - 1], high)
            else:
                texts[count], lows[count], highs[count] = text, low, high
                count += 1
            index += 1
        if _fewer(data, highs[count - 1], end, shortest):
            highs[count - 1] = end
        pieces[text] = count - first + 1 - (lows[first] == begin) - (highs[count - 1] == end)
        for cut in range(first, count):
            lows[cut] -= begin
            highs[cut] -= begin
    return texts[:count], lows[:count], highs[:count], pieces


@inner
def _back(data: Bytes, begin: Whole, at: Whole, characters: Whole) -> Whole:
    while characters > 0 and at > begin:
        at -= 1
        while at > begin and (data[at] & 0xC0) == 0x80:
            at -= 1
        characters -= 1
    return at


@inner
def _forth(data: Bytes, end: Whole, at: Whole, characters: Whole) -> Whole:
    while characters > 0 and at < end:
        at += 1
        while at < end and (data[at] & 0xC0) == 0x80:
            at += 1
        characters -= 1
    return at


@inner
def _fewer(data: Bytes, at: Whole, end: Whole, characters: Whole) -> bool:
    """Whether [at, end) has fewer characters; nothing at all is no piece, and so is not short of anything."""
    return bool(characters > 0 and at < end and _forth(data, end, at, characters - 1) >= end)


# --- characters


@bare_inner
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


@bare_inner
def _skip_number(data: Bytes, at: Whole, end: Whole, folded: Codes) -> Whole:
    """Where a number ends: digits, and full stops or commas between two of them."""
    while at < end:
        code, width = decode(data, at, end)
        if folded[np.uintp(code)] != DIGIT:
            if code != 0x2E and code != 0x2C:
                break
            if at + width >= end:
                break
            following, _ = decode(data, at + width, end)
            if folded[np.uintp(following)] != DIGIT:
                break
        at += width
    return at
