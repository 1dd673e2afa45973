"""Merging: checkpoints in Hugging Face layout in, one checkpoint out whose parameters are their weighted average.

Only models of one shape and one tokenizer are averaged, and only models that went out from one seed model are worth it:
independently initialised ones give a model that knows nothing, however good each is. Sums are in float32 (float64 for
float64) around the first model, so that an average of equal checkpoints is equal to the bit; integer tensors are the first
model's. Tied tensors are stored once and stay tied. Nothing is pickled, and one tensor of each model is in memory at a time.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import xxhash

from factory.core.errors import FactoryError, InputError
from factory.training.model import digest_weights

MODEL = "model.safetensors"
SUMS = "checksums.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
# What a configuration says of a model's history, not of its shape.
NOT_SHAPE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def merge_checkpoints(
    folders: Sequence[str | Path], out_dir: str | Path, *, weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Put the average of `folders` at `out_dir`, whole or not at all, and tell what it was made of.

    `weights` sum to 1; without them every model counts the same. Raises FactoryError for models that cannot be averaged.
    """
    from safetensors.torch import save_file

    paths = [Path(folder) for folder in folders]
    shares = _checked_weights(len(paths), weights)
    _check_alike(paths)
    with ExitStack() as stack:
        opened = [_Stored(path, stack) for path in paths]
        _check_tensors(paths, opened)
        merged = {name: _average([model[name] for model in opened], shares) for name in sorted(opened[0])}
    out = Path(out_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        save_file(merged, temporary / MODEL, metadata={"format": "pt"})
        for name in ("config.json", *TOKENIZER):
            if (paths[0] / name).is_file():
                shutil.copyfile(paths[0] / name, temporary / name)
        sums = {path.name: xxhash.xxh3_128_hexdigest(path.read_bytes()) for path in sorted(temporary.iterdir())}
        (temporary / SUMS).write_text(json.dumps(sums, sort_keys=True, indent=1) + "\n")
        temporary.chmod(0o755)  # mkdtemp makes it private
        if out.exists():
            shutil.rmtree(out)
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"models": len(paths), "weights": list(shares), "model_digest": digest_weights(merged), "valid": True}


class _Stored(Mapping[str, Any]):
    """The tensors of a checkpoint's safetensors files, each read when it is asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        self._places: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            if path.name == "optimizer.safetensors":  # a checkpoint to resume from has its moments beside the model
                continue
            file = stack.enter_context(safe_open(path, framework="pt"))
            self._places |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> Any:
        return self._places[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _average(tensors: Sequence[Any], weights: Sequence[float]) -> Any:
    import torch

    first = tensors[0]
    if not first.is_floating_point():
        return first.contiguous()
    wide = torch.float64 if first.dtype == torch.float64 else torch.float32
    base = first.to(wide)
    total = torch.zeros_like(base)
    for other, weight in zip(tensors[1:], weights[1:], strict=True):
        total += weight * (other.to(wide) - base)
    return (base + total).to(first.dtype).contiguous()


def _checked_weights(count: int, weights: Sequence[float] | None) -> tuple[float, ...]:
    if not count:
        raise FactoryError("merge: there is no model to average. Name at least one checkpoint.")
    shares = tuple(float(weight) for weight in weights) if weights is not None else (1.0 / count,) * count
    if len(shares) != count:
        raise FactoryError(f"merge: {len(shares)} weights for {count} models.")
    if min(shares) < 0 or not abs(math.fsum(shares) - 1.0) <= 1e-6:
        raise FactoryError(
            f"merge: weights must be at least 0 and sum to 1; {list(shares)} sum to {math.fsum(shares):.7g}."
        )
    return shares


def _check_alike(paths: Sequence[Path]) -> None:
    """Refuse models of other shapes or tokenizers, saying in what they differ."""
    configs, tokenizers = [], []
    for path in paths:
        if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            raise InputError(
                f"merge: '{path}' is no checkpoint in Hugging Face layout (config.json and *.safetensors). Other weights run "
                "code when they are loaded; convert them."
            )
        config = json.loads((path / "config.json").read_text("utf-8"))
        configs.append({key: value for key, value in config.items() if key not in NOT_SHAPE})
        file = path / "tokenizer.json"
        tokenizers.append(hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None)
    for path, config, tokenizer in zip(paths, configs, tokenizers, strict=True):
        different = sorted(key for key in config.keys() | configs[0].keys() if config.get(key) != configs[0].get(key))
        if different:
            shown = ", ".join(f"{key} {configs[0].get(key)} and {config.get(key)}" for key in different[:5])
            raise FactoryError(
                f"merge: '{paths[0]}' and '{path}' are models of different shape ({shown}). Only checkpoints that went out from "
                "one seed model can be averaged."
            )
        if tokenizer != tokenizers[0]:
            raise FactoryError(
                f"merge: '{paths[0]}' and '{path}' have different tokenizers: their rows mean other tokens. Train both with one "
                "tokenizer."
            )


def _check_tensors(paths: Sequence[Path], models: Sequence[Mapping[str, Any]]) -> None:
    first = models[0]
    for path, model in zip(paths, models, strict=True):
        if model.keys() != first.keys():
            names = sorted(model.keys() ^ first.keys())
            raise FactoryError(
                f"merge: '{paths[0]}' and '{path}' do not hold the same tensors: {', '.join(names[:5])} "
                f"({len(names)} differ)."
            )
        for name in first:
            one, other = _shape(first[name]), _shape(model[name])
            if one != other:
                raise FactoryError(f"merge: {name} is {one} in '{paths[0]}' and {other} in '{path}'.")


def _shape(tensor: Any) -> tuple[Any, ...]:
    return (*tensor.shape, str(tensor.dtype))
