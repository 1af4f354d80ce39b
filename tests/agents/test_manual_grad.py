"""Gradients written by hand equal autograd's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.dqn import loss as dqn
from rltrain.agents.parts.manual_grad import Perceptron, evaluate, fit
from rltrain.agents.parts.networks import Tanh
from rltrain.agents.parts.q_network import QNetwork, at_action
from rltrain.agents.parts.settings import QNetworkKwargs
from rltrain.agents.pqn import agent as pqn
from rltrain.check.op_counter import OpCounter

VECTOR, CHOICE, TABLE = spaces.Box(-1.0, 1.0, (4,)), spaces.Discrete(3), spaces.MultiDiscrete([3, 2])
IMAGE = spaces.Box(0, 1, (5, 5, 2))
B = 16


def network(observation_space: spaces.Space = VECTOR, **settings: Any) -> QNetwork:
    torch.manual_seed(0)
    options = {name: settings.pop(name) for name in ("dueling", "n_quantiles", "noisy") if name in settings}
    config = QNetworkKwargs.model_validate({"net_arch": [8, 6], **settings})
    made = QNetwork(observation_space, CHOICE, config, **options)
    for parameter in made.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)  # nothing may be added to what is there
    return made


def minibatch(space: spaces.Space, k: int = 1) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    obs = torch.randint(2, (B, 2), generator=rng) if space is TABLE else torch.randn(B, *space.shape, generator=rng)
    action, weight = torch.randint(3, (B,), generator=rng), torch.rand(B, generator=rng)
    target = 2.0 * torch.randn(B, k, generator=rng)  # errors on both sides of the Huber loss's bend
    ones = at_action(torch.ones(B), action, 3)
    return {"obs": obs, "action": action, "taken": ones, "share": ones * weight.unsqueeze(1) / B, "target": target}


def by_the_book(agent: str, net: QNetwork, batch: dict[str, Tensor]) -> Tensor:
    """The loss alone."""
    values = (net.quantiles(batch["obs"]) * batch["taken"].unsqueeze(2)).sum(1)
    target, weight = batch["target"].to(values.dtype), batch["share"].sum(1)
    if agent == "pqn":
        return 0.5 * (values - target).square().mean()
    distance = target.unsqueeze(1) - values.unsqueeze(2)
    k = values.shape[1]
    levels = (torch.arange(k) + 0.5) / k if k > 1 else torch.ones(1)
    far = (levels.unsqueeze(1) - (distance.detach() < 0).float()).abs() if k > 1 else levels
    huber = torch.where(distance.abs() < 1, 0.5 * distance.square(), distance.abs() - 0.5)
    return ((far * huber).mean(2).sum(1) * weight).sum()


NETWORKS: list[dict[str, Any]] = [
    {},
    {"activation_fn": "tanh"},
    {"activation_fn": "silu"},
    {"layer_norm": True},
    {"net_arch": []},
    {"activation_fn": "gelu"},
]
OF_DQN_ALONE: list[dict[str, Any]] = [{"dueling": True}, {"n_quantiles": 4}, {"n_quantiles": 4, "dueling": True}]


def learn(agent: str, net: QNetwork, batch: dict[str, Tensor]) -> tuple[Tensor | None, Tensor]:
    """What there is to differentiate, and the loss."""
    if agent == "pqn":
        return pqn.td_loss(net, {**batch, "target": batch["target"].squeeze(1)})
    return dqn.td_loss(net, batch)[:2]


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        *((agent, settings) for agent in ("dqn", "pqn") for settings in NETWORKS),
        *(("dqn", settings) for settings in OF_DQN_ALONE),
    ],
    ids=str,
)
@pytest.mark.parametrize("space", [VECTOR, TABLE, IMAGE], ids=["vector", "table", "image"])
def test_losses_and_gradients_are_those_of_autograd(agent: str, space: spaces.Space, settings: dict[str, Any]) -> None:
    """Of the loss by the book, whatever the network is made of."""
    k = settings.get("n_quantiles", 1)
    net, batch = network(space, **settings), minibatch(space, k)
    plain = copy.deepcopy(net)
    plain.zero_grad()
    wanted = by_the_book(agent, plain, batch)
    wanted.backward()
    scalar, loss = learn(agent, net, batch)
    if scalar is not None:
        net.zero_grad()
        scalar.backward()
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-5, atol=1e-6)
    for mine, right in zip(net.parameters(), plain.parameters(), strict=True):
        assert right.grad is not None
        assert mine.grad is not None
        assert right.grad.abs().sum() > 0
        torch.testing.assert_close(mine.grad, right.grad, rtol=1e-4, atol=1e-6)


def test_autograd_has_no_part_in_it() -> None:
    net, batch = network(), minibatch(VECTOR)
    with OpCounter() as written_out:
        scalar, loss = learn("dqn", net, batch)
    assert scalar is None
    assert not loss.requires_grad
    with OpCounter() as by_autograd:
        by_the_book("dqn", net, batch).backward()
    assert written_out.total < by_autograd.total / 2


@pytest.mark.parametrize("stacked", [False, True], ids=["one network", "three"])
@pytest.mark.parametrize("rows", [B, 40_000], ids=["few rows", "many rows"])
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
def test_any_order_of_layers(layers: list[nn.Module], rows: int, stacked: bool) -> None:
    module = nn.Sequential(*layers)
    modules = [module]
    if stacked:
        modules = [copy.deepcopy(module) for _ in range(3)]
        for each in modules:
            for parameter in each.parameters():
                torch.nn.init.normal_(parameter)
        module = copy.deepcopy(module)
        for name, _ in list(module.named_parameters()):
            parent, _, attribute = name.rpartition(".")
            rows_of_it = torch.stack([each.get_parameter(name).detach() for each in modules])
            setattr(module.get_submodule(parent), attribute, nn.Parameter(rows_of_it))
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    xs = [torch.randn(rows, next(modules[0].parameters()).shape[1]) for _ in modules]
    x = torch.stack(xs) if stacked else xs[0]
    before = x.clone()
    found = evaluate(x, Perceptron(module))
    assert found is not None
    (y,), back = found
    grads = torch.randn(len(modules), *y.shape[-2:]) / rows
    assert not y.requires_grad
    assert back(grads.clone() if stacked else grads[0].clone()) is None
    assert torch.equal(x, before)
    for k, (each, one) in enumerate(zip(modules, xs, strict=True)):
        wanted = each(one)
        torch.testing.assert_close(y[k] if stacked else y, wanted.detach())
        wanted_grads = torch.autograd.grad(wanted, list(each.parameters()), grads[k])
        for mine, wanted_grad in zip(module.parameters(), wanted_grads, strict=True):
            assert mine.grad is not None
            torch.testing.assert_close(mine.grad[k] if stacked else mine.grad, wanted_grad, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_parameters_that_have_moved_are_found() -> None:
    net, obs = network(), torch.randn(B, 4)
    before = net(obs)
    moved = copy.deepcopy(net)
    for parameter in moved.parameters():
        parameter.data = parameter.data.clone().mul_(2.0)
    for parameter in net.parameters():
        parameter.mul_(2.0)  # which has stayed where it was
    assert torch.equal(moved(obs), net(obs))
    assert not torch.equal(net(obs), before)


def test_what_fits() -> None:
    inner, x = nn.Sequential(nn.Linear(4, 3), nn.Sequential(Tanh(), nn.Linear(3, 2))), torch.randn(5, 4)
    assert fit(x, Perceptron(inner), Perceptron(nn.Linear(4, 2), nn.ReLU()))
    assert not fit(x.clone().requires_grad_(), Perceptron(inner))
    assert not fit(x.unsqueeze(0), Perceptron(inner))
    bare = [nn.Linear(4, 3), nn.LayerNorm(3, elementwise_affine=False)]
    for unknown in ([inner, nn.Dropout()], [nn.ReLU(), inner], [], [inner, nn.ReLU(), Tanh()], bare):
        assert not fit(x, Perceptron(*unknown))
        if unknown:
            expected = nn.Sequential(*unknown).eval()(x)
            assert torch.equal(Perceptron(*unknown)(x), expected)
    assert not fit(x, Perceptron(nn.Linear(4, 3, bias=False)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fit(x, Perceptron(inner))
