"""How well a score tells two groups of texts apart: the area under the ROC curve, and hits at a small share of false alarms.

Ties count half, as they should where a score cannot tell. With nothing on one side there is no answer: None.
"""

from collections.abc import Sequence

import numpy as np


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """P[a positive scores above a negative] + ½ P[they tie]."""
    if not len(positive) or not len(negative):
        return None
    below = np.sort(np.asarray(negative, float))
    scores = np.asarray(positive, float)
    less, upto = np.searchsorted(below, scores, "left"), np.searchsorted(below, scores, "right")
    return float((less + upto).sum() / 2 / (len(below) * len(scores)))


def hits_at(positive: Sequence[float], negative: Sequence[float], false_alarms: float = 0.05) -> float | None:
    """The largest share of positives above a threshold that at most `false_alarms` of the negatives are above."""
    if not len(positive) or not len(negative):
        return None
    falling = np.sort(np.asarray(negative, float))[::-1]
    allowed = int(np.floor(false_alarms * len(falling) + 1e-9))
    threshold = falling[allowed] if allowed < len(falling) else -np.inf
    return float(np.mean(np.asarray(positive, float) > threshold))
