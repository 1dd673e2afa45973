"""The forward pass of a Llama-style decoder: token ids in; logits, or the summed loss of the batch, out.

Parameters have the names and meanings they have in `transformers` (`LlamaForCausalLM`; with a norm over each head's queries
and keys, `Qwen3ForCausalLM`), so that a state of one is a state of the other and their logits agree to 1e-5. What differs is
what a step costs: rotations are tables, no mask is built where plain causal attention is meant, and the head and the loss
are one function whose gradient is made while the logits are at hand. Importing this module imports torch.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LOGITS = 1 << 21  # numbers in one part of the logits: 8 MiB, which stay in a CPU's cache between two passes over them
LOGITS_CUDA = 1 << 28


@dataclass(frozen=True)
class Shape:
    """What a decoder is built from."""

    rows: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    context: int
    tied: bool
    qk_norm: bool
    rope_theta: float
    eps: float


class Norm(nn.Module):  # type: ignore[misc]
    """Root mean square of the last dimension, in float32 (1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32:
            out: Tensor = RootMeanSquare.apply(x, self.weight, self.eps)
            return out
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)


class Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, shape.head_width
        self.q_proj = _matrix(shape.heads * shape.head_width, shape.width)
        self.k_proj = _matrix(shape.kv_heads * shape.head_width, shape.width)
        self.v_proj = _matrix(shape.kv_heads * shape.head_width, shape.width)
        self.o_proj = _matrix(shape.width, shape.heads * shape.head_width)
        if shape.qk_norm:
            self.q_norm = Norm(shape.head_width, shape.eps)
            self.k_norm = Norm(shape.head_width, shape.eps)
        self.qk_norm = shape.qk_norm

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        n, length, _ = x.shape
        query = self.q_proj(x).view(n, length, self.heads, self.head_width)
        key = self.k_proj(x).view(n, length, self.kv_heads, self.head_width)
        value = self.v_proj(x).view(n, length, self.kv_heads, self.head_width)
        if self.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = _rotate(query.transpose(1, 2), *rotation), _rotate(key.transpose(1, 2), *rotation)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=self.kv_heads != self.heads,
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(n, length, -1))
        return out


class Gated(nn.Module):  # type: ignore[misc]
    """SwiGLU (2002.05202)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = _matrix(shape.hidden, shape.width)
        self.up_proj = _matrix(shape.hidden, shape.width)
        self.down_proj = _matrix(shape.width, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Gated(shape)
        self.input_layernorm = Norm(shape.width, shape.eps)
        self.post_attention_layernorm = Norm(shape.width, shape.eps)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotation, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Stack(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.rows, shape.width, _weight=torch.empty(shape.rows, shape.width))
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.eps)


class Decoder(nn.Module):  # type: ignore[misc]
    """Called with ids alone it gives logits; with targets, (summed nats, summed objective) of the counted predictions.

    `recompute` keeps a block's input alone and computes the block again on the way back: the same bits for less memory.
    """

    recompute = False

    def __init__(self, shape: Shape, config: Any) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.model = Stack(shape)
        self.lm_head = _matrix(shape.rows, shape.width)
        if shape.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.register_buffer("cosines", torch.empty(0), persistent=False)
        self.register_buffer("sines", torch.empty(0), persistent=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.model.embed_tokens

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        counted: Tensor | None = None,
        documents: Tensor | None = None,
        z_loss: float = 0.0,
    ) -> Any:
        """`ids`, `targets` (ids), `counted` (bool) and `documents` (numbers) are (sequences, length)."""
        rotation, mask = self._places(ids, documents)
        x = self.model.embed_tokens(ids)
        for block in self.model.layers:
            again = self.recompute and torch.is_grad_enabled()
            x = checkpoint(block, x, rotation, mask, use_reentrant=False) if again else block(x, rotation, mask)
        x = self.model.norm(x)
        if targets is None:
            return self.lm_head(x)
        dtype = _matrix_dtype(x)
        counts = None if counted is None else counted.flatten()
        return HeadLoss.apply(x.flatten(0, 1), self.lm_head.weight, targets.flatten(), counts, z_loss, dtype)

    def _places(self, ids: Tensor, documents: Tensor | None) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Rotations of the positions, and what may attend to what where a row holds several documents."""
        length = ids.shape[1]
        if len(self.cosines) < length or self.cosines.device != ids.device:
            self._tabulate(max(length, self.shape.context), ids.device)
        cosines, sines = self.cosines, self.sines
        if documents is None:
            return (cosines[:length], sines[:length]), None
        at = torch.arange(length, device=ids.device)
        first = torch.ones_like(documents, dtype=torch.bool)
        first[:, 1:] = documents[:, 1:] != documents[:, :-1]
        begins = torch.where(first, at, 0).cummax(dim=1).values
        positions = at - begins
        mask = (begins[:, :, None] == begins[:, None, :]) & (at[:, None] >= at[None, :])
        return (cosines[positions][:, None], sines[positions][:, None]), mask[:, None]

    def _tabulate(self, length: int, device: torch.device) -> None:
        half = torch.arange(0, self.shape.head_width, 2, dtype=torch.int64).float() / self.shape.head_width
        frequencies = 1.0 / (self.shape.rope_theta**half)
        angles = torch.arange(length).float()[:, None] * frequencies[None, :]
        self.cosines, self.sines = angles.cos().to(device), angles.sin().to(device)


