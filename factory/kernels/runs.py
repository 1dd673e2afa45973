"""The same words over and over: the longest row of repetitions of one to so many items (words, or bytes)."""

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel

Integers = npt.NDArray[np.int64]
Items = npt.NDArray[np.uint64]


def longest_runs(items: Items, starts: Integers, longest_period: int) -> Integers:
    """A row per text: how often a group of items follows itself, 1 if none does; how many items the group has (the smallest
    that is repeated most), 0 for a text without items."""
    runs = np.zeros((len(starts) - 1, 2), np.int64)
    _find_runs(items, starts, longest_period, runs)
    return runs


@bare_kernel
def _find_runs(items: Items, starts: Integers, longest_period: int, runs: Integers) -> None:
    for text in range(starts.size - 1):
        start, stop = starts[text], starts[text + 1]
        best, best_period = np.int64(min(1, stop - start)), np.int64(min(1, stop - start))
        for period in range(1, longest_period + 1):
            if (best + 1) * period > stop - start:
                break  # neither this period nor a longer one has room for more
            equal = longest = np.int64(0)
            for at in range(start + period, stop):
                equal = equal + 1 if items[at] == items[at - period] else np.int64(0)
                longest = max(longest, equal)
            repetitions = (longest + period) // period
            if repetitions > best:
                best, best_period = repetitions, np.int64(period)
        runs[text, 0], runs[text, 1] = best, best_period
