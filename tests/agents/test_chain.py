"""Gradients written by hand equal autograd's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.manual_grad import Chain
from rltrain.agents.parts.networks import Tanh
from rltrain.agents.parts.q_network import QNetwork, at_action
from rltrain.agents.parts.settings import QNetworkKwargs
from rltrain.agents.pqn import agent as pqn
from rltrain.check.op_counter import OpCounter

VECTOR, CHOICE, TABLE = spaces.Box(-1.0, 1.0, (4,)), spaces.Discrete(3), spaces.MultiDiscrete([3, 2])
B = 16


def network(observation_space: spaces.Space = VECTOR, **settings: Any) -> QNetwork:
    torch.manual_seed(0)
    made = QNetwork(observation_space, CHOICE, QNetworkKwargs.model_validate({"net_arch": [8, 6], **settings}))
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return made


def minibatch(space: spaces.Space) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    obs = torch.randint(2, (B, 2), generator=rng) if space is TABLE else torch.randn(B, 4, generator=rng)
    action = torch.randint(3, (B,), generator=rng)
    taken = at_action(torch.ones(B), action, 3)
    return {"obs": obs, "action": action, "taken": taken, "target": 2.0 * torch.randn(B, generator=rng)}


def gradients(module: nn.Module) -> list[Tensor]:
    grads = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    module.zero_grad(set_to_none=False)
    return grads


@pytest.mark.parametrize("settings", [{}, {"activation_fn": "tanh"}, {"layer_norm": True}, {"net_arch": []}], ids=str)
@pytest.mark.parametrize("space", [VECTOR, TABLE], ids=["vector", "table"])
def test_loss_and_gradients_are_those_of_autograd(space: spaces.Space, settings: dict[str, Any]) -> None:
    net, batch = network(space, **settings), minibatch(space)
    chain = net.chain()
    assert chain is not None
    wanted = pqn.td_loss(net, batch)
    wanted.backward()
    expected = gradients(net)
    loss = pqn.td_loss_backward(net, chain, batch)
    torch.testing.assert_close(loss, wanted.detach())
    assert all(grad.abs().sum() > 0 for grad in expected)
    for mine, autograds in zip(gradients(net), expected, strict=True):
        torch.testing.assert_close(mine, autograds, rtol=1e-5, atol=1e-7)


def test_gradients_are_written_over_not_added() -> None:
    net, batch = network(), minibatch(VECTOR)
    chain = net.chain()
    assert chain is not None
    pqn.td_loss_backward(net, chain, batch)
    once = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    pqn.td_loss_backward(net, chain, batch)
    assert all(torch.equal(a, b.grad) for a, b in zip(once, net.parameters(), strict=True))  # type: ignore[arg-type]


def test_autograd_has_no_part_in_it() -> None:
    net, batch = network(), minibatch(VECTOR)
    chain = net.chain()
    assert chain is not None
    assert not pqn.td_loss_backward(net, chain, batch).requires_grad
    with OpCounter() as written_out:
        pqn.td_loss_backward(net, chain, batch)
    with OpCounter() as by_autograd:
        pqn.td_loss(net, batch).backward()
    assert written_out.total < by_autograd.total


@pytest.mark.parametrize(
    ("space", "options"),
    [(VECTOR, {"dueling": True}), (VECTOR, {"n_quantiles": 4}), (VECTOR, {"noisy": True}),
     (spaces.Box(0, 1, (5, 5, 2)), {})],
    ids=["dueling", "quantiles", "noisy", "image"],
)  # fmt: skip
def test_other_networks_have_no_chain(space: spaces.Space, options: dict[str, Any]) -> None:
    assert QNetwork(space, CHOICE, QNetworkKwargs(), **options).chain() is None
    assert QNetwork(VECTOR, CHOICE, QNetworkKwargs(activation_fn="gelu")).chain() is None


@pytest.mark.parametrize("rows", [B, 40_000], ids=["few rows", "many rows"])  # products by MKL, or by oneDNN
@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(4, 3), nn.Sequential(Tanh(), nn.Linear(3, 2)), nn.SiLU(), nn.Linear(2, 3)],
        [nn.Linear(2, 40), Tanh(), nn.Linear(40, 3)],  # few inputs beside many outputs
        [nn.Linear(4, 5), nn.LayerNorm(5), Tanh(), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2), nn.Linear(2, 2)],
        [nn.Linear(8, 9), Tanh(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8)],
    ],
    ids=["nested", "narrow", "normalised", "square"],
)
def test_any_order_of_layers(layers: list[nn.Module], rows: int) -> None:
    module = nn.Sequential(*layers)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    x = torch.randn(rows, next(module.parameters()).shape[1])
    chain, before = Chain(layers), x.clone()
    wanted = module(x)
    torch.testing.assert_close(chain.forward(x), wanted.detach())
    assert torch.equal(x, before)
    grad = torch.randn_like(wanted) / rows
    chain.backward(grad.clone())
    for mine, parameter in zip(gradients(module), module.parameters(), strict=True):
        (wanted_grad,) = torch.autograd.grad(wanted, parameter, grad, retain_graph=True)
        torch.testing.assert_close(mine, wanted_grad, rtol=1e-4, atol=1e-6)


def test_what_fits() -> None:
    inner = nn.Sequential(nn.Linear(4, 3), nn.Sequential(Tanh(), nn.Linear(3, 2)))
    assert Chain.fits([inner])
    assert not Chain.fits([inner, nn.Dropout()])
    assert not Chain.fits([nn.ReLU(), inner])  # it would write over what it is given
    assert not Chain.fits([])
