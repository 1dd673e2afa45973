"""Small runs on world W8 that other processes can start by name: a tokenizer, a token file and one way to train on them."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from factory.storage.tokens import TokenFile, TokenWriter
from factory.training.loader import TokenStream
from factory.training.machine import Machine
from factory.training.order import Batch, StreamOrder
from factory.training.proxy import train_proxy
from factory.training.scales import SCALES
from factory.training.tokenizer import Encoder, train_tokenizer
from tests.worlds.w8_tiny_text import corpus

SMALL = replace(
    SCALES["pico"], name="small", width=32, hidden=64, context=16, batch=8, warmup_steps=2, peak_lr=1e-2, init_std=0.1
)


def prepare(folder):
    """A tokenizer and a token file of W8 in this folder."""
    texts = [text for _, text in corpus(150, seed=0)]
    train_tokenizer(texts, vocab_size=384, path=folder / "tokenizer.json")
    encoder = Encoder(folder / "tokenizer.json")
    with TokenWriter(folder / "tokens", encoder.dtype) as writer:
        writer.append(*encoder.encode(pa.array(texts)))
    return folder


class Masked:
    """An order whose rows hold several documents, unequally many of whose targets count."""

    def __init__(self, order):
        self.order, self.steps, self.tokens, self.digest = order, order.steps, order.tokens, f"masked {order.digest}"

    def batch(self, step, *, rank=0, world=1):
        ids = self.order.batch(step, rank=rank, world=world).ids
        inputs = ids[:, :-1]
        documents = np.cumsum(inputs % 7 == 0, axis=1).astype(np.int32)
        return Batch(ids, targets=inputs % 5 != inputs[:, :1] % 5, documents=documents)


def run(folder, out, *, steps=20, scale=SMALL, seed=1, masked=False, machine=None, report=None, **changes):
    folder = Path(folder)
    stream = TokenStream(TokenFile(folder / "tokens"), None, context=scale.context, seed=seed)
    order = StreamOrder(stream, batch=scale.batch, steps=steps)
    return train_proxy(
        order=Masked(order) if masked else order,
        tokenizer_path=folder / "tokenizer.json",
        scale=scale,
        seed=seed,
        out_dir=out,
        machine=Machine(**({"device": "cpu"} | (machine or {}))),
        report=report,
        **changes,
    )


def run_named(arguments, report):
    """For processes that are told what to do in JSON: `scale` holds changes, `kill` the step to die at."""
    asked = dict(arguments)
    asked["scale"] = replace(SMALL, **asked.pop("scale", {}))
    die_at, rank_to_die = asked.pop("kill", None), asked.pop("kill_rank", 0)

    def tell(message):
        if report is not None:
            report(message)
        if message.get("event") == "step" and message["step"] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if die_at is not None:
        from factory.training.distributed import world

        asked["report"] = tell if world()[0] == rank_to_die else None
    else:
        asked["report"] = report
    return run(**asked)


def fail(arguments, report):
    """A rank that cannot, while the others wait for it."""
    import torch

    from factory.core.errors import FactoryError
    from factory.training.distributed import world

    if world()[0] == 1:
        raise FactoryError("process 1 has no tokens")
    torch.distributed.barrier()
    return {}


if __name__ == "__main__":
    import json
    import sys

    run_named(json.loads(sys.argv[1]), None)
