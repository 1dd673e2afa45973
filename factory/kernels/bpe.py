"""Byte pair encoding (Sennrich and others, arXiv:1508.07909) over the bytes of Arrow texts, with the words met remembered.

The pieces of `factory.kernels.pretokens` are encoded one by one. Of all pairs of neighbouring tokens the one with the lowest
rank is merged, the leftmost first, until none has a rank. A piece met before is looked up: pieces of up to 16 bytes are
compared as two numbers, longer ones byte by byte, so a hash never decides what a piece is. When the memory is full it is
emptied. Ids are a function of the text alone, and memory is bounded: 14 MB, and 28 bytes for each byte of the longest piece.

Short pieces take n steps over n ranks, which are looked at eight at a time; long ones a heap, n log n.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lanes import load_word
from factory.kernels.pretokens import piece_end
from factory.kernels.text import Bytes, Hashes, Integers, Lengths, TextView, Whole

Ranks = npt.NDArray[np.uint32]

MAX_MERGES = 1 << 24  # a rank and a position share 32 bits
LONGEST_KNOWN = 1024  # bytes of a token that stands for a piece without merges
_SLOT_BITS = 18
_ENTRIES = 1 << (_SLOT_BITS - 1)
_IDS, _TEXT = 1 << 20, 1 << 22
_REMEMBERED = 128  # bytes of a piece
_SHORT = 128  # bytes of a piece that is merged without a heap
_NONE = np.uint32(0xFFFFFFFF)
_SCATTER_1, _SCATTER_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFFFFFF)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


class Merges(NamedTuple):
    """Ids of the 256 bytes; pairs by hash, each with its rank; and what the pair of each rank becomes."""

    of_bytes: Lengths
    pairs: Hashes
    becomes: Lengths


class Memory(NamedTuple):
    """Pieces and their ids, by hash: four numbers each, and what does not fit them. `used`: entries, ids, bytes."""

    slots: Hashes
    ids: Lengths
    text: Bytes
    used: Integers


class Known(NamedTuple):
    """Piece i ends at `ends[i]`, begins where the one before ends, and is the token `ids[i]`."""

    data: Bytes
    ends: Integers
    ids: Lengths


class Room(NamedTuple):
    """Where a piece is merged."""

    ids: Lengths
    after: Lengths
    before: Lengths
    keys: Ranks
    heap: Hashes


def merges(of_bytes: Lengths, pairs: Lengths, becomes: Lengths) -> Merges:
    """The tables of merges in the order of their ranks: rows of two ids, or of -1 where none merges, and what they become."""
    bits = max(4, int(4 * len(pairs)).bit_length())
    table = np.full(2 << bits, _FULL, np.uint64)
    _fill_pairs(pairs, table)
    return Merges(np.ascontiguousarray(of_bytes, np.int32), table, np.ascontiguousarray(becomes, np.int32))


def known_pieces(tokens: Mapping[bytes, int]) -> Known:
    """Pieces that are one token whatever the merges say."""
    ends = np.cumsum(np.fromiter((len(word) for word in tokens), np.int64, len(tokens)))
    ids = np.fromiter(tokens.values(), np.int32, len(tokens))
    return Known(np.frombuffer(b"".join(tokens) + bytes(16), np.uint8), ends.astype(np.int64), ids)


def memory(known: Known) -> Memory:
    """An empty memory, but for what is known."""
    bits = max(_SLOT_BITS, int(4 * len(known.ids)).bit_length())
    made = Memory(
        np.zeros(4 << bits, np.uint64),
        np.zeros(_IDS, np.int32),
        np.zeros(_TEXT + len(known.data), np.uint8),
        np.zeros(3, np.int64),
    )
    _remember_all(known.data, known.ends, known.ids, *made)
    return made


def room(longest: int) -> Room:
    """Room for pieces of up to this many bytes."""
    ids, after, before = np.empty((3, longest), np.int32)
    return Room(ids, after, before, np.empty(_SHORT, np.uint32), np.empty(2 * longest, np.uint64))


def encode(
    view: TextView,
    classes: Bytes,
    pattern: int,
    numbers: int,
    table: Merges,
    words: Memory,
    known: Known,
    *,
    begin: int,
    end: int,
) -> tuple[Lengths, Integers]:
    """Ids of all valid texts one after the other, and how many each has; `begin` and `end` frame each unless negative.

    `words` is written to, by one thread at a time; `known` is what it was made with.
    """
    texts = len(view.valid)
    size = int(view.offsets[-1] - view.offsets[0]) + 2 * texts
    out, lengths = np.empty(size, np.int32), np.zeros(texts, np.int64)
    space = room(4096)
    text = filled = 0
    while text < texts:
        tables: Any = (*view, classes, pattern, numbers, *table, *words, *space)
        state: Any = (begin, end, text, filled, out, lengths)
        text, filled, wanted = _encode(*tables, *state)
        if wanted > 0:
            space = room(wanted)
        elif wanted < 0:
            words.slots.fill(0)
            words.used.fill(0)
            _remember_all(known.data, known.ends, known.ids, *words)
    return out[:filled], lengths


@bare_kernel
def _encode(
    offsets: Integers,
    data: Bytes,
    valid: Any,
    classes: Bytes,
    pattern: int,
    numbers: int,
    of_bytes: Lengths,
    pairs: Hashes,
    becomes: Lengths,
    slots: Hashes,
    known: Lengths,
    kept: Bytes,
    used: Integers,
    ids: Lengths,
    after: Lengths,
    before: Lengths,
    keys: Ranks,
    heap: Hashes,
    begin: int,
    end: int,
    text: int,
    filled: int,
    out: Lengths,
    lengths: Integers,
) -> tuple[int, int, int]:
    """Texts done, ids written, and what the next text needs: room for a piece, or (-1) an empty memory."""
    full = False
    while text < offsets.size - 1:
        at, stop = offsets[text], offsets[text + 1]
        done: Whole = filled
        if not valid[text]:
            text += 1
            continue
        if begin >= 0:
            out[np.uintp(done)] = begin
            done += 1
        while at < stop:
            next_at = piece_end(data, at, stop, classes, pattern, numbers)
            length = next_at - at
            if length <= LONGEST_KNOWN:
                first, second = _halves(data, at, length)
                slot, found = _find(data, at, length, first, second, slots, kept)
                if found:
                    count = np.int64(slots[slot + np.uintp(2)] >> np.uint64(32))
                    value = np.int64(slots[slot + np.uintp(3)])
                    if count == 1:
                        out[np.uintp(done)] = value
                    else:
                        for token in range(count):
                            out[np.uintp(done + token)] = known[np.uintp(value + token)]
                    done += count
                    at = next_at
                    continue
                if length <= _SHORT:
                    count = _merge_short(
                        data, at, length, of_bytes, pairs, becomes, ids, after, before, keys, out, done
                    )
                else:
                    count = _merge_long(data, at, length, of_bytes, pairs, becomes, ids, after, before, heap, out, done)
                if length <= _REMEMBERED:
                    if used[0] >= _ENTRIES or used[1] + length > known.size or used[2] + length > kept.size:
                        full = True
                    else:
                        _remember(data, at, length, first, second, slot, slots, known, kept, used, out, done, count)
            else:
                if length > ids.size:
                    return text, filled, length
                count = _merge_long(data, at, length, of_bytes, pairs, becomes, ids, after, before, heap, out, done)
            done += count
            at = next_at
        if end >= 0:
            out[np.uintp(done)] = end
            done += 1
        lengths[text] = done - filled
        filled = done
        text += 1
        if full:
            return text, filled, -1
    return text, filled, 0


@bare_inner
def _halves(data: Bytes, at: Whole, length: Whole) -> tuple[Any, Any]:
    """The bytes of a short piece as two numbers; of a long one, two hashes."""
    first = second = np.uint64(0)
    if length <= 16:
        if at + 16 <= data.size:
            first = load_word(data, at)
            if length < 8:
                return first & ((np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)), second
            if length > 8:
                second = load_word(data, at + 8)
                if length < 16:
                    second &= (np.uint64(1) << np.uint64(8 * (length - 8))) - np.uint64(1)
            return first, second
        for place in range(length):
            byte = np.uint64(data[np.uintp(at + place)])
            if place < 8:
                first |= byte << np.uint64(8 * place)
            else:
                second |= byte << np.uint64(8 * (place - 8))
        return first, second
    done = np.int64(0)
    while done + 8 <= length:
        first = _mixed(first ^ load_word(data, at + done))
        done += 8
    if done < length:
        first = _mixed(first ^ load_word(data, at + length - 8))
    return first, np.uint64(0)


@bare_inner
def _mixed(value: Any) -> Any:
    value *= _SCATTER_2
    return (value ^ (value >> np.uint64(29))) * _SCATTER_1


@bare_inner
def _find(
    data: Bytes, at: Whole, length: Whole, first: Any, second: Any, slots: Hashes, kept: Bytes
) -> tuple[Any, bool]:
    """The slot of a piece and True, or the slot it may take."""
    count = slots.size >> 2
    hashed = first * _SCATTER_1 ^ (second + np.uint64(length)) * _SCATTER_2
    hashed = (hashed ^ (hashed >> np.uint64(32))) * _SCATTER_1
    slot = np.uintp((hashed >> np.uint64(24)) & np.uint64(count - 1))
    while True:
        base = slot << np.uintp(2)
        sizes = slots[base + np.uintp(2)]
        if sizes == 0:
            return base, False
        if slots[base] == first and sizes & _LOW == np.uint64(length):
            if length <= 16:
                if slots[base + np.uintp(1)] == second:
                    return base, True
            else:
                from_ = np.uintp(slots[base + np.uintp(1)])
                place = np.int64(0)
                while place < length and kept[from_ + np.uintp(place)] == data[np.uintp(at + place)]:
                    place += 1
                if place == length:
                    return base, True
        slot = (slot + np.uintp(1)) & np.uintp(count - 1)


@bare_inner
def _remember(
    data: Bytes,
    at: Whole,
    length: Whole,
    first: Any,
    second: Any,
    slot: Any,
    slots: Hashes,
    known: Lengths,
    kept: Bytes,
    used: Integers,
    out: Lengths,
    done: Whole,
    count: Whole,
) -> None:
    """Put a piece and its ids, which stand in `out`, into a free slot; there is room."""
    slots[slot] = first
    if length > 16:
        second = np.uint64(used[2])
        for place in range(length):
            kept[np.uintp(used[2] + place)] = data[np.uintp(at + place)]
        used[2] += length
    slots[slot + np.uintp(1)] = second
    slots[slot + np.uintp(2)] = np.uint64(count) << np.uint64(32) | np.uint64(length)
    value = np.int64(out[np.uintp(done)])
    if count != 1:
        value = used[1]
        for place in range(count):
            known[np.uintp(value + place)] = out[np.uintp(done + place)]
        used[1] += count
    slots[slot + np.uintp(3)] = np.uint64(value)
    used[0] += 1


@bare_kernel
def _remember_all(
    data: Bytes, ends: Integers, tokens: Lengths, slots: Hashes, known: Lengths, kept: Bytes, used: Integers
) -> None:
    """Pieces that are one token each; they do not count as entries, which are what is emptied."""
    at = np.int64(0)
    for word in range(ends.size):
        length = ends[word] - at
        first, second = _halves(data, at, length)
        slot, found = _find(data, at, length, first, second, slots, kept)
        if not found:
            _remember(data, at, length, first, second, slot, slots, known, kept, used, tokens, word, np.int64(1))
        at = ends[word]
    used[0] = 0


@bare_kernel
def _fill_pairs(pairs: Lengths, table: Hashes) -> None:
    mask = np.uintp((table.size >> 1) - 1)
    for rank in range(pairs.shape[0]):
        if pairs[rank, 0] < 0:
            continue
        key = np.uint64(pairs[rank, 0]) << np.uint64(32) | np.uint64(pairs[rank, 1])
        slot = np.uintp((key * _SCATTER_1) >> np.uint64(32)) & mask
        while table[slot << np.uintp(1)] != _FULL:
            slot = (slot + np.uintp(1)) & mask
        table[slot << np.uintp(1)] = key
        table[(slot << np.uintp(1)) + np.uintp(1)] = np.uint64(rank)


@bare_inner
def _rank(pairs: Hashes, left: Any, right: Any) -> Any:
    """The rank of two ids side by side, _NONE if they do not merge."""
    mask = np.uintp((pairs.size >> 1) - 1)
    key = np.uint64(left) << np.uint64(32) | np.uint64(right)
    slot = np.uintp((key * _SCATTER_1) >> np.uint64(32)) & mask
    while True:
        there = pairs[slot << np.uintp(1)]
        if there == key:
            return np.uint32(pairs[(slot << np.uintp(1)) + np.uintp(1)])
        if there == _FULL:
            return _NONE
        slot = (slot + np.uintp(1)) & mask


@bare_inner
def _key(pairs: Hashes, left: Any, right: Any, place: Whole) -> Any:
    rank = _rank(pairs, left, right)
    return _NONE if rank == _NONE else np.uint32(rank << np.uint32(8) | np.uint32(place))


@bare_inner
def _merge_short(
    data: Bytes,
    at: Whole,
    length: Whole,
    of_bytes: Lengths,
    pairs: Hashes,
    becomes: Lengths,
    ids: Lengths,
    after: Lengths,
    before: Lengths,
    keys: Ranks,
    out: Lengths,
    done: Whole,
) -> Whole:
    """The ids of a piece into `out`; their number. A key is a rank and the place of its left token."""
    _begin(data, at, length, of_bytes, ids, after, before)
    for place in range(length - 1):
        keys[np.uintp(place)] = _key(pairs, ids[np.uintp(place)], ids[np.uintp(place + 1)], place)
    padded = (length + 7) & ~7
    for place in range(length - 1, padded):
        keys[np.uintp(place)] = _NONE
    while True:
        best = _NONE
        for place in range(padded):
            best = min(best, keys[np.uintp(place)])
        if best == _NONE:
            break
        left = np.int64(best & np.uint32(255))
        right = np.int64(after[np.uintp(left)])
        beyond = np.int64(after[np.uintp(right)])
        merged = becomes[np.uintp(best >> np.uint32(8))]
        ids[np.uintp(left)] = merged
        after[np.uintp(left)] = beyond
        keys[np.uintp(right)] = _NONE
        if beyond < length:
            before[np.uintp(beyond)] = left
            keys[np.uintp(left)] = _key(pairs, merged, ids[np.uintp(beyond)], left)
        else:
            keys[np.uintp(left)] = _NONE
        ahead = np.int64(before[np.uintp(left)])
        if ahead >= 0:
            keys[np.uintp(ahead)] = _key(pairs, ids[np.uintp(ahead)], merged, ahead)
    return _collect(length, ids, after, out, done)


@bare_inner
def _merge_long(
    data: Bytes,
    at: Whole,
    length: Whole,
    of_bytes: Lengths,
    pairs: Hashes,
    becomes: Lengths,
    ids: Lengths,
    after: Lengths,
    before: Lengths,
    heap: Hashes,
    out: Lengths,
    done: Whole,
) -> Whole:
    """As `_merge_short`. The heap holds ranks and places; one whose pair has changed since is passed over."""
    _begin(data, at, length, of_bytes, ids, after, before)
    size = np.int64(0)
    for place in range(length - 1):
        rank = _rank(pairs, ids[np.uintp(place)], ids[np.uintp(place + 1)])
        if rank != _NONE:
            size = _push(heap, size, np.uint64(rank) << np.uint64(32) | np.uint64(place))
    while size > 0:
        best = heap[0]
        size = _pop(heap, size)
        left = np.int64(best & _LOW)
        if ids[np.uintp(left)] < 0:
            continue
        right = np.int64(after[np.uintp(left)])
        if right >= length:
            continue
        if np.uint64(_rank(pairs, ids[np.uintp(left)], ids[np.uintp(right)])) != best >> np.uint64(32):
            continue
        beyond = np.int64(after[np.uintp(right)])
        merged = becomes[np.uintp(best >> np.uint64(32))]
        ids[np.uintp(left)] = merged
        ids[np.uintp(right)] = -1
        after[np.uintp(left)] = beyond
        if beyond < length:
            before[np.uintp(beyond)] = left
            rank = _rank(pairs, merged, ids[np.uintp(beyond)])
            if rank != _NONE:
                size = _push(heap, size, np.uint64(rank) << np.uint64(32) | np.uint64(left))
        ahead = np.int64(before[np.uintp(left)])
        if ahead >= 0:
            rank = _rank(pairs, ids[np.uintp(ahead)], merged)
            if rank != _NONE:
                size = _push(heap, size, np.uint64(rank) << np.uint64(32) | np.uint64(ahead))
    return _collect(length, ids, after, out, done)


@bare_inner
def _begin(
    data: Bytes, at: Whole, length: Whole, of_bytes: Lengths, ids: Lengths, after: Lengths, before: Lengths
) -> None:
    """A token for each byte, which knows the ones beside it."""
    for place in range(length):
        ids[np.uintp(place)] = of_bytes[np.uintp(data[np.uintp(at + place)])]
        after[np.uintp(place)] = place + 1
        before[np.uintp(place)] = place - 1


@bare_inner
def _collect(length: Whole, ids: Lengths, after: Lengths, out: Lengths, done: Whole) -> Whole:
    """The ids that are left into `out`; their number."""
    count = token = np.int64(0)
    while token < length:
        out[np.uintp(done + count)] = ids[np.uintp(token)]
        token = np.int64(after[np.uintp(token)])
        count += 1
    return count


@bare_inner
def _push(heap: Hashes, size: Whole, value: Any) -> Whole:
    place = np.int64(size)
    while place > 0:
        parent = (place - 1) >> 1
        above = heap[np.uintp(parent)]
        if above <= value:
            break
        heap[np.uintp(place)] = above
        place = parent
    heap[np.uintp(place)] = value
    return size + 1


@bare_inner
def _pop(heap: Hashes, size: Whole) -> Whole:
    """Take the least away."""
    size -= 1
    value = heap[np.uintp(size)]
    place = np.int64(0)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[np.uintp(child + 1)] < heap[np.uintp(child)]:
            child += 1
        if heap[np.uintp(child)] >= value:
            break
        heap[np.uintp(place)] = heap[np.uintp(child)]
        place = child
    heap[np.uintp(place)] = value
    return size
