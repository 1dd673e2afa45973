"""Tokens a second of the training loop beside peers, on this machine: the same model, batch, optimizer and clipping.

Peers are a hand-written minimal loop over the model of `transformers` (what a tutorial has: forward, cross-entropy,
backward, clip, AdamW), the same over a hand-written `nn.Module`, and `transformers.Trainer` (which needs accelerate). They
take turns, some steps each, in one process on one thread, so that a busy machine is busy for all; rates are per CPU second
and, beside, by the clock, and a ratio is the median over the turns. Setting up, the first steps of the Trainer's every turn
included, is not timed. The z-loss is left out for all: the peers have none. Where there is a GPU, `gpu_speed` tells the
share of its peak the loop uses.

    python tests/benchmarks/training.py [--scale nano] [--vocabulary 2048] [--turns 8] [--steps 15]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

Go = Callable[[int], tuple[float, float]]  # so many steps; the seconds they took, of the CPU and by the clock
SETTLE = 2  # steps of a Trainer that has just been made, before its clock runs
# As large as `micro`, in small batches and without the norms a hand-written module does not have.
CPU_SCALES: dict[str, tuple[str, dict[str, Any]]] = {"micro_plain": ("micro", {"qk_norm": False, "batch": 4})}


class RandomOrder:
    """Sequences without a corpus: the same for all, and nothing to read."""

    digest = "random"

    def __init__(self, scale: Any, vocabulary: int) -> None:
        self.shape, self.vocabulary, self.steps = (scale.batch, scale.context + 1), vocabulary, 1
        self.tokens = scale.step_tokens

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> Any:
        from factory.training.order import Batch

        return Batch(np.random.default_rng(step).integers(0, self.vocabulary, self.shape))


def training_speed(
    scale_name: str = "nano", *, vocabulary: int = 2048, turns: int = 8, steps: int = 15, threads: int = 1
) -> dict[str, Any]:
    """CPU seconds a step of our loop and of its peers, and how many times faster ours is than each."""
    import torch

    from factory.training.model import model_config

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    scale = replace(_scale(scale_name), z_loss=0.0)
    config = model_config(scale, vocabulary=vocabulary, bos_id=None, eos_id=0)
    contenders: dict[str, Go] = {
        "loop": _ours(scale, config, vocabulary),
        "minimal_transformers": _minimal(_transformers_model(config), scale, vocabulary),
        "minimal_module": _minimal(_module(config), scale, vocabulary),
    }
    missing = {}
    try:
        contenders["trainer"] = _trainer(config, scale, vocabulary)
    except ImportError as error:
        missing["trainer"] = str(error).strip().splitlines()[0]
    for go in contenders.values():
        go(SETTLE)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    clock: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            cpu, wall = contenders[name](steps)
            seconds[name].append(cpu / steps)
            clock[name].append(wall / steps)
    return {
        "scale": scale_name,
        "vocabulary": vocabulary,
        "step_tokens": scale.step_tokens,
        "parameters": scale.parameters(vocabulary).total,
        "threads": threads,
        "turns": turns,
        "steps": steps,
        "cpu_ms_per_step": {name: round(1e3 * statistics.median(took), 2) for name, took in seconds.items()},
        "wall_ms_per_step": {name: round(1e3 * statistics.median(took), 2) for name, took in clock.items()},
        "tokens_per_cpu_s": {
            name: round(scale.step_tokens / statistics.median(took)) for name, took in seconds.items()
        },
        "times_faster_than": _ratios(seconds),
        "times_faster_by_the_clock": _ratios(clock),
        "not_measured": missing,
    }


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {
        name: round(statistics.median(b / a for a, b in zip(seconds["loop"], took, strict=True)), 3)
        for name, took in seconds.items()
        if name != "loop"
    }


def _scale(name: str) -> Any:
    from factory.training.scales import find_scale

    if name in CPU_SCALES:
        base, changed = CPU_SCALES[name]
        return replace(find_scale(base), name=name, **changed)
    return find_scale(name)


def gpu_speed(
    scale_name: str = "dclm_400m_1x",
    *,
    vocabulary: int = 50_432,
    batch: int = 64,
    micro_batches: tuple[int, ...] = (8, 16, 32),
    steps: int = 10,
    device: str = "cuda",
    compiled: bool = True,
) -> dict[str, Any]:
    """Tokens a second and utilisation of the loop in bfloat16 on one device, for several sizes of what is computed at once."""
    import torch

    from factory.training.flops import CONVENTION, exact_flops, utilisation
    from factory.training.loop import Progress, make_optimizer, reproducible, train
    from factory.training.model import build_model, model_config

    scale = replace(_scale(scale_name), batch=batch)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    config = model_config(scale, vocabulary=vocabulary, bos_id=None, eos_id=0)
    tokens, found = steps * scale.step_tokens, {}
    for micro in micro_batches:
        model, order, progress = build_model(config, seed=1).to(device), RandomOrder(scale, vocabulary), Progress()
        if compiled:
            for block in model.model.layers:
                block.compile()
        optimizer = make_optimizer(model, scale)
        for more in (3, steps):  # the first compile
            order.steps = progress.step + more
            order.tokens = order.steps * scale.step_tokens
            before = progress.seconds
            with reproducible(device, torch.get_num_threads(), 1):
                problem = train(
                    model, optimizer, order, scale, progress, device=device, precision="bfloat16", micro_batch=micro
                )
            assert problem is None, problem
        seconds = progress.seconds - before
        found[micro] = {
            "tokens_per_s": tokens / seconds,
            "mfu": utilisation(exact_flops(scale, vocabulary, tokens), seconds, name, 1),
        }
        del model, optimizer
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    return {
        "scale": scale_name,
        "batch": batch,
        "device": name,
        "compiled": compiled,
        "convention": CONVENTION,
        "by_micro_batch": found,
    }


def loader_speed(scale_name: str = "nano", *, vocabulary: int = 2048, steps: int = 400) -> dict[str, Any]:
    """Tokens per CPU second of the data order alone, over documents of a web page's length."""
    from factory.storage.tokens import TokenFile, TokenWriter
    from factory.training.loader import TokenStream
    from factory.training.order import StreamOrder

    scale = _scale(scale_name)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, "tokens")
        lengths = np.maximum(1, random.lognormal(6, 1.1, 20_000).astype(np.int64))
        with TokenWriter(prefix, "uint16") as writer:
            writer.append(random.integers(0, vocabulary, int(lengths.sum())).astype(np.uint16), lengths)
        stream = TokenStream(TokenFile(prefix), None, context=scale.context, seed=1)
        order = StreamOrder(stream, batch=scale.batch, steps=steps)
        order.batch(0)
        begun = time.process_time()
        for step in range(steps):
            order.batch(step)
        rate = steps * scale.step_tokens / (time.process_time() - begun)
    return {"scale": scale_name, "tokens_per_cpu_s": round(rate)}


