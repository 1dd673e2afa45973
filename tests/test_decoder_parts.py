"""What the decoder computes in one pass on a CPU, beside torch's own operations on the same weights."""

from dataclasses import replace

import numpy as np
import pytest

from factory.training.model import build_model, model_config
from factory.training.scales import SCALES

LENGTH = 300  # more than two tiles of attention


def model_of(**changes):
    shape = {"width": 48, "layers": 2, "heads": 3, "hidden": 72, "context": LENGTH, "init_std": 0.2} | changes
    scale = replace(SCALES["nano"], **shape)
    return build_model(model_config(scale, vocabulary=200, bos_id=None, eos_id=0), seed=3)


def numbers_of(model, *, documents, fused):
    """Loss and gradients, computed in fused parts or in torch's own operations, as where blocks are compiled."""
    import torch

    model.compiled = not fused
    model.zero_grad()
    ids = torch.arange(3 * LENGTH).reshape(3, LENGTH) * 37 % 200
    nats, objective = model(
        ids, ids.roll(-1, 1), counted=ids % 5 > 0, documents=ids.cumsum(1) // 20_000 if documents else None, z_loss=0.01
    )
    objective.backward()
    return [nats, objective.detach(), *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("changes", [{}, {"qk_norm": True}, {"heads": 4, "kv_heads": 2}, {"tied": False}])
def test_fused_parts_have_the_loss_and_the_gradients_of_torchs_operations(changes, documents):
    import torch

    model = model_of(**changes)
    ours = numbers_of(model, documents=documents, fused=True)
    for one, other in zip(ours, numbers_of(model, documents=documents, fused=False), strict=True):
        largest = float(other.abs().max())
        torch.testing.assert_close(one, other, atol=1e-5 * largest, rtol=1e-4)


def test_the_same_batch_gives_the_same_bytes():
    import torch

    model = model_of()
    first, second = (numbers_of(model, documents=True, fused=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_weight_that_is_no_number_makes_a_loss_that_is_none():
    import torch

    model = model_of()
    with torch.no_grad():
        model.model.layers[0].mlp.gate_proj.weight[0, 0] = torch.nan
    assert np.isnan(float(numbers_of(model, documents=False, fused=True)[0]))


def test_exponentials_are_those_of_double_precision_to_three_parts_in_ten_million():
    from factory.kernels.layers import gate

    x = np.linspace(-80, 80, 20_001, dtype=np.float32)
    out = np.empty((1, len(x)), np.float32)
    gate(np.concatenate([x, np.ones_like(x)])[None], out)
    exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(out[0] - exact)[x != 0].max() <= 2e-5
    assert np.abs(out[0] / np.where(x == 0, 1, exact) - 1)[x != 0].max() <= 1e-6
