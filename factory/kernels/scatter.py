"""Rows to buckets by counting: where each row goes, and a column moved there. Rows of a bucket stay in their order."""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel

Integers = npt.NDArray[np.int64]


def deal(target: Integers, buckets: int) -> tuple[Integers, Integers]:
    """The place of each row when the rows of bucket after bucket follow each other, and where each bucket begins and ends."""
    counts = np.bincount(target, minlength=buckets)
    if len(counts) != buckets:
        raise ValueError(f"a row goes to bucket {target.max()}, and there are {buckets}")
    bounds = np.zeros(buckets + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    places = np.empty(len(target), np.int64)
    _deal(target, bounds[:-1].copy(), places)
    return places, bounds


def scatter(values: npt.NDArray[Any], places: Integers) -> npt.NDArray[Any]:
    """Numbers of any kind, each at its place."""
    moved = np.empty(len(values), values.dtype)
    bits = f"u{values.dtype.itemsize}"
    # One kind of array for each width: a kernel is compiled for read-only ones and others apart.
    given = values.view(bits)
    given.flags.writeable = False
    _scatter(given, places, moved.view(bits))
    return moved


@bare_kernel
def _deal(target: Integers, free: Integers, places: Integers) -> None:
    for row in range(target.size):
        bucket = np.uintp(target[row])
        places[row] = free[bucket]
        free[bucket] += 1


@bare_kernel
def _scatter(values: npt.NDArray[Any], places: Integers, moved: npt.NDArray[Any]) -> None:
    for row in range(values.size):
        moved[np.uintp(places[row])] = values[row]
