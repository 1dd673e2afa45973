"""Which of many phrases stand in documents: the automaton of Aho and Corasick (CACM 18(6), 1975), over words.

In: words as `factory.kernels.overlap.split` makes them, of phrases and of documents. A phrase is found where its words stand
in a row, whole. A node of the automaton is a beginning of phrases, and node 0 the empty one; all steps from node to node are in
one hash table behind a filter of bits, so that most words of a text cost one look. Each phrase has uses, an item and a role
in it; an item is in a document when both of its roles are, with `within` when their last words are at most so many words
apart. All follows from the document and the phrases alone.
"""

from typing import Any, NamedTuple

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.overlap import Places, Words
from factory.kernels.text import Bytes, Hashes, Integers

Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

BOTH, FOUND = np.uint8(3), np.uint8(4)  # roles 1 and 2; bits of what is known of an item in a document

_ROOM = 1 << 14  # items found in a batch; where there are more, they are looked for again
_ONE = np.uint64(1)
_NODE = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Automaton(NamedTuple):
    """The step from a node by a word is in a slot: its key, and the node it leads to (-1: an empty slot)."""

    keys: Hashes
    targets: Places
    bits: Hashes  # a filter of keys
    fails: Places  # by node: the longest end of it that begins a phrase, too
    phrases: Places  # by node: the phrase it is, or -1
    shorter: Places  # by node: the longest proper end of it that is a phrase; 0: none


class Uses(NamedTuple):
    """Phrase p plays `roles[i]` (1 or 2) for `items[i]`, i from `firsts[p]` up to `firsts[p + 1]`."""

    firsts: Integers
    items: Places
    roles: Bytes
    size: int  # of all items


