"""An n-gram language model of word numbers: interpolated modified Kneser-Ney (Chen and Goodman, 1999), learned and asked.

What is learned is what KenLM's `lmplz` learns: counts of the highest order, at lower orders the number of different words
an n-gram follows (its plain count if it begins a sentence), three discounts an order, and at the bottom a uniform share
over all words. N-grams of three and more words that occur at most `prune` times are left out, and what they would have
had goes to the shorter ones, so that the probabilities of all words in a context add up to 1 all the same.

A sentence is `begin`, words, `end`; `begin` is the last number but one and `end` the last. N-grams are known by a 64-bit
hash that grows from the last word to the left, and a hash table holds the logarithm (base 10) of an n-gram's probability
and of the weight its context gives to shorter ones. The same sentences give the same bits.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel

Words = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

MOST_WORDS = 6  # the longest n-gram there may be
_NEVER = -99.0  # the logarithm, as ARPA files write it, of what never occurs: `begin` after anything
_FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts are too few to tell, as KenLM's --discount_fallback

_GROW = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class NgramModel(NamedTuple):
    """`unigrams[word]` and `scores[i]`, for the n-gram with hash `keys[i]`, are logarithms of probability and weight."""

    order: int
    unigrams: Floats
    keys: Hashes
    scores: Floats


class _Level(NamedTuple):
    """The different n-grams of one length: hashes, counts, the last position of one occurrence, and the number of the
    n-gram that ends at each position of the text (-1: none)."""

    keys: Hashes
    counts: Integers
    ends: Integers
    numbers: Words


def learn_ngrams(words: Words, vocabulary: int, order: int, prune: int) -> NgramModel:
    """From sentences in a row; `vocabulary` counts `begin` and `end`."""
    begin = vocabulary - 2
    levels = _levels(words, begin, order)
    adjusted = [_adjusted(levels, length, words, begin) for length in range(1, order + 1)]
    first = levels[0]
    seen = np.zeros(vocabulary)
    seen[words[first.ends]] = adjusted[0]
    seen[begin] = 0.0
    total = seen.sum()
    discounts = _discounts(seen.astype(np.int64))
    uniform = np.full(vocabulary, discounts.sum() / total / (vocabulary - 1))
    everything = (seen - discounts) / total + uniform
    everything[begin] = 0.0
    shorter: Doubles = everything[words[first.ends]]
    kept_shorter = np.ones(len(shorter), np.bool_)
    scores: list[tuple[Hashes, Doubles]] = []
    unigram_weights = np.ones(vocabulary)
    for length in range(2, order + 1):
        level, counts = levels[length - 1], adjusted[length - 1].astype(np.float64)
        contexts = levels[length - 2].numbers[level.ends - 1]
        suffixes = levels[length - 2].numbers[level.ends]
        kept = level.counts > (prune if length > 2 else 0)
        size = len(levels[length - 2].keys)
        totals = np.bincount(contexts, counts, size)
        discounted = counts - _discounts(adjusted[length - 1])
        given = np.bincount(contexts[kept], discounted[kept], size)
        weights = np.ones(size)
        used = totals > 0
        weights[used] = np.maximum(1.0 - given[used] / totals[used], 1e-12)
        if length == 2:
            unigram_weights[words[first.ends]] = weights
        else:
            before = levels[length - 2]
            scores.append((before.keys[kept_shorter], np.stack([shorter, weights], 1)[kept_shorter]))
        longer = discounted / totals[contexts] + weights[contexts] * shorter[suffixes]
        shorter, kept_shorter = longer, kept
    scores.append((levels[-1].keys[kept_shorter], np.stack([shorter, np.ones(len(shorter))], 1)[kept_shorter]))
    with np.errstate(divide="ignore"):
        unigrams = np.maximum(np.log10(np.stack([everything, unigram_weights], 1)), _NEVER)
    return NgramModel(
        order,
        unigrams.astype(np.float32),
        np.concatenate([keys for keys, _ in scores]),
        np.log10(np.concatenate([values for _, values in scores])).astype(np.float32),
    )


def sentence_scores(model: NgramModel, table: tuple[Hashes, Floats], words: Words, starts: Integers) -> Doubles:
    """log10 of the probability of each sentence, its end included; sentence i is `words[starts[i]:starts[i + 1]]`."""
    scores = np.zeros(len(starts) - 1)
    weights = np.zeros((2, MOST_WORDS), np.float32)
    _score(words, starts, model.order, model.unigrams, *table, weights, scores)
    return scores


def hash_table(model: NgramModel) -> tuple[Hashes, Floats]:
    """The n-grams where their hash says, at most half full; a free slot is 0."""
    size = 1 << max(4, (2 * len(model.keys) - 1).bit_length())
    keys, values = np.zeros(size, np.uint64), np.zeros((size, 2), np.float32)
    _fill(model.keys, model.scores, keys, values)
    return keys, values


def _levels(words: Words, begin: int, order: int) -> list[_Level]:
    hashes = np.zeros((order, len(words)), np.uint64)
    _hash(words, begin, hashes)
    levels = []
    for row in hashes:
        at = np.flatnonzero(row)
        keys, first, inverse, counts = np.unique(row[at], return_index=True, return_inverse=True, return_counts=True)
        numbers = np.full(len(words), -1, np.int32)
        numbers[at] = inverse
        levels.append(_Level(keys, counts, at[first], numbers))
    return levels


def _adjusted(levels: list[_Level], length: int, words: Words, begin: int) -> Integers:
    """How many different words an n-gram follows; its count at the highest order, and where nothing can come before it."""
    level = levels[length - 1]
    if length == len(levels):
        return level.counts
    longer = levels[length]
    follows = np.bincount(level.numbers[longer.ends], minlength=len(level.keys))
    return np.where(words[level.ends - length + 1] == begin, level.counts, follows)


def _discounts(counts: Integers) -> Doubles:
    """What is taken from each count, by whether it is 1, 2 or more."""
    of = [int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4)]
    discounts = _FALLBACK
    if all(of):
        rate = of[0] / (of[0] + 2 * of[1])
        one, two, three = (n - (n + 1) * rate * of[n] / of[n - 1] for n in (1, 2, 3))
        if 0 < one < 1 and 0 < two < 2 and 0 < three < 3:
            discounts = (one, two, three)
    return np.array([0.0, *discounts])[np.minimum(counts, 3)]


@bare_kernel
def _hash(words: Words, begin: int, hashes: Hashes) -> None:
    """Row n holds the hash of the n+1 words that end at a position; 0 where they would reach over a sentence's begin."""
    for at in range(words.size):
        value = _extended(np.uint64(0), words[at])
        hashes[0, at] = value
        back = at
        for length in range(1, hashes.shape[0]):
            if words[back] == begin:
                break
            back -= 1
            value = _extended(value, words[back])
            hashes[length, at] = value


