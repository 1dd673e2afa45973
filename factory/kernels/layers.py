"""What a decoder computes between its matrix products, each in one pass over rows that stay in the cache: norms, heads and
their rotations, softmax under a mask, gates, the loss.

In and out: C-contiguous float32 arrays; what is filled comes after what is read. Sums within a row are taken in vectors, in
the same order each time, whatever rows stand beside it. What is no number stays none.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import float_inner, float_kernel
from factory.kernels.floats import exp, largest

Singles = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int32]
Four = tuple[int, int, int, int]

ZERO, ONE, TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)


@float_inner
def _sigmoid(x: Any) -> Any:
    return ONE / (ONE + exp(-x))


@float_kernel
def add_norm(
    x: Singles, more: Singles, weight: Singles, eps: float, added: Singles, rates: Singles, out: Singles
) -> None:
    """added = x + more, rate = 1/√(mean added² + ε), out = added · rate · weight."""
    width = x.shape[1]
    for i in range(len(x)):
        total = ZERO
        for j in range(width):
            value = x[i, j] + more[i, j]
            added[i, j] = value
            total += value * value
        rates[i] = _rate(total, width, eps)
        for j in range(width):
            out[i, j] = added[i, j] * rates[i] * weight[j]


@float_kernel
def norm(x: Singles, weight: Singles, eps: float, rates: Singles, out: Singles) -> None:
    """rate = 1/√(mean x² + ε), out = x · rate · weight."""
    width = x.shape[1]
    for i in range(len(x)):
        total = ZERO
        for j in range(width):
            total += x[i, j] * x[i, j]
        rates[i] = _rate(total, width, eps)
        for j in range(width):
            out[i, j] = x[i, j] * rates[i] * weight[j]


@float_inner
def _rate(total: Any, width: Any, eps: Any) -> Any:
    return ONE / np.sqrt(total / np.float32(width) + np.float32(eps))


@float_kernel
def norm_back(
    gradient: Singles, beside: Singles, x: Singles, weight: Singles, rates: Singles, by_x: Singles, by_weight: Singles
) -> None:
    """by_x = beside + r (g w - y mean(g w y)) with y = x r; `by_weight` gets Σ g y. `beside` may have no rows."""
    width = x.shape[1]
    by_weight[:] = ZERO
    for i in range(len(x)):
        rate = rates[i]
        total = ZERO
        for j in range(width):
            share = gradient[i, j] * x[i, j]
            total += share * weight[j]
            by_weight[j] += share * rate
        slope = total * rate * rate * rate / np.float32(width)
        if beside.shape[0]:
            for j in range(width):
                by_x[i, j] = beside[i, j] + (gradient[i, j] * weight[j] * rate - x[i, j] * slope)
        else:
            for j in range(width):
                by_x[i, j] = gradient[i, j] * weight[j] * rate - x[i, j] * slope


@float_inner
def _turn(first: Any, second: Any, cosines: Any, sines: Any, out_first: Any, out_second: Any) -> None:
    for j in range(len(first)):
        a, b = first[j], second[j]
        out_first[j] = a * cosines[j] - b * sines[j]
        out_second[j] = b * cosines[j] + a * sines[j]


@float_kernel
def split_heads(
    joined: Singles, begins: Positions, cosines: Singles, sines: Singles, query: Singles, key: Singles, value: Singles
) -> None:
    """Rows of queries | keys | values to (sequence, head, place, ·), queries and keys turned to their positions (2104.09864).

    `begins` (sequence, place) tells where a place's document begins; without rows, all begin at 0.
    """
    heads, kv_heads, length, size = query.shape[1], key.shape[1], query.shape[2], query.shape[3]
    half = size // 2
    for i in range(len(joined)):
        n, at = i // length, i % length
        position = at - begins[n, at] if begins.shape[0] else at
        for head in range(heads + kv_heads):
            out = query[n, head, at] if head < heads else key[n, head - heads, at]
            some = joined[i, head * size : (head + 1) * size]
            _turn(some[:half], some[half:], cosines[position], sines[position], out[:half], out[half:])
        for head in range(kv_heads):
            start = (heads + kv_heads + head) * size
            value[n, head, at] = joined[i, start : start + size]


@float_kernel
def join_heads(
    query: Singles, key: Singles, value: Singles, begins: Positions, cosines: Singles, sines: Singles, joined: Singles
) -> None:
    """Gradients back: (sequence, head, place, ·), turned back, to rows of queries | keys | values."""
    heads, kv_heads, length, size = query.shape[1], key.shape[1], query.shape[2], query.shape[3]
    half = size // 2
    for i in range(len(joined)):
        n, at = i // length, i % length
        position = at - begins[n, at] if begins.shape[0] else at
        for head in range(heads + kv_heads):
            some = query[n, head, at] if head < heads else key[n, head - heads, at]
            out = joined[i, head * size : (head + 1) * size]
            # Turned the other way: with the halves exchanged, the same turn.
            _turn(some[half:], some[:half], cosines[position], sines[position], out[half:], out[:half])
        for head in range(kv_heads):
            start = (heads + kv_heads + head) * size
            joined[i, start : start + size] = value[n, head, at]


@float_kernel
def attend(scores: Singles, places: Four, begins: Positions, scale: np.float32, normalisers: Singles) -> None:
    """Softmax of scores (matrix, query, key) over the keys a query sees, in place; 0 elsewhere. Rows are matrix by matrix.

    `places` are the first matrix, how many of them are one sequence's, the first query's place and the first key's.
    A query sees the keys from its document's begin to itself. `normalisers` (matrix, place) get ln Σ e^(scale · score).
    """
    first, heads, query_place, key_place = places
    queries, keys = scores.shape[1], scores.shape[2]
    for i in range(scores.shape[0] * scores.shape[1]):
        n, at = i // queries, query_place + i % queries
        row = scores[n, i % queries]
        low = begins[(first + n) // heads, at] - key_place if begins.shape[0] else 0
        high = at + 1 - key_place
        seen = row[low:high]
        most = largest(seen)
        total = ZERO
        for j in range(len(seen)):
            likely = exp((seen[j] - most) * scale)
            seen[j] = likely
            total += likely
        normalisers[first + n, at] = most * scale + np.log(total)
        rate = ONE / total
        for j in range(len(seen)):
            seen[j] *= rate
        row[:low] = ZERO
        row[high:keys] = ZERO


@float_kernel
def attend_back(
    places: Four, begins: Positions, scale: np.float32, normalisers: Singles, scores: Singles, by_shares: Singles
) -> None:
    """In place: scores to the shares p they were made, `by_shares` (their gradient g) to the scores': scale · p (g - Σ p g)."""
    first, heads, query_place, key_place = places
    queries, keys = scores.shape[1], scores.shape[2]
    for i in range(scores.shape[0] * scores.shape[1]):
        n, at = i // queries, query_place + i % queries
        row, gradient = scores[n, i % queries], by_shares[n, i % queries]
        low = begins[(first + n) // heads, at] - key_place if begins.shape[0] else 0
        high = at + 1 - key_place
        seen, by_seen = row[low:high], gradient[low:high]
        normaliser = normalisers[first + n, at]
        total = ZERO
        for j in range(len(seen)):
            share = exp(seen[j] * scale - normaliser)
            seen[j] = share
            total += share * by_seen[j]
        for j in range(len(seen)):
            by_seen[j] = (by_seen[j] - total) * seen[j] * scale
        row[:low] = ZERO
        row[high:keys] = ZERO
        gradient[:low] = ZERO
        gradient[high:keys] = ZERO


@float_kernel
def gate(joined: Singles, out: Singles) -> None:
    """out = a sigmoid(a) b of rows a | b (SwiGLU, 2002.05202)."""
    width = out.shape[1]
    for i in range(len(out)):
        gates, values, made = joined[i, :width], joined[i, width:], out[i]
        for j in range(len(made)):
            made[j] = gates[j] * _sigmoid(gates[j]) * values[j]


@float_kernel
def gate_back(gradient: Singles, joined: Singles, by_joined: Singles) -> None:
    width = gradient.shape[1]
    for i in range(len(gradient)):
        gates, values, slopes = joined[i, :width], joined[i, width:], gradient[i]
        by_gates, by_values = by_joined[i, :width], by_joined[i, width:]
        for j in range(len(slopes)):
            rate = _sigmoid(gates[j])
            by_gates[j] = slopes[j] * values[j] * rate * (ONE + gates[j] * (ONE - rate))
            by_values[j] = slopes[j] * gates[j] * rate


@float_kernel
def losses(
    targets: npt.NDArray[np.int64],
    counted: npt.NDArray[np.bool_],
    z_loss: float,
    wanted: bool,
    logits: Singles,
    nats: Singles,
    squares: Singles,
) -> None:
    """nats = lse - logit of the target and lse² of each row, 0 where it does not count (`counted` may be empty: all do).

    Where `wanted`, the logits become the gradient of Σ (nats + z · lse²): p (1 + 2 z · lse) - [target].
    """
    width = logits.shape[1]
    for i in range(len(logits)):
        row = logits[i]
        if counted.shape[0] and not counted[i]:
            nats[i] = squares[i] = ZERO
            if wanted:
                row[:] = ZERO
            continue
        at_target, most = row[targets[i]], largest(row)
        total = ZERO
        if wanted:
            for j in range(width):
                likely = exp(row[j] - most)
                row[j] = likely
                total += likely
        else:
            for j in range(width):
                total += exp(row[j] - most)
        normaliser = most + np.log(total)
        nats[i], squares[i] = normaliser - at_target, normaliser * normaliser
        if wanted:
            rate = (ONE + TWO * np.float32(z_loss) * normaliser) / total
            for j in range(width):
                row[j] *= rate
            row[targets[i]] -= ONE