def build_automaton(words: Words) -> tuple[Automaton, Places]:
    """An automaton of the phrases, and the number of each: those of the same words have one number."""
    nodes = len(words.hashes[: words.firsts[-1]]) + 1
    slots = 1 << max(4, (2 * nodes).bit_length())
    bits = 1 << max(10, (16 * nodes).bit_length())
    made = Automaton(
        np.zeros(slots, np.uint64),
        np.full(slots, -1, np.int32),
        np.zeros(bits // 64, np.uint64),
        np.zeros(nodes, np.int32),
        np.full(nodes, -1, np.int32),
        np.zeros(nodes, np.int32),
    )
    numbers = np.full(len(words.firsts) - 1, -1, np.int32)
    parents, depths, ends = np.zeros(nodes, np.int32), np.zeros(nodes, np.int32), np.zeros(nodes, np.uint64)
    known = _insert(
        words.hashes, words.firsts, made.keys, made.targets, made.bits, made.phrases, numbers, parents, depths, ends
    )
    # What a node falls back to is shorter than it, and so has its own already.
    order = np.argsort(depths[:known], kind="stable").astype(np.int32)
    _link(*made, order, parents, ends)
    nodes = int(known)
    return made._replace(fails=made.fails[:nodes], phrases=made.phrases[:nodes], shorter=made.shorter[:nodes]), numbers


def find_items(words: Words, automaton: Automaton, uses: Uses, within: int = 0) -> tuple[Places, Places]:
    """Documents and the items in them, sorted; `within` 0: anywhere in the document."""
    capacity = _ROOM
    while True:
        documents, items = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        seen, stamps = np.zeros(len(uses.firsts) - 1, np.int32), np.zeros(uses.size, np.int32)
        states, last = np.zeros(uses.size, np.uint8), np.zeros((2, uses.size), np.int64)
        found = int(
            _find(
                words.hashes,
                words.firsts,
                *automaton,
                uses.firsts,
                uses.items,
                uses.roles,
                within,
                seen,
                stamps,
                states,
                last,
                documents,
                items,
            )
        )
        if found <= capacity:
            order = np.lexsort((items[:found], documents[:found]))
            return documents[order], items[order]
        capacity = found


@bare_kernel
def _insert(
    hashes: Hashes,
    firsts: Integers,
    keys: Hashes,
    targets: Places,
    bits: Hashes,
    phrases: Places,
    numbers: Places,
    parents: Places,
    depths: Places,
    ends: Hashes,
) -> Whole:
    last, last_bits = np.uint64(keys.size - 1), np.uint64(bits.size - 1)
    known, count = np.int64(1), np.int64(0)
    for phrase in range(firsts.size - 1):
        node = np.int64(0)
        for at in range(firsts[phrase], firsts[phrase + 1]):
            key = _key(node, hashes[at])
            slot = key & last
            while targets[np.uintp(slot)] >= 0 and keys[np.uintp(slot)] != key:
                slot = (slot + _ONE) & last
            if targets[np.uintp(slot)] < 0:
                keys[np.uintp(slot)], targets[np.uintp(slot)] = key, known
                place = key >> np.uint64(20)
                bits[np.uintp((place >> np.uint64(6)) & last_bits)] |= _ONE << (place & np.uint64(63))
                parents[known], depths[known], ends[known] = node, depths[node] + 1, hashes[at]
                known += 1
            node = np.int64(targets[np.uintp(slot)])
        if node == 0:
            continue
        if phrases[node] < 0:
            phrases[node] = count
            count += 1
        numbers[phrase] = phrases[node]
    return known


@bare_kernel
def _link(
    keys: Hashes,
    targets: Places,
    bits: Hashes,
    fails: Places,
    phrases: Places,
    shorter: Places,
    order: Places,
    parents: Places,
    ends: Hashes,
) -> None:
    for index in range(1, order.size):
        node = order[index]
        parent = np.int64(parents[node])
        fail = np.int64(0)
        if parent > 0:
            fail = _step(np.int64(fails[parent]), ends[node], keys, targets, bits, fails)
        fails[node] = fail
        shorter[node] = fail if phrases[fail] >= 0 else shorter[fail]


@bare_kernel
def _find(
    hashes: Hashes,
    firsts: Integers,
    keys: Hashes,
    targets: Places,
    bits: Hashes,
    fails: Places,
    phrases: Places,
    shorter: Places,
    use_firsts: Integers,
    use_items: Places,
    use_roles: Bytes,
    within: Whole,
    seen: Places,
    stamps: Places,
    states: Bytes,
    last: Integers,
    found_documents: Places,
    found_items: Places,
) -> Whole:
    found = np.int64(0)
    for document in range(firsts.size - 1):
        node = np.int64(0)
        for at in range(firsts[document], firsts[document + 1]):
            node = _step(node, hashes[np.uintp(at)], keys, targets, bits, fails)
            if node == 0:
                continue
            said = node if phrases[node] >= 0 else np.int64(shorter[node])
            while said > 0:
                phrase = phrases[said]
                # Those that end this one were met with it; how often makes no difference where all of the document counts.
                if within == 0 and seen[phrase] == document + 1:
                    break
                seen[phrase] = document + 1
                for use in range(use_firsts[phrase], use_firsts[phrase + 1]):
                    item = use_items[use]
                    if stamps[item] != document + 1:
                        stamps[item] = document + 1
                        states[item] = 0
                    if states[item] & FOUND:
                        continue
                    states[item] |= use_roles[use]
                    last[use_roles[use] - 1, item] = at
                    if states[item] == BOTH and (within == 0 or abs(last[0, item] - last[1, item]) <= within):
                        states[item] |= FOUND
                        if found < found_items.size:
                            found_documents[found], found_items[found] = document, item
                        found += 1
                said = np.int64(shorter[said])
    return found


@bare_inner
def _step(node: Whole, word: np.uint64, keys: Hashes, targets: Places, bits: Hashes, fails: Places) -> Whole:
    """Where a word leads from a node: on, or from the longest end of it that goes on."""
    last, last_bits = np.uint64(keys.size - 1), np.uint64(bits.size - 1)
    while True:
        key = _key(node, word)
        place = key >> np.uint64(20)
        if (bits[np.uintp((place >> np.uint64(6)) & last_bits)] >> (place & np.uint64(63))) & _ONE:
            slot = key & last
            while targets[np.uintp(slot)] >= 0:
                if keys[np.uintp(slot)] == key:
                    return np.int64(targets[np.uintp(slot)])
                slot = (slot + _ONE) & last
        if node == 0:
            return np.int64(0)
        node = np.int64(fails[node])


@bare_inner
def _key(node: Whole, word: np.uint64) -> np.uint64:
    value = word + np.uint64(node) * _NODE
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
