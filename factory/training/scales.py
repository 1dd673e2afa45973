"""Scales: frozen recipes of how a proxy model is shaped and trained, so that two runs differ in their data alone.

Every constant that decides the weights is here; the budget, the seed and the data are the run's. Parameter counts follow
from the shape by formula, without building the model. Published recipes are those of DCLM (2406.11794), of DataDecide
(2504.11393, five times Chinchilla) and of the OLMo ladder (2412.04403), whose batch and rate follow from the size.
"""

from dataclasses import dataclass
from typing import Literal

from factory.core.errors import FactoryError, suggest

Schedule = Literal["cosine", "linear", "wsd", "wsd_s", "infinite", "rewarm"]
Decay = Literal["linear", "sqrt", "cosine"]


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
    where the tokenizer decides, `kv_heads` and `head_width` where they follow from `heads`. `init_std` is that of the
    matrices; embeddings start at 0.02. `ema` is the decay of an exponential average of the weights, which is then the model.

    What the fields of the rate mean is said in `factory.training.schedule`. Shares are of the steps; `warmup_share` stands
    in for `warmup_steps` where it is above 0.
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
    schedule: Schedule
    decay_share: float = 0.2
    decay: Decay = "linear"
    warmup_share: float = 0.0
    anneals: int = 1
    cooldown_share: float = 0.2
    constant_share: float = 0.125
    z_loss: float = 0.0
    vocabulary: int | None = None
    tied: bool = False
    qk_norm: bool = False
    rope_theta: float = 10_000.0
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    init_std: float = 0.02
    ema: float = 0.0
    kv_heads: int | None = None
    head_width: int | None = None

    @property
    def key_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def head_size(self) -> int:
        return self.head_width or self.width // self.heads

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
        attention = 2 * self.width * self.head_size * (self.heads + self.key_heads)
        attention += 2 * self.head_size if self.qk_norm else 0
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


# DataDecide's (2504.11393): sequences of 2048, the rule of the OLMo ladder with batches rounded by hand, a hidden width of
# four times the width, and a head of its own, which its names count.
# name: (width, layers, heads, batch, rate, steps)
_DATADECIDE = {
    "datadecide_4m": (64, 8, 8, 32, 1.4e-2, 5_725),
    "datadecide_6m": (96, 8, 8, 32, 1.2e-2, 9_182),
    "datadecide_8m": (128, 8, 8, 32, 1.1e-2, 13_039),
    "datadecide_10m": (144, 8, 8, 32, 1.0e-2, 15_117),
    "datadecide_14m": (192, 8, 8, 32, 9.2e-3, 21_953),
    "datadecide_16m": (208, 8, 8, 32, 8.9e-3, 24_432),
    "datadecide_20m": (192, 16, 8, 64, 8.4e-3, 14_584),
    "datadecide_60m": (384, 16, 12, 96, 5.8e-3, 29_042),
    "datadecide_90m": (528, 16, 12, 160, 4.9e-3, 29_901),
    "datadecide_150m": (768, 12, 12, 192, 4.2e-3, 38_157),
    "datadecide_300m": (1024, 16, 16, 320, 3.3e-3, 45_787),
    "datadecide_530m": (1344, 16, 16, 448, 2.8e-3, 57_786),
    "datadecide_750m": (1536, 16, 16, 576, 2.5e-3, 63_589),
    "datadecide_1b": (2048, 16, 16, 704, 2.1e-3, 69_369),
}
# The OLMo ladder's (2412.04403, allenai/OLMo-ladder): (width, layers, heads); everything else by `ladder_recipe`.
_OLMO = {
    "olmo_190m": (768, 12, 12),
    "olmo_370m": (1024, 16, 16),
    "olmo_760m": (1536, 16, 16),
    "olmo_1b": (2048, 16, 16),
    "olmo_3b": (3328, 16, 16),
}
LADDER_ROWS = 50_304  # of the tokenizer the two were published with; ours decides about its own
LADDER_SIZE = 108e6
LEAST_BATCH = 32


def ladder_recipe(parameters: float) -> tuple[int, float]:
    """(batch in sequences of 2048, peak rate) of the OLMo ladder for so many parameters, blocks and head.

    160 (N / 108e6)^⅔ sequences, down to a multiple of 32, and 0.0047 (N / 108e6)^-⅓; warm-up is over N tokens.
    """
    size = parameters / LADDER_SIZE
    batch = int(160 * size ** (2 / 3)) // LEAST_BATCH * LEAST_BATCH
    return max(LEAST_BATCH, batch), 0.0047 * size ** (-1 / 3)


def _ladder(
    name: str, width: int, layers: int, heads: int, given: tuple[int, float, int] | None = None, chinchilla: int = 1
) -> Scale:
    blocks = layers * (4 * width**2 + 3 * width * 4 * width + 2 * width) + width
    parameters = blocks + LADDER_ROWS * width
    batch, rate = given[:2] if given else ladder_recipe(parameters)
    return Scale(
        name,
        width=width,
        layers=layers,
        heads=heads,
        hidden=4 * width,
        context=2048,
        batch=batch,
        tokens=given[2] * batch * 2048 if given else 20 * chinchilla * parameters,
        peak_lr=rate,
        floor_lr=0.0,
        weight_decay=0.1,
        warmup_steps=max(1, round(parameters / (batch * 2048))),
        schedule="wsd",
        decay_share=0.1,
        z_loss=1e-5,
        qk_norm=True,
    )


SCALES = {
    scale.name: scale
    for scale in (
        # The smallest that learn anything: for tests of what surrounds a training, and for comparing ranks overnight.
        *(
            Scale(
                name,
                width=width,
                layers=layers,
                heads=heads,
                hidden=hidden,
                context=context,
                batch=16,
                tokens=tokens,
                peak_lr=3e-3,
                floor_lr=0.0,
                weight_decay=0.1,
                warmup_steps=50,
                schedule="wsd",
                z_loss=1e-4,
                tied=True,
                init_std=width**-0.5,
            )
            for name, width, layers, heads, hidden, context, tokens in (
                ("pico", 64, 2, 2, 192, 128, 1_000_000),
                ("tiny", 128, 4, 4, 336, 256, 5_000_000),
            )
        ),
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
        *(_ladder(name, *row[:3], row[3:]) for name, row in _DATADECIDE.items()),
        *(_ladder(name, *row) for name, row in _OLMO.items()),
        *(_dclm(name) for name in _DCLM),
    )
}


def find_scale(name: str) -> Scale:
    if name not in SCALES:
        raise FactoryError(f"No scale is named '{name}'.{suggest(name, SCALES)}")
    return SCALES[name]
