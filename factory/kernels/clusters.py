"""From keys to clusters: who shares a key, who hangs together, who stands for the others.

Nodes are whole numbers from 0, one for each document. All results are functions of the *set* of rows: neither their order nor
how they were cut into pieces changes them. Rows are sorted by radix over as many leading bits as tell them apart, which
for hashes is a matter of two or three passes; what still shares its leading bits is put in order beside it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import inner, kernel

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Word = Any  # uint64 in a kernel

DIGIT = 11  # bits: the 2,048 counters of a pass, and a cache line for each, fit the second cache
DIGITS = 1 << DIGIT
SMALL = 32  # rows that are sorted by insertion
NO_HASHES = np.empty(0, np.uint64)
NO_INTEGERS = np.empty(0, np.int64)
ROW_BITS = 32


def sort_rows(keys: Hashes, values: Integers) -> tuple[Hashes, Integers]:
    """Rows by key; those of equal keys in the order they came in."""
    keys, values = _own(keys), _own(values)
    if len(keys) < 2:
        return keys.copy(), values.copy()
    differing = int(keys.min() ^ keys.max()).bit_length()
    telling = min(differing, len(keys).bit_length() + 1)
    passes = -(-telling // DIGIT)
    low = max(0, differing - passes * DIGIT)
    keys, values = _radix(keys, values, low, passes)
    if low:
        _settle(keys, values, low)
    return keys, values


def group(
    keys: Hashes, nodes: Integers, checks: Hashes = NO_HASHES, orders: Hashes = NO_HASHES, ranks: Integers = NO_INTEGERS
) -> tuple[Hashes, Integers, Integers, Integers]:
    """Rows by (key, check): the keys in order, the row of each, where each group begins, and where its centre is.

    The centre is the least by (rank of its part, order, node) where `orders` are given, else the least node. `ranks` are
    by part, the bits of a node above its row.
    """
    keys, order = sort_rows(keys, np.arange(len(keys)))
    nodes, checks, orders, ranks = _own(nodes), _own(checks), _own(orders), _own(ranks)
    if len(checks):
        _settle_checks(keys, checks, order)
    starts = _starts(keys, checks, order)
    return keys, order, starts, _centres(starts, order, nodes, orders, ranks)


def link(keys: Hashes, nodes: Integers, checks: Hashes | None = None) -> tuple[Integers, Integers]:
    """Edges from the smallest node of each group of equal (key, check) to its other nodes: a star, not all pairs."""
    _, order, starts, centres = group(keys, nodes, NO_HASHES if checks is None else checks)
    return star(nodes[order], starts, nodes[order[centres]])


def star(nodes: Integers, starts: Integers, centres: Integers) -> tuple[Integers, Integers]:
    """Edges from each group's centre to its other nodes, which come group by group."""
    a = np.repeat(centres, np.diff(starts, append=len(nodes)))
    other = a != nodes
    return a[other], nodes[other]


def distinct_pairs(a: Integers, b: Integers, hashes: Hashes) -> tuple[Integers, Integers]:
    """Each pair once; `hashes` are a number for each pair, evenly spread."""
    if not len(a):
        return a, b
    keys, order = sort_rows(hashes, np.arange(len(a)))
    a, b = a[order], b[order]
    again = (keys[1:] == keys[:-1]) & (a[1:] == a[:-1]) & (b[1:] == b[:-1])
    first = np.concatenate([[True], ~again])
    return a[first], b[first]


def connect(left: Integers, right: Integers) -> tuple[Integers, Integers]:
    """The nodes of the edges, in increasing order, and the smallest node each one is connected to."""
    ends = np.concatenate([left, right]).astype(np.int64, copy=False)
    nodes, numbers = number(ends)
    return nodes, nodes[_roots(len(nodes), numbers[: len(left)], numbers[len(left) :])]


def forest(left: Integers, right: Integers) -> tuple[Integers, Integers]:
    """Fewest edges that connect what these connect: from the smallest node of each component to its others."""
    nodes, roots = connect(left, right)
    others = nodes != roots
    return roots[others], nodes[others]


