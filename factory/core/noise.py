"""How much a seed moves a score: one standard deviation, pooled over everything that was trained several times."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Noise(NamedTuple):
    """A standard deviation and the degrees of freedom it was estimated with (NaN and 0: not at all)."""

    sigma: float
    dof: int


def pooled_noise(groups: Iterable[Sequence[float] | npt.NDArray[np.float64]]) -> Noise:
    """The standard deviation between the seeds of one recipe or mixture, from all of them."""
    squares, dof = 0.0, 0
    for group in groups:
        array = np.asarray(group, dtype=np.float64)
        if len(array) > 1:
            squares += float(((array - array.mean()) ** 2).sum())
            dof += len(array) - 1
    return Noise(math.sqrt(squares / dof), dof) if dof else Noise(math.nan, 0)
