"""Checkpoints: a folder in Hugging Face layout that appears whole or not at all, and is believed only when its sums agree.

`model.safetensors`, `config.json` and the tokenizer load with `AutoModelForCausalLM` and `AutoTokenizer` as they are.
For resuming, `optimizer.safetensors` and `state.json` stand beside them. Training draws no random number (no dropout,
the data order is a function of the position), so there is no generator state to keep. Nothing is pickled.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import xxhash

from factory.training.tokenizer import Encoder

SUMS = "checksums.json"
KEPT = 2  # the last one, and the one before in case the last is damaged


def save_model(directory: Path, model: Any, encoder: Encoder) -> None:
    """Put a finished model at `directory`, whole or not at all."""
    temporary = _begin(directory)
    _write_model(temporary, model, encoder)
    _finish(temporary, directory)


def save_checkpoint(root: Path, model: Any, encoder: Encoder, optimizer: Any, state: dict[str, Any]) -> Path:
    """Put model, optimizer and state at `root/step-N`, and drop all but the last two checkpoints."""
    from safetensors.torch import save_file

    final = root / f"step-{state['step']:010d}"
    temporary = _begin(final)
    _write_model(temporary, model, encoder)
    moments = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            moments[f"{key}.{name}"] = value.detach().cpu().contiguous()
    save_file(moments, temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps(state, sort_keys=True, allow_nan=False))
    _finish(temporary, final)
    for old in _checkpoints(root)[KEPT:]:
        shutil.rmtree(old)
    return final


def find_checkpoint(root: Path) -> tuple[Path | None, list[str]]:
    """The last checkpoint that is whole, and what is wrong with the later ones."""
    problems: list[str] = []
    for path in _checkpoints(root):
        problem = _damage(path)
        if problem is None:
            return path, problems
        problems.append(f"{path.name}: {problem}")
    return None, problems


def read_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return state


def restore(path: Path, model: Any, optimizer: Any) -> None:
    """Put the weights and moments of a checkpoint into a model and its optimizer."""
    import torch
    from safetensors.torch import load_file

    weights, moments = load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            for key in ("step", "exp_avg", "exp_avg_sq"):
                optimizer.state[parameter][key] = moments[f"{key}.{name}"].to(parameter.device)


def _write_model(directory: Path, model: Any, encoder: Encoder) -> None:
    from safetensors.torch import save_file

    # named_parameters lists a tied head once, which is what from_pretrained expects to find.
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(directory)
    encoder.save(directory)


def _begin(final: Path) -> Path:
    final.parent.mkdir(parents=True, exist_ok=True)
    for left_over in final.parent.glob(f".{final.name}.*"):
        shutil.rmtree(left_over)
    return Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))


def _finish(temporary: Path, final: Path) -> None:
    sums = {path.name: _sum(path) for path in sorted(temporary.iterdir())}
    (temporary / SUMS).write_text(json.dumps(sums, sort_keys=True, indent=1) + "\n")
    for path in temporary.iterdir():
        _sync(path)
    temporary.chmod(0o755)  # mkdtemp makes it private
    if final.exists():
        shutil.rmtree(final)
    os.rename(temporary, final)
    _sync(final.parent)


def _damage(path: Path) -> str | None:
    try:
        sums = json.loads((path / SUMS).read_text())
    except (OSError, ValueError):
        return f"{SUMS} is missing or unreadable"
    for name, expected in sums.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _sum(path / name) != expected:
            return f"{name} is not what was written ({(path / name).stat().st_size:,} bytes)"
    return None


def _checkpoints(root: Path) -> list[Path]:
    """Latest first."""
    return sorted(root.glob("step-*"), reverse=True) if root.is_dir() else []


def _sum(path: Path) -> str:
    hasher = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            hasher.update(block)
    return hasher.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