def _ours(scale: Any, config: Any, vocabulary: int) -> Go:
    import torch

    from factory.training.loop import Progress, make_optimizer, reproducible, train
    from factory.training.model import build_model

    model, order, progress = build_model(config, seed=1), RandomOrder(scale, vocabulary), Progress()
    optimizer = make_optimizer(model, scale)

    def go(steps: int) -> tuple[float, float]:
        begun = _now()
        order.steps = progress.step + steps
        order.tokens = order.steps * scale.step_tokens
        with reproducible("cpu", torch.get_num_threads(), 1):
            problem = train(model, optimizer, order, scale, progress, device="cpu")
        assert problem is None, problem
        return _since(begun)

    return go


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(begun: tuple[float, float]) -> tuple[float, float]:
    return time.process_time() - begun[0], time.perf_counter() - begun[1]


def _minimal(model: Any, scale: Any, vocabulary: int) -> Go:
    import torch
    import torch.nn.functional as F

    optimizer = torch.optim.AdamW(model.parameters(), lr=scale.peak_lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    order = RandomOrder(scale, vocabulary)

    def go(steps: int) -> tuple[float, float]:
        begun = _now()
        for step in range(steps):
            ids = torch.from_numpy(order.batch(step).ids)
            logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), scale.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
        return _since(begun)

    return go


def _transformers_model(config: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**config.values)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    return _Logits(model)


