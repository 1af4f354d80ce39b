"""Requirements on every agent: the seed determines it, its state restores it, and predicting does not change it."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from echo import BOX, EVERY_OPTION, RAINBOW, collect, everything, flat, make_agent, make_echo, same, train
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Agent
from rltrain.agents.dqn.agent import DQN
from rltrain.agents.parts.recurrent import MEMORIES
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.sac.agent import SAC
from rltrain.errors import ConfigError

NORMALIZED = {"normalize_obs": True, "normalize_reward": True}
PARALLEL = {"distributional": True, "policy_delay": 2, "gradient_steps": 2, "n_steps": 3}
AGENTS: dict[str, tuple[type[Agent], dict[str, Any]]] = {
    "ppo": (PPO, {}),
    "ppo, switches": (PPO, {"action_space": spaces.MultiBinary(6)}),
    "ppo, choices": (PPO, {"action_space": spaces.MultiDiscrete([3, 4])}),
    "ppo, numbers": (PPO, {"action_space": BOX, "target_kl": 0.01, **NORMALIZED}),
    **{f"ppo, {kind}": (PPO, {"policy_kwargs": {"memory": kind, "memory_size": 8}}) for kind in MEMORIES},
    "pqn": (PQN, {}),
    "pqn, lstm": (PQN, {"policy_kwargs": {"memory": "lstm", "memory_size": 8}, "normalize_obs": True}),
    "pqn, normalized": (PQN, {"normalize_obs": True}),
    "dqn": (DQN, {}),
    **{f"dqn, {option}": (DQN, {option: True}) for option in RAINBOW},
    "dqn, all": (DQN, EVERY_OPTION),
    "sac": (SAC, {}),
    "sac, noise of the state": (SAC, {"use_sde": True, "sde_sample_freq": 3, "ent_coef": 0.1}),
    "sac, parallel": (SAC, {**NORMALIZED, **PARALLEL}),
}
every_agent = pytest.mark.parametrize("name", AGENTS)
ITERATIONS = 3  # DQN and SAC learn in the second and third


def make(name: str, **changes: Any) -> Any:
    kind, options = AGENTS[name]
    return make_agent(kind=kind, **{"learning_rate": 1e-2, **options, **changes})


@every_agent
def test_predict_leaves_no_trace(name: str) -> None:
    agent, undisturbed = make(name), make(name)
    envs, starts = (make_echo(agent), make_echo(undisturbed)), []
    for each, vec in zip((agent, undisturbed), envs, strict=True):
        obs = vec.reset(0)
        for _ in range(ITERATIONS):
            obs = collect(each, vec, obs)
            each.learn()
        starts.append(collect(each, vec, obs, steps=2))
    before = everything(agent)
    for rows in (1, 8, 20):
        obs = torch.randn(rows, 4)
        best = agent.predict(obs).action
        assert best.shape == (rows, *agent.action_space.shape)
        assert torch.equal(agent.predict(obs).action, best)  # without noise, of the network too
        agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(rows))
    assert same(everything(agent), before)
    for each, vec, obs in zip((agent, undisturbed), envs, starts, strict=True):
        collect(each, vec, obs, steps=each.horizon - 2)
        each.learn()
    assert same(everything(agent), everything(undisturbed))


@every_agent
def test_predictions_draw_from_the_given_generator_alone(name: str) -> None:
    chance = {"exploration_final_eps": 0.5} if AGENTS[name][0] in (DQN, PQN) else {}
    agent, obs = make(name, **chance), torch.randn(60, 4, generator=torch.Generator().manual_seed(0))

    def sample(seed: int) -> Tensor:
        return agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(seed)).action

    first = sample(1)
    torch.rand(10)
    assert torch.equal(sample(1), first)
    assert not torch.equal(sample(2), first)


@every_agent
def test_the_seed_decides_everything(name: str) -> None:
    def trained(seed: int, noise: int) -> Agent:
        with torch.random.fork_rng():
            torch.manual_seed(noise)
            agent = make(name, seed=seed)
            train(agent, make_echo(agent), ITERATIONS)
        return agent

    first, other = trained(0, noise=1), trained(1, noise=1)
    assert same(everything(first), everything(trained(0, noise=2)))
    obs = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(first.predict(obs).action, other.predict(obs).action)


@every_agent
def test_the_default_generators_are_never_touched(name: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    agent = make(name)
    vec = make_echo(agent)
    train(agent, vec, ITERATIONS)
    agent.predict(vec.reset(1), deterministic=False, rng=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@every_agent
def test_goes_on_bit_for_bit_from_its_state(name: str) -> None:
    settings: dict[str, Any] = {"learning_rate": "lin_0.01"}
    if (kind := AGENTS[name][0]) in (DQN, SAC):  # the ring comes round, and the target network moves by a share
        settings |= {"buffer_size": 60, "target_update_interval": 70 if kind is DQN else 2, "tau": 0.7}
    agent, resumed = make(name, **settings), make(name, seed=5, **settings)
    vec, other_vec = make_echo(agent), make_echo(resumed)
    obs = vec.reset(0)
    for _ in range(5):
        obs = collect(agent, vec, obs)
        agent.learn()
    recurrent = getattr(vec, "recurrent", None)
    saved = copy.deepcopy((dict(agent.state_dict()), agent.training_state(), vec.state_dict(), obs, recurrent))
    resumed.load_state_dict(saved[0])
    resumed.load_training_state(saved[1])
    other_vec.load_state_dict(saved[2])
    other_vec.recurrent = saved[4]  # type: ignore[attr-defined]
    for each, env, first in ((agent, vec, obs), (resumed, other_vec, saved[3])):
        each.progress_remaining = 0.5
        for _ in range(3):
            first = collect(each, env, first)
            each.learn()
    assert same(everything(agent), everything(resumed))


@every_agent
def test_the_step_size_follows_the_progress(name: str) -> None:
    agent = make(name, learning_rate="lin_0.02")
    vec = make_echo(agent)
    obs = vec.reset(0)
    for progress in (1.0, 0.25, 0.0):
        agent.progress_remaining = progress
        for _ in range(2):
            before = flat(agent)
            obs = collect(agent, vec, obs)
            metrics = agent.learn()
        assert metrics["train/learning_rate"] == pytest.approx(0.02 * progress)
        assert torch.equal(flat(agent), before) == (progress == 0)  # a step size of 0 moves nothing
    tensors = [value for value in metrics.values() if isinstance(value, Tensor)]
    assert tensors
    assert all(value.shape == () and not value.requires_grad for value in tensors)


@pytest.mark.parametrize(("kind", "settings"), [(DQN, {"learning_starts": 0}), (PQN, {})], ids=["dqn", "pqn"])
def test_exploration_follows_the_progress(kind: type[Agent], settings: dict[str, Any]) -> None:
    schedules = {"learning_rate": "lin_0.02", "exploration_fraction": 1.0, "exploration_final_eps": 0.0}
    agent = make_agent(kind=kind, **schedules, **settings)
    vec = make_echo(agent)
    obs = vec.reset(0)
    for progress in (1.0, 0.25, 0.0):
        agent.progress_remaining = progress
        before = agent.optimizer.flat.detach().clone()
        obs = collect(agent, vec, obs)
        metrics = agent.learn()
        assert metrics["train/learning_rate"] == pytest.approx(0.02 * progress)
        assert metrics["rollout/exploration_rate"] == pytest.approx(progress)
        assert torch.equal(agent.optimizer.flat, before) == (progress == 0)
    tensors = [value for value in metrics.values() if isinstance(value, Tensor)]
    assert all(value.shape == () and not value.requires_grad for value in tensors)


@pytest.mark.parametrize("kind", [DQN, PQN])
@pytest.mark.parametrize("action_space", [BOX, spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)], ids=str)
def test_who_values_actions_can_only_choose_one(kind: type[Agent], action_space: spaces.Space) -> None:
    with pytest.raises(ConfigError, match="no action values") as error:
        make_agent(kind=kind, action_space=action_space)
    assert "ppo" in error.value.fix
