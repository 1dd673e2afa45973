"""Hashes of lists with millions of lines, and of what may match a line: the endings of a host, the beginnings of an address.

A list is a sorted array of 64-bit hashes, 8 bytes a line: with five million lines, one in 3 × 10^12 lookups of something
that is not on the list is answered wrongly.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

MOST = 24  # endings or beginnings of one host or address that are looked up

_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def read_domains(content: bytes) -> tuple[Hashes, list[bytes]]:
    """The hashes of lines that are plain domains, and the other lines that say something (no comments)."""
    data = np.frombuffer(content, np.uint8)
    lines = int(np.count_nonzero(data == 0x0A)) + 1
    hashes, others = np.empty(lines, np.uint64), np.empty((lines, 2), np.int64)
    domains, rest = _read_domains(data, hashes, others)
    return hashes[:domains], [content[start:stop] for start, stop in others[:rest]]


def hash_text(text: bytes) -> int:
    """The hash of one line."""
    return int(_hash_text(np.frombuffer(text, np.uint8)))


def hash_endings(offsets: Integers, data: Bytes, valid: Flags, whole: Flags) -> tuple[Hashes, Integers]:
    """A row per host: the hashes of the host and of each domain above it, up to `MOST`, and where each begins (-1: no more).
    Of a host that is `whole`, such as an IP address, only itself."""
    hashes, starts = np.zeros((valid.size, MOST), np.uint64), np.full((valid.size, MOST), -1, np.int64)
    _hash_endings(offsets, data, valid, whole, hashes, starts)
    return hashes, starts


def hash_beginnings(offsets: Integers, data: Bytes, valid: Flags) -> tuple[Hashes, Integers]:
    """A row per address without scheme (host/path?query): the hashes of its beginnings up to each sign that ends a piece of
    it, the whole last, and where each ends (-1: no more)."""
    hashes, stops = np.zeros((valid.size, MOST), np.uint64), np.full((valid.size, MOST), -1, np.int64)
    _hash_beginnings(offsets, data, valid, hashes, stops)
    return hashes, stops


def are_in(hashes: Hashes, known: Hashes) -> Flags:
    """Which hashes are in a sorted array."""
    if not known.size:
        return np.zeros(hashes.shape, np.bool_)
    places = np.minimum(np.searchsorted(known, hashes), known.size - 1)
    found: Flags = known[places] == hashes
    return found


@bare_kernel
def _read_domains(data: Bytes, hashes: Hashes, others: Integers) -> tuple[Whole, Whole]:
    domains = rest = 0
    at = 0
    while at < data.size:
        start = at
        while at < data.size and data[np.uintp(at)] != 0x0A:
            at += 1
        stop = at
        at += 1
        while start < stop and data[start] <= 0x20:
            start += 1
        while stop > start and data[stop - 1] <= 0x20:
            stop -= 1
        if start == stop or data[start] == 0x23:
            continue
        first, last = start, stop
        while first < last and data[first] == 0x2E:
            first += 1
        while last > first and data[last - 1] == 0x2E:
            last -= 1
        plain = first < last
        for place in range(first, last):
            byte = data[place]
            letter = 0x61 <= byte <= 0x7A or 0x41 <= byte <= 0x5A
            if not (letter or 0x30 <= byte <= 0x39 or byte == 0x2D or byte == 0x2E or byte == 0x5F):
                plain = False
                break
        if plain:
            hashes[domains] = _hash(data, first, last)
            domains += 1
        else:
            others[rest, 0], others[rest, 1] = start, stop
            rest += 1
    return domains, rest


@bare_kernel
def _hash_text(data: Bytes) -> np.uint64:
    return _hash(data, 0, data.size)


@bare_kernel
def _hash_endings(offsets: Integers, data: Bytes, valid: Flags, whole: Flags, hashes: Hashes, starts: Integers) -> None:
    for host in range(valid.size):
        if not valid[host] or offsets[host] == offsets[host + 1]:
            continue
        start, stop = offsets[host], offsets[host + 1]
        hashes[host, 0], starts[host, 0] = _hash(data, start, stop), 0
        if whole[host]:
            continue
        filled = 1
        for at in range(stop - 1, start, -1):  # from the top: what is left out are deep subdomains
            if data[np.uintp(at)] == 0x2E and filled < hashes.shape[1]:
                hashes[host, filled], starts[host, filled] = _hash(data, at + 1, stop), at + 1 - start
                filled += 1


@bare_kernel
def _hash_beginnings(offsets: Integers, data: Bytes, valid: Flags, hashes: Hashes, stops: Integers) -> None:
    for text in range(valid.size):
        if not valid[text] or offsets[text] == offsets[text + 1]:
            continue
        start, stop = offsets[text], offsets[text + 1]
        value = _FNV_BASIS
        filled = 0
        for at in range(start, stop):
            byte = data[np.uintp(at)]
            # / ? & end what stands before them
            if (byte == 0x2F or byte == 0x3F or byte == 0x26) and filled < hashes.shape[1] - 1:
                hashes[text, filled], stops[text, filled] = _mixed(value), at - start
                filled += 1
            value = (value ^ np.uint64(_lower(byte))) * _FNV_PRIME
        hashes[text, filled], stops[text, filled] = _mixed(value), stop - start


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint64:
    """FNV-1a of the bytes with ASCII letters small, then mixed so that every bit depends on every byte."""
    value = _FNV_BASIS
    for at in range(np.uintp(start), np.uintp(stop)):
        value = (value ^ np.uint64(_lower(data[at]))) * _FNV_PRIME
    return _mixed(value)


@bare_inner
def _lower(byte: np.uint8) -> np.uint8:
    return np.uint8(byte | 0x20) if 0x41 <= byte <= 0x5A else byte


@bare_inner
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX
    return value ^ (value >> np.uint64(31))
