"""Scales: frozen recipes of how a proxy model is shaped and trained, so that two runs differ in their data alone.

Every constant that decides the weights is here; the budget, the seed and the data are the run's. Parameter counts follow
from the shape by formula, without building the model.
"""

from dataclasses import dataclass
from typing import Literal

from factory.core.errors import FactoryError, suggest


@dataclass(frozen=True)
class Parameters:
    """`non_embedding` counts the blocks and norms; the output head is the embedding itself where it is tied."""

    non_embedding: int
    embedding: int
    head: int

    @property
    def total(self) -> int:
        return self.non_embedding + self.embedding + self.head


@dataclass(frozen=True)
class Scale:
    """A Llama-style decoder and its training recipe.

    `batch` and `context` are in sequences and tokens, `tokens` is the budget the scale is made for, `vocabulary` is None
    where the tokenizer decides. `decay_share` is the last part of the steps in which `wsd` goes down to the floor.
    `init_std` is that of the matrices; embeddings start at 0.02.
    """

    name: str
    width: int
    layers: int
    heads: int
    hidden: int
    context: int
    batch: int
    tokens: int
    peak_lr: float
    floor_lr: float
    weight_decay: float
    warmup_steps: int
    schedule: Literal["cosine", "wsd", "linear"]
    decay_share: float = 0.2
    z_loss: float = 0.0
    vocabulary: int | None = None
    tied: bool = False
    qk_norm: bool = False
    rope_theta: float = 10_000.0
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    init_std: float = 0.02

    @property
    def step_tokens(self) -> int:
        return self.batch * self.context

    def rows(self, vocabulary: int) -> int:
        """Rows of the embedding for a tokenizer of this size: a multiple of 128, or the fixed number of the scale."""
        if self.vocabulary is None:
            return -(-vocabulary // 128) * 128
        if vocabulary > self.vocabulary:
            raise FactoryError(
                f"scale {self.name} has {self.vocabulary:,} token embeddings and the tokenizer {vocabulary:,} entries. "
                "Use a smaller tokenizer: a wider embedding would be another scale."
            )
        return self.vocabulary

    def parameters(self, vocabulary: int) -> Parameters:
        attention = 4 * self.width**2 + (2 * (self.width // self.heads) if self.qk_norm else 0)
        block = attention + 3 * self.width * self.hidden + 2 * self.width
        embedding = self.rows(vocabulary) * self.width
        return Parameters(self.layers * block + self.width, embedding, 0 if self.tied else embedding)


# DCLM's recipes (2406.11794, mlfoundations/dclm training/configs): QK-norm, untied, sequences of 2048, cosine to 3e-5.
# name: (width, layers, heads, hidden, batch, tokens, rate, weight decay, warm-up, z-loss)
_DCLM = {
    "dclm_400m_1x": (1024, 24, 8, 2816, 512, 8_232_325_120, 3e-3, 0.033, 2000, 1e-4),
    "dclm_1b_1x": (2048, 24, 16, 5632, 256, 28_795_904_000, 3e-3, 0.033, 5000, 1e-4),
    "dclm_3b_1x": (2560, 32, 32, 6912, 256, 55_918_643_200, 3e-3, 0.033, 5000, 1e-4),
    "dclm_7b_1x": (4096, 32, 32, 11008, 2048, 137_788_211_200, 2e-3, 0.05, 5000, 5e-6),
    "dclm_7b_2x": (4096, 32, 32, 11008, 2048, 275_576_422_400, 2e-3, 0.05, 5000, 5e-6),
}


def _dclm(name: str) -> Scale:
    width, layers, heads, hidden, batch, tokens, rate, decay, warmup, z_loss = _DCLM[name]
    return Scale(
        name,
        width=width,
        layers=layers,
        heads=heads,
        hidden=hidden,
        context=2048,
        batch=batch,
        tokens=tokens,
        peak_lr=rate,
        floor_lr=3e-5,
        weight_decay=decay,
        warmup_steps=warmup,
        schedule="cosine",
        z_loss=z_loss,
        vocabulary=50_432,
        qk_norm=True,
    )


SCALES = {
    scale.name: scale
    for scale in (
        # With a few hundred thousand tokens the number of steps limits learning: hence small batches, and matrices that
        # start at 1/√width rather than 0.02. QK-norm and half the batch were within seed noise of this (techdocs).
        Scale(
            "nano",
            width=128,
            layers=2,
            heads=4,
            hidden=320,
            context=128,
            batch=4,
            tokens=200_000,
            peak_lr=3e-3,
            floor_lr=0.0,
            weight_decay=0.1,
            warmup_steps=20,
            schedule="wsd",
            decay_share=0.3,
            z_loss=1e-4,
            tied=True,
            init_std=0.088,
        ),
        # 5x Chinchilla, as DataDecide's 4M (2504.11393); a third of its rate, since its batch is a quarter of theirs.
        Scale(
            "micro",
            width=256,
            layers=6,
            heads=4,
            hidden=704,
            context=512,
            batch=32,
            tokens=480_000_000,
            peak_lr=5e-3,
            floor_lr=0.0,
            weight_decay=0.1,
            warmup_steps=500,
            schedule="wsd",
            decay_share=0.1,
            z_loss=1e-4,
            tied=True,
            qk_norm=True,
        ),
        *(_dclm(name) for name in _DCLM),
    )
}


def find_scale(name: str) -> Scale:
    if name not in SCALES:
        raise FactoryError(f"No scale is named '{name}'.{suggest(name, SCALES)}")
    return SCALES[name]
