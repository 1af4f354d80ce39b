"""Implicit Q-learning and AWAC: losses by hand, a loop in float64 in the order of the authors' code, and learning."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bits import as_bits, last_state
from gymnasium import spaces
from offline_sets import CARTPOLE, CHOICE, NUMBERS, half_random_cartpole, make_offline, make_set
from torch import Tensor, nn

import rltrain
from rltrain.agents.iql.agent import IQL
from rltrain.agents.iql.loss import advantage_weights, bootstrapped, critic_loss, expectile_loss
from rltrain.agents.parts.critics import action_encoder
from rltrain.agents.parts.offline import Shuffled
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.recording.recorder import record
from rltrain.runs.layout import list_checkpoints


def test_losses_are_those_computed_by_hand() -> None:
    difference = torch.tensor([2.0, -1.0])
    assert expectile_loss(difference, 0.7).tolist() == pytest.approx([0.7 * 4.0, 0.3 * 1.0])
    assert advantage_weights(torch.tensor([0.0, 1.0, -1.0, 9.0]), 3.0, 100.0).tolist() == pytest.approx(
        [1.0, math.exp(3.0), math.exp(-3.0), 100.0]
    )
    predicted, target = torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([0.0, 2.0])
    assert critic_loss(predicted, target).item() == pytest.approx((1.0 + 0.0) / 2 + (9.0 + 0.0) / 2)
    value, over = torch.tensor([10.0, math.nan]), torch.tensor([False, True])
    assert bootstrapped(torch.ones(2), torch.full((2,), 0.5), value, over).tolist() == [6.0, 1.0]


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_the_expectile_is_where_its_loss_is_least(expectile: float) -> None:
    """Of 0 and 1 it is the expectile itself: there e (1 - v) = (1 - e) v."""
    grid = torch.linspace(0.0, 1.0, 1001).unsqueeze(1)
    loss = expectile_loss(torch.tensor([0.0, 1.0]) - grid, expectile).mean(1)
    assert grid[loss.argmin()].item() == pytest.approx(expectile, abs=1e-3)


def test_actions_as_numbers() -> None:
    assert action_encoder(CHOICE)(torch.tensor([2, 4])).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    choices = action_encoder(spaces.MultiDiscrete([2, 3]))
    assert choices(torch.tensor([[1, 2]])).tolist() == [[0.0, 1.0, 0.0, 0.0, 1.0]]
    assert action_encoder(spaces.MultiBinary(2))(torch.tensor([[1, 0]], dtype=torch.int8)).tolist() == [[1.0, 0.0]]
    low, high = np.array([[-2.0, 0.0]], np.float32), np.array([[2.0, np.inf]], np.float32)
    scaled = action_encoder(spaces.Box(low, high))
    assert scaled(torch.tensor([[[1.0, 7.0]]])).tolist() == [[0.5, 7.0]]
    assert scaled.size == 2


class Loop:
    """Implicit Q-learning in float64 by torch.optim.Adam, step by step as the authors' ``_update_jit`` takes it.

    Value by the target critics; policy by these and the new value; critics by the new value; then the target.
    """

    def __init__(self, agent: IQL, dataset: Dataset) -> None:
        self.config, self.dataset = agent.config, dataset
        pi, head = agent.actor.get_submodule("pi"), agent.actor.get_submodule("action_head")
        self.policy = nn.Sequential(*copy.deepcopy([*pi.children(), head])).double()
        self.log_std = getattr(agent.distribution, "log_std", None)
        if self.log_std is not None:
            self.log_std = nn.Parameter(self.log_std.detach().double())
        self.critics = nn.ModuleList(self._one(agent.critic, k) for k in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.value = self._one(agent.value, 0) if self.config.advantage == "expectile" else None
        own = [] if self.log_std is None else [self.log_std]
        self.optimizers = {
            name: torch.optim.Adam(parameters, lr=self.config.learning_rate, eps=1e-8)
            for name, parameters in (
                ("policy", [*self.policy.parameters(), *own]),
                ("critics", self.critics.parameters()),
                *([("value", self.value.parameters())] if self.value is not None else []),
            )
        }

    @staticmethod
    def _one(stacked: Any, k: int) -> nn.Sequential:
        """The k-th of critics that are computed as one."""
        layers: list[nn.Module] = []
        for number, layer in enumerate(stacked.layers):
            linear = nn.Linear(layer.weight.shape[2], layer.weight.shape[1]).double()
            linear.weight.data.copy_(layer.weight[k].detach())
            linear.bias.data.copy_(layer.bias[k, 0].detach())
            layers += [linear] if number == len(stacked.layers) - 1 else [linear, nn.ReLU()]
        return nn.Sequential(*layers)

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        out = self.policy(obs)
        if self.log_std is None:
            return torch.distributions.Categorical(logits=out).log_prob(action)
        return torch.distributions.Normal(out, self.log_std.exp()).log_prob(action).sum(1)

    def step(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()

    def update(self, steps: np.ndarray) -> None:
        config, data = self.config, self.dataset
        obs, next_obs = (torch.from_numpy(x).double() for x in (data.take("obs", steps), data.after("obs", steps)))
        action = torch.from_numpy(data.take("action", steps))
        choice = self.log_std is None
        action = action - 2 if choice else action.double()
        numbers = F.one_hot(action, 3).double() if choice else action / 2.0
        reward = torch.from_numpy(data.take("reward", steps)).double() * config.reward_scale
        goes_on = 1.0 - torch.from_numpy(data.take("terminated", steps)).double()

        def lowest(critics: nn.ModuleList, x: Tensor, a: Tensor) -> Tensor:
            return torch.min(*(critic(torch.cat([x, a], 1))[:, 0] for critic in critics))

        assert self.value is not None
        taken = lowest(self.targets, obs, numbers).detach()
        difference = taken - self.value(obs)[:, 0]
        weight = torch.where(difference > 0, config.expectile, 1.0 - config.expectile).double()
        self.step("value", (weight * difference**2).mean())
        advantage = (taken - self.value(obs)[:, 0]).detach()
        weight = torch.minimum(torch.exp(advantage * config.beta), torch.tensor(config.max_weight))
        self.step("policy", -(weight * self.log_prob(obs, action)).mean())
        target = (reward + config.gamma * goes_on * self.value(next_obs)[:, 0]).detach()
        said = [critic(torch.cat([obs, numbers], 1))[:, 0] for critic in self.critics]
        self.step("critics", sum((q - target) ** 2 for q in said).mean())
        with torch.no_grad():
            for slow, fast in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                slow.copy_(fast * config.tau + slow * (1.0 - config.tau))


@pytest.mark.parametrize("space", [CHOICE, NUMBERS], ids=["choice", "numbers"])
def test_learning_is_that_of_a_plain_loop_in_float64(tmp_path: Path, space: spaces.Space) -> None:
    dataset = make_set(tmp_path / "set", space)
    options = {"learning_rate": 3e-3, "tau": 0.1, "expectile": 0.8, "beta": 2.0, "gamma": 0.95, "reward_scale": 0.7}
    agent = make_offline(IQL, dataset, **options)
    loop = Loop(agent, dataset)
    order = Shuffled(agent.data.steps, 16, agent.batches.seed)
    for _ in range(8):
        agent.learn()
        for _ in range(3):
            loop.update(next(order))
    mine, theirs = agent.actor.params(torch.eye(4)).double(), loop.policy(torch.eye(4).double())
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    for name, networks in (("critic", loop.critics), ("critic_target", loop.targets), ("value", [loop.value])):
        for k, network in enumerate(networks):
            learned = Loop._one(getattr(agent, name), k)
            for ours, other in zip(learned.parameters(), network.parameters(), strict=True):
                torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-4, msg=f"{name} {k}")


def test_awac_compares_with_the_policys_own_actions(tmp_path: Path) -> None:
    """With a policy that always takes the first action, all that it learns can be computed without a sample."""
    dataset = make_set(tmp_path / "set", CHOICE)
    agent = make_offline(IQL, dataset, advantage="policy", gradient_steps=1, learning_rate=1e-3, beta=0.5)
    head = agent.actor.get_submodule("action_head")
    head.bias.data.copy_(torch.tensor([50.0, 0.0, 0.0]))
    steps = next(Shuffled(agent.data.steps, 16, agent.batches.seed))
    batch, first = agent.data.at(steps), torch.eye(3)[[0]].expand(16, -1)
    follows = agent.critic_target(batch.next_obs, first).amin(0)
    target = batch.reward + 0.99 * follows * ~batch.terminated
    numbers = F.one_hot(batch.action - 2, 3).float()
    wanted = (agent.critic(batch.obs, numbers) - target).square().mean(1).sum()
    metrics = agent.learn()
    assert float(metrics["train/critic_loss"]) == pytest.approx(wanted.item(), rel=1e-5)
    advantage = agent.critic(batch.obs, numbers).amin(0) - agent.critic(batch.obs, first).amin(0)  # after its step
    assert float(metrics["train/advantage"]) == pytest.approx(advantage.mean().item(), abs=1e-6)
    assert float(metrics["train/weight"]) == pytest.approx((0.5 * advantage).exp().mean().item(), rel=1e-5)


def test_an_option_without_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="advantage=policy has none"):
        make_offline(IQL, make_set(tmp_path / "set"), advantage="policy", expectile=0.9)


TRAIN: dict[str, Any] = {"device": "cpu", "num_threads": 1, "trackers": ["csv"], "progress": False}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """About 100 steps an episode."""
    return half_random_cartpole(tmp_path_factory.mktemp("data") / "mixed")


@pytest.mark.parametrize("seed", range(2))
def test_it_is_better_than_the_data(tmp_path: Path, mixed: Dataset, seed: int) -> None:
    assert mixed.episodes.returns.mean() < 200
    result = rltrain.train(
        "iql", CARTPOLE, data=mixed.path, run_dir=tmp_path, seed=seed, n_eval_episodes=20, **TRAIN, **LEARNS
    )
    assert result.evaluation is not None
    assert result.evaluation.mean_reward > 2 * mixed.episodes.returns.mean()
    assert rltrain.load(result.run_dir).predict(np.zeros(4, np.float32))[0] in (0, 1)


LEARNS: dict[str, Any] = {
    "total_timesteps": 200_000,
    "agent": {"learning_rate": 1e-3, "tau": 0.02, "beta": 10.0, "policy_kwargs": {"net_arch": [64, 64]}},
}


def test_a_run_goes_on_bit_for_bit(tmp_path: Path, mixed: Dataset) -> None:
    agent = {"batch_size": 32, "gradient_steps": 4, "normalize_obs": True, "policy_kwargs": {"net_arch": [16]}}
    options = {**TRAIN, "data": str(mixed.path), "run_dir": tmp_path, "agent": agent, "n_eval_episodes": 1}
    whole = rltrain.train("iql", CARTPOLE, total_timesteps=2048, save_freq=1024, **options).run_dir
    wanted = as_bits(last_state(whole))
    rltrain.resume(list_checkpoints(whole / "checkpoints")[0], progress=False)
    assert as_bits(last_state(whole)) == wanted


def test_ppo_starts_from_its_policy(tmp_path: Path, mixed: Dataset) -> None:
    agent = {"policy_kwargs": {"net_arch": [64, 64], "activation_fn": "tanh"}}
    options = {**TRAIN, "run_dir": tmp_path, "n_eval_episodes": 0}
    run = rltrain.train("iql", CARTPOLE, data=str(mixed.path), total_timesteps=4096, agent=agent, **options).run_dir
    still = {"n_steps": 8, "batch_size": 8, "learning_rate": 1e-30, "normalize_obs": False}
    with pytest.warns(UserWarning, match=r"fresh are policy\.vf\.0"):
        pupil = rltrain.train("ppo", CARTPOLE, init_from=run, num_envs=1, total_timesteps=8, agent=still, **options)
    before, after = (dict(rltrain.load(each).agent.actor.state_dict()) for each in (run, pupil.run_dir))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("rltrain/Pendulum-v1", tmp_path / "set", episodes=5, max_episode_steps=50)
    words = ["--data", str(tmp_path / "set"), "--run-dir", str(tmp_path / "runs"), "--no-progress", "--device", "cpu"]
    short = [*words, "--total-timesteps", "4096", "--n-eval-episodes", "2"]
    assert main(["train", "iql", *short]) == 0
    assert main(["train", "iql", *short, "--agent.advantage", "policy", "--agent.expectile", "0.9"]) == 2
    assert "Leave it out" in capsys.readouterr().err
    header = (tmp_path / "runs/rltrain-Pendulum-v1/iql_1/progress.csv").read_text().splitlines()[0]
    assert "train/weight" in header
    assert "train/value_loss" in header
