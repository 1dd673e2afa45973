"""A Llama-style model read as one stream of tokens on a CPU: nothing is padded, nothing twice, nothing that nobody asked for.

Rows are sorted, and what a row shares with the one before it is not fed again: the stream is a walk down the tree of all
rows, depth first, and keys and values are kept by position (`kernels.decoding`). So the context of a question's choices and
examples before all questions are computed once. The last layer attends, and logits are made, only where something is scored;
what stands between matrix products is compiled loops, and of logits nothing is kept but log-sum-exp and targets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.evaluation.likelihood import Row

Numbers = npt.NDArray[np.int64]

LOGITS = 1 << 20  # numbers in one part of the logits: 4 MiB


@dataclass(frozen=True, eq=False)
class Walk:
    """Tokens in the order they are fed; row `order[k]` reads its predictions at places[k], for targets[k]."""

    tokens: Numbers
    positions: Numbers
    order: tuple[int, ...]
    places: tuple[Numbers, ...]
    targets: tuple[Numbers, ...]


def walk(rows: Sequence[Row]) -> Walk:
    """Each row a path, each token of a shared beginning once."""
    order = sorted(range(len(rows)), key=lambda at: rows[at].tokens)
    longest = max((len(row.tokens) for row in rows), default=1)
    path, before = np.empty(longest, np.int64), np.empty(0, np.int64)
    tokens, positions, places, targets = [], [], [], []
    used = 0
    for at in order:
        row, scored = np.array(rows[at].tokens, np.int64), rows[at].scored
        fed = row[:-1]
        width = min(len(before), len(fed))
        differ = before[:width] != fed[:width]
        shared = int(differ.argmax()) if differ.any() else width
        fresh = len(fed) - shared
        path[shared : len(fed)] = np.arange(used, used + fresh)
        tokens.append(fed[shared:])
        positions.append(np.arange(shared, len(fed)))
        places.append(path[len(fed) - scored : len(fed)].copy())
        targets.append(row[len(row) - scored :])
        used, before = used + fresh, fed
    joined = [np.concatenate(own) if own else np.empty(0, np.int64) for own in (tokens, positions)]
    return Walk(joined[0], joined[1], tuple(order), tuple(places), tuple(targets))


class Stream:
    """The weights of a decoder, laid side by side for few products, and what is kept of the tokens before."""

    def __init__(self, network: Any, shape: Any) -> None:
        self.shape = shape
        self.inner = shape.heads * shape.head_width
        self.known = shape.kv_heads * shape.head_width
        stack = network.model
        self.embedding = stack.embed_tokens.weight.detach()
        self.head = network.lm_head.weight.detach()
        self.norm = _plain(stack.norm.weight)
        self.layers = []
        for layer in stack.layers:
            attention, gated = layer.self_attn, layer.mlp
            qkv = _joined([attention.q_proj, attention.k_proj, attention.v_proj])
            norms = (
                [_plain(own.weight) for own in (attention.q_norm, attention.k_norm)] if shape.qk_norm else [_NONE] * 2
            )
            self.layers.append(
                (
                    _plain(layer.input_layernorm.weight), qkv, *norms, attention.o_proj.weight.detach(),
                    _plain(layer.post_attention_layernorm.weight), _joined([gated.gate_proj, gated.up_proj]),
                    gated.down_proj.weight.detach(),
                )
            )  # fmt: skip

    def score(self, rows: Sequence[Row], tokens: int) -> Iterator[tuple[int, Any, Any]]:
        """Row by row: its number, -ln p of its tokens, and whether each was the likeliest; `tokens` are fed at a time."""
        found = walk(rows)
        if not found.order:
            return
        nats, hits = self._surprises(found, tokens)
        at = 0
        for row, own in zip(found.order, found.targets, strict=True):
            yield row, nats[at : at + len(own)].astype(np.float64), hits[at : at + len(own)]
            at += len(own)

    def _surprises(self, found: Walk, tokens: int) -> tuple[Any, Any]:
        places, targets = np.concatenate(found.places), np.concatenate(found.targets)
        sorting = np.argsort(places, kind="stable")
        wanted, begins = np.unique(places[sorting], return_index=True)
        begins = np.append(begins, len(places))
        nats, hits = np.empty(len(places), np.float32), np.empty(len(places), np.bool_)
        made_nats, made_hits = np.empty_like(nats), np.empty_like(hits)
        cache = Cache(self.shape, 1, int(found.positions.max()) + 1)
        lanes = np.zeros(tokens, np.int64)
        for at in range(0, len(found.tokens), tokens):
            some = slice(at, min(at + tokens, len(found.tokens)))
            first, last = np.searchsorted(wanted, (some.start, some.stop))
            hidden = self.feed(
                cache, found.tokens[some], found.positions[some], lanes[: some.stop - at], wanted[first:last] - at
            )
            self._read(hidden, begins[first : last + 1], targets[sorting], made_nats, made_hits)
        nats[sorting], hits[sorting] = made_nats, made_hits
        return nats, hits

    def feed(self, cache: "Cache", tokens: Numbers, positions: Numbers, lanes: Numbers, asked: Numbers) -> Any:
        """What the head reads at the tokens `asked`, a row each; keys and values of all tokens are in the cache after it."""
        import torch

        from factory.kernels.decoding import add_normalise, attend, gate, normalise, rotate

        shape, eps = self.shape, np.float32(self.shape.eps)
        every = np.arange(len(tokens))
        with torch.inference_mode():
            x = self.embedding[torch.from_numpy(tokens)]
            normed = torch.empty_like(x)
            normalise(x.numpy(), self.layers[0][0], eps, normed.numpy())
            for number, (_, qkv, query_norm, key_norm, out, second, gated, down) in enumerate(self.layers):
                last = number == len(self.layers) - 1
                rows, at = (asked, positions[asked]) if last else (every, positions)
                if last:  # others need its keys and values, and nobody the rest
                    pairs, first = normed @ qkv[self.inner :].t(), 0
                    x, normed = x[torch.from_numpy(rows)], normed[torch.from_numpy(rows)]
                    queries = normed @ qkv[: self.inner].t()
                else:
                    pairs, first = normed @ qkv.t(), self.inner
                    queries = pairs
                rotate(queries.numpy(), 0, shape.heads, at, cache.cosines, cache.sines, query_norm, eps)
                rotate(pairs.numpy(), first, shape.kv_heads, positions, cache.cosines, cache.sines, key_norm, eps)
                mixed = torch.empty(len(rows), self.inner)
                keys, values = cache.keys[number], cache.values[number]
                attend(pairs.numpy(), first, positions, lanes, keys, values, queries.numpy(), rows, mixed.numpy())
                add_normalise(x.numpy(), (mixed @ out.t()).numpy(), second, eps, normed.numpy())
                both = normed @ gated.t()
                hidden = torch.empty(len(rows), both.shape[1] // 2)
                gate(both.numpy(), hidden.numpy())
                after = self.norm if last else self.layers[number + 1][0]
                add_normalise(x.numpy(), (hidden @ down.t()).numpy(), after, eps, normed.numpy())
        return normed

    def logits(self, hidden: Any) -> Any:
        return hidden @ self.head.t()

    def _read(self, hidden: Any, begins: Numbers, targets: Numbers, nats: Any, hits: Any) -> None:
        """Fill in what is said of targets[begins[r]:begins[r + 1]] by row r of `hidden`."""
        import torch

        from factory.kernels.decoding import surprises

        count = max(1, LOGITS // len(self.head))
        logits = torch.empty(min(count, len(hidden)), len(self.head))
        with torch.inference_mode():
            for at in range(0, len(hidden), count):
                some = hidden[at : at + count]
                made = torch.mm(some, self.head.t(), out=logits[: len(some)])
                surprises(made.numpy(), begins[at : at + len(some) + 1], targets, nats, hits)


class Cache:
    """Keys and values by layer, (lanes, heads, positions, width), and the rotations of the positions."""

    def __init__(self, shape: Any, lanes: int, positions: int) -> None:
        import torch

        size = (shape.layers, lanes, shape.kv_heads, positions, shape.head_width)
        self.keys, self.values = np.empty(size, np.float32), np.empty(size, np.float32)
        # As torch makes them in training, to the bit.
        half = torch.arange(0, shape.head_width, 2, dtype=torch.int64).float() / shape.head_width
        angles = torch.arange(positions).float()[:, None] * (1.0 / (shape.rope_theta**half))[None, :]
        self.cosines, self.sines = angles.cos().numpy(), angles.sin().numpy()


_NONE = np.empty(0, np.float32)


def _plain(parameter: Any) -> Any:
    return parameter.detach().numpy()


def _joined(linears: Sequence[Any]) -> Any:
    """Matrices of one input as one, of which they become parts: nothing is held twice."""
    import torch

    made = torch.cat([linear.weight.detach() for linear in linears])
    at = 0
    for linear in linears:
        rows = len(linear.weight)
        linear.weight.data = made[at : at + rows]
        at += rows
    return made