class RootMeanSquare(torch.autograd.Function):  # type: ignore[misc]
    """y = x r, out = y w with r = 1/√(mean x² + ε); back: r (g w - y mean(g w y)). Half the passes torch makes on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rate = norm.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        y = x * rate
        ctx.save_for_backward(y, weight, rate)
        return y * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        y, weight, rate = ctx.saved_tensors
        gradient = gradients[0]
        by_y = gradient * y
        mean = (by_y @ weight).unsqueeze(-1)
        by_x = torch.addcmul(gradient * weight, y, mean, value=-1 / y.shape[-1]).mul_(rate)
        return by_x, by_y.flatten(0, -2).sum(0), None


class Rotation(torch.autograd.Function):  # type: ignore[misc]
    """Rotary positions (2104.09864), the first half of a head's dimensions paired with the second; back is to turn back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(cosines, sines)
        return _turn(x, cosines, sines)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        cosines, sines = ctx.saved_tensors
        return _turn(gradients[0], cosines, -sines), None, None


class HeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """The output head and the loss in one, some rows at a time: Σ nats, and Σ (nats + z · logsumexp²) over what counts.

    With p = softmax, the objective's gradient by a logit is p (1 + 2 z · logsumexp) - [target]: it is made from p in place,
    so a logit is written once and passed over three times, and no logits outlive their part.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, counted: Tensor | None, z_loss: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        count = max(1, (LOGITS_CUDA if x.is_cuda else LOGITS) // len(weight))
        matrix = weight.to(dtype)
        needed = any(ctx.needs_input_grad[:2])
        by_x = torch.empty_like(x) if needed else None
        by_weight: Tensor | None = None
        nats_sum = torch.zeros((), device=x.device, dtype=torch.float32)
        square_sum = torch.zeros_like(nats_sum)
        for begin in range(0, len(x), count):
            some = x[begin : begin + count].to(dtype)
            wanted = targets[begin : begin + count, None]
            logits = (some @ matrix.t()).float()
            # The likeliest token's probability is never below 1/V, so its logarithm always exists.
            at_wanted, most = logits.gather(1, wanted), logits.amax(1, keepdim=True)
            likely = torch.softmax(logits, 1)
            normaliser = most - likely.amax(1, keepdim=True).log()
            nats, square = normaliser - at_wanted, normaliser.square()
            if counted is not None:
                count_here = counted[begin : begin + count, None]
                nats, square = nats.where(count_here, 0.0), square.where(count_here, 0.0)
            nats_sum += nats.sum()
            square_sum += square.sum()
            if by_x is None:
                continue
            factor = 1 + 2 * z_loss * normaliser
            likely.scatter_add_(1, wanted, -1 / factor)
            if counted is not None:
                factor = factor.where(count_here, 0.0)
            likely = likely.to(dtype)
            torch.mul(likely @ matrix, factor, out=by_x[begin : begin + count])
            share = likely.t() @ (some * factor).to(dtype)
            by_weight = share.float() if by_weight is None else by_weight.add_(share)
        if needed:
            ctx.save_for_backward(by_x, by_weight)
            ctx.dtypes = x.dtype, weight.dtype
        ctx.mark_non_differentiable(nats_sum)
        return nats_sum, nats_sum + z_loss * square_sum

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        by_x, by_weight = ctx.saved_tensors
        scale = gradients[1]
        x_dtype, weight_dtype = ctx.dtypes
        return (by_x * scale).to(x_dtype), (by_weight * scale).to(weight_dtype), None, None, None, None


def _matrix(out: int, into: int) -> nn.Linear:
    # Built without values: they are drawn by name, or read.
    return nn.utils.skip_init(nn.Linear, into, out, bias=False)


def _rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    out: Tensor = Rotation.apply(x, cosines, sines)
    return out


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x.float().chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    begin, end = out.chunk(2, dim=-1)
    torch.mul(first, cosines, out=begin).addcmul_(second, sines, value=-1)
    torch.mul(second, cosines, out=end).addcmul_(first, sines)
    return out.to(x.dtype)


def _matrix_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
