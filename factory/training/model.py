"""The proxy model: a Llama-style decoder whose initial weights depend on seed and name alone, or are read from a checkpoint.

Without QK-norm it is `LlamaForCausalLM`; with it `Qwen3ForCausalLM`, which is Llama with an RMSNorm over each head's
queries and keys (DCLM normalises them too; stable at rates of 3e-3 and more). SwiGLU, RMSNorm, RoPE, no biases. The
configuration is the one `transformers` writes, which is not imported; the forward pass is `factory.training.decoder`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from factory.core.errors import InputError
from factory.training.scales import Scale
from factory.training.seeds import seed_for

EMBEDDING_STD = 0.02
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# What a config.json that leaves it out means in both.
DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "num_key_value_heads": None,
    "head_dim": None,
    "rope_theta": 10_000.0,
    "bos_token_id": None,
    "eos_token_id": None,
}
# What else of a configuration would change what is computed; another value than these is refused.
PLAIN: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0, None),
    "use_sliding_window": (False, None),
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
MOST_CONFIG = 1 << 20  # bytes of a config.json


class Configuration:
    """A config.json as `transformers` writes it: its values by name. Written and read without importing the library."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if name not in values and name not in DEFAULTS:
            raise AttributeError(name)
        return values.get(name, DEFAULTS.get(name))


def model_config(scale: Scale, *, vocabulary: int, bos_id: int | None, eos_id: int | None) -> Configuration:
    """The Hugging Face configuration of a scale with a tokenizer of this size."""
    kind = "qwen3" if scale.qk_norm else "llama"
    return Configuration(
        {
            "architectures": [ARCHITECTURES[kind]],
            "model_type": kind,
            "vocab_size": scale.rows(vocabulary),
            "hidden_size": scale.width,
            "intermediate_size": scale.hidden,
            "num_hidden_layers": scale.layers,
            "num_attention_heads": scale.heads,
            "num_key_value_heads": scale.key_heads,
            "head_dim": scale.head_size,
            "max_position_embeddings": scale.context,
            "initializer_range": scale.init_std,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": scale.tied,
            # In both forms: the first is transformers' since 5, the second is what readers of older files look for.
            "rope_parameters": {"rope_type": "default", "rope_theta": scale.rope_theta},
            "rope_theta": scale.rope_theta,
            "bos_token_id": bos_id,
            "eos_token_id": eos_id,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "use_cache": True,
            "dtype": "float32",
        }
    )


def build_model(config: Any, *, seed: int) -> Any:
    """A model on the CPU in float32; each weight matrix is drawn from its own stream, norms are ones."""
    import torch

    model = _decoder(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0)
                continue
            generator = torch.Generator().manual_seed(seed_for(seed, f"init {name}"))
            # Only embeddings decide the first loss: at 0.02 it is ln V, tied or not.
            embedding = name.endswith(("embed_tokens.weight", "lm_head.weight"))
            parameter.normal_(0.0, EMBEDDING_STD if embedding else config.initializer_range, generator=generator)
    return model


def read_model(folder: str | Path) -> Any:
    """A model with the weights of a checkpoint in Hugging Face layout (model type llama or qwen3), in float32.

    Refused with InputError: another architecture, weights that are missing, left over, truncated or not numbers.
    """
    import torch

    folder = Path(folder)
    config = read_config(folder)
    model = _decoder(config)
    weights = _read_weights(folder)
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    expected = dict(model.named_parameters())
    left = {name for name in weights if name not in expected and not name.endswith("rotary_emb.inv_freq")}
    wrong = sorted((expected.keys() - weights.keys()) | left) or sorted(
        name for name, parameter in expected.items() if parameter.shape != weights[name].shape
    )
    if wrong:
        raise InputError(
            f"'{folder}': its weights are not those its config.json describes ({len(wrong)} differ, first {wrong[0]}). "
            "Save the model again with save_pretrained."
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(weights[name])
            if not bool(torch.isfinite(parameter).all()):
                raise InputError(f"'{folder}': {name} holds values that are no numbers. Start from another checkpoint.")
    return model


def check_vocabulary(folder: str | Path, tokenizer_file: str | Path, vocabulary: int) -> None:
    """Refuse to go on from a checkpoint with another tokenizer: its embeddings would mean other tokens."""
    from tokenizers import Tokenizer

    folder = Path(folder)
    rows = int(read_config(folder).vocab_size)
    if vocabulary > rows:
        raise InputError(
            f"'{folder}' has {rows:,} token embeddings and the recipe's tokenizer {vocabulary:,} entries. "
            "Use the checkpoint's tokenizer: tokenizer: {use: its tokenizer.json}."
        )
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"'{folder}' has no tokenizer.json, so nobody can say whether its embeddings fit the tokens.")
    try:
        theirs = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"'{folder}': its tokenizer.json cannot be read: {error}. Copy it again.") from error
    ours = Tokenizer.from_file(str(tokenizer_file)).get_vocab(with_added_tokens=True)
    different = [token for token, number in ours.items() if theirs.get(token) != number]
    if different:
        raise InputError(
            f"'{folder}' was trained with another tokenizer: {len(different):,} of {len(ours):,} entries have another number "
            f"there, such as {different[0]!r}. Use the checkpoint's tokenizer: tokenizer: {{use: its tokenizer.json}}."
        )


