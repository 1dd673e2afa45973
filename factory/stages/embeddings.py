"""Documents as directions: the encoders whose vectors linkers compare, as whole numbers (see `factory.kernels.vectors`).

`model: hashed` is built in and needs no files: hashed TF-IDF of words and pairs of words (`factory.kernels.hashed_words`).
It sees which words a text has, all of it, and nothing of what they mean. Any other `model` is a local folder of a
transformer as Hugging Face lays it out: config.json, tokenizer.json and weights as safetensors; nothing else in the folder
is read, no code is taken from it, and nothing is downloaded. Its last hidden states are pooled over at most `max_tokens`
tokens: their mean, the `last` one (as SemDeDup does with OPT, arXiv:2303.09540) or the first (`cls`).

On `device: cpu` each text goes through the model alone, on one thread: its vector depends on nothing but the text, the
model, the releases of torch and transformers, and the kind of processor (another kind may move a component by 1/4000). On
`device: cuda`, texts go in batches of fixed shapes, at most `batch_tokens` tokens, so that neighbours change neither shape
nor arithmetic; these vectors are not the ones of a CPU, which is why the device is a setting.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.stage import Paths, Sample

if TYPE_CHECKING:
    from factory.kernels.vectors import Units

HASHED = "hashed"

# A text is cut before it is tokenised: so many characters a token are more than any tokenizer's longest pieces in a row.
_CHARACTERS_A_TOKEN = 16
_STEP = 64  # lengths of batches on a GPU are multiples of it

# Texts (a string column) to their vectors, a row each, and whether each has one.
Encode = Callable[[pa.Array], "tuple[Units, Any]"]


class EncoderSettings(Config):
    """Settings of every stage that compares texts by vectors."""

    model: str = Field(default=HASHED, min_length=1)
    pooling: Literal["mean", "last", "cls"] = "mean"
    max_tokens: int = Field(default=512, ge=1, le=1 << 16)
    device: Literal["cpu", "cuda"] = "cpu"
    batch_tokens: int = Field(default=1 << 14, ge=1)

    @model_validator(mode="after")
    def _fits_the_model(self) -> "EncoderSettings":
        if self.model == HASHED:
            own = ("pooling", "max_tokens", "device", "batch_tokens")
            changed = [name for name in own if getattr(self, name) != type(self).model_fields[name].default]
            if changed:
                raise ValueError(f"`{changed[0]}` is a setting of transformers; `model: hashed` is none")
        elif "://" in self.model and not self.model.startswith("file://"):
            raise ValueError("`model` is a local folder; copy the model's files there")
        elif any(mark in self.model for mark in "*?["):
            raise ValueError("`model` is one folder, not a pattern")
        return self

    @property
    def folder(self) -> str:
        return self.model.removeprefix("file://").rstrip("/")


class LearningSettings(EncoderSettings):
    """Of stages that learn centroids from a sample: `documents` of each source, `rounds` of k-means."""

    sources: tuple[str, ...] = Field(min_length=1)
    documents: int = Field(default=20_000, ge=1)
    rounds: int = Field(default=20, ge=1, le=1000)


def samples(config: LearningSettings) -> Iterable[Sample]:
    return tuple(Sample(role=source, documents=config.documents, source=source) for source in config.sources)


def learn_encoder(config: EncoderSettings, sample: Sequence[str], paths: Paths | None) -> tuple[Encode, dict[str, Any]]:
    """The encoder for a sample, and what has to be kept of it: for `hashed` the weights of the sample's words."""
    if config.model != HASHED:
        return transformer_encoder(config, paths or {}), {}
    from factory.kernels.hashed_words import bucket_weights, document_frequencies
    from factory.kernels.text import view_text

    weights = bucket_weights(document_frequencies(view_text(pa.array(sample, pa.large_string()))), len(sample))
    return hashed_encoder(weights), {"weights": weights}


def kept_encoder(config: EncoderSettings, kept: Mapping[str, Any], paths: Paths | None) -> Encode:
    """The same encoder again; raises KeyError where its weights are not among what was kept."""
    return hashed_encoder(kept["weights"]) if config.model == HASHED else transformer_encoder(config, paths or {})


def model_files(config: EncoderSettings) -> tuple[str, ...]:
    """What of a model's folder is read, and so is part of a stage's identity."""
    if config.model == HASHED:
        return ()
    return tuple(f"{config.folder}/{name}" for name in ("config.json", "tokenizer.json", "*.safetensors*"))


def model_packages(config: EncoderSettings) -> tuple[str, ...]:
    """The libraries whose release decides the vectors."""
    return () if config.model == HASHED else ("torch", "transformers", "tokenizers")


def hashed_encoder(weights: Any) -> Encode:
    """The built-in encoder, with the weights its training found."""
    from factory.kernels.hashed_words import hashed_vectors
    from factory.kernels.text import view_text

    return lambda texts: hashed_vectors(view_text(texts), weights)


