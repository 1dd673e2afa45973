"""The forward pass of a Llama-style decoder: token ids in; logits, or the summed loss of the batch, out.

Parameters have the names and meanings they have in `transformers` (`LlamaForCausalLM`; with a norm over each head's queries
and keys, `Qwen3ForCausalLM`), so that a state of one is a state of the other and their logits agree to 1e-5. What differs is
what a step costs: rotations are tables, no mask is built where plain causal attention is meant, the head and the loss are one
function whose gradient is made while the logits are at hand, and on a CPU in float32 what lies between the products is made
in one pass each (`factory.training.fused`). Importing this module imports torch.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from factory.training import fused

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


class Places(NamedTuple):
    """Where tokens stand: rotations by position (and by sequence, where it holds several documents), what may see what.

    `begins` is what the fused parts read instead of a mask: where each token's document begins, without rows where all
    begin at 0; their rotations are tables by position. None where torch's own operations are used.
    """

    cosines: Tensor
    sines: Tensor
    mask: Tensor | None
    begins: Tensor | None


class Norm(nn.Module):  # type: ignore[misc]
    """Root mean square of the last dimension, in float32 (1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor, use_fused: bool) -> Tensor:
        if use_fused:
            return fused.norm(x, self.weight, self.eps)
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)

    def add(self, x: Tensor, more: Tensor, use_fused: bool) -> tuple[Tensor, Tensor]:
        """The sum, and the norm of it."""
        if use_fused:
            return fused.add_norm(x, more, self.weight, self.eps)
        x = x + more
        return x, self(x, use_fused)


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

    def forward(self, x: Tensor, places: Places) -> Tensor:
        query, key, value = self._fused_heads(x, places) if places.begins is not None else self._heads(x, places)
        if places.begins is not None and self.kv_heads == self.heads:
            return fused.product(fused.attention(query, key, value, places.begins), self.o_proj.weight)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=places.mask,
            is_causal=places.mask is None,
            enable_gqa=self.kv_heads != self.heads,
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        n, length, _ = x.shape
        query = self.q_proj(x).view(n, length, self.heads, self.head_width)
        key = self.k_proj(x).view(n, length, self.kv_heads, self.head_width)
        value = self.v_proj(x).view(n, length, self.kv_heads, self.head_width)
        if self.qk_norm:
            query, key = self.q_norm(query, False), self.k_norm(key, False)
        query, key = (_rotate(each.transpose(1, 2), places.cosines, places.sines) for each in (query, key))
        return query, key, value.transpose(1, 2)

    def _fused_heads(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        weights = [self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]
        joined = fused.product(x, torch.cat(weights))
        if self.qk_norm:
            counts = [len(weight) for weight in weights]
            query, key, value = joined.split(counts, dim=-1)
            query, key = (
                norm(each.unflatten(-1, (-1, self.head_width)), True).flatten(2)
                for norm, each in ((self.q_norm, query), (self.k_norm, key))
            )
            joined = torch.cat((query, key, value), dim=-1)
        numbers = self.heads, self.kv_heads, self.head_width
        query, key, value = fused.heads(joined, numbers, places.begins, places.cosines, places.sines)
        return query, key, value


class Gated(nn.Module):  # type: ignore[misc]
    """SwiGLU (2002.05202)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = _matrix(shape.hidden, shape.width)
        self.up_proj = _matrix(shape.hidden, shape.width)
        self.down_proj = _matrix(shape.width, shape.hidden)

    def forward(self, x: Tensor, use_fused: bool) -> Tensor:
        if use_fused:
            joined = fused.product(x, torch.cat([self.gate_proj.weight, self.up_proj.weight]))
            return fused.product(fused.gate(joined), self.down_proj.weight)
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Gated(shape)
        self.input_layernorm = Norm(shape.width, shape.eps)
        self.post_attention_layernorm = Norm(shape.width, shape.eps)

    def forward(self, x: Tensor, more: Tensor | None, places: Places) -> tuple[Tensor, Tensor]:
        """The stream is x + more; returned alike, since the norm that comes next adds them."""
        use_fused = places.begins is not None
        if more is None:
            normed = self.input_layernorm(x, use_fused)
        else:
            x, normed = self.input_layernorm.add(x, more, use_fused)
        x, normed = self.post_attention_layernorm.add(x, self.self_attn(normed, places), use_fused)
        return x, self.mlp(normed, use_fused)


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
    compiled = False  # blocks are compiled, which fuses torch's own operations

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
        x = self.model.embed_tokens(ids)
        use_fused = fused.usable(x) and not self.compiled
        places = self._places(ids, documents, use_fused)
        more: Tensor | None = None
        for block in self.model.layers:
            again = self.recompute and torch.is_grad_enabled()
            x, more = checkpoint(block, x, more, places, use_reentrant=False) if again else block(x, more, places)
        _, x = self.model.norm.add(x, more, use_fused)
        if targets is None:
            return self.lm_head(x)
        dtype = _matrix_dtype(x)
        counts = None if counted is None else counted.flatten()
        return HeadLoss.apply(x.flatten(0, 1), self.lm_head.weight, targets.flatten(), counts, z_loss, dtype)

    def _places(self, ids: Tensor, documents: Tensor | None, use_fused: bool) -> Places:
        length = ids.shape[1]
        if len(self.cosines) < length or self.cosines.device != ids.device:
            self._tabulate(max(length, self.shape.context), ids.device)
        cosines, sines = self.cosines, self.sines
        if documents is None:
            begins = torch.empty(0, length, dtype=torch.int32) if use_fused else None
            return Places(cosines[:length], sines[:length], None, begins)
        at = torch.arange(length, device=ids.device)
        first = torch.ones_like(documents, dtype=torch.bool)
        first[:, 1:] = documents[:, 1:] != documents[:, :-1]
        begins = torch.where(first, at, 0).cummax(dim=1).values
        mask = None
        if not use_fused or self.shape.heads != self.shape.kv_heads:
            mask = ((begins[:, :, None] == begins[:, None, :]) & (at[:, None] >= at[None, :]))[:, None]
        if use_fused:
            return Places(cosines[:length], sines[:length], mask, begins.int())
        positions = at - begins
        return Places(cosines[positions][:, None], sines[positions][:, None], mask, None)

    def _tabulate(self, length: int, device: torch.device) -> None:
        half = torch.arange(0, self.shape.head_width, 2, dtype=torch.int64).float() / self.shape.head_width
        frequencies = 1.0 / (self.shape.rope_theta**half)
        angles = torch.arange(length).float()[:, None] * frequencies[None, :]
        self.cosines, self.sines = angles.cos().to(device), angles.sin().to(device)


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
        use_fused = fused.usable(x) and dtype == torch.float32
        by_x = torch.empty_like(x) if needed else None
        by_weight: Tensor | None = None
        nats_sum = torch.zeros((), device=x.device, dtype=torch.float32)
        square_sum = torch.zeros_like(nats_sum)
        for begin in range(0, len(x), count):
            some = x[begin : begin + count].to(dtype)
            wanted = targets[begin : begin + count, None]
            if use_fused:
                here = None if counted is None else counted[begin : begin + count]
                slopes = fused.by_transposed(some, matrix)
                nats, square = fused.losses(slopes, wanted[:, 0], here, z_loss, by_x is not None)
                nats_sum += nats.sum()
                square_sum += square.sum()
                if by_x is not None:
                    by_x[begin : begin + count] = fused.by_transposed(slopes, matrix.t())
                    share = slopes.t() @ some
                    by_weight = share if by_weight is None else by_weight.add_(share)
                continue
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
            ctx.made = by_x, by_weight  # used up by going back
            ctx.dtypes = x.dtype, weight.dtype
        ctx.mark_non_differentiable(nats_sum)
        return nats_sum, nats_sum + z_loss * square_sum

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        by_x, by_weight = ctx.made
        scale = gradients[1]
        x_dtype, weight_dtype = ctx.dtypes
        return by_x.mul_(scale).to(x_dtype), by_weight.mul_(scale).to(weight_dtype), None, None, None, None


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
