"""What a checkpoint makes of texts: -ln p of every token of each, given what stands before it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from factory.core.errors import InputError
from factory.evaluation.checkpoint import Start, load_checkpoint
from factory.evaluation.likelihood import token_nats
from factory.evaluation.records import read_files, records


def read_texts(path: str, most: int) -> list[str]:
    """The first texts of JSON lines, `most` of them; raises InputError where there is none."""
    found: list[str] = []
    for name, data in read_files(path).items():
        for place, record in records(name, data):
            if not isinstance(record.get("text"), str):
                raise InputError(f"{name}, record {place}: no text under 'text'. Documents as JSON lines are meant.")
            found.append(record["text"])
            if len(found) == most:
                return found
    if not any(found):
        raise InputError(f"'{path}' holds no text.")
    return found


def score_texts(
    checkpoint: str, texts: Sequence[str], *, start: Start = "auto", device: str = "auto", threads: int = 1
) -> list[npt.NDArray[np.float64]]:
    """The nats of every text's tokens under a checkpoint in Hugging Face layout."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [np.array(own) for own in token_nats(load_checkpoint(checkpoint, device=device, start=start), texts)]
    finally:
        torch.set_num_threads(before)
