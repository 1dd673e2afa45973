"""fastText's prediction (arXiv:1607.01759) over Arrow buffers: the features, vectors and losses of its own file format.

Text in, one row of probabilities a text out. A text is one line: white space is what fastText takes for it (blank, tab,
line feed, carriage return, vertical tab, form feed, NUL), and the sequences `</s>` and `__label__`, which it would read
as commands, separate words too. A word gives its own vector, if it is in the dictionary, and those of its character
n-grams, hashed into buckets; `</s>` ends the text; runs of words are hashed likewise. The mean of all goes through the
loss the model was trained with. What fastText returns is reproduced, with the 1e-5 it adds before it takes a logarithm.

The sum of a word's vectors is kept for the next time the word comes, in a table of fixed size where a newcomer replaces
whoever had its place: most words of most texts are looked up and not hashed again. The word itself is compared, so that a
text's result depends on nothing but the text.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.utf8 import decode_multibyte, encode

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

HIERARCHICAL, SOFTMAX = 1, 3  # as fastText's files number its losses
KEPT_BYTES = 24  # of a word whose sum is kept; longer ones are rare
_LEAST = np.float32(1e-5)
_NGRAM = np.uint64(116049371)  # how fastText combines the hashes of neighbouring words
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LABEL = np.frombuffer(b"__label__", np.uint8)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)  # no text in UTF-8 has such bytes


class Lexicon(NamedTuple):
    """The dictionary: word w is `letters[bounds[w]:bounds[w + 1]]`, found through the open-addressing table `places`."""

    letters: Bytes
    bounds: Integers
    places: Indices


class Vectors(NamedTuple):
    """The input side: a row for each word, then for each bucket. `end` is the row of `</s>`, or -1."""

    inputs: Floats
    buckets: int
    shortest: int
    longest: int
    ngrams: int
    end: int


class Kept(NamedTuple):
    """Sums of words seen before, by the hash of the word: its bytes, how many vectors it has, their sum."""

    words: Hashes
    counts: Indices
    sums: Floats


class Outputs(NamedTuple):
    """The output side: column l of `weights` belongs to label l or, with a tree, to its inner node l. Node n of the tree has
    the children `left[n]` and `right[n]`; nodes below the number of labels are leaves."""

    weights: Floats
    loss: int
    left: Indices
    right: Indices


def empty_kept(dimension: int, megabytes: int) -> Kept:
    """An empty table of about this size."""
    places = 1 << max(8, (megabytes * (1 << 20) // (4 * dimension + 28)).bit_length() - 1)
    return Kept(
        np.full((places, 3), _EMPTY, np.uint64), np.zeros(places, np.int32), np.zeros((places, dimension), np.float32)
    )


def build_lexicon(entries: Bytes, count: int, words: int) -> tuple[Lexicon, list[bytes], Integers]:
    """The dictionary of the first `words` entries, the names of the others, which are labels, and how often each was seen.

    An entry is a word ended by NUL, its count in 8 bytes and its type in one."""
    bounds = np.zeros(count + 1, np.int64)
    counts = np.zeros(count, np.int64)
    letters = np.empty(entries.size, np.uint8)
    _read_entries(entries, letters, bounds, counts)
    places = np.full(1 << max(4, (2 * words).bit_length()), -1, np.int32)
    _index_words(letters, bounds[: words + 1], places)
    names = [bytes(letters[bounds[entry] : bounds[entry + 1]]) for entry in range(words, count)]
    return Lexicon(letters[: bounds[words]].copy(), bounds[: words + 1].copy(), places), names, counts


def skip_entries(content: Bytes, count: int) -> int:
    """Where so many entries end, -1 if there are not as many."""
    return int(_skip_entries(np.asarray(content), count))


def find_word(word: bytes, lexicon: Lexicon) -> int:
    """The number of a word of the dictionary, -1 for others."""
    data = np.frombuffer(word, np.uint8)
    return int(_find_word(data, *lexicon))


def build_tree(counts: Integers) -> tuple[Indices, Indices]:
    """fastText's Huffman tree over labels in falling order of their counts: children of each node."""
    size = counts.size
    left, right = np.full(2 * size - 1, -1, np.int32), np.full(2 * size - 1, -1, np.int32)
    weight = np.full(2 * size - 1, 10**15, np.int64)
    weight[:size] = counts
    leaf, node = size - 1, size
    for parent in range(size, 2 * size - 1):
        chosen = [0, 0]
        for side in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                chosen[side], leaf = leaf, leaf - 1
            else:
                chosen[side], node = node, node + 1
        left[parent], right[parent] = chosen
        weight[parent] = weight[chosen[0]] + weight[chosen[1]]
    return left, right


