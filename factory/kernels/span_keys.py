"""The columns of a linker that marks pieces of texts, from arrays over all texts of a batch.

`keys`: one 64-bit hash a piece. A text has *units*, `spans` (byte ranges) or `lengths` (bytes of units that follow each
other from the text's beginning); piece i is the units from i on, as many as there are more units than pieces, and one.
`text_bytes` is what shares are of. Optional: `repeats`, ranges that say what a piece of
their text says, with the number of that piece among those of the text in `repeat_of`; `words` of each unit.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.schema import SPANS
from factory.kernels.hashing import list_offsets
from factory.kernels.text import TextView

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def spans_column(
    begins: npt.NDArray[np.uint32], ends: npt.NDArray[np.uint32], firsts: Integers, valid: Flags
) -> pa.Array:
    """A list of byte ranges for each text: `firsts[i]` up to `firsts[i + 1]`; null where not `valid`."""
    spans = pa.StructArray.from_arrays([pa.array(begins), pa.array(ends)], fields=list(SPANS.value_type))
    return pa.ListArray.from_arrays(list_offsets(firsts), spans, type=SPANS, mask=pa.array(~valid))


def size_column(view: TextView) -> pa.Array:
    """The bytes of each text."""
    return pa.array(np.diff(view.offsets), mask=~view.valid).cast(pa.uint32())


def count_rows(kept: Flags, starts: Integers) -> Integers:
    """Where the rows of each text begin when only the `kept` ones are left."""
    before: Integers = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])[starts]
    return before
