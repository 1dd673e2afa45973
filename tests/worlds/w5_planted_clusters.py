"""World W5: points around planted centres on the unit sphere, and texts whose words are those points.

20 clusters of 100 points in 32 dimensions; centres are standard normal, points lie around them with a standard deviation of 0.6
and are put on the sphere. A text draws its words from a softmax over the 64 half-axes, so that what can be said of the
points can be said of the texts. The planted cluster of each point is known.
"""

import numpy as np
import numpy.typing as npt

CLUSTERS = 20
POINTS = 2000
DIMENSIONS = 32
SPREAD = 0.6
SHARPNESS = 10.0

Points = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def planted(seed: int = 0) -> tuple[Points, Labels]:
    """The points, a row each, and the cluster of each."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((CLUSTERS, DIMENSIONS))
    labels = np.repeat(np.arange(CLUSTERS), POINTS // CLUSTERS)
    points = centres[labels] + SPREAD * random.standard_normal((POINTS, DIMENSIONS))
    return points / np.linalg.norm(points, axis=1, keepdims=True), labels


def as_texts(points: Points, seed: int = 0, words: int = 300) -> list[str]:
    """A text of each point: words such as `upaw` and `downhz`, the likelier the further the point lies that way."""
    random = np.random.default_rng(seed)
    axes = [first + second for first in "abcdefgh" for second in "wxyz"]  # no digits: encoders leave them out
    names = np.array([way + axis for way in ("up", "down") for axis in axes])
    logits = SHARPNESS * np.concatenate([points, -points], axis=1)
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return [" ".join(random.choice(names, words, p=own)) for own in chances]


def adjusted_rand(one: Labels, other: Labels) -> float:
    """How far two partitions agree on pairs, beyond chance (Hubert and Arabie, 1985): 1 where they are the same."""
    table = np.zeros((int(one.max()) + 1, int(other.max()) + 1))
    np.add.at(table, (one, other), 1)

    def pairs(counts: npt.NDArray[np.float64]) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / (len(one) * (len(one) - 1) / 2)
    return (both - expected) / ((rows + columns) / 2 - expected)
