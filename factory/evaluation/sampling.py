"""Texts a model writes after prompts: greedy, or drawn at a temperature from the likeliest tokens that hold `top_p` (1904.09751).

Keys and values of what stands before are kept, a prompt is read once for all its samples, and several go on side by side. A
sample's draws come from the seed, the prompt and the sample's number: neither other prompts nor their order change it, but
for draws that fall between two tokens within what float32 leaves (1e-6 of the probability).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.core.errors import InputError
from factory.core.seeds import generator_for
from factory.evaluation.checkpoint import Checkpoint

LANES = 64  # samples that are written side by side
KEPT = 1 << 28  # numbers of their keys and values: 1 GiB; of large models fewer are written side by side
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Sampling:
    """How is written: at most `tokens`, at a `temperature` (0: always the likeliest), `samples` times, up to one of `stops`."""

    tokens: int = 20
    samples: int = 1
    temperature: float = 1.0
    top_p: float = 0.9
    stops: tuple[str, ...] = ()
    seed: int = 0


def write(
    model: Checkpoint,
    prompts: Sequence[str],
    how: Sampling,
    progress: Progress = lambda done: None,
    *,
    kept: int = KEPT,
) -> list[list[str]]:
    """The continuations of each prompt, without what stops them. Prompts that do not fit lose their left end."""
    room = model.context - how.tokens
    if how.tokens < 1 or how.samples < 1 or room < 1:
        raise InputError(
            f"evaluate: {how.samples} samples of {how.tokens} tokens asked of a model that reads {model.context}. Ask for at "
            f"least one, and for fewer than {model.context} tokens."
        )
    # What is greedy is the same every time.
    count = how.samples if how.temperature > 0 else 1
    found: list[list[str]] = []
    at_once = max(1, LANES // count)
    for begin in range(0, len(prompts), at_once):
        some = prompts[begin : begin + at_once]
        fed = [[model.start, *tokens[max(0, len(tokens) - room + 1) :]] for tokens in model.encode(some)]
        draws = [generator_for(how.seed, f"sample {k} of {prompt}") for prompt in some for k in range(count)]
        size = max(1, kept // (count * _kept(model) * (max(map(len, fed)) + how.tokens)))
        texts: list[str] = []
        for at in range(0, len(fed), size):
            texts += _written(model, fed[at : at + size], count, how, draws[at * count : (at + size) * count])
        found += [texts[at : at + count] * (how.samples // count) for at in range(0, len(texts), count)]
        progress(len(found))
    return found


def _kept(model: Checkpoint) -> int:
    """Numbers of the keys and values of one token."""
    if model.stream is not None:
        shape = model.stream.shape
        return 2 * int(shape.layers * shape.kv_heads * shape.head_width)
    config = model.network.config
    return 2 * max(1, getattr(config, "num_hidden_layers", 1) * getattr(config, "hidden_size", 1))


def _written(
    model: Checkpoint, fed: Sequence[list[int]], count: int, how: Sampling, draws: Sequence[np.random.Generator]
) -> list[str]:
    """`count` texts after each of `fed`."""
    writer = (
        _StreamWriter(model, fed, count, how.tokens) if model.stream is not None else _NetworkWriter(model, fed, count)
    )
    ends = _ends(model)
    written: list[list[int]] = [[] for _ in draws]
    texts = [""] * len(draws)
    going = list(range(len(draws)))
    logits = writer.first()
    for _ in range(how.tokens):
        chosen = {lane: pick(row, how, draws[lane]) for lane, row in zip(going, logits, strict=True)}
        still = []
        for lane, token in chosen.items():
            if token in ends:
                continue
            written[lane].append(token)
            texts[lane] = model.tokenizer.decode(written[lane], skip_special_tokens=False)
            cut = min((at for stop in how.stops if (at := texts[lane].find(stop)) >= 0), default=None)
            if cut is not None:
                texts[lane] = texts[lane][:cut]
                continue
            still.append(lane)
        going = still
        if not going or len(written[going[0]]) == how.tokens:
            break
        logits = writer.next(going, [written[lane][-1] for lane in going])
    return texts


def pick(logits: Any, how: Sampling, draw: np.random.Generator) -> int:
    """The next token: the likeliest, or drawn from the fewest that hold `top_p` of the probability."""
    if how.temperature <= 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / how.temperature
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    held = np.cumsum(shares[order])
    kept = int(np.searchsorted(held, min(how.top_p, 1.0) - 1e-12)) + 1
    kept = min(kept, len(order))
    return int(order[min(int(np.searchsorted(held[:kept], draw.random() * held[kept - 1], side="right")), kept - 1)])


def _ends(model: Checkpoint) -> set[int]:
    """Tokens that end a text: the EOS, and what stands before texts."""
    given = model.network.generation_config.eos_token_id if getattr(model.network, "generation_config", None) else None
    return {model.start, *(given if isinstance(given, list) else [] if given is None else [given])}


class _StreamWriter:
    """A lane of the stream's cache for each text."""

    def __init__(self, model: Checkpoint, fed: Sequence[list[int]], count: int, tokens: int) -> None:
        from factory.evaluation.stream import Cache

        assert model.stream is not None
        self.stream, self.fed, self.count = model.stream, fed, count
        self.at_once = model.batch_tokens
        self.lengths = np.repeat([len(own) for own in fed], count)
        self.cache = Cache(self.stream.shape, len(self.lengths), int(self.lengths.max()) + tokens)

    def first(self) -> Any:
        import torch

        tokens = np.concatenate([np.array(own, np.int64) for own in self.fed])
        positions = np.concatenate([np.arange(len(own)) for own in self.fed])
        lanes = np.repeat(np.arange(len(self.fed)) * self.count, [len(own) for own in self.fed])
        ends = np.cumsum([len(own) for own in self.fed]) - 1
        hidden = []
        for at in range(0, len(tokens), self.at_once):
            some = slice(at, at + self.at_once)
            asked = ends[(ends >= at) & (ends < at + self.at_once)] - at
            hidden.append(self.stream.feed(self.cache, tokens[some], positions[some], lanes[some], asked))
        for kept in (self.cache.keys, self.cache.values):
            for lane in range(0, len(self.lengths), self.count):
                kept[:, lane + 1 : lane + self.count] = kept[:, lane : lane + 1]
        return self._logits(torch.cat(hidden)).repeat(self.count, axis=0)

    def next(self, lanes: Sequence[int], tokens: Sequence[int]) -> Any:
        own = np.array(lanes, np.int64)
        every = np.arange(len(own))
        hidden = self.stream.feed(self.cache, np.array(tokens, np.int64), self.lengths[own], own, every)
        self.lengths[own] += 1
        return self._logits(hidden)

    def _logits(self, hidden: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.stream.logits(hidden).numpy()


class _NetworkWriter:
    """Any other model, text by text, with the cache it has."""

    def __init__(self, model: Checkpoint, fed: Sequence[list[int]], count: int) -> None:
        self.model, self.fed, self.count = model, fed, count
        self.caches: dict[int, Any] = {}

    def first(self) -> Any:
        lanes = range(len(self.fed) * self.count)
        return np.stack([self._step(lane, self.fed[lane // self.count]) for lane in lanes])

    def next(self, lanes: Sequence[int], tokens: Sequence[int]) -> Any:
        return np.stack([self._step(lane, [token]) for lane, token in zip(lanes, tokens, strict=True)])

    def _step(self, lane: int, tokens: Sequence[int]) -> Any:
        import torch

        fed = torch.tensor([tokens], device=self.model.device)
        with torch.inference_mode():
            made = self.model.network(fed, past_key_values=self.caches.get(lane), use_cache=True)
        self.caches[lane] = made.past_key_values
        return made.logits[0, -1].float().cpu().numpy()