def predict(
    offsets: Integers, data: Bytes, valid: Flags, lexicon: Lexicon, vectors: Vectors, kept: Kept, outputs: Outputs
) -> tuple[Floats, Flags]:
    """Probabilities, a row a text and a column a label; and which texts have anything that could tell a label."""
    hidden = np.zeros((valid.size, vectors.inputs.shape[1]), np.float32)
    known = np.zeros(valid.size, np.bool_)
    word = np.empty(int(np.diff(offsets).max(initial=0)) + 2, np.uint8)  # with room for the longest
    runs = np.empty(max(1, vectors.ngrams), np.uint64)
    sums = np.empty((2, hidden.shape[1]), np.float32)
    arguments: tuple[Any, ...] = (offsets, data, valid, *lexicon, *vectors, *kept, word, runs, *sums, hidden, known)
    _embed(*arguments)
    labels = outputs.weights.shape[1]
    table = np.zeros((valid.size, labels), np.float32)
    if outputs.loss == HIERARCHICAL:
        values, shares = np.empty(labels, np.float32), np.empty(outputs.left.size, np.float32)
        _descend(hidden, known, outputs.weights, outputs.left, outputs.right, values, shares, table)
    else:
        _softmax(hidden, known, outputs.weights, table)
    return table, known


@bare_kernel
def fold(offsets: Integers, data: Bytes, valid: Flags, images: Indices, folded: Bytes, bounds: Integers) -> None:
    """Each code point by its image (a blank for what is left out) into `folded`, which has room for 3 bytes for every 2."""
    filled = 0
    for text in range(valid.size):
        at, end = offsets[text], offsets[text + 1]
        if not valid[text]:
            end = at
        while at < end:
            first = data[at]
            if first < 0x80:
                folded[filled] = images[first]  # ASCII has its image in ASCII
                at += 1
                filled += 1
                continue
            code, width = decode_multibyte(data, at, end)
            at += width
            filled = encode(images[code], folded, filled)
        bounds[text + 1] = filled


@bare_kernel
def _read_entries(entries: Bytes, letters: Bytes, bounds: Integers, counts: Integers) -> Whole:
    at = 0
    filled = 0
    for word in range(counts.size):
        while at < entries.size and entries[at] != 0:
            letters[filled] = entries[at]
            filled += 1
            at += 1
        if at + 10 > entries.size:
            return -1
        bounds[word + 1] = filled
        for byte in range(8):
            counts[word] |= np.int64(entries[at + 1 + byte]) << (8 * byte)
        at += 10
    return at


@bare_kernel
def _skip_entries(content: Bytes, count: Whole) -> Whole:
    at = 0
    for _ in range(count):
        while at < content.size and content[at] != 0:
            at += 1
        at += 10
        if at > content.size:
            return -1
    return at


@bare_kernel
def _index_words(letters: Bytes, bounds: Integers, places: Indices) -> None:
    mask = places.size - 1
    for word in range(bounds.size - 1):
        place = np.int64(_hash(letters, bounds[word], bounds[word + 1])) & mask
        while places[place] >= 0:
            place = (place + 1) & mask
        places[place] = word


@bare_kernel
def _find_word(data: Bytes, letters: Bytes, bounds: Integers, places: Indices) -> Whole:
    return _find(data, 0, data.size, _hash(data, 0, data.size), letters, bounds, places)


