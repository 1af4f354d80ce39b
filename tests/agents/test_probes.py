"""Every agent passes the probes, and broken agents fail the probes made for their bug."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from echo import EVERY_OPTION, make_agent
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Agent
from rltrain.agents.dqn.agent import DQN
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.sac.agent import SAC
from rltrain.envs.explore.probes import (
    ActionReward,
    Autoreset,
    Bandit,
    ConstantReward,
    DelayedReward,
    ObservationReward,
    Probe,
    Target,
)
from rltrain.vec import TensorVecEnv, VecStep

N = 64
BITS = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # observations at the start


# Off-policy agents learn longer, as their targets follow behind.
Q_LEARNING: dict[str, Any] = {"learning_rate": "lin_0.01", "gamma": 0.8, "exploration_final_eps": 0.1}
REPLAY = {**Q_LEARNING, "train_freq": 1, "gradient_steps": 4, "batch_size": 64, "buffer_size": 4_000, "tau": 0.3}
SOFT: dict[str, Any] = {name: value for name, value in REPLAY.items() if name != "exploration_final_eps"}
SDE = {"use_sde": True, "policy_kwargs": {"net_arch": [16], "log_std_init": -1.0}}
SETTINGS: dict[type[Agent], dict[str, Any]] = {
    PPO: {"learning_rate": "lin_0.01", "n_steps": 8, "batch_size": 256, "n_epochs": 4, "gamma": 0.8},
    DQN: {**REPLAY, "learning_starts": 256, "target_update_interval": 64},
    PQN: {**Q_LEARNING, "n_steps": 8, "batch_size": 128, "n_epochs": 2},
    SAC: {**SOFT, "learning_starts": 256, "ent_coef": 0.01},
}
kinds = pytest.mark.parametrize(
    ("kind", "config"),
    [(PPO, {}), (DQN, {}), (DQN, {**EVERY_OPTION, "n_quantiles": 8}), (PQN, {}), (SAC, {})],
    ids=["ppo", "dqn", "rainbow", "pqn", "sac"],
)


def with_numbers(env: type[Probe]) -> type[Probe]:
    """The probe for agents whose actions are real numbers: those above 0 are a 1."""
    if env is Target:
        return env

    class Numbers(env):  # type: ignore[misc, valid-type]
        def __init__(self, **base: Any) -> None:
            super().__init__(**base)
            self.action_space = spaces.Box(-1.0, 1.0, (1,))

        def step(self, state: Any, action: Tensor, rng: torch.Generator | None) -> tuple[Any, Tensor, Tensor]:
            return super().step(state, (action.squeeze(1) > 0).long(), rng)

    return Numbers


def trained(
    env: type[Probe],
    iterations: int = 60,
    told: Callable[[VecStep], VecStep] = lambda step: step,
    kind: type[Agent] = PPO,
    **config: Any,
) -> Any:
    """An agent after training; ``told`` falsifies what it is told of a step."""
    vec = TensorVecEnv((with_numbers(env) if kind is SAC else env)(), N)
    iterations *= {PPO: 1, PQN: 1, DQN: 4, SAC: 2}[kind]
    settings = {**SETTINGS[kind], **config}
    agent = make_agent(vec.single_observation_space, vec.single_action_space, num_envs=N, kind=kind, **settings)
    obs = vec.reset(0)
    for iteration in range(iterations):
        agent.progress_remaining = 1.0 - iteration / iterations
        for _ in range(agent.horizon):
            out = agent.act(obs)
            step = vec.step(out.action)
            agent.record(out, told(step))
            obs = step.obs
        agent.learn()
    return agent


@torch.no_grad()
def value(agent: Any, obs: Tensor) -> list[float]:
    if isinstance(agent, SAC):
        quantiles = agent.critic(obs, agent.predict(obs).action).view(2, len(obs), -1)
        return quantiles.mean(2).amin(0).tolist()
    return (agent.policy.value(obs) if isinstance(agent, PPO) else agent.policy(obs).amax(1)).tolist()


@torch.no_grad()
def choice(agent: Any, obs: Tensor) -> list[float]:
    """Probabilities of action 1."""
    if isinstance(agent, PPO):
        return agent.policy.params(obs).softmax(-1)[:, 1].tolist()
    action = agent.predict(obs).action
    return ((action.squeeze(1) > 0) if isinstance(agent, SAC) else action).float().tolist()


def truncated_as_terminated(step: VecStep) -> VecStep:
    return step._replace(terminated=step.terminated | step.truncated, truncated=torch.zeros_like(step.truncated))


def terminated_as_truncated(step: VecStep) -> VecStep:
    return step._replace(truncated=step.terminated | step.truncated, terminated=torch.zeros_like(step.terminated))


def final_as_first(step: VecStep) -> VecStep:
    return step._replace(final_obs=step.obs)


@kinds
def test_constant_reward_is_worth_1_over_1_minus_gamma(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(ConstantReward, kind=kind, **config)
    assert value(agent, torch.zeros(1, 2)) == pytest.approx([5.0], abs=0.15)


@kinds
def test_constant_reward_sees_truncation_treated_as_termination(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(ConstantReward, told=truncated_as_terminated, kind=kind, **config)
    assert value(agent, torch.zeros(1, 2))[0] < 4.0


@kinds
def test_bandit_finds_the_better_arm(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(Bandit, iterations=25, kind=kind, **config)
    assert min(choice(agent, BITS)) > 0.95
    assert value(agent, BITS) == pytest.approx([1.0, 1.0], abs=0.1)


@kinds
def test_delayed_reward_reaches_the_action_that_earned_it(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(DelayedReward, kind=kind, **config)
    assert choice(agent, BITS[:1])[0] > 0.95
    along = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert value(agent, along) == pytest.approx([0.64, 0.8, 1.0], abs=0.06)


@kinds
def test_delayed_reward_sees_termination_treated_as_truncation(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(DelayedReward, told=terminated_as_truncated, kind=kind, **config)
    assert value(agent, torch.tensor([[1.0, 2.0]]))[0] > 1.2


@kinds
def test_observation_reward_is_the_value(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(ObservationReward, iterations=25, kind=kind, **config)
    assert value(agent, BITS) == pytest.approx([0.0, 1.0], abs=0.05)


@kinds
def test_action_reward_depends_on_what_is_seen(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(ActionReward, iterations=30, kind=kind, **config)
    zero, one = choice(agent, BITS)
    assert zero < 0.05
    assert one > 0.95
    assert value(agent, BITS) == pytest.approx([1.0, 1.0], abs=0.15)


@pytest.mark.parametrize("squash", [False, True], ids=["clip", "squash"])
def test_target_is_hit(squash: bool) -> None:
    networks = {"net_arch": [16], "log_std_init": -0.7, "squash_output": squash}
    agent = trained(Target, iterations=40, policy_kwargs=networks)
    assert agent.predict(BITS).action.flatten().tolist() == pytest.approx([-0.5, 0.5], abs=0.1)


@pytest.mark.parametrize("options", [SDE, {"distributional": True}], ids=["sde", "quantiles"])
def test_target_is_hit_from_a_replay(options: dict[str, Any]) -> None:
    agent = trained(Target, iterations=60, kind=SAC, **options)
    assert agent.predict(BITS).action.flatten().tolist() == pytest.approx([-0.5, 0.5], abs=0.1)
    assert value(agent, BITS) == pytest.approx([1.0, 1.0], abs=0.2)


@kinds
def test_autoreset_does_not_mix_final_and_first_observations(kind: type[Agent], config: dict[str, Any]) -> None:
    agent = trained(Autoreset, kind=kind, **config)
    assert value(agent, BITS) == pytest.approx([4.0, 5.0], abs=0.2)


@kinds
def test_autoreset_sees_the_first_observation_in_place_of_the_final_one(
    kind: type[Agent], config: dict[str, Any]
) -> None:
    agent = trained(Autoreset, told=final_as_first, kind=kind, **config)
    assert value(agent, BITS) == pytest.approx([2.0, 3.0], abs=0.4)  # another game


@pytest.mark.parametrize("reward", [False, True], ids=["obs", "obs+reward"])
def test_normalized_agents_learn_too(reward: bool) -> None:
    agent = trained(ActionReward, iterations=30, normalize_obs=True, normalize_reward=reward)
    assert agent.predict(BITS).action.tolist() == [0, 1]
    normalized = agent.obs_normalizer(BITS)
    zero, one = choice(agent, normalized)
    assert zero < 0.1
    assert one > 0.9