def transformer_encoder(config: EncoderSettings, paths: Paths) -> Encode:
    """The encoder in a folder of files."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer

    from factory.kernels.vectors import unit_vectors

    if config.device == "cuda" and not torch.cuda.is_available():
        raise FactoryError(
            f"model '{config.model}': `device: cuda` is asked for and there is no GPU here. Run where one is, or use "
            "`device: cpu`, which makes vectors of its own."
        )
    pattern = model_files(config)[0]
    folder = os.path.dirname(paths[pattern][0])
    model = _load_model(folder, config)
    try:
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    except Exception as error:  # the library has no error of its own
        raise FactoryError(f"model '{config.model}': tokenizer.json cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.max_tokens)
    width = int(model.config.hidden_size)

    def encode(texts: pa.Array) -> tuple["Units", Any]:
        ids = [
            tokenizer.encode(text[: config.max_tokens * _CHARACTERS_A_TOKEN]).ids if text and text.strip() else []
            for text in texts.to_pylist()
        ]
        vectors = np.zeros((len(ids), width))
        with torch.inference_mode(), _one_thread(torch):
            for rows, length, places in _shapes([len(found) for found in ids], config):
                hidden = _hidden(model, [ids[row] for row in rows], length, places, config.device)
                for place, row in enumerate(rows):
                    vectors[row] = _pooled(hidden[place, : len(ids[row])].double(), config.pooling).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ValueError(f"model '{config.model}' gives vectors that are not finite numbers")
        units = unit_vectors(vectors)
        return units, units.any(axis=1)

    return encode


def _load_model(folder: str, config: EncoderSettings) -> Any:
    import torch
    import transformers

    # It announces how fast weights load, and which heads it leaves out.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        described = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if getattr(described, "is_encoder_decoder", False) or getattr(described, "quantization_config", None):
            raise FactoryError(
                f"model '{config.model}' is {described.model_type}, an encoder with a decoder or with quantised weights. "
                "Encoders (BERT and its kin) and decoders (GPT, OPT, LLaMA and their kin) with plain weights are read."
            )
        model, loading = transformers.AutoModel.from_pretrained(
            folder,
            config=described,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FactoryError(f"model '{config.model}' cannot be loaded: {str(error)[:500]}") from error
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise FactoryError(
            f"model '{config.model}': its weights lack {len(missing)} of {described.model_type}'s tensors, such as "
            f"{missing[0]}. Take the files of one model."
        )
    longest = getattr(described, "max_position_embeddings", config.max_tokens)
    if config.max_tokens > longest:
        raise FactoryError(
            f"model '{config.model}' knows {longest:,} positions; lower `max_tokens` ({config.max_tokens:,})."
        )
    return model.eval().to(config.device)


def _shapes(lengths: Sequence[int], config: EncoderSettings) -> Iterator[tuple[list[int], int, int]]:
    """Batches: the texts in each, its length in tokens and its number of places. Texts without tokens are in none."""
    filled = [row for row, length in enumerate(lengths) if length]
    if config.device == "cpu":
        yield from (([row], lengths[row], 1) for row in filled)
        return
    for length, group in groupby(
        sorted(filled, key=lambda row: (_rounded(lengths[row], config), row)),
        key=lambda row: _rounded(lengths[row], config),
    ):
        places = max(1, config.batch_tokens // length)
        rows = list(group)
        for start in range(0, len(rows), places):
            yield rows[start : start + places], length, places


def _rounded(length: int, config: EncoderSettings) -> int:
    return min(-(-length // _STEP) * _STEP, config.max_tokens)


def _hidden(model: Any, ids: Sequence[Sequence[int]], length: int, places: int, device: str) -> Any:
    """The last hidden states of a batch of this shape, filled up on the right and below."""
    import torch

    tokens = torch.zeros((places, length), dtype=torch.long)
    mask = torch.zeros((places, length), dtype=torch.long)
    mask[:, 0] = 1  # a place that is not used must not be without tokens: it would give no numbers
    for place, found in enumerate(ids):
        tokens[place, : len(found)] = torch.tensor(found)
        mask[place, : len(found)] = 1
    return model(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state


def _pooled(hidden: Any, pooling: str) -> Any:
    if pooling == "mean":
        return hidden.mean(dim=0)
    return hidden[-1] if pooling == "last" else hidden[0]


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Sums are split by thread: another number of threads would give other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_batches(texts: Iterable[str], encode: Encode, rows: int = 1024) -> Iterator["tuple[Units, Any]"]:
    """The vectors of many texts, some at a time."""
    held = list(texts)
    for start in range(0, len(held), rows):
        yield encode(pa.array(held[start : start + rows], pa.large_string()))
