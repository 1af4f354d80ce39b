"""Matrix products by oneDNN equal those of torch's linear layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rltrain.agents.parts import linear as products
from rltrain.agents.parts.linear import AVAILABLE, Linear
from rltrain.check.op_counter import OpCounter

ROWS = 4096  # of 16 x 24: enough both ways

needs_onednn = pytest.mark.skipif(not AVAILABLE, reason="this torch or this processor has no fast oneDNN products")


def layers(**options: object) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, plain = Linear(16, 24, **options), nn.Linear(16, 24, **options)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def results(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    (y.sin().sum() / len(x)).backward()
    return [y.detach(), *(tensor.grad for tensor in (x, *layer.parameters()) if tensor.grad is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [3, ROWS])
def test_values_and_gradients(rows: int, bias: bool) -> None:
    ours, plain = layers(bias=bias)
    x = torch.randn(rows, 16)
    for mine, wanted in zip(results(ours, x), results(plain, x), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)


def operations(layer: nn.Linear, x: Tensor) -> set[str]:
    with OpCounter() as counter:
        layer(x)
    return {str(name) for name in counter.counts}


@needs_onednn
def test_only_where_it_pays() -> None:
    ours, _ = layers()
    assert any("mkldnn" in name for name in operations(ours, torch.randn(ROWS, 16)))
    assert not any("mkldnn" in name for name in operations(ours, torch.randn(64, 16)))
    assert not any("mkldnn" in name for name in operations(ours.double(), torch.randn(ROWS, 16).double()))
    assert not any("mkldnn" in name for name in operations(ours.to("meta"), torch.randn(ROWS, 16, device="meta")))
    with torch.autocast("cpu", torch.bfloat16):
        assert layers()[0](torch.randn(ROWS, 16)).dtype == torch.bfloat16


@needs_onednn
@pytest.mark.parametrize("then", ["none", "tanh"])
def test_what_is_no_number_stays_none(then: str) -> None:
    x = torch.randn(ROWS, 16)
    x[5, 2] = torch.nan
    y = products.product(x, torch.randn(24, 16), torch.zeros(24), then)
    assert y[5].isnan().all()
    assert y.isnan().sum() == 24
