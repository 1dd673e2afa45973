"""What a decoder does between its matrix products, on a CPU in float32: norms, rotations, attention, gates, and log-sum-exp.

Tokens stand one after the other without padding. Attention reads keys and values from a buffer by position: token t writes
its own at `positions[t]` and sees what stands at 0 … `positions[t]`. So where tokens come in the order of a walk down a tree
of texts, depth first, each sees its own path, whatever other branches were written before. `lanes` tell apart buffers of
texts that go on side by side. Numbers that are not finite stay so.
"""

import math

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import float_inner, float_kernel
from factory.kernels.floats import exp, largest

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_ONE = np.float32(1.0)


@float_kernel
def normalise(x: Singles, weight: Singles, eps: np.float32, out: Singles) -> None:
    """Root mean square of each row (1910.07467)."""
    width = x.shape[1]
    for t in range(x.shape[0]):
        row, own = x[t], out[t]
        total = np.float32(0)
        for d in range(width):
            total += row[d] * row[d]
        rate = _ONE / np.float32(math.sqrt(total / np.float32(width) + eps))
        for d in range(width):
            own[d] = row[d] * rate * weight[d]


@float_kernel
def add_normalise(x: Singles, more: Singles, weight: Singles, eps: np.float32, out: Singles) -> None:
    """x += more, and its norm."""
    width = x.shape[1]
    for t in range(x.shape[0]):
        row, own, added = x[t], out[t], more[t]
        total = np.float32(0)
        for d in range(width):
            value = row[d] + added[d]
            row[d] = value
            total += value * value
        rate = _ONE / np.float32(math.sqrt(total / np.float32(width) + eps))
        for d in range(width):
            own[d] = row[d] * rate * weight[d]


@float_kernel
def rotate(
    x: Singles,
    first: int,
    heads: int,
    positions: Integers,
    cosines: Singles,
    sines: Singles,
    weight: Singles,
    eps: np.float32,
) -> None:
    """Turn `heads` heads of each row, from column `first` on, by their position (2104.09864); before that their norm, if any."""
    half = cosines.shape[1]
    for t in range(x.shape[0]):
        cosine, sine = cosines[positions[t]], sines[positions[t]]
        for h in range(heads):
            begin = first + 2 * h * half
            one, other = x[t, begin : begin + half], x[t, begin + half : begin + 2 * half]
            if len(weight):
                total = np.float32(0)
                for d in range(half):
                    total += one[d] * one[d] + other[d] * other[d]
                rate = _ONE / np.float32(math.sqrt(total / np.float32(2 * half) + eps))
                for d in range(half):
                    one[d] *= rate * weight[d]
                    other[d] *= rate * weight[half + d]
            for d in range(half):
                a, b = one[d], other[d]
                one[d] = a * cosine[d] - b * sine[d]
                other[d] = b * cosine[d] + a * sine[d]


@float_kernel
def attend(
    pairs: Singles,
    first: int,
    positions: Integers,
    lanes: Integers,
    keys: Singles,
    values: Singles,
    queries: Singles,
    asked: Integers,
    out: Singles,
) -> None:
    """Causal attention. `pairs` holds keys and then values of each token, from column `first` on; `asked[k]` is the token
    of row k of `queries` (rising), for which `out` is made; `keys` and `values` are (lanes, heads, positions, width)."""
    groups, width = keys.shape[1], keys.shape[3]
    heads = out.shape[1] // width // groups  # that share keys
    scale = np.float32(1 / math.sqrt(width))
    scores = np.empty(keys.shape[2] + 8, np.float32)
    for g in range(groups):
        at_key, at_value = first + g * width, first + (groups + g) * width
        k = 0
        for t in range(len(positions)):
            known, kept = keys[lanes[t], g], values[lanes[t], g]
            place = positions[t]
            known[place] = pairs[t, at_key : at_key + width]
            kept[place] = pairs[t, at_value : at_value + width]
            if k == len(asked) or asked[k] != t:
                continue
            for h in range(g * heads, (g + 1) * heads):
                _look(queries[k, h * width : (h + 1) * width], known, kept, place + 1, scale, scores, out, k, h * width)
            k += 1


@float_inner
def _look(
    query: Singles,
    known: Singles,
    kept: Singles,
    count: int,
    scale: np.float32,
    scores: Singles,
    out: Singles,
    k: int,
    begin: int,
) -> None:
    width = len(query)
    for j in range(0, count - 3, 4):
        key0, key1, key2, key3 = known[j], known[j + 1], known[j + 2], known[j + 3]
        sum0, sum1, sum2, sum3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for d in range(width):
            q = query[d]
            sum0 += q * key0[d]
            sum1 += q * key1[d]
            sum2 += q * key2[d]
            sum3 += q * key3[d]
        scores[j], scores[j + 1], scores[j + 2], scores[j + 3] = sum0, sum1, sum2, sum3
    for j in range(count // 4 * 4, count):
        key, total = known[j], np.float32(0)
        for d in range(width):
            total += query[d] * key[d]
        scores[j] = total
    most = largest(scores[:count])
    total = np.float32(0)
    for j in range(count):
        value = exp((scores[j] - most) * scale)
        scores[j] = value
        total += value
    rate = _ONE / total
    own = out[k, begin : begin + width]
    for d in range(width):
        own[d] = 0
    for j in range(0, count - 3, 4):
        w0, w1, w2, w3 = scores[j] * rate, scores[j + 1] * rate, scores[j + 2] * rate, scores[j + 3] * rate
        value0, value1, value2, value3 = kept[j], kept[j + 1], kept[j + 2], kept[j + 3]
        for d in range(width):
            own[d] += w0 * value0[d] + w1 * value1[d] + w2 * value2[d] + w3 * value3[d]
    for j in range(count // 4 * 4, count):
        w0, value0 = scores[j] * rate, kept[j]
        for d in range(width):
            own[d] += w0 * value0[d]


@float_kernel
def gate(x: Singles, out: Singles) -> None:
    """silu of the first half of each row times the second (2002.05202)."""
    width = out.shape[1]
    for t in range(x.shape[0]):
        one, other, own = x[t, :width], x[t, width:], out[t]
        for d in range(width):
            value = one[d]
            own[d] = value * other[d] / (_ONE + exp(-value))


@float_kernel
def surprises(logits: Singles, begins: Integers, targets: Integers, nats: Singles, greedy: Flags) -> None:
    """-ln softmax at `targets`, and whether each is the first of the largest; those of row r are begins[r] … begins[r + 1]."""
    for r in range(logits.shape[0]):
        row = logits[r]
        most = largest(row)
        total = np.float32(0)
        for j in range(len(row)):
            total += exp(row[j] - most)
        normaliser = most + np.float32(math.log(total))
        for k in range(begins[r], begins[r + 1]):
            own = row[targets[k]]
            nats[k] = normaliser - own
            greedy[k] = own == most and _is_first(row, targets[k])


@float_inner
def _is_first(row: Singles, at: int) -> bool:
    found = at
    for j in range(at):
        if row[j] == row[at]:
            found = j
            break
    return found == at
