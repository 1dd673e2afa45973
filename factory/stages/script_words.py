"""The words `auto`: each text is cut as suits the script that most of its letters are of.

Han with at least one kana in ten such letters is Japanese, other Han Chinese. Lao, Khmer, Burmese and Tibetan are cut into
characters. All other scripts, Hangul too, put spaces between words and are cut by the properties of characters.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from factory.kernels.pieces import Cut
from factory.kernels.scripts import count_scripts
from factory.kernels.text import TextView

_CHOICES = ("unicode", "jieba_zh", "sudachi_ja", "pythainlp_th", "characters")
_KANA_SHARE = 0.1


class ScriptWords:
    """The cutter that chooses among others; those that no text wants are not made."""

    def __init__(self, find: Callable[[str], Callable[[TextView], Cut]]) -> None:
        self._find = find

    def __call__(self, view: TextView) -> Cut:
        choices = _choose(view)
        cuts = []
        for choice in np.unique(choices[view.valid]).tolist():
            chosen = view.valid & (choices == choice)
            chosen.flags.writeable = False  # as those of every view
            cuts.append(self._find(_CHOICES[choice])(TextView(view.offsets, view.data, chosen)))
        if len(cuts) == 1:
            return cuts[0]
        begins = np.concatenate([np.zeros(0, np.int64), *(cut.begins for cut in cuts)])
        ends = np.concatenate([np.zeros(0, np.int64), *(cut.ends for cut in cuts)])
        order = np.argsort(begins, kind="stable")  # texts lie one after another
        starts = np.sum([np.zeros(len(view.offsets), np.int64), *(cut.starts for cut in cuts)], axis=0)
        return Cut(begins[order], ends[order], starts)


def _choose(view: TextView) -> npt.NDArray[np.int64]:
    """The index in _CHOICES for each text."""
    other, han, kana, thai, hangul, spaceless = count_scripts(view).T
    cjk = han + kana
    most = np.argmax([other, cjk, thai, hangul, spaceless], axis=0)
    japanese = kana >= _KANA_SHARE * cjk
    return np.select([most == 1, most == 2, most == 4], [np.where(japanese, 2, 1), 3, 4], 0)