@bare_kernel
def _fill(hashes: Hashes, scores: Floats, keys: Hashes, values: Floats) -> None:
    last = np.uint64(keys.size - 1)
    for item in range(hashes.size):
        slot = (hashes[item] >> np.uint64(1)) & last  # the lowest bit is always set
        while keys[slot]:
            slot = (slot + np.uint64(1)) & last
        keys[slot] = hashes[item]
        values[slot, 0], values[slot, 1] = scores[item, 0], scores[item, 1]


@bare_kernel
def _score(
    words: Words,
    starts: Integers,
    order: int,
    unigrams: Floats,
    keys: Hashes,
    values: Floats,
    weights: Floats,
    scores: Doubles,
) -> None:
    begin, end = unigrams.shape[0] - 2, unigrams.shape[0] - 1
    last = np.uint64(keys.size - 1)
    for sentence in range(starts.size - 1):
        start, stop = starts[sentence], starts[sentence + 1]
        total = 0.0
        now: Whole = np.int64(0)
        weights[now, 0] = unigrams[begin, 1]
        before: Whole = np.int64(1)  # words of the longest known n-gram that ends before this word
        for at in range(start, stop + 1):
            word = np.int64(words[at]) if at < stop else np.int64(end)
            new = 1 - now
            value = _extended(np.uint64(0), word)
            score = np.float64(unigrams[word, 0])
            weights[new, 0] = unigrams[word, 1]
            found: Whole = np.int64(1)
            for length in range(1, order):
                back = at - length
                if back < start - 1:
                    break
                value = _extended(value, np.int64(words[back]) if back >= start else np.int64(begin))
                slot = (value >> np.uint64(1)) & last
                while keys[slot] and keys[slot] != value:
                    slot = (slot + np.uint64(1)) & last
                if not keys[slot]:  # nor is any longer one known
                    break
                score = np.float64(values[slot, 0])
                weights[new, length] = values[slot, 1]
                found = np.int64(length + 1)
            for length in range(found, min(order - 1, before) + 1):
                score += weights[now, length - 1]
            total += score
            now, before = new, found
        scores[sentence] = total


@bare_inner
def _extended(value: np.uint64, word: Whole) -> np.uint64:
    """The hash with one more word on the left; never 0."""
    value = (value + np.uint64(word) + np.uint64(1)) * _GROW
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return (value ^ (value >> np.uint64(31))) | np.uint64(1)
