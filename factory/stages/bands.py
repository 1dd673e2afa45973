"""Bands and rows of MinHash: what published corpora take, and which suit a similarity best.

A pair of Jaccard similarity s shares one of b bands of r rows with probability P(s) = 1 - (1 - s**r)**b (Leskovec,
Rajaraman, Ullman, Mining of Massive Datasets, section 3.4).
"""

from typing import Any, Literal

MAX_HASHES = 16_384

Preset = Literal["fineweb", "rpv2_0.7", "rpv2_0.8", "rpv2_0.9", "rpv2_1.0", "bigcode", "refinedweb", "nemo", "dclm"]
# Numbers alone: what each corpus holds for a word differs from the normal form here.
PRESETS: dict[Any, dict[str, Any]] = {
    "fineweb": {"ngram": 5, "bands": 14, "rows": 8},  # arXiv:2406.17557
    "rpv2_0.7": {"ngram": 13, "bands": 14, "rows": 9},  # arXiv:2411.12372, by the similarity it is meant to find
    "rpv2_0.8": {"ngram": 13, "bands": 9, "rows": 13},
    "rpv2_0.9": {"ngram": 13, "bands": 5, "rows": 25},
    "rpv2_1.0": {"ngram": 13, "bands": 1, "rows": 128},
    "bigcode": {"ngram": 5, "bands": 25, "rows": 10, "min_words": 10},  # arXiv:2301.03988
    "refinedweb": {"ngram": 5, "bands": 20, "rows": 450},  # arXiv:2306.01116, after arXiv:2107.06499
    "nemo": {"ngram": 24, "bands": 20, "rows": 13, "unit": "characters"},  # NeMo Curator's fuzzy deduplication
    "dclm": {"ngram": 5, "bands": 93, "rows": 15},  # arXiv:2406.11794
}


def best_bands(threshold: float, hashes: int) -> tuple[int, int]:
    """The bands and rows of at most so many hashes that err least about which pairs are at least this similar.

    The error is half the area under P below the threshold and half that above P beyond it (arXiv:2301.03988, after
    datasketch).
    """
    import numpy as np

    # P is a polynomial of degree b * r, which so many nodes integrate exactly.
    nodes, weights = np.polynomial.legendre.leggauss(hashes // 2 + 1)
    below, above = (nodes + 1) / 2 * threshold, 1 - (nodes + 1) / 2 * (1 - threshold)
    best, least = (1, 1), float("inf")
    for rows in range(1, hashes + 1):
        missed_below, missed_above = 1 - below**rows, 1 - above**rows
        bands = np.arange(1, hashes // rows + 1)[:, None]
        false = ((1 - missed_below**bands) @ weights) * threshold
        missing = ((missed_above**bands) @ weights) * (1 - threshold)
        error = false + missing
        place = int(np.argmin(error))
        if error[place] < least:
            best, least = (place + 1, rows), float(error[place])
    return best
