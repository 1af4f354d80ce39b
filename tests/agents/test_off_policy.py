"""The off-policy base, by two small agents: actions of any kind, targets, minibatches, and going on bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from echo import VECTOR, collect, everything, make_echo, same, train
from gymnasium import spaces
from off_policy_agents import DPG, Branches, BranchesConfig, DPGConfig
from torch import Tensor, nn

from rltrain.agents.parts import off_policy
from rltrain.agents.parts.off_policy import Update
from rltrain.agents.parts.replay import PrioritizedReplay, Replay
from rltrain.env import TensorEnv
from rltrain.spaces import random_actions
from rltrain.tree import leaves
from rltrain.vec import TensorVecEnv, VecStep

BOX, CHOICES, SWITCHES = spaces.Box(-1.0, 1.0, (2,)), spaces.MultiDiscrete([3, 4], start=[0, -2]), spaces.MultiBinary(3)
SMALL: dict[str, Any] = {"buffer_size": 60, "learning_starts": 20, "batch_size": 16, "tau": 0.1, "learning_rate": 1e-2}
AGENTS: dict[str, tuple[spaces.Space, dict[str, Any]]] = {
    "numbers": (BOX, {"gradient_steps": 3}),
    "numbers, further": (BOX, {"n_steps": 3, "train_freq": 2}),
    "choices": (CHOICES, {"target_update_interval": 24}),
    "choices, prioritised": (CHOICES, {"prioritized_replay": True, "gradient_steps": 2, "target_update_interval": 24}),
    "switches": (SWITCHES, {"prioritized_replay": True, "target_update_interval": 24}),
}
every_agent = pytest.mark.parametrize("name", AGENTS)


def make(name: str, seed: int = 0, num_envs: int = 4, **changes: Any) -> Any:
    space, options = AGENTS[name]
    agent, config = (DPG, DPGConfig) if space is BOX else (Branches, BranchesConfig)
    settings = config.model_validate({**SMALL, **options, **changes})
    return agent(VECTOR, space, num_envs, settings, seed=seed)


# Actions of any kind

EVERY_ACTION = [
    spaces.Discrete(5, start=3),
    spaces.MultiDiscrete([3, 4]),
    spaces.MultiDiscrete([[3, 4], [2, 2]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    BOX,
    spaces.Box(-1.0, 1.0, ()),
    spaces.Box(-2.0, 1.0, (2, 3)),
]


@pytest.mark.parametrize("prioritized", [False, True], ids=["", "prioritised"])
@pytest.mark.parametrize("space", EVERY_ACTION, ids=str)
def test_actions_of_every_kind_come_back_as_they_were(space: spaces.Space, prioritized: bool) -> None:
    """In the type and shape that they had, with their own rewards, also through a state that was saved."""
    kind, cpu, rng = (PrioritizedReplay if prioritized else Replay), torch.device("cpu"), torch.Generator()
    replay, resumed = (kind(24, 3, cpu, gamma=0.9) for _ in range(2))
    played: dict[float, Tensor] = {}
    for step in range(20):  # goes round
        replay.begin(torch.full((3, 1), float(step)))
        action = random_actions(space, 3, cpu, rng.manual_seed(step))
        number = 3.0 * step + torch.arange(3.0)
        ended, cut = number % 5 == 0, number % 7 == 0
        replay.add(action, VecStep(number, number, ended, cut & ~ended, number.view(3, 1), number, number, {}))
        played |= dict(zip(number.tolist(), action, strict=True))
    resumed.load_state_dict(copy.deepcopy(replay.state_dict()))
    for each in (replay, resumed):
        batch = each.sample(200, rng.manual_seed(0))
        assert batch.action.shape == (200, *(space.shape or ()))
        assert batch.action.dtype == action.dtype
        assert len(batch.reward.unique()) > 12
        for reward, one in zip(batch.reward.tolist(), batch.action, strict=True):
            assert torch.equal(one, played[reward])
            assert space.contains(np.asarray(one, space.dtype))
    held = [*leaves(replay._ring), *([replay.priority] if isinstance(replay, PrioritizedReplay) else [])]
    assert replay.memory(spaces.Box(0.0, 100.0, (1,)), space) == sum(tensor.nbytes for tensor in held)


class Aim(TensorEnv[Tensor]):
    """A number comes at random, and the nearer the actions are to what it asks for the better; one step an episode."""

    max_episode_steps = 1

    def __init__(self, action_space: spaces.Space, **base: Any) -> None:
        super().__init__(**base)
        self.observation_space, self.action_space = spaces.Box(-1.0, 1.0, (2,)), action_space

    def reset(self, n: int, rng: torch.Generator | None) -> Tensor:
        return (torch.rand(n, generator=rng) < 0.5).float()

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        reward = -(action - self.wanted(state)).abs().float().mean(1)
        return self.reset(len(state), rng), reward, torch.ones_like(reward, dtype=torch.bool)

    def wanted(self, state: Tensor) -> Tensor:
        """(N, 2): 0.5 and -0.5 where the state is 1, turned round where it is 0; or the like in whole numbers."""
        sign = (2 * state - 1).unsqueeze(1)
        return torch.cat((sign, -sign), 1) / 2 if self.action_space is BOX else torch.cat((1 + sign, -sign), 1).long()

    def observe(self, state: Tensor) -> Tensor:
        return torch.stack((state, 1 - state), 1)


@pytest.mark.parametrize("name", ["numbers", "choices", "choices, prioritised"])
def test_learns_what_to_do_with_several_actions_at_once(name: str) -> None:
    space, options = AGENTS[name]
    vec = TensorVecEnv(Aim(space), 32)
    kind, config = (DPG, DPGConfig) if space is BOX else (Branches, BranchesConfig)
    settings = {**SMALL, **options, "buffer_size": 4_000, "batch_size": 64, "learning_starts": 256}
    agent = kind(vec.single_observation_space, space, 32, config.model_validate(settings))
    train(agent, vec, 300)
    states = torch.tensor([0.0, 1.0])
    env = Aim(space)
    chosen, wanted = agent.predict(env.observe(states)).action, env.wanted(states)
    if space is BOX:
        torch.testing.assert_close(chosen, wanted, rtol=0, atol=0.15)
    else:
        assert torch.equal(chosen, wanted)


# What every one of them has from the base


@every_agent
def test_goes_on_bit_for_bit_from_its_state(name: str) -> None:
    agent, resumed = make(name, learning_rate="lin_0.01"), make(name, seed=5, learning_rate="lin_0.01")
    vec, other_vec = make_echo(agent), make_echo(resumed)
    obs, start = vec.reset(0), {key: value.clone() for key, value in agent.state_dict().items()}
    for _ in range(12):
        obs = collect(agent, vec, obs)
        agent.learn()
    moved = agent.state_dict()
    assert all(not torch.equal(moved[key], value) for key, value in start.items())  # the targets too
    saved = copy.deepcopy((dict(moved), agent.training_state(), vec.state_dict(), obs))
    resumed.load_state_dict(saved[0])
    resumed.load_training_state(saved[1])
    other_vec.load_state_dict(saved[2])
    for each, env, first in ((agent, vec, obs), (resumed, other_vec, saved[3])):
        each.progress_remaining = 0.5
        for _ in range(5):
            first = collect(each, env, first)
            each.learn()
    assert same(everything(agent), everything(resumed))
    assert not same(everything(agent)["training"], saved[1])


@every_agent
def test_the_seed_decides_everything(name: str) -> None:
    def trained(seed: int) -> dict[str, Any]:
        agent = make(name, seed=seed)
        train(agent, make_echo(agent), 8)
        return everything(agent)

    before = torch.get_rng_state()
    assert same(trained(0), trained(0))
    assert not same(trained(0)["module"], trained(1)["module"])
    assert torch.equal(torch.get_rng_state(), before)


def test_every_optimizer_is_in_the_training_state() -> None:
    assert {"policy_optimizer", "critic_optimizer"} < make("numbers").training_state().keys()


def test_it_is_told_when_learning_starts() -> None:
    agent = make("choices", learning_starts=41)
    vec = make_echo(agent)
    obs = vec.reset(0)
    for _ in range(12):
        assert agent.warming_up == (agent.steps < 41)
        obs = collect(agent, vec, obs)
        learned = "train/loss" in agent.learn()
        assert learned == (agent.steps > 41)


# Target networks


def numbers(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_targets_that_count_gradient_steps(interval: int) -> None:
    """theta' <- tau theta + (1 - tau) theta' after every so many of them, across updates of three."""
    agent = make("numbers", learning_starts=0, target_update_interval=interval, tau=0.3)
    expected, update = numbers(agent.critic_target), agent.update

    def watched(batch: dict[str, Any], learning_rate: float) -> Update:
        torch.testing.assert_close(numbers(agent.critic_target), expected, rtol=0, atol=1e-7)
        out = update(batch, learning_rate)
        if agent.n_updates % interval == 0:
            expected.lerp_(numbers(agent.critic), 0.3)
        return out

    agent.update = watched
    metrics = train(agent, make_echo(agent), 4)
    assert metrics["train/n_updates"] == 12
    torch.testing.assert_close(numbers(agent.critic_target), expected, rtol=0, atol=1e-7)
    assert not any(parameter.requires_grad for parameter in agent.critic_target.parameters())


def test_a_target_needs_an_optimizer_for_what_it_follows() -> None:
    agent = make("numbers")
    with pytest.raises(ValueError, match="optimizer of its own"):
        agent.make_target(agent.critic, agent.policy_optimizer)


# Minibatches


class Watched(Branches):
    """Notes what it is given."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.prepared: list[int] = []
        self.seen: list[dict[str, Any]] = []

    def prepare(self, batch: Any) -> dict[str, Any]:
        self.prepared.append(len(batch.reward))
        return super().prepare(batch)

    def update(self, batch: dict[str, Any], learning_rate: Any) -> Update:
        self.seen.append(batch)
        return (
            super().update(batch, learning_rate)._replace(metrics={"train/size": batch["reward"] * 0 + self.n_updates})
        )


@pytest.mark.parametrize(("prioritized", "passes"), [(False, [40, 40, 32]), (True, [8] * 14)])
def test_minibatches_are_prepared_together_where_nothing_changes_in_between(
    prioritized: bool, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(off_policy, "AT_ONCE", 47)  # five minibatches of eight
    settings = {**SMALL, "learning_starts": 0, "batch_size": 8, "gradient_steps": 14, "prioritized_replay": prioritized}
    agent = Watched(VECTOR, CHOICES, 4, BranchesConfig.model_validate(settings))
    metrics = train(agent, make_echo(agent), 1)
    assert agent.prepared == passes
    assert [len(batch["reward"]) for batch in agent.seen] == [8] * 14
    assert metrics["train/size"].item() == 7.5  # the mean of 1 to 14
    assert metrics["train/size"].shape == ()


def test_an_update_of_as_many_minibatches_as_steps() -> None:
    agent = make("numbers", gradient_steps=-1, train_freq=3, learning_starts=0)
    agent.ranks = 2
    assert train(agent, make_echo(agent), 1)["train/n_updates"] == 3 * 4 * 2
