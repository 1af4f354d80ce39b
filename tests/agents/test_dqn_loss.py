"""DQN's targets and loss by hand, one update and the target network's timing against Stable-Baselines3's."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from echo import make_agent
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from rltrain.agents.dqn.agent import DQN
from rltrain.agents.dqn.loss import td_loss
from rltrain.agents.parts.manual_grad import Back, by_autograd
from rltrain.agents.parts.q_network import at_action
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.td import td_target
from rltrain.vec import VecStep

ROWS, ACTIONS = 12, 3


class Given(nn.Module):
    """A network that says what it was told to: quantiles (B, A, K), those of forbidden actions included."""

    def __init__(self, values: Tensor, allowed: Tensor | None = None) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.n_quantiles = values.shape[2]
        self.allowed = torch.ones(values.shape[:2], dtype=torch.bool) if allowed is None else allowed

    def quantiles(self, obs: Tensor) -> Tensor:
        return self.values

    def evaluate(self, obs: Tensor) -> tuple[Tensor, Back]:
        (values,), back = by_autograd(self.values if self.n_quantiles > 1 else self.values.squeeze(2))
        return values, back

    def forward(self, obs: Tensor) -> Tensor:
        return self.values.mean(2).masked_fill(~self.allowed, -1e8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batch(seed: int = 0) -> Batch:
    generator = rng(seed)
    obs = torch.zeros(ROWS, 1)
    terminated = torch.arange(ROWS) % 3 == 0
    discount = torch.tensor([0.9, 0.81, 0.729]).double().repeat(4)  # some reached further than others
    reward = 3 * torch.randn(ROWS, dtype=torch.float64, generator=generator)
    action = torch.randint(ACTIONS, (ROWS,), generator=generator)
    weight = torch.rand(ROWS, dtype=torch.float64, generator=generator)
    return Batch(obs, action, reward, obs, discount, terminated, weight, torch.arange(ROWS))


def random_values(k: int, seed: int) -> Tensor:
    return 2 * torch.randn(ROWS, ACTIONS, k, dtype=torch.float64, generator=rng(seed))


def best_of(values: list[float], allowed: list[bool]) -> int:
    return max((value, action) for action, value in enumerate(values) if allowed[action])[1]


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("double", [False, True], ids=["", "double"])
def test_targets_are_those_of_a_loop(double: bool, k: int, masked: bool) -> None:
    allowed = torch.rand(ROWS, ACTIONS, generator=rng(9)) < 0.6 if masked else torch.ones(ROWS, ACTIONS) > 0
    allowed[:, 1] |= ~allowed.any(1)
    batch, target_values, own_values = random_batch(), random_values(k, 1), random_values(k, 2)
    target_values[batch.terminated] = torch.nan  # behind a termination nothing may be looked at
    networks = Given(target_values, allowed), Given(own_values, allowed)
    target = td_target(batch, networks[0], networks[1] if double else None)
    assert target.shape == (ROWS, k)
    assert not target.requires_grad
    chooser = own_values if double else target_values
    for row in range(ROWS):
        best = best_of(chooser[row].mean(1).tolist(), allowed[row].tolist())
        for quantile in range(k):
            wanted = batch.reward[row].item()
            if not batch.terminated[row]:
                wanted += batch.discount[row].item() * target_values[row, best, quantile].item()
            assert target[row, quantile].item() == pytest.approx(wanted, abs=1e-12)


def huber(x: float) -> float:
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def as_batch(batch: Batch, target: Tensor) -> dict[str, Any]:
    share = at_action(batch.weight / ROWS, batch.action, ACTIONS)
    return {"obs": batch.obs, "action": batch.action, "share": share, "target": target}


def test_the_loss_is_that_of_a_loop() -> None:
    """Mean over the rows of w huber(Q(s, a) - target); its gradient the weighted error clipped at 1."""
    batch, values = random_batch(), random_values(1, 3)
    target = 2 * torch.randn(ROWS, 1, dtype=torch.float64, generator=rng(4))
    network = Given(values.clone())
    scalar, loss, errors = td_loss(network, as_batch(batch, target))
    scalar.backward()
    error = errors.gather(1, batch.action.unsqueeze(1)).squeeze(1)
    total, gradient = 0.0, torch.zeros_like(values)
    for row in range(ROWS):
        action, weight = int(batch.action[row]), batch.weight[row].item()
        difference = values[row, action, 0].item() - target[row, 0].item()
        total += weight * huber(difference) / ROWS
        gradient[row, action, 0] = weight * max(-1.0, min(1.0, difference)) / ROWS
        assert abs(error[row].item()) == pytest.approx(abs(difference), abs=1e-12)
    assert loss.item() == pytest.approx(total, abs=1e-12)
    torch.testing.assert_close(network.values.grad, gradient, rtol=0, atol=1e-12)
    assert error.shape == (ROWS,)
    assert not error.requires_grad


def test_the_quantile_loss_is_that_of_a_loop() -> None:
    """Dabney et al. (2018), equation 10: rho(u) = |tau - 1[u < 0]| huber(u); summed over ours, mean over theirs."""
    k = 4
    batch, values = random_batch(), random_values(k, 3)
    target = 2 * torch.randn(ROWS, k, dtype=torch.float64, generator=rng(4))
    network = Given(values.clone())
    scalar, loss, error = td_loss(network, as_batch(batch, target))
    scalar.backward()
    total, gradient = 0.0, torch.zeros_like(values)
    for row in range(ROWS):
        action, weight, far = int(batch.action[row]), batch.weight[row].item(), 0.0
        for i in range(k):
            level = (2 * i + 1) / (2 * k)
            for j in range(k):
                u = target[row, j].item() - values[row, action, i].item()
                scale = weight * abs(level - (u < 0)) / k / ROWS
                total += scale * huber(u)
                gradient[row, action, i] -= scale * max(-1.0, min(1.0, u))
                far += abs(u) / k**2
        assert error[row].item() == pytest.approx(far, abs=1e-12)
    assert loss.item() == pytest.approx(total, abs=1e-12)
    torch.testing.assert_close(network.values.grad, gradient, rtol=0, atol=1e-12)


def test_quantiles_of_a_known_distribution_are_found() -> None:
    """Of numbers 0 to 1000, evenly spread, the levels themselves: 10 for 1 percent of them."""
    k = 5
    network = Given(torch.full((1, 1, k), 500.0, dtype=torch.float64))
    samples = torch.linspace(0.0, 1000.0, 501, dtype=torch.float64).unsqueeze(0)
    batch = {"obs": None, "action": torch.zeros(1, dtype=torch.int64), "share": torch.ones(1, 1), "target": samples}
    for _ in range(2000):
        network.values.grad = None
        td_loss(network, batch)[0].backward()
        network.values.data -= 10.0 * network.values.grad
    assert network.values.flatten().tolist() == pytest.approx([100.0, 300.0, 500.0, 700.0, 900.0], abs=2.0)


# Against Stable-Baselines3


class Nothing(gym.Env):
    """Only its spaces are needed."""

    observation_space = spaces.Box(-10.0, 10.0, (4,))
    action_space = spaces.Discrete(ACTIONS)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(4, np.float32), 0.0, False, False, {}


def in_their_names(ours: DQN) -> dict[str, Tensor]:
    """A copy of our networks under the names of Stable-Baselines3."""
    copied = {}
    for name, network in (("q_net", ours.policy), ("q_net_target", ours.target)):
        layers = [layer for layer in (*network.body, network.action_head) if isinstance(layer, nn.Linear)]
        for number, layer in enumerate(layers):
            copied[f"{name}.q_net.{2 * number}.weight"] = layer.weight.detach().clone()
            copied[f"{name}.q_net.{2 * number}.bias"] = layer.bias.detach().clone()
    return copied


def pair(num_envs: int = 1, **settings: Any) -> tuple[DQN, stable_baselines3.DQN]:
    """Ours and theirs with the same weights; the target network has others."""
    envs = stable_baselines3.common.vec_env.DummyVecEnv([Nothing] * num_envs)
    theirs = stable_baselines3.DQN("MlpPolicy", envs, buffer_size=1_000, device="cpu", **settings)
    theirs.set_logger(Logger(folder=None, output_formats=[]))
    ours = make_agent(
        Nothing.observation_space,
        Nothing.action_space,
        num_envs,
        kind=DQN,
        **{"policy_kwargs": {"net_arch": [64, 64]}, "buffer_size": 1_000, **settings},
    )
    with torch.no_grad():
        generator = rng(7)
        for parameter in ours.target.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    theirs.policy.load_state_dict(in_their_names(ours))
    return ours, theirs


def samples(rows: int, seed: int) -> ReplayBufferSamples:
    generator = rng(seed)
    obs, next_obs = torch.randn(2, rows, 4, generator=generator)
    actions = torch.randint(ACTIONS, (rows, 1), generator=generator)
    dones = (torch.rand(rows, 1, generator=generator) < 0.3).float()
    return ReplayBufferSamples(obs, actions, next_obs, dones, 5 * torch.randn(rows, 1, generator=generator))


def test_updates_equal_stable_baselines3() -> None:
    """Three steps of Adam on given minibatches, the gradient clipped in each: parameters within 1e-6."""
    settings = {"learning_rate": 1e-3, "batch_size": 32, "gamma": 0.97, "max_grad_norm": 0.1, "gradient_steps": 3}
    ours, theirs = pair(**settings, learning_starts=0, target_update_interval=1_000)
    given = [samples(32, seed) for seed in range(3)]
    before = in_their_names(ours)

    batches = iter(given)
    theirs.replay_buffer.sample = lambda *args, **kwargs: next(batches)
    theirs.train(gradient_steps=3, batch_size=32)

    def sample(size: int, generator: torch.Generator) -> Batch:
        """All three at once, if asked for: they are cut up again."""
        many = [torch.cat(parts) for parts in zip(*(list(s[:5]) for s in given), strict=True)]
        assert size == 96
        obs, actions, next_obs, dones, rewards = many
        ones = torch.ones(96)
        place = torch.arange(96)
        return Batch(
            obs, actions.squeeze(1), rewards.squeeze(1), next_obs, 0.97 * ones, dones.squeeze(1) > 0, ones, place
        )

    ours.replay.sample = sample
    ours.steps = 4
    metrics = ours.learn()

    after = in_their_names(ours)
    for name, value in theirs.policy.state_dict().items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
        assert torch.equal(after[name], before[name]) == ("target" in name)
    assert metrics["train/loss"].item() == pytest.approx(float(theirs.logger.name_to_value["train/loss"]), abs=1e-5)
    assert metrics["train/grad_norm"] > settings["max_grad_norm"]
    assert metrics["train/n_updates"] == theirs._n_updates == 3


@pytest.mark.parametrize(
    ("num_envs", "interval", "tau", "train_freq"),
    [
        (1, 7, 1.0, 4),
        (1, 10, 0.3, 4),
        (1, 1, 0.05, 1),
        (1, 2, 0.2, 5),
        (4, 20, 0.5, 3),
        (4, 8, 0.1, 1),
        (2, 64, 1.0, 4),
    ],
)
def test_the_target_network_follows_as_in_stable_baselines3(
    num_envs: int, interval: int, tau: float, train_freq: int
) -> None:
    """When it moves, and how far, over many rollouts in which the network itself changes between them."""
    ours, theirs = pair(
        num_envs, target_update_interval=interval, tau=tau, train_freq=train_freq, learning_starts=100_000
    )
    obs, flags = torch.zeros(num_envs, 4), torch.zeros(num_envs, dtype=torch.bool)
    nothing = torch.zeros(num_envs)
    moved = []
    for iteration in range(40):
        before = in_their_names(ours)
        for _ in range(train_freq):
            ours.record(ours.act(obs), VecStep(obs, nothing, flags, flags, obs, nothing, nothing, {}))
            theirs._on_step()
        ours.learn()
        after = in_their_names(ours)
        for name, value in theirs.policy.state_dict().items():
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
        moved.append(any(not torch.equal(after[name], before[name]) for name in before))
        with torch.no_grad():  # what a gradient step would do
            for parameter in ours.policy.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=rng(iteration)))
        theirs.policy.load_state_dict(in_their_names(ours))
    expected = [
        (iteration + 1) * train_freq * num_envs // interval > iteration * train_freq * num_envs // interval
        for iteration in range(40)
    ]
    assert moved == expected
    assert ours.followed[0][0].data_ptr() == next(ours.target.parameters()).data_ptr()