def scale_of(config: Any, scale: Scale) -> Scale:
    """The scale with the shape of a checkpoint: what it says about training stays."""
    shape = shape_of(config)
    return replace(
        scale,
        width=shape.width,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_width=shape.head_width,
        hidden=shape.hidden,
        vocabulary=shape.rows,
        tied=shape.tied,
        qk_norm=shape.qk_norm,
        rope_theta=shape.rope_theta,
    )


def shape_of(config: Any) -> Any:
    """The decoder of a Hugging Face configuration; InputError for what it cannot be."""
    from factory.training.decoder import Shape

    if (kind := config.values.get("model_type")) not in ARCHITECTURES:
        raise InputError(
            f"A model of type '{kind}' cannot be trained on: llama and qwen3 can. Convert it, or start anew."
        )
    found = config.values
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    odd = {name: found[name] for name in PLAIN if name in found and found[name] not in PLAIN[name]}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        odd["rope_type"] = rope.get("rope_type", rope.get("type"))
    if odd:
        raise InputError(f"A {kind} model with {odd} cannot be trained on: its forward pass is another one.")
    return Shape(
        rows=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head_width=config.head_dim or (128 if kind == "qwen3" else config.hidden_size // config.num_attention_heads),
        hidden=config.intermediate_size,
        context=config.max_position_embeddings,
        tied=bool(config.tie_word_embeddings),
        qk_norm=kind == "qwen3",
        rope_theta=float(rope.get("rope_theta", config.rope_theta)),
        eps=config.rms_norm_eps,
    )


def weights_digest(model: Any) -> str:
    """The digest of the parameters: names, shapes and values, wherever they lie and however they are stored."""
    return digest_weights({name: parameter.detach() for name, parameter in model.named_parameters()})


def digest_weights(weights: dict[str, Any]) -> str:
    hasher = xxhash.xxh3_128()
    for name, tensor in sorted(weights.items()):
        values = np.ascontiguousarray(tensor.float().cpu().numpy())
        hasher.update(f"{name}\x1f{values.shape}\x1e".encode())
        hasher.update(values.data.cast("B"))
    return hasher.hexdigest()


def _decoder(config: Any) -> Any:
    from factory.training.decoder import Decoder

    return Decoder(shape_of(config), config)


def read_config(folder: str | Path) -> Configuration:
    """The configuration of a checkpoint in Hugging Face layout."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"'{folder}' is no checkpoint in Hugging Face layout: it has no config.json.")
    try:
        if path.stat().st_size > MOST_CONFIG:
            raise ValueError(f"it has more than {MOST_CONFIG:,} bytes")
        values = json.loads(path.read_text("utf-8"))
        config = Configuration(values)
        for name in SIZES:
            if not 0 < int(values[name]) < 1 << 40:
                raise ValueError(f"{name} is {values[name]}")
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"'{path}' cannot be read: {said}. Save the model again with save_pretrained.") from error
    return config


def _read_weights(folder: Path) -> dict[str, Any]:
    """All tensors of a checkpoint: model.safetensors, or the files its index names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    weights: dict[str, Any] = {}
    for name in names:
        path = folder / name
        if path.parent != folder or not path.is_file():
            raise InputError(f"'{folder}' has no {name}: only safetensors are read. Convert other weights first.")
        try:
            weights |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"'{path}' ({path.stat().st_size:,} bytes) is damaged or truncated: {error}. Copy it again from where it came."
            ) from error
    return weights
