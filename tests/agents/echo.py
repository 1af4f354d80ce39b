"""An environment with any spaces: it observes a number in every form, and checks its actions."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ACTOR, Agent, Metrics, next_state
from rltrain.agents.dqn.agent import DQN
from rltrain.agents.dqn.config import DQNConfig
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.pqn.config import PQNConfig
from rltrain.agents.sac.agent import SAC
from rltrain.agents.sac.config import SACConfig
from rltrain.config import AgentConfig
from rltrain.env import Observation, TensorEnv
from rltrain.runs.checkpoint import MODULES, load_training, save_checkpoint
from rltrain.runs.restore import restore_policy
from rltrain.vec import TensorVecEnv, VecStep


@dataclass
class EchoState:
    phase: Tensor  # (N,) in [0, 1), drawn anew in every step


class Echo(TensorEnv[EchoState]):
    """The reward is the phase; one episode in ten ends with each step, and all after five."""

    max_episode_steps = 5

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, **base: Any) -> None:
        super().__init__(**base)
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, n: int, rng: torch.Generator | None) -> EchoState:
        return EchoState(torch.rand(n, generator=rng, device=self.device))

    def step(self, state: EchoState, action: Tensor, rng: torch.Generator | None) -> tuple[EchoState, Tensor, Tensor]:
        for row in action.numpy():
            assert self.action_space.contains(np.asarray(row, self.action_space.dtype)), row
        return self.reset(len(state.phase), rng), state.phase, state.phase > 0.9

    def observe(self, state: EchoState) -> Observation:
        return show(self.observation_space, state.phase)


def show(space: spaces.Space, phase: Tensor) -> Any:
    """The phase (N,) as observations of a space."""
    if isinstance(space, spaces.Dict):
        return {name: show(part, phase) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return (phase * int(space.n)).long() + int(space.start)
    phase = phase.view(-1, *(1,) * len(space.shape)).expand(-1, *space.shape)
    if isinstance(space, spaces.MultiDiscrete):
        return (phase * torch.as_tensor(space.nvec)).long() + torch.as_tensor(space.start)
    if isinstance(space, spaces.MultiBinary):
        return (phase > 0.5).to(torch.int8)
    if space.dtype == bool:
        return phase > 0.5
    return (phase * float(space.high.max())).to(getattr(torch, str(space.dtype)))


VECTOR, BOX = spaces.Box(-1.0, 1.0, (4,)), spaces.Box(-1.0, 1.0, (2,))


ROLLOUTS: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [16]}}
REPLAY: dict[str, Any] = {"buffer_size": 400, "learning_starts": 32, "target_update_interval": 64}
SMALL: dict[str, Any] = {"batch_size": 16, "policy_kwargs": {"net_arch": [16]}}
KINDS: dict[type[Agent], tuple[type[AgentConfig], dict[str, Any]]] = {
    PPO: (PPOConfig, ROLLOUTS),
    DQN: (DQNConfig, {**REPLAY, **SMALL}),
    PQN: (PQNConfig, ROLLOUTS),
    SAC: (SACConfig, {**SMALL, "buffer_size": 400, "learning_starts": 32, "train_freq": 4}),
}
RAINBOW = ("double_q", "dueling", "prioritized_replay", "distributional", "noisy")
EVERY_OPTION: dict[str, Any] = {**dict.fromkeys(RAINBOW, True), "n_quantiles": 4, "n_steps": 3}


def make_agent(
    observation_space: spaces.Space = VECTOR,
    action_space: spaces.Space | None = None,
    num_envs: int = 8,
    seed: int = 0,
    kind: Any = PPO,
    device: str = "cpu",
    **config: Any,
) -> Any:
    """A small agent."""
    config_class, defaults = KINDS[kind]
    made = config_class.model_validate({**defaults, **config})
    actions = action_space or (BOX if kind is SAC else spaces.Discrete(3))
    return kind(observation_space, actions, num_envs, made, device=device, seed=seed)


def make_echo(agent: Agent) -> TensorVecEnv:
    """The environment an agent was made for."""
    return TensorVecEnv(Echo(agent.observation_space, agent.action_space), agent.num_envs)


def collect(agent: Agent, vec: TensorVecEnv, obs: Observation, steps: int | None = None) -> Observation:
    """Plays the steps of a rollout and returns the observation after the last; ``vec.recurrent`` is its memory."""
    initial = agent.actor.initial_state(agent.num_envs)
    state = getattr(vec, "recurrent", initial)
    for _ in range(agent.horizon if steps is None else steps):
        out = agent.act(obs, state)
        step = vec.step(out.action)
        agent.record(out, step)
        obs, state = step.obs, next_state(out, step, initial)
    vec.recurrent = state  # type: ignore[attr-defined]
    return obs


def train(agent: Agent, vec: TensorVecEnv, iterations: int, seed: int = 0) -> dict[str, Tensor]:
    """Some iterations; the metrics of the last."""
    obs, metrics = vec.reset(seed), {}
    for _ in range(iterations):
        obs = collect(agent, vec, obs)
        metrics = agent.learn()
    return metrics


def train_with_nan_behind_terminations(agent: Agent) -> Metrics:
    """Three iterations in three environments, of which one terminates and one is truncated with every step.

    Observations are (4,). What follows a termination is NaN: nothing may look at it.
    """
    obs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    final = torch.stack([torch.full((4,), torch.nan), obs[1], obs[2]])
    terminated, truncated = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    for _ in range(3):
        for _ in range(agent.horizon):
            out = agent.act(obs)
            step = VecStep(obs, torch.ones(3), terminated, truncated, final, obs[:, 0], torch.zeros(3), {})
            agent.record(out, step)
        metrics = agent.learn()
    return metrics


def flat(agent: Any) -> Tensor:
    """A copy of all parameters that an optimizer of the agent trains, end to end."""
    optimizers = [value for value in vars(agent).values() if isinstance(value, FlatAdam)]
    return torch.cat([optimizer.flat.detach() for optimizer in optimizers])


def resume_from_disk(resumed: Agent, agent: Agent, folder: Path) -> None:
    """Gives an agent all that another one has learned and remembers, by way of a checkpoint in a folder."""
    modules = agent.state_dict()
    policy = {name.removeprefix(ACTOR): x for name, x in modules.items() if name.startswith(ACTOR)}
    beside = {name: x for name, x in modules.items() if not name.startswith(ACTOR)}
    path = save_checkpoint(folder, 1, policy, {"agent": agent.training_state(), MODULES: beside})
    restore_policy(resumed, path)
    resumed.load_training_state(load_training(path)["agent"])


def everything(agent: Any) -> dict[str, Any]:
    """A copy of all that an agent remembers."""
    explore, rollout = getattr(agent, "explore", agent), getattr(agent, "rollout", None)
    return copy.deepcopy(
        {
            "module": dict(agent.state_dict()),
            "training": agent.training_state(),
            "rollout": (rollout.step, rollout._data) if rollout else None,
            "step": getattr(explore, "step", None),
            "noise": getattr(explore, "noise", None),
        }
    )


def same(a: Any, b: Any) -> bool:
    """Equal trees of tensors and plain values."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
