"""Functions that are recorded and compiled as a whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rltrain import traced
from rltrain.compile import check_compiler
from rltrain.errors import ConfigError
from rltrain.traced import Traced


class Pair(NamedTuple):
    """Some results."""

    sums: dict[str, Tensor]
    none: None


@pytest.fixture(params=["as recorded", "compiled"])
def _lowered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what was recorded operation by operation, or has Inductor compile it."""
    if request.param == "as recorded":
        monkeypatch.setattr(traced, "lowered", lambda graph, inputs: lambda given: graph(*given))
        return
    try:
        check_compiler(torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(error.cause)


@pytest.mark.usefixtures("_lowered")
def test_what_shares_memory_is_changed_in_place() -> None:
    flat = torch.arange(8.0)
    parts, calls = (flat[:4].view(2, 2), flat[4:]), []

    def function(x: Tensor) -> Pair:
        calls.append(1)
        parts[0].add_(x)
        flat.mul_(2.0)
        return Pair({"first": parts[0].sum(), "second": parts[1] + x[0, 0]}, None)

    compiled = Traced(function)
    expected = torch.arange(8.0)
    for number in (1.0, 2.0, 3.0):
        expected[:4] += number
        expected *= 2.0
        result = compiled(torch.full((2, 2), number))
        assert torch.equal(flat, expected)
        assert float(result.sums["first"]) == float(expected[:4].sum())
        assert torch.equal(result.sums["second"], expected[4:] + number)
        assert result.none is None
    assert len(calls) == 1


@pytest.mark.usefixtures("_lowered")
def test_a_part_of_a_tensor_is_read_where_it_is() -> None:
    part = torch.arange(12.0).view(4, 3)[1:3]
    compiled = Traced(lambda x: x + part)
    assert torch.equal(compiled(torch.zeros(2, 3)), part)
    part += 1.0
    assert torch.equal(compiled(torch.zeros(2, 3)), part)


def test_tensors_of_different_types_that_share_memory_are_refused() -> None:
    words = torch.arange(4, dtype=torch.int32)
    numbers = words.view(torch.float32)
    with pytest.raises(ConfigError, match=r"torch\.float32 and torch\.int32 share memory.*--compile"):
        Traced(lambda x: x + words + numbers)(torch.zeros(4))


@pytest.mark.usefixtures("_lowered")
def test_a_backward_pass_is_a_part_of_it() -> None:
    def trained(compile: bool) -> list[Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net, data = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 1)), torch.randn(6, 4, 3)

        def step(x: Tensor) -> Tensor:
            for parameter in net.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()
            loss = net(x).square().mean()
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.sub_(parameter.grad, alpha=0.1)
            return loss.detach()

        step(data[0])  # gradients have a place then
        function: Any = Traced(step) if compile else step
        return [*(function(x) for x in data[1:]), *(x.detach() for x in net.parameters())]

    for mine, wanted in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.usefixtures("_lowered")
def test_other_shapes_and_attributes_are_recorded_anew() -> None:
    class Owner:
        factor = 2.0

        def __init__(self) -> None:
            self.offset = torch.ones(2)
            self.calls = 0

    owner, calls = Owner(), []

    def function(x: Tensor) -> Tensor:
        calls.append(1)
        return x + owner.offset

    compiled = Traced(function, owner)
    for x in (torch.zeros(2), torch.ones(2), torch.ones(3, 2), torch.zeros(3, 2)):
        assert torch.equal(compiled(x), x + 1)
    assert len(calls) == 2
    owner.offset = torch.full((2,), 5.0)
    for x in (torch.zeros(2), torch.ones(2)):
        assert torch.equal(compiled(x), x + 5)
    assert len(calls) == 3