class _Logits:
    """A model of transformers as a function from ids to logits."""

    def __init__(self, model: Any) -> None:
        self.model, self.parameters = model, model.parameters

    def __call__(self, ids: Any) -> Any:
        return self.model(input_ids=ids, use_cache=False).logits


def _module(config: Any) -> Any:
    """The decoder as one writes it by hand, on torch's own building blocks."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    width, heads = config.hidden_size, config.num_attention_heads
    size = width // heads

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.gate = nn.Linear(width, config.intermediate_size, bias=False)
            self.up = nn.Linear(width, config.intermediate_size, bias=False)
            self.down = nn.Linear(config.intermediate_size, width, bias=False)

        def forward(self, x: Any, cosines: Any, sines: Any) -> Any:
            n, length, _ = x.shape
            q, k, v = self.qkv(self.first(x)).view(n, length, 3, heads, size).permute(2, 0, 3, 1, 4)
            q, k = rotate(q, cosines, sines), rotate(k, cosines, sines)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
            y = self.second(x)
            return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def rotate(x: Any, cosines: Any, sines: Any) -> Any:
        first, second = x.chunk(2, dim=-1)
        return x * cosines + torch.cat((-second, first), dim=-1) * sines

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(config.vocab_size, width)
            self.blocks = nn.ModuleList(Block() for _ in range(config.num_hidden_layers))
            self.norm = nn.RMSNorm(width, eps=1e-6)
            self.head = nn.Linear(width, config.vocab_size, bias=False)
            nn.init.normal_(self.embed.weight, std=0.02)
            if config.tie_word_embeddings:
                self.head.weight = self.embed.weight
            frequencies = 10_000.0 ** (-torch.arange(0, size, 2) / size)
            angles = torch.arange(config.max_position_embeddings)[:, None] * frequencies
            self.cosines, self.sines = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

        def forward(self, ids: Any) -> Any:
            x = self.embed(ids)
            length = ids.shape[1]
            for block in self.blocks:
                x = block(x, self.cosines[:length], self.sines[:length])
            return self.head(self.norm(x))

    if config.model_type != "llama":
        raise ValueError("the hand-written module has no norm over queries and keys: take a scale without qk_norm")
    return Model()


def _trainer(config: Any, scale: Any, vocabulary: int) -> Go:
    """`transformers.Trainer` as its documentation says, with nothing that is not training switched on."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    order = RandomOrder(scale, vocabulary)

    class Sequences(torch.utils.data.Dataset):  # type: ignore[misc]
        def __init__(self, count: int) -> None:
            self.rows = torch.from_numpy(np.concatenate([order.batch(step).ids for step in range(count)])[:, :-1])

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, at: int) -> Any:
            return {"input_ids": self.rows[at], "labels": self.rows[at]}

    config = AutoConfig.for_model(**config.values)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    folder = tempfile.mkdtemp(prefix="bench-trainer-")

    class Clock(TrainerCallback):  # type: ignore[misc]
        """From the end of step SETTLE to the end of the last: what is set up and put away around them is not training."""

        begun = took = (0.0, 0.0)

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == SETTLE:
                self.begun = _now()
            self.took = _since(self.begun)

    def go(steps: int) -> tuple[float, float]:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=scale.batch,
            max_steps=SETTLE + steps,
            learning_rate=scale.peak_lr,
            weight_decay=0.1,
            adam_beta2=0.95,
            max_grad_norm=scale.clip,
            optim="adamw_torch_fused",
            lr_scheduler_type="constant",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        clock = Clock()
        sequences = Sequences(SETTLE + steps)
        trainer = Trainer(model=model, args=arguments, train_dataset=sequences, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.took

    go(1)
    return go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", default="nano")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15)
    asked = parser.parse_args()
    speed = training_speed(asked.scale, vocabulary=asked.vocabulary, turns=asked.turns, steps=asked.steps)
    loader = loader_speed(asked.scale, vocabulary=asked.vocabulary)
    loader["times_the_model"] = round(loader["tokens_per_cpu_s"] / speed["tokens_per_cpu_s"]["loop"], 1)
    json.dump({"training": speed, "loader": loader}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
