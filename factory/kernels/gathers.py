"""Many short stretches of one array, each copied to its place in another: the inner loop of a data loader."""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel

Integers = npt.NDArray[np.int64]


def gather(source: npt.NDArray[Any], begins: Integers, lengths: Integers, at: Integers, out: Integers) -> None:
    """Copy source[begins[i]:begins[i] + lengths[i]] to out[at[i]:]; where a stretch goes beyond either, IndexError."""
    if not len(begins):
        return
    if begins.min() < 0 or at.min() < 0 or lengths.min() < 0:
        raise IndexError("a stretch begins before its array")
    if int((begins + lengths).max()) > len(source) or int((at + lengths).max()) > len(out):
        raise IndexError("a stretch ends behind its array")
    _gather(np.asarray(source), begins, lengths, at, out)


@bare_kernel
def _gather(source: npt.NDArray[Any], begins: Integers, lengths: Integers, at: Integers, out: Integers) -> None:
    for part in range(begins.size):
        begin, place = begins[part], at[part]
        for offset in range(lengths[part]):
            out[place + offset] = np.int64(source[begin + offset])
