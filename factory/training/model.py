"""The proxy model: a Llama-style decoder built by `transformers`, with initial weights that depend on seed and name alone.

Without QK-norm it is `LlamaForCausalLM`; with it `Qwen3ForCausalLM`, which is Llama with an RMSNorm over each head's
queries and keys (DCLM normalises them too; stable at rates of 3e-3 and more). SwiGLU, RMSNorm, RoPE, no biases.
"""

from typing import Any

import numpy as np
import xxhash

from factory.training.scales import Scale
from factory.training.seeds import seed_for

EMBEDDING_STD = 0.02


def model_config(scale: Scale, *, vocabulary: int, bos_id: int | None, eos_id: int | None) -> Any:
    """The Hugging Face configuration of a scale with a tokenizer of this size."""
    from transformers import LlamaConfig, Qwen3Config

    shape: dict[str, Any] = {
        "vocab_size": scale.rows(vocabulary),
        "hidden_size": scale.width,
        "intermediate_size": scale.hidden,
        "num_hidden_layers": scale.layers,
        "num_attention_heads": scale.heads,
        "num_key_value_heads": scale.heads,
        "head_dim": scale.width // scale.heads,
        "max_position_embeddings": scale.context,
        "initializer_range": scale.init_std,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": scale.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": scale.rope_theta},
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "attention_bias": False,
    }
    return Qwen3Config(**shape) if scale.qk_norm else LlamaConfig(**shape)


def build_model(config: Any, *, seed: int) -> Any:
    """A model on the CPU in float32; each weight matrix is drawn from its own stream, norms are ones."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):  # the library draws from the global generator while it builds
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
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


def weights_digest(model: Any) -> str:
    """The digest of the parameters: names, shapes and values, wherever they lie and however they are stored."""
    hasher = xxhash.xxh3_128()
    for name, parameter in sorted(model.named_parameters()):
        values = np.ascontiguousarray(parameter.detach().float().cpu().numpy())
        hasher.update(f"{name}\x1f{values.shape}\x1e".encode())
        hasher.update(values.data.cast("B"))
    return hasher.hexdigest()
