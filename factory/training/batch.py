"""What one step of a training reads."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Batch:
    """Some sequences of one length.

    Input j of a row is `ids[j]` and its target `ids[j + 1]`. `targets` says which predictions count in the loss; None: all.
    `documents` numbers the document each input belongs to, where attention ends with it and positions start again; None:
    every input sees all before it in its row. Padding, which is behind the last document, is part of it.
    """

    ids: npt.NDArray[np.int64]  # (n, length + 1)
    targets: npt.NDArray[np.bool_] | None = None  # (n, length)
    documents: npt.NDArray[np.int32] | None = None  # (n, length), from 0 in each row

    @property
    def content(self) -> bytes:
        """All that a step learns from, as bytes: what a digest of the consumption covers."""
        masks = [mask.tobytes() for mask in (self.targets, self.documents) if mask is not None]
        return b"".join([self.ids.tobytes(), *masks])
