"""The parts of a decoder with gradients of their own, for float32 on a CPU: fewer passes over memory than torch makes.

Tensors in, tensors out, all contiguous; what they compute is told by `factory.kernels.layers`. Products are oneDNN's where
torch has it and both sides are read as they lie: 3 to 8 % of a step less than with the library torch takes on its own. The
same threads give the same bytes. Importing this module imports torch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from factory.kernels import layers

TILE = 1 << 18  # scores of attention at once: 1 MiB, which stay in a core's cache between their products
QUERIES = 128  # of a tile: what lies behind the last of them is not computed
SHORT = 256  # places of sequences of one document up to which torch's attention is the faster one


def usable(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x · weightᵀ over the last dimension."""
    out: Tensor = _Product.apply(x.reshape(-1, x.shape[-1]), weight)
    return out.view(*x.shape[:-1], len(weight))


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    out: Tensor = _Norm.apply(x, weight, eps)
    return out


def add_norm(x: Tensor, more: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + more, and the norm of it."""
    added, out = _AddNorm.apply(x, more, weight, eps)
    return added, out


def heads(joined: Tensor, numbers: tuple[int, int, int], begins: Tensor, cosines: Tensor, sines: Tensor) -> Any:
    """Queries, keys and values (sequence, head, place, ·), turned, of `numbers` (heads, heads of keys, width)."""
    return _Heads.apply(joined, numbers, begins, cosines, sines)


def attention(query: Tensor, key: Tensor, value: Tensor, begins: Tensor) -> Tensor:
    """(sequence, place, head · width); a place sees what lies between its `begins` (without rows: 0) and itself."""
    if not len(begins) and query.shape[2] <= SHORT:
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).flatten(2)
    out: Tensor = _Attention.apply(query, key, value, begins)
    return out


def gate(joined: Tensor) -> Tensor:
    out: Tensor = _Gate.apply(joined)
    return out


def losses(
    logits: Tensor, targets: Tensor, counted: Tensor | None, z_loss: float, wanted: bool
) -> tuple[Tensor, Tensor]:
    """(nats, squared normalisers) of each row; where `wanted` the logits become the objective's gradient."""
    nats, squares = torch.empty(len(logits)), torch.empty(len(logits))
    known = torch.empty(0, dtype=torch.bool) if counted is None else counted
    layers.losses(_array(targets), _array(known), z_loss, wanted, *_numbers(logits, nats, squares))
    return nats, squares


def by_transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x · weightᵀ of two matrices, without a gradient."""
    if not torch.backends.mkldnn.is_available():
        return x @ weight.t()
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return out


class _Product(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return by_transposed(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        by_x = by_transposed(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        return by_x, gradient.t() @ x if ctx.needs_input_grad[1] else None


class _Norm(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        x = x.contiguous()
        out, rates = torch.empty_like(x), torch.empty(x.shape[:-1].numel())
        layers.norm(_as_rows(x), _copied(weight), eps, _array(rates), _as_rows(out))
        ctx.save_for_backward(x, weight, rates)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        by_x, by_weight = _norm_back(gradients[0], None, *ctx.saved_tensors)
        return by_x, by_weight, None


class _AddNorm(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, more: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        x, more = x.contiguous(), more.contiguous()
        added, out, rates = torch.empty_like(x), torch.empty_like(x), torch.empty(x.shape[:-1].numel())
        layers.add_norm(
            _as_rows(x), _as_rows(more), _copied(weight), eps, _as_rows(added), _array(rates), _as_rows(out)
        )
        ctx.save_for_backward(added, weight, rates)
        return added, out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        by_x, by_weight = _norm_back(gradients[1], gradients[0], *ctx.saved_tensors)
        return by_x, by_x, by_weight, None


def _norm_back(gradient: Tensor, beside: Tensor | None, x: Tensor, weight: Tensor, rates: Tensor) -> Any:
    by_x, by_weight = torch.empty_like(x), torch.empty_like(weight)
    others = x.new_empty(0, x.shape[-1]) if beside is None else beside.contiguous()
    read = (*_rows(gradient.contiguous(), others, x), _copied(weight), *_numbers(rates))
    layers.norm_back(*read, *_rows(by_x), *_numbers(by_weight))
    return by_x, by_weight


class _Heads(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, joined: Tensor, numbers: tuple[int, int, int], begins: Tensor, cosines: Tensor, sines: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        (n, length, _), (count, kv_count, width) = joined.shape, numbers
        query = joined.new_empty(n, count, length, width)
        key, value = joined.new_empty(n, kv_count, length, width), joined.new_empty(n, kv_count, length, width)
        read = (*_rows(joined.contiguous()), *_numbers(begins, cosines, sines))
        layers.split_heads(*read, *_numbers(query, key, value))
        ctx.save_for_backward(begins, cosines, sines)
        return query, key, value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value = (gradient.contiguous() for gradient in gradients)
        n, count, length, width = query.shape
        by_joined = query.new_empty(n, length, (count + 2 * key.shape[1]) * width)
        layers.join_heads(*_numbers(query, key, value, *ctx.saved_tensors), *_rows(by_joined))
        return by_joined, None, None, None, None


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """Tile by tile, so that scores never leave the cache and what lies ahead is left out; made again on the way back."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, begins: Tensor) -> Tensor:  # type: ignore[override]
        count, scale = query.shape[1], np.float32(query.shape[-1] ** -0.5)
        queries, keys, values = (part.flatten(0, 1) for part in (query, key, value))
        out, normalisers = torch.empty_like(queries), torch.empty(queries.shape[:2])
        for some, rows, seen in _tiles(queries, count, begins):
            scores = torch.bmm(queries[some, rows], keys[some, seen].transpose(1, 2))
            place = (some.start, count, rows.start, seen.start)
            layers.attend(_array(scores), place, _array(begins), scale, _array(normalisers))
            torch.bmm(scores, values[some, seen], out=out[some, rows])
        ctx.save_for_backward(query, key, value, begins, normalisers)
        return out.view_as(query).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value, begins, normalisers = ctx.saved_tensors
        count, scale = query.shape[1], np.float32(query.shape[-1] ** -0.5)
        n, _, length, width = query.shape
        gradient = gradients[0].reshape(n, length, count, width).transpose(1, 2).flatten(0, 1)
        queries, keys, values = (part.flatten(0, 1) for part in (query, key, value))
        by_query, by_key, by_value = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        for some, rows, seen in _tiles(queries, count, begins):
            scores = torch.bmm(queries[some, rows], keys[some, seen].transpose(1, 2))
            by_scores = torch.bmm(gradient[some, rows], values[some, seen].transpose(1, 2))
            place = (some.start, count, rows.start, seen.start)
            known = (*_numbers(begins), scale, *_numbers(normalisers))
            layers.attend_back(place, *known, *_numbers(scores, by_scores))
            by_value[some, seen].baddbmm_(scores.transpose(1, 2), gradient[some, rows])
            by_key[some, seen].baddbmm_(by_scores.transpose(1, 2), queries[some, rows])
            torch.bmm(by_scores, keys[some, seen], out=by_query[some, rows])
        return by_query.view_as(query), by_key.view_as(key), by_value.view_as(value), None


def _tiles(queries: Tensor, heads: int, begins: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """(matrices, queries, keys) of which every query is in one tile with all it sees."""
    count, length = queries.shape[:2]
    at_once = max(1, TILE // (min(QUERIES, length) * length))
    for first in range(0, count, at_once):
        some = slice(first, min(first + at_once, count))
        for row in range(0, length, QUERIES):
            end = min(row + QUERIES, length)
            # Documents follow each other: what the first query does not see, none of the others does.
            lowest = int(begins[first // heads : (some.stop - 1) // heads + 1, row].min()) if len(begins) else 0
            yield some, slice(row, end), slice(lowest, end)


class _Gate(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> Tensor:  # type: ignore[override]
        joined = joined.contiguous()
        out = joined.new_empty(*joined.shape[:-1], joined.shape[-1] // 2)
        layers.gate(*_rows(joined, out))
        ctx.save_for_backward(joined)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (joined,) = ctx.saved_tensors
        by_joined = torch.empty_like(joined)
        layers.gate_back(*_rows(gradients[0].contiguous(), joined, by_joined))
        return by_joined


def _array(tensor: Tensor) -> Any:
    return tensor.detach().numpy()


def _numbers(*tensors: Tensor) -> Iterator[Any]:
    return map(_array, tensors)


def _copied(weight: Tensor) -> Any:
    """A vector of weights: what NumPy has seen of a parameter itself, FSDP could not free."""
    return weight.detach().clone().numpy()


def _as_rows(tensor: Tensor) -> Any:
    """All but the last dimension are rows."""
    return tensor.detach().view(-1, tensor.shape[-1]).numpy()


def _rows(*tensors: Tensor) -> Iterator[Any]:
    return map(_as_rows, tensors)
