"""The network of action values and exploration by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from echo import VECTOR
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.exploration import EpsilonGreedy
from rltrain.agents.parts.q_network import NoisyLinear, QNetwork
from rltrain.agents.parts.settings import QNetworkKwargs
from rltrain.errors import ConfigError

CPU = torch.device("cpu")
MASKABLE = spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(3)})


def make(space: spaces.Space = VECTOR, *, layer_norm: bool = False, **options: Any) -> QNetwork:
    config = QNetworkKwargs(net_arch=[8, 6], layer_norm=layer_norm)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return QNetwork(space, spaces.Discrete(3), config, **options)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observations(rows: int) -> Tensor:
    return torch.randn(rows, 4, generator=rng(5))


def plain(network: QNetwork, obs: Tensor) -> Tensor:
    """What goes into the heads, layer by layer."""
    for layer in network.body:
        if isinstance(layer, nn.Linear):
            obs = obs @ layer.weight.T + layer.bias
        elif isinstance(layer, nn.LayerNorm):
            mean, variance = obs.mean(1, keepdim=True), obs.var(1, keepdim=True, correction=0)
            obs = (obs - mean) / (variance + 1e-5).sqrt()
        else:
            obs = obs.clamp(min=0)
    return obs


@torch.no_grad()
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("n_quantiles", [1, 5])
@pytest.mark.parametrize("dueling", [False, True])
def test_values_by_hand(dueling: bool, n_quantiles: int, layer_norm: bool) -> None:
    """Dueling: equation 9 of Wang et al. (2016), the mean of the advantages taken off, for each quantile."""
    network, obs = make(dueling=dueling, n_quantiles=n_quantiles, layer_norm=layer_norm), observations(7)
    assert sum(isinstance(layer, nn.LayerNorm) for layer in network.modules()) == 2 * layer_norm
    features = plain(network, obs)
    wanted = (features @ network.action_head.weight.T + network.action_head.bias).view(7, 3, n_quantiles)
    if dueling:
        value = features @ network.value_head.weight.T + network.value_head.bias
        wanted = value.view(7, 1, n_quantiles) + wanted - (wanted[:, :1] + wanted[:, 1:2] + wanted[:, 2:]) / 3
    torch.testing.assert_close(network.quantiles(obs), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network(obs), wanted.sum(2) / n_quantiles, rtol=1e-5, atol=1e-6)
    if dueling:  # the mean over the actions is the value of the state
        torch.testing.assert_close(network.quantiles(obs).mean(1), value, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"dueling": True}, {"n_quantiles": 4}], ids=str)
def test_forbidden_actions_are_never_the_best(options: dict[str, Any]) -> None:
    network, obs = make(MASKABLE, **options), observations(200)
    mask = torch.rand(200, 3, generator=rng()) < 0.5
    mask[:, 0] |= ~mask.any(1)
    values = network({"observation": obs, "action_mask": mask})
    free = network({"observation": obs, "action_mask": torch.ones_like(mask)})
    assert torch.equal(values[mask], free[mask])
    assert mask.gather(1, values.argmax(1, keepdim=True)).all()
    assert (values[~mask] < -1e7).all()
    assert not mask.gather(1, free.argmax(1, keepdim=True)).all()  # without the mask some would be


@torch.no_grad()
def test_noise_is_factorised_and_drawn_for_every_row() -> None:
    """Fortunato et al. (2018), equations 9 to 11: every row has weights of its own, here written out."""
    torch.manual_seed(0)
    layer = NoisyLinear(4, 3)
    layer.weight_sigma.uniform_(0.1, 0.9)
    layer.bias_sigma.uniform_(0.1, 0.9)
    x = observations(6)
    layer.drawing, layer.rng = True, rng(3)
    noisy = layer(x)

    def f(normal: Tensor) -> Tensor:
        return normal.sign() * normal.abs().sqrt()

    generator = rng(3)
    inputs, outputs = (f(torch.randn(6, size, generator=generator)) for size in (4, 3))
    for row in range(6):
        weight = layer.weight + layer.weight_sigma * torch.outer(outputs[row], inputs[row])
        bias = layer.bias + layer.bias_sigma * outputs[row]
        torch.testing.assert_close(noisy[row], weight @ x[row] + bias, rtol=1e-5, atol=1e-6)

    same_row = layer(x[:1].expand(50, 4))
    assert len(same_row.unique(dim=0)) == 50
    layer.drawing = False
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_noise_starts_as_in_the_paper() -> None:
    """Section 3.2: means within 1 / sqrt(p), deviations 0.5 / sqrt(p) for p inputs."""
    layer = NoisyLinear(100, 50)
    assert 0.09 < layer.weight.abs().max() <= 0.1
    assert layer.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert layer.weight_sigma.unique().item() == layer.bias_sigma.unique().item() == pytest.approx(0.05)


@torch.no_grad()
def test_noise_is_drawn_within_its_block_alone() -> None:
    network, obs = make(noisy=True, dueling=True), observations(5)
    assert [type(layer) for layer in (network.action_head, network.value_head)] == [NoisyLinear] * 2
    assert len(network.noisy_layers) == 4
    still = network(obs)
    state = torch.get_rng_state()
    with network.noise(rng(1)):
        drawn = network(obs)
        assert not torch.equal(network(obs), drawn)
    with network.noise(rng(1)):
        assert torch.equal(network(obs), drawn)
    with pytest.raises(ZeroDivisionError), network.noise(rng(1)):
        _ = 1 / 0
    assert not torch.equal(drawn, still)
    assert torch.equal(network(obs), still)
    assert torch.equal(torch.get_rng_state(), state)


def test_deviations_are_learned() -> None:
    network, obs = make(noisy=True), observations(5)
    with network.noise(rng()):
        network(obs).square().sum().backward()
    for layer in network.noisy_layers:
        assert layer.weight_sigma.grad.abs().max() > 0
        assert layer.bias_sigma.grad.abs().max() > 0


@pytest.mark.parametrize(
    "space", [spaces.Box(-1.0, 1.0, (2,)), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)], ids=str
)
def test_other_actions_have_no_values(space: spaces.Space) -> None:
    with pytest.raises(ConfigError, match=r"no action values .*(Box|Multi)") as error:
        QNetwork(VECTOR, space, QNetworkKwargs())
    assert "ppo" in error.value.fix


# Exploration

VALUES = torch.tensor([0.0, 2.0, 1.0])


def explored(epsilon: float, horizon: int, n: int, mask: Tensor | None = None, seed: int = 0) -> Tensor:
    """Actions (horizon, n) at the same values in each environment."""
    explore = EpsilonGreedy(horizon, n, 3, CPU, rng(seed))
    values = VALUES.expand(n, 3)
    obs: Any = torch.zeros(n, 4)
    if mask is not None:
        obs, values = {"observation": obs, "action_mask": mask.expand(n, 3)}, values.masked_fill(~mask, -1e8)
    return torch.stack([explore(values, obs, epsilon) for _ in range(horizon)])


def test_every_environment_has_a_coin_of_its_own() -> None:
    actions = explored(0.3, 200, 50)
    random = (actions != 1).float()  # two thirds of the random actions
    assert random.mean().item() == pytest.approx(0.2, abs=0.015)
    # One coin for all would make the share in a step 0 or about 2/3: a deviation of 0.3 instead of 0.06.
    assert random.mean(1).std().item() == pytest.approx((0.2 * 0.8 / 50) ** 0.5, rel=0.2)
    assert random.mean(0).std().item() == pytest.approx((0.2 * 0.8 / 200) ** 0.5, rel=0.3)


def test_random_actions_are_uniform_and_none_or_all() -> None:
    assert (explored(0.0, 20, 50) == 1).all()
    counts = torch.bincount(explored(1.0, 100, 100).flatten(), minlength=3) / 10_000
    assert counts.tolist() == pytest.approx([1 / 3] * 3, abs=0.015)


def test_whether_and_which_are_drawn_apart() -> None:
    """Given that an action is random, it is uniform at any epsilon."""
    counts = torch.bincount(explored(0.1, 400, 100).flatten(), minlength=3) / 40_000
    assert counts.tolist() == pytest.approx([0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3], abs=0.004)


def test_the_mask_binds_random_and_best_actions() -> None:
    mask = torch.tensor([True, False, True])
    actions = explored(0.5, 100, 100, mask)
    counts = torch.bincount(actions.flatten(), minlength=3) / 10_000
    assert counts.tolist() == pytest.approx([0.25, 0.0, 0.75], abs=0.015)
    assert counts[1] == 0


def test_chance_is_new_in_every_rollout() -> None:
    explore = EpsilonGreedy(4, 30, 3, CPU, rng())
    turns = [explore(VALUES.expand(30, 3), torch.zeros(30, 1), 1.0) for _ in range(12)]
    assert len({tuple(turn.tolist()) for turn in turns}) == 12
