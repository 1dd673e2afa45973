"""Checkpoints: a folder in Hugging Face layout that appears whole or not at all, and is believed only when its sums agree.

`model.safetensors`, `config.json` and the tokenizer load with `AutoModelForCausalLM` and `AutoTokenizer` as they are: what a
run ends with and, where asked for, models of the way there. For resuming, `optimizer.safetensors` (moments, a running average
where there is one, and the state of torch's generator, which no proxy draws from) and `state.json` stand beside them; the
place in the data is the step. Nothing is pickled. Where a run is several processes, tensors are gathered whole, so that
another number of processes can go on, and rank 0 writes.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

from factory.core.errors import InputError
from factory.training.averaging import Average
from factory.training.distributed import gathered, scattered_like, world
from factory.training.records import step_name
from factory.training.tokenizer import Encoder

SUMS = "checksums.json"
KEPT = 2  # the last one, and the one before in case the last is damaged


def save_model(
    directory: Path, model: Any, encoder: Encoder, files: Iterable[Path] = (), average: Average | None = None
) -> None:
    """Put a model at `directory`, whole or not at all, with these files beside it: its weights, or their average so far."""
    weights = model_weights(model) if average is None else average.tensors()
    if world()[0] != 0:
        return
    temporary = _begin(directory)
    _write_model(temporary, model, weights, encoder)
    for file in files:
        shutil.copyfile(file, temporary / file.name)
    _finish(temporary, directory)


def save_weights(path: Path, model: Any) -> None:
    """The weights alone, as one file: an annealed model beside the run's last one."""
    weights = model_weights(model)
    if world()[0] != 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    _save_tensors(weights, temporary)
    _sync(temporary)
    os.replace(temporary, path)


def save_checkpoint(
    root: Path, model: Any, encoder: Encoder, optimizer: Any, state: dict[str, Any], average: Average | None = None
) -> Path:
    """Put model, optimizer, average and state at `root/step-N`, and drop all but the last two checkpoints."""
    import torch

    final = root / step_name(state["step"])
    weights, kept = model_weights(model), {"generator": torch.get_rng_state()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            kept[f"{key}.{name}"] = gathered(value)
    if average is not None:
        kept |= {f"average.{name}": value for name, value in average.tensors().items()}
        state = {**state, "averaged": average.seen}
    if world()[0] != 0:
        return final
    temporary = _begin(final)
    _write_model(temporary, model, weights, encoder)
    _save_tensors(kept, temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps(state, sort_keys=True, allow_nan=False))
    _finish(temporary, final)
    for old in _checkpoints(root)[KEPT:]:
        shutil.rmtree(old)
    return final


def find_checkpoint(root: Path, kept: Iterable[Path] = ()) -> tuple[Path | None, list[str]]:
    """The last checkpoint that is whole, and what is wrong with the later ones.

    `kept` are models that the run leaves on its way: a checkpoint after one that is not whole cannot be gone on from, since
    nobody would make that model again.
    """
    problems: list[str] = []
    for path in _checkpoints(root):
        problem = _damage(path)
        for model in kept:
            if problem is None and model.name <= path.name and (lost := _damage(model)) is not None:
                problem = f"the model kept at {model.name}: {lost}"
        if problem is None:
            return path, problems
        problems.append(f"{path.name}: {problem}")
    return None, problems


def read_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return state


def restore(path: Path, model: Any, optimizer: Any, average: Average | None = None) -> None:
    """Put the weights, moments, average and generator state of a checkpoint where they were."""
    import torch
    from safetensors.torch import load_file

    weights, kept = load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(scattered_like(parameter, weights[name]))
            for key in ("exp_avg", "exp_avg_sq"):
                optimizer.state[parameter][key] = scattered_like(parameter, kept[f"{key}.{name}"])
            optimizer.state[parameter]["step"] = kept[f"step.{name}"].to(parameter.device)
    torch.set_rng_state(kept["generator"])
    if average is not None:
        own = {name.removeprefix("average."): value for name, value in kept.items() if name.startswith("average.")}
        average.restore(read_state(path)["averaged"], own)


def check_whole(folder: Path) -> None:
    """Refuse a checkpoint with sums of its files that do not agree; one without any is not ours to judge."""
    if (folder / SUMS).is_file() and (problem := _damage(folder)) is not None:
        raise InputError(
            f"'{folder}' is damaged: {problem}. Copy it again from where it came, or remove {SUMS} if it was changed on purpose."
        )


def model_weights(model: Any) -> dict[str, Any]:
    """All parameters by name, whole and on the CPU; every process has to ask."""
    # named_parameters lists a tied head once, which is what from_pretrained expects to find.
    return {name: gathered(parameter) for name, parameter in model.named_parameters()}


def _write_model(directory: Path, model: Any, weights: dict[str, Any], encoder: Encoder) -> None:
    _save_tensors(weights, directory / "model.safetensors")
    config = {**model.config.values, "dtype": "float32"}
    config.pop("torch_dtype", None)  # what older files call it
    (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    encoder.save(directory)


def _save_tensors(tensors: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


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