def number(nodes: Integers) -> tuple[Integers, Integers]:
    """The distinct nodes in increasing order, and the place of each given one among them."""
    if not len(nodes):
        return nodes, nodes
    # Rows have few of their 32 bits in use: without the others two or three passes sort exactly.
    rows = nodes & ((1 << ROW_BITS) - 1)
    row_bits = int(rows.max()).bit_length()
    keys = (((nodes >> ROW_BITS) << row_bits) | rows).view(np.uint64)
    _, order = _radix(keys, np.arange(len(nodes)), 0, max(1, -(-int(keys.max()).bit_length() // DIGIT)))
    return _numbered(_own(nodes), order)


def union(parents: Integers, left: Integers, right: Integers) -> None:
    """Join two sets for each edge; the root of a set is its smallest number."""
    _union(parents, _own(left), _own(right))


def flatten(parents: Integers) -> None:
    """Put the root of every number in its place."""
    _flatten(parents)


def elect(starts: Integers, first: Integers, second: Integers, high: Hashes, low: Hashes, nodes: Integers) -> Integers:
    """Of each group of rows, the row that stands for it: the least by the columns in turn."""
    return _elect(starts, _own(first), _own(second), _own(high), _own(low), _own(nodes))


def find(keys: Hashes, wanted: Hashes, checks: Hashes = NO_HASHES, wanted_checks: Hashes = NO_HASHES) -> Integers:
    """The place of each wanted key among others, or -1; all sorted (by key, then check)."""
    return _find_all(_own(keys), _own(wanted), _own(checks), _own(wanted_checks))


def read_ids(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.integer]) -> tuple[Hashes, Hashes, bool]:
    """Texts of 32 hex digits as two words each; False where one is something else."""
    high, low = np.empty(len(offsets) - 1, np.uint64), np.empty(len(offsets) - 1, np.uint64)
    return high, low, _read_ids(_own(data), _own(offsets), high, low)


def write_ids(high: Hashes, low: Hashes) -> npt.NDArray[np.uint8]:
    """Words as hex digits, 32 bytes for each pair, one after another."""
    text = np.empty(32 * len(high), np.uint8)
    _write_ids(_own(high), _own(low), text)
    return text


def _own(array: Any) -> Any:
    """The array as a kernel takes it: of one piece and not read-only, so that each is compiled for one kind of array."""
    return np.require(array, requirements=["C", "W"])


# --- sorting


@kernel
def _radix(keys: Hashes, values: Integers, low: Whole, passes: Whole) -> tuple[Hashes, Integers]:
    """Rows by `passes` digits from bit `low`, the least telling digit first: each pass keeps the order of the one before."""
    count = keys.size
    mask, digit = np.uint64(DIGITS - 1), np.uint64(DIGIT)
    places = np.zeros((passes, DIGITS), np.int64)
    for row in range(count):
        rest = keys[row] >> np.uint64(low)
        for level in range(passes):
            places[level, rest & mask] += 1
            rest >>= digit
    from_keys, from_values = keys, values
    to_keys, to_values = np.empty(count, np.uint64), np.empty(count, np.int64)
    spare_keys = np.empty(count if passes > 1 else 0, np.uint64)
    spare_values = np.empty(count if passes > 1 else 0, np.int64)
    for level in range(passes):
        place, total = places[level], 0
        for value in range(DIGITS):
            total += place[value]
            place[value] = total - place[value]
        shift = np.uint64(low + level * DIGIT)
        for row in range(count):
            value = (from_keys[row] >> shift) & mask
            to = place[value]
            place[value] = to + 1
            to_keys[to] = from_keys[row]
            to_values[to] = from_values[row]
        from_keys, from_values = to_keys, to_values
        to_keys, to_values, spare_keys, spare_values = spare_keys, spare_values, to_keys, to_values
    return from_keys, from_values


@kernel
def _settle(keys: Hashes, values: Integers, low: Whole) -> None:
    """Rows that share all bits from `low` lie together: put them in order by the others."""
    start = 0
    while start < keys.size:
        end, ordered = start + 1, True
        while end < keys.size and keys[end] >> np.uint64(low) == keys[start] >> np.uint64(low):
            ordered &= keys[end] >= keys[end - 1]
            end += 1
        if not ordered:
            _order(keys[start:end], values[start:end])
        start = end


@inner
def _order(keys: Hashes, values: Integers) -> None:
    if keys.size > SMALL:
        order = np.argsort(keys, kind="mergesort")
        keys[:] = keys[order]
        values[:] = values[order]
        return
    for row in range(1, keys.size):
        key, value = keys[row], values[row]
        at = row
        while at and keys[at - 1] > key:
            keys[at], values[at] = keys[at - 1], values[at - 1]
            at -= 1
        keys[at], values[at] = key, value


@kernel
def _settle_checks(keys: Hashes, checks: Hashes, order: Integers) -> None:
    """Rows of equal keys by their checks."""
    start = 0
    while start < keys.size:
        end, ordered = start + 1, True
        while end < keys.size and keys[end] == keys[start]:
            ordered &= checks[order[end]] >= checks[order[end - 1]]
            end += 1
        if not ordered:
            own = np.empty(end - start, np.uint64)
            for row in range(start, end):
                own[row - start] = checks[order[row]]
            _order(own, order[start:end])
        start = end


@kernel
def _starts(keys: Hashes, checks: Hashes, order: Integers) -> Integers:
    starts = np.empty(keys.size, np.int64)
    count = 0
    for row in range(keys.size):
        if row == 0 or keys[row] != keys[row - 1] or (checks.size > 0 and checks[order[row]] != checks[order[row - 1]]):
            starts[count] = row
            count += 1
    return starts[:count].copy()


@kernel
def _centres(starts: Integers, order: Integers, nodes: Integers, orders: Hashes, ranks: Integers) -> Integers:
    centres = np.empty(starts.size, np.int64)
    for place in range(starts.size):
        best = starts[place]
        end = starts[place + 1] if place + 1 < starts.size else order.size
        for row in range(best + 1, end):
            if _before(order[row], order[best], nodes, orders, ranks):
                best = row
        centres[place] = best
    return centres


@inner
def _before(one: Whole, other: Whole, nodes: Integers, orders: Hashes, ranks: Integers) -> bool:
    if orders.size > 0:
        rank, other_rank = ranks[nodes[one] >> ROW_BITS], ranks[nodes[other] >> ROW_BITS]
        if rank != other_rank:
            return bool(rank < other_rank)
        if orders[one] != orders[other]:
            return bool(orders[one] < orders[other])
    return bool(nodes[one] < nodes[other])


# --- components


@kernel
def _numbered(nodes: Integers, order: Integers) -> tuple[Integers, Integers]:
    distinct, numbers = np.empty(nodes.size, np.int64), np.empty(nodes.size, np.int64)
    count = 0
    for row in order:
        if count == 0 or nodes[row] != distinct[count - 1]:
            distinct[count] = nodes[row]
            count += 1
        numbers[row] = count - 1
    return distinct[:count].copy(), numbers


@kernel
def _roots(count: int, left: Integers, right: Integers) -> Integers:
    """The smallest number connected to each of 0 … count - 1: union-find with path halving."""
    parents = np.arange(count)
    for edge in range(left.size):
        _join(parents, left[edge], right[edge])
    for node in range(count):
        parents[node] = parents[parents[node]]  # a parent is smaller than its child, so it is already at its root
    return parents


@kernel
def _union(parents: Integers, left: Integers, right: Integers) -> None:
    for edge in range(left.size):
        _join(parents, left[edge], right[edge])


@kernel
def _flatten(parents: Integers) -> None:
    for node in range(parents.size):
        parents[node] = parents[parents[node]]


@inner
def _join(parents: Integers, left: Whole, right: Whole) -> None:
    one, other = _find(parents, left), _find(parents, right)
    if one < other:
        parents[other] = one
    elif other < one:
        parents[one] = other


@inner
def _find(parents: Integers, node: Whole) -> Whole:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


# --- elections


@kernel
def _elect(starts: Integers, first: Integers, second: Integers, high: Hashes, low: Hashes, nodes: Integers) -> Integers:
    winners = np.empty(starts.size, np.int64)
    for place in range(starts.size):
        best = starts[place]
        end = starts[place + 1] if place + 1 < starts.size else nodes.size
        for row in range(best + 1, end):
            if first[row] != first[best]:
                better = first[row] < first[best]
            elif second[row] != second[best]:
                better = second[row] < second[best]
            elif high[row] != high[best]:
                better = high[row] < high[best]
            elif low[row] != low[best]:
                better = low[row] < low[best]
            else:
                better = nodes[row] < nodes[best]
            if better:
                best = row
        winners[place] = best
    return winners


# --- looking up


@kernel
def _find_all(keys: Hashes, wanted: Hashes, checks: Hashes, wanted_checks: Hashes) -> Integers:
    """Steps that double from where the last one was found, then halving: few looks where few are wanted, one walk where many."""
    places = np.empty(wanted.size, np.int64)
    low = 0
    for row in range(wanted.size):
        key = wanted[row]
        check = wanted_checks[row] if wanted_checks.size > 0 else np.uint64(0)
        high, step = low, 1
        while high < keys.size and _less(keys, checks, high, key, check):
            low = high + 1
            high += step
            step *= 2
        high = min(high, keys.size)
        while low < high:
            middle = (low + high) // 2
            if _less(keys, checks, middle, key, check):
                low = middle + 1
            else:
                high = middle
        there = low < keys.size and keys[low] == key and (checks.size == 0 or checks[low] == check)
        places[row] = low if there else -1
    return places


@inner
def _less(keys: Hashes, checks: Hashes, row: Whole, key: Word, check: Word) -> bool:
    if keys[row] != key or checks.size == 0:
        return bool(keys[row] < key)
    return bool(checks[row] < check)


# --- names


@kernel
def _read_ids(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.integer], high: Hashes, low: Hashes) -> bool:
    for row in range(offsets.size - 1):
        if offsets[row + 1] - offsets[row] != 32:
            return False
        for half in range(2):
            word = np.uint64(0)
            for place in range(16):
                sign = data[offsets[row] + 16 * half + place]
                if 48 <= sign <= 57:
                    value = sign - 48
                elif 97 <= sign <= 102:
                    value = sign - 87
                else:
                    return False
                word = (word << np.uint64(4)) | np.uint64(value)
            if half == 0:
                high[row] = word
            else:
                low[row] = word
    return True


@kernel
def _write_ids(high: Hashes, low: Hashes, text: npt.NDArray[np.uint8]) -> None:
    for row in range(high.size):
        for half in range(2):
            word = high[row] if half == 0 else low[row]
            for place in range(16):
                value = (word >> np.uint64(60 - 4 * place)) & np.uint64(15)
                text[32 * row + 16 * half + place] = np.uint8(48 + value) if value < 10 else np.uint8(87 + value)
