"""Small mergeable statistics of a column, and how far one has drifted from another."""

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.ledger import add_counts

TOP_VALUES = 200


def histogram(array: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """Counts by bin; the bins are fixed, so that histograms of parts add up.

    Numbers: quarter powers of two by sign (`+12` holds [2^3, 2^3.25)), with `0` and `null` apart. Texts: their value.
    """
    counts: dict[str, int] = {"null": array.null_count} if array.null_count else {}
    values = array.drop_null()
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        found = {str(item["values"]): int(item["counts"]) for item in pc.value_counts(values).to_pylist()}
        top = dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:TOP_VALUES])
        rest = sum(found.values()) - sum(top.values())
        # Added, not put: a text may well say "null" or "other".
        return add_counts([counts, top, {"other": rest} if rest else {}])
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(divide="ignore"):
        bins = np.floor(np.log2(np.abs(numbers)) * 4)
    # Bins are named when they are counted: a column has millions of numbers and some dozens of bins.
    for sign, chosen in (("+", numbers > 0), ("-", ~(numbers >= 0))):
        for value, count in zip(*np.unique(bins[chosen], return_counts=True), strict=True):
            counts[f"{sign}{value}".removesuffix(".0")] = int(count)
    zeros = int((numbers == 0).sum())
    return {**counts, "0": zeros} if zeros else counts


def merge_histograms(parts: list[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Histograms by column, summed over parts."""
    columns = sorted({column for part in parts for column in part})
    return {column: add_counts(part.get(column, {}) for part in parts) for column in columns}


def drift(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Population stability index between two histograms: 0 for equal shares, over 0.25 is usually called a shift.

    Empty bins count as half a document, so that the index stays finite.
    """
    total_before, total_after = sum(before.values()), sum(after.values())
    if not total_before or not total_after:
        return 0.0
    index = 0.0
    for name in set(before) | set(after):
        share_before = max(before.get(name, 0), 0.5) / total_before
        share_after = max(after.get(name, 0), 0.5) / total_after
        index += (share_after - share_before) * math.log(share_after / share_before)
    return index