@bare_kernel
def _embed(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    letters: Bytes,
    bounds: Integers,
    places: Indices,
    inputs: Floats,
    buckets: int,
    shortest: int,
    longest: int,
    ngrams: int,
    end_row: int,
    words: Hashes,
    counts: Indices,
    sums: Floats,
    scratch: Bytes,
    runs: Hashes,
    total: Floats,
    alone: Floats,
    hidden: Floats,
    known: Flags,
) -> None:
    """The mean of the vectors of each text."""
    dimension = inputs.shape[1]
    first_bucket = inputs.shape[0] - buckets
    shift = np.uint64(64)  # the highest bits of a product depend on all bits of its factors
    while np.uint64(1) << (np.uint64(64) - shift) < np.uint64(counts.size):
        shift -= np.uint64(1)
    for text in range(valid.size):
        if not valid[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        total[:] = np.float32(0)
        size = 0
        seen = False
        running = 0
        while True:
            while at < end:  # between words
                byte = data[at]
                if byte > 0x20 and byte != 0x3C and byte != 0x5F:
                    break
                skipped = _separator(data, at, end)
                if not skipped:
                    break
                at += skipped
            if at >= end:
                break
            start = at
            while at < end:
                byte = data[np.uintp(at)]
                if (byte <= 0x20 or byte == 0x3C or byte == 0x5F) and _separator(data, at, end):
                    break
                at += 1
            if not seen:
                seen = _is_seen(data, start, at)
            if at - start <= KEPT_BYTES:
                first, second = min(start + 8, at), min(start + 16, at)
                key_0, key_1, key_2 = np.uint64(0), np.uint64(0), np.uint64(0)
                for place in range(np.uintp(start), np.uintp(first)):
                    key_0 = (key_0 << np.uint64(8)) | np.uint64(data[place])
                for place in range(np.uintp(first), np.uintp(second)):
                    key_1 = (key_1 << np.uint64(8)) | np.uint64(data[place])
                for place in range(np.uintp(second), np.uintp(at)):
                    key_2 = (key_2 << np.uint64(8)) | np.uint64(data[place])
                slot = np.uintp(((((key_0 * _MIX) ^ key_1) * _MIX ^ key_2) * _MIX) >> shift)
                if words[slot, 0] != key_0 or words[slot, 1] != key_1 or words[slot, 2] != key_2:
                    counts[slot] = _add_word(
                        data, start, at, scratch, sums[slot], letters, bounds, places, inputs, first_bucket, buckets,
                        shortest, longest,
                    )  # fmt: skip
                    words[slot, 0], words[slot, 1], words[slot, 2] = key_0, key_1, key_2
                size += counts[slot]
                for column in range(dimension):
                    total[column] += sums[slot, column]
            else:
                size += _add_word(
                    data, start, at, scratch, alone, letters, bounds, places, inputs, first_bucket, buckets, shortest,
                    longest,
                )  # fmt: skip
                for column in range(dimension):
                    total[column] += alone[column]
            if ngrams > 1:
                value = _hash(data, start, at)
                running = _add_runs(value, runs, running, ngrams, total, inputs, first_bucket, buckets)
                size += running
                running = min(running + 1, ngrams - 1)
        if not seen:
            continue
        if end_row >= 0:
            for column in range(dimension):
                total[column] += inputs[end_row, column]
            size += 1
        if ngrams > 1:
            value = np.uint32(2166136261)
            for byte in (np.uint8(0x3C), np.uint8(0x2F), np.uint8(0x73), np.uint8(0x3E)):
                value = _step(value, byte)
            size += _add_runs(value, runs, running, ngrams, total, inputs, first_bucket, buckets)
        if size == 0:
            continue
        known[text] = True
        share = np.float32(1.0 / size)
        for column in range(dimension):
            hidden[text, column] = total[column] * share


@bare_inner
def _add_word(
    data: Bytes,
    start: Whole,
    stop: Whole,
    scratch: Bytes,
    total: Floats,
    letters: Bytes,
    bounds: Integers,
    places: Indices,
    inputs: Floats,
    first_bucket: Whole,
    buckets: Whole,
    shortest: Whole,
    longest: Whole,
) -> Whole:
    """Put the sum of a word's vectors into `total`; how many they are."""
    dimension = total.size
    total[:] = np.float32(0)
    size = 0
    row = _find(data, start, stop, _hash(data, start, stop), letters, bounds, places)
    if row >= 0:
        for column in range(dimension):
            total[column] += inputs[row, column]
        size += 1
    if longest <= 0 or buckets <= 0:
        return size
    length = stop - start + 2
    scratch[0], scratch[length - 1] = 0x3C, 0x3E  # fastText marks the ends of a word: <word>
    for place in range(stop - start):
        scratch[place + 1] = data[start + place]
    for first in range(length):
        if (scratch[first] & 0xC0) == 0x80:
            continue
        code = np.uint32(2166136261)
        at = first
        for characters in range(1, longest + 1):
            if at >= length:
                break
            code = _step(code, scratch[at])
            at += 1
            while at < length and (scratch[at] & 0xC0) == 0x80:
                code = _step(code, scratch[at])
                at += 1
            if characters >= shortest and not (characters == 1 and (first == 0 or at == length)):
                row = first_bucket + np.int64(code % np.uint32(buckets))
                for column in range(dimension):
                    total[column] += inputs[row, column]
                size += 1
    return size


@bare_inner
def _add_runs(
    value: np.uint32,
    runs: Hashes,
    running: Whole,
    ngrams: Whole,
    total: Floats,
    inputs: Floats,
    first_bucket: Whole,
    buckets: Whole,
) -> Whole:
    """Add what the runs of up to `ngrams` words that end in this one stand for; how many they are."""
    word = np.uint64(value)
    if word >= np.uint64(0x80000000):  # fastText keeps hashes as signed numbers
        word |= np.uint64(0xFFFFFFFF00000000)
    for run in range(running):
        runs[run] = runs[run] * _NGRAM + word
        row = first_bucket + np.int64(runs[run] % np.uint64(buckets))
        for column in range(total.size):
            total[column] += inputs[row, column]
    if running == ngrams - 1:  # the oldest has all its words
        for run in range(1, running):
            runs[run - 1] = runs[run]
        runs[running - 1] = word
    else:
        runs[running] = word
    return running


@bare_inner
def _find(
    data: Bytes, start: Whole, stop: Whole, value: np.uint32, letters: Bytes, bounds: Integers, places: Indices
) -> Whole:
    """The number of a word of the dictionary, -1 for others."""
    mask = places.size - 1
    place = np.int64(value) & mask
    while places[place] >= 0:
        word = np.int64(places[place])
        if bounds[word + 1] - bounds[word] == stop - start:
            same = True
            for index in range(stop - start):
                if letters[bounds[word] + index] != data[start + index]:
                    same = False
                    break
            if same:
                return word
        place = (place + 1) & mask
    return np.int64(-1)


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint32:
    value = np.uint32(2166136261)
    for at in range(start, stop):
        value = _step(value, data[at])
    return value


@bare_inner
def _step(value: np.uint32, byte: np.uint8) -> np.uint32:
    """One byte into fastText's hash: 32-bit FNV-1a that takes bytes for signed."""
    wide = np.uint32(byte)
    if byte >= 0x80:
        wide |= np.uint32(0xFFFFFF00)
    return np.uint32((value ^ wide) * np.uint32(16777619))


@bare_inner
def _separator(data: Bytes, at: Whole, end: Whole) -> Whole:
    """How many bytes of what separates words begin here."""
    byte = data[at]
    if byte == 0x20 or 0x09 <= byte <= 0x0D or byte == 0:
        return 1
    if byte == 0x3C:  # </s>
        if at + 4 <= end and data[at + 1] == 0x2F and data[at + 2] == 0x73 and data[at + 3] == 0x3E:
            return 4
        return 0
    if byte != 0x5F or at + 9 > end:
        return 0
    for place in range(_LABEL.size):
        if data[at + place] != _LABEL[place]:
            return 0
    return 9


@bare_inner
def _is_seen(data: Bytes, start: Whole, stop: Whole) -> bool:
    """Whether a word has a character that `str.isspace` does not call white space."""
    at = start
    while at < stop:
        if data[at] < 0x80:
            if data[at] > 0x20 or data[at] < 0x1C:
                return True
            at += 1
            continue
        code, width = decode_multibyte(data, at, stop)
        blank = code == 0x85 or code == 0xA0 or code == 0x1680 or 0x2000 <= code <= 0x200A or code == 0x3000
        if not (blank or code == 0x2028 or code == 0x2029 or code == 0x202F or code == 0x205F):
            return True
        at += width
    return False


@bare_kernel
def _softmax(hidden: Floats, known: Flags, weights: Floats, table: Floats) -> None:
    labels = weights.shape[1]
    for text in range(known.size):
        if not known[text]:
            continue
        row = table[text]
        _multiply(hidden[text], weights, row)
        highest = row[0]
        for label in range(labels):
            highest = max(highest, row[label])
        total = np.float32(0)
        for label in range(labels):
            row[label] = np.exp(row[label] - highest)
            total += row[label]
        for label in range(labels):
            row[label] = min(row[label] / total + _LEAST, np.float32(1))


@bare_kernel
def _descend(
    hidden: Floats,
    known: Flags,
    weights: Floats,
    left: Indices,
    right: Indices,
    values: Floats,
    shares: Floats,
    table: Floats,
) -> None:
    labels = weights.shape[1]
    for text in range(known.size):
        if not known[text]:
            continue
        _multiply(hidden[text], weights, values)
        shares[left.size - 1] = np.float32(1)
        for node in range(left.size - 1, labels - 1, -1):  # a child comes before its parent
            yes = np.float32(1) / (np.float32(1) + np.exp(-values[node - labels]))
            shares[left[node]] = shares[node] * (np.float32(1) - yes + _LEAST)
            shares[right[node]] = shares[node] * (yes + _LEAST)
        for label in range(labels):
            table[text, label] = min(shares[label], np.float32(1))


@bare_inner
def _multiply(hidden: Floats, weights: Floats, values: Floats) -> None:
    # Columns in their order for every label: the compiler can take many labels at once and the sums stay the same.
    values[:] = np.float32(0)
    for column in range(hidden.size):
        factor = hidden[column]
        for label in range(values.size):
            values[label] += factor * weights[column, label]
