"""Between numbers in arrays and Arrow columns, where null stands for what has no meaning."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.columns import numbers_for
from factory.core.errors import FactoryError

Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def count_column(counts: Counts, valid: Flags) -> pa.Array:
    """uint32, null where not `valid`; raises rather than wraps on a count that does not fit."""
    return pa.array(counts, mask=~valid).cast(pa.uint32())


def share_column(parts: Counts, wholes: Counts, valid: Flags) -> pa.Array:
    """parts / wholes as float32, null where not `valid` and where the whole is nothing."""
    defined = valid & (wholes > 0)
    shares = np.divide(parts, wholes, out=np.zeros(len(parts)), where=defined)
    return pa.array(shares.astype(np.float32), mask=~defined)


def numbers(column: pa.Array, name: str, asked_by: str) -> tuple[npt.NDArray[Any], Flags]:
    """The values of a column of numbers, and which are there: neither null nor not a number."""
    if refused := numbers_for(asked_by)(name, column.type):
        raise FactoryError(refused)
    present: Flags = ~column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    filled = column.fill_null(0) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False), present
