"""The SAC agent: how it explores, what it learns from, what moves when, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from echo import BOX, VECTOR, collect, flat, make_agent, make_echo, train, train_with_nan_behind_terminations
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.sac.agent import SAC
from rltrain.agents.sac.loss import soft_target
from rltrain.errors import ConfigError
from rltrain.vec import VecStep

FLASH: dict[str, Any] = {
    "distributional": True,
    "n_quantiles": 4,
    "policy_delay": 2,
    "gradient_steps": 4,
    "normalize_obs": True,
    "normalize_reward": True,
    "n_steps": 3,
    "policy_kwargs": {"net_arch": [16], "layer_norm": True, "weight_norm": True, "n_critics": 3},
}
SDE: dict[str, Any] = {"use_sde": True, "policy_kwargs": {"net_arch": [16], "log_std_init": -1.0}}
OPTIONS: list[dict[str, Any]] = [{}, {"ent_coef": 0.1, "n_steps": 3}, SDE, FLASH]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=["plain", "fixed", "sde", "flash"])


def make(**changes: Any) -> Any:
    return make_agent(**{"kind": SAC, "learning_rate": 1e-2, **changes})


def numbers(network: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


# Actions


UNEVEN = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32))


@pytest.mark.parametrize("space", [UNEVEN, spaces.Box(-3.0, 5.0, (2, 2)), spaces.Box(-1.0, 2.0, ())], ids=str)
def test_actions_fill_the_box_and_are_stored_from_minus_1_to_1(space: spaces.Box) -> None:
    agent = make(action_space=space, num_envs=500, learning_starts=500)
    obs = torch.zeros(500, 4)
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    for warming_up in (True, False):
        assert agent.warming_up == warming_up
        action = agent.act(obs).action
        assert action.shape == (500, *space.shape)
        assert ((action >= low) & (action <= high)).all()
        assert agent.action.shape == (500, agent.actor.size)
        assert (agent.action.abs() <= 1).all()
        expected = low + (agent.action.view(action.shape) + 1) / 2 * (high - low)
        torch.testing.assert_close(action, expected)
        step = VecStep(obs, torch.zeros(500), torch.zeros(500) > 0, torch.zeros(500) > 0, obs, obs, obs, {})
        agent.record(None, step)
        assert (action.std(0) > 0.2 * (high - low)).all()  # they are spread out
    agent.actor.head.weight.data.zero_()
    agent.actor.head.bias.data[: agent.actor.size] = 20.0
    assert torch.equal(agent.predict(obs).action, high.expand(500, *space.shape))
    agent.actor.head.bias.data[: agent.actor.size] = 0.0
    torch.testing.assert_close(agent.predict(obs).action[0], (low + high) / 2)


def test_random_actions_are_uniform_and_samples_follow_the_policy() -> None:
    agent = make(num_envs=4000, learning_starts=4000)
    obs = torch.zeros(4000, 4)
    action = agent.act(obs).action
    assert action.mean(0).abs().max() < 0.05
    assert action.std(0).tolist() == pytest.approx([3**-0.5] * 2, abs=0.02)
    agent.steps = 4000
    mean, log_std, _ = agent.actor.gaussian(obs)
    raw = agent.act(obs).action.atanh()
    torch.testing.assert_close(raw.mean(0), mean[0], rtol=0, atol=0.06)
    torch.testing.assert_close(raw.std(0), log_std[0].exp(), rtol=0.05, atol=0)
    sampled = agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(0)).action.atanh()
    torch.testing.assert_close(sampled.std(0), log_std[0].exp(), rtol=0.05, atol=0)


@pytest.mark.parametrize(("freq", "distinct"), [(-1, [0] * 6), (2, [0, 0, 1, 1, 2, 2]), (4, [0, 0, 0, 0, 1, 1])])
def test_state_dependent_noise_stays_the_same_for_a_while(freq: int, distinct: list[int]) -> None:
    """For equal observations the actions are equal until new noise is drawn; every environment has its own."""
    agent = make(**SDE, train_freq=6, sde_sample_freq=freq, learning_starts=0)
    obs = torch.ones(8, 4)
    step = VecStep(obs, torch.zeros(8), torch.zeros(8) > 0, torch.zeros(8) > 0, obs, obs, obs, {})
    for _ in range(2):
        actions = []
        for _ in range(6):
            actions.append(agent.act(obs).action)
            agent.record(None, step)
        first = [next(j for j in range(6) if torch.equal(actions[j], action)) for action in actions]
        assert [sorted(set(first)).index(each) for each in first] == distinct
        assert len(actions[0].unique(dim=0)) == 8
    assert torch.equal(agent.predict(obs[:1]).action, agent.predict(obs).action[:1])


@pytest.mark.parametrize(("warmup", "random"), [(False, True), (True, False)])
def test_state_dependent_noise_before_learning_starts(warmup: bool, random: bool) -> None:
    agent = make(**SDE, use_sde_at_warmup=warmup, num_envs=2000, learning_starts=2000)
    action = agent.act(torch.ones(2000, 4)).action
    assert (action.std(0) > 0.5).all() == random


# Targets


def test_truncation_bootstraps_and_termination_does_not() -> None:
    """From the final observation, not the first one of the next episode."""
    agent = make(num_envs=2, gamma=0.9, learning_starts=0, train_freq=1, ent_coef=0.0)
    obs, final, first = (torch.full((2, 4), x) for x in (0.1, 0.2, 0.3))
    flags = torch.tensor([False, True]), torch.tensor([True, False])
    nothing = torch.zeros(2)
    for now in (obs, first):
        agent.record(agent.act(now), VecStep(first, torch.ones(2), *flags, final, nothing, nothing, {}))
    batch = agent.prepare(agent.draw(200))
    target = soft_target(agent.actor, agent.critic_target, batch, agent.ent_coef())
    action = agent.actor.explore(final[:1].expand(200, 4), batch["next_noise"])
    value = agent.critic_target(final[:1].expand(200, 4), action).amin(0)
    used = batch["weight"] > 0
    assert 0 < (used & batch["terminated"]).sum() < used.sum()
    wanted = torch.where(batch["terminated"], 1.0, 1.0 + 0.9 * value)
    torch.testing.assert_close(target[used], wanted[used].detach())


def test_rewards_of_n_steps_are_discounted() -> None:
    """r + gamma r + gamma^2 (lowest Q - alpha log pi) for two steps, of the targets and not the trained critics."""
    agent = make(num_envs=1, gamma=0.5, n_steps=2, train_freq=1, learning_starts=0, ent_coef=0.0)
    with torch.no_grad():
        for network, biases in ((agent.critic, (50.0, 60.0)), (agent.critic_target, (8.0, 4.0))):
            network.layers[-1].weight.zero_()
            network.layers[-1].bias.copy_(torch.tensor(biases).view(2, 1, 1))
    obs, no = torch.zeros(1, 4), torch.zeros(1, dtype=torch.bool)
    for reward in (1.0, 2.0, 4.0):
        agent.record(agent.act(obs), VecStep(obs, torch.tensor([reward]), no, no, obs, obs[:, 0], obs[:, 0], {}))
    batch = agent.prepare(agent.draw(100))
    target = soft_target(agent.actor, agent.critic_target, batch, agent.ent_coef())
    assert set(target[batch["weight"] > 0].tolist()) == {1 + 1 + 1.0, 2 + 2 + 1.0, 4 + 2.0}  # the last reaches one step


@pytest.mark.parametrize("interval", [1, 3])
def test_targets_follow_by_tau(interval: int) -> None:
    agent = make(learning_starts=0, tau=0.3, target_update_interval=interval, gradient_steps=1)
    vec = make_echo(agent)
    obs = vec.reset(0)
    for update in range(1, 7):
        before = numbers(agent.critic_target)
        obs = collect(agent, vec, obs)
        agent.learn()
        moved = before + 0.3 * (numbers(agent.critic) - before) if update % interval == 0 else before
        torch.testing.assert_close(numbers(agent.critic_target), moved)
    assert not any(parameter.requires_grad for parameter in agent.critic_target.parameters())


def test_each_action_of_an_update_has_noise_of_its_own() -> None:
    agent = make(learning_starts=0)
    train(agent, make_echo(agent), 1)
    batch = agent.prepare(agent.draw(5_000))
    both = torch.cat((batch["noise"], batch["next_noise"]), 1)
    torch.testing.assert_close(both.T.cov(), torch.eye(4), rtol=0, atol=0.08)


# The weight of the entropy


@pytest.mark.parametrize(("deviation", "rises"), [(-3.0, True), (0.0, False)])
def test_the_weight_rises_where_entropy_is_short(deviation: float, rises: bool) -> None:
    agent = make(ent_coef="auto_0.5", learning_starts=0)
    with torch.no_grad():
        agent.actor.head.weight.zero_()
        agent.actor.head.bias.copy_(torch.tensor([0.0, 0.0, deviation, deviation]))
    metrics = train(agent, make_echo(agent), 1)
    assert metrics["train/ent_coef"].item() == pytest.approx(0.5)
    assert (metrics["train/entropy"].item() < -2) == rises  # minus the number of actions
    assert (agent.ent_coef().item() > 0.5) == rises
    assert abs(math.log(agent.ent_coef().item() / 0.5)) == pytest.approx(0.01, rel=1e-3)  # the first step of Adam


def test_a_given_weight_stays_as_it_is() -> None:
    agent = make(ent_coef=0.2, learning_starts=0)
    metrics = train(agent, make_echo(agent), 3)
    assert metrics["train/ent_coef"].item() == agent.ent_coef().item() == pytest.approx(0.2)
    assert "train/ent_coef_loss" not in metrics
    assert "log_ent_coef" not in agent.state_dict()


@pytest.mark.parametrize(("given", "wanted"), [("auto", -2.0), (-0.5, -0.5)])
def test_the_target_of_the_entropy(given: Any, wanted: float) -> None:
    agent = make(target_entropy=given, ent_coef="auto_0.5", learning_starts=0)
    assert agent.target_entropy == wanted
    metrics = train(agent, make_echo(agent), 1)  # every place of the replay is a step so far
    expected = -math.log(0.5) * (-metrics["train/entropy"].item() + wanted)
    assert metrics["train/ent_coef_loss"].item() == pytest.approx(expected, rel=1e-4)


# What it learns from


@every_option
def test_what_is_no_step_teaches_nothing(options: dict[str, Any]) -> None:
    agent = make(**options)
    train(agent, make_echo(agent), 4)
    batch = agent.prepare(agent.draw(16))
    batch["weight"] = torch.zeros(16)
    optimizers = agent._optimizers().values()
    for optimizer in optimizers:
        optimizer.load_state_dict({name: 0 * value for name, value in optimizer.state_dict().items()})
    before = flat(agent)
    agent.n_updates = 2
    assert agent.update(batch, 0.1).metrics["train/critic_loss"] == 0.0
    torch.testing.assert_close(flat(agent), before, rtol=1e-6, atol=1e-7)  # weight_norm rounds


@every_option
def test_nothing_behind_a_termination_is_looked_at(options: dict[str, Any]) -> None:
    options = {**options, "normalize_obs": False}
    agent = make(num_envs=3, learning_starts=0, **options)
    metrics = train_with_nan_behind_terminations(agent)
    assert all(math.isfinite(value) for value in metrics.values())
    assert flat(agent).isfinite().all()


IMAGE = spaces.Box(0, 255, (12, 12, 2), np.uint8)
GOALS = spaces.Dict({"goal": spaces.Discrete(3, start=1), "picture": IMAGE, "speed": VECTOR})


@pytest.mark.parametrize("options", [{}, FLASH], ids=["plain", "flash"])
@pytest.mark.parametrize(
    "observation_space", [IMAGE, GOALS, spaces.Discrete(5, start=-2), spaces.Box(-1.0, 1.0, ())], ids=str
)
def test_learns_from_every_kind_of_observation(observation_space: spaces.Space, options: dict[str, Any]) -> None:
    agent = make(observation_space=observation_space, **options)
    before = {name: x.clone() for name, x in agent.named_parameters()}
    metrics = train(agent, make_echo(agent), 4)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(not torch.equal(x, before[name]) for name, x in agent.named_parameters())


def test_observations_and_rewards_are_scaled_when_they_are_learned_from() -> None:
    """The replay keeps them as they are; the statistics take each rollout in once, before it is learned from."""
    agent = make(normalize_obs=True, normalize_reward=True, learning_starts=10**6)
    vec = make_echo(agent)
    obs, seen, returns, running = vec.reset(0), [], [], torch.zeros(8, dtype=torch.float64)
    for _ in range(3):
        for _ in range(agent.horizon):
            seen.append(obs.clone())
            step = vec.step(agent.act(obs).action)
            agent.record(None, step)
            running = running * 0.99 + step.reward
            returns.append(running)
            running = running.masked_fill(step.terminated | step.truncated, 0.0)
            obs = step.obs
        agent.learn()
    moments = agent.actor.obs_normalizer.moments["observation"]
    torch.testing.assert_close(moments.mean, torch.cat(seen).double().mean(0), rtol=1e-4, atol=1e-4)
    deviation = torch.cat(returns).std(correction=0)
    torch.testing.assert_close(agent.reward_normalizer.moments.var.sqrt(), deviation, rtol=1e-3, atol=1e-3)
    drawn = agent.draw(64)
    batch = agent.prepare(drawn)
    torch.testing.assert_close(batch["obs"], agent.actor.obs_normalizer(drawn.obs))
    torch.testing.assert_close(batch["next_obs"], agent.actor.obs_normalizer(drawn.next_obs))
    torch.testing.assert_close(batch["reward"], drawn.reward / deviation.float(), rtol=1e-3, atol=1e-3)
    assert drawn.reward.max() <= 1


# The massively parallel form


def test_the_policy_moves_with_every_second_step_of_the_critics() -> None:
    agent = make(policy_delay=2, gradient_steps=4, learning_starts=0)
    moved, update = [], agent.update

    def watched(batch: dict[str, Any], learning_rate: Any) -> Any:
        before = numbers(agent.actor), numbers(agent.critic), agent.log_ent_coef.item()
        out = update(batch, learning_rate)
        after = numbers(agent.actor), numbers(agent.critic), agent.log_ent_coef.item()
        moved.append(tuple(not np.array_equal(a, b) for a, b in zip(before, after, strict=True)))
        return out

    agent.update = watched
    metrics = train(agent, make_echo(agent), 1)
    assert moved == [(False, True, False), (True, True, True)] * 2
    assert {"train/actor_loss", "train/ent_coef_loss"} < metrics.keys()


def test_a_fixed_norm_of_the_weights_changes_no_output() -> None:
    kwargs = {"net_arch": [16, 8], "layer_norm": True, "weight_norm": True}
    agent, free = (make(policy_kwargs={**kwargs, "weight_norm": on}) for on in (True, False))
    obs = torch.randn(20, 4)
    torch.testing.assert_close(agent.predict(obs).action, free.predict(obs).action, rtol=1e-3, atol=1e-4)
    train(agent, make_echo(agent), 4)
    for layer in (agent.actor.body[0], agent.actor.body[3], *agent.critic.layers[:-1]):
        length = layer.weight.square().sum(-1).mean(-1)
        torch.testing.assert_close(length, torch.ones_like(length))
    assert agent.actor.head.weight.norm(dim=-1).sub(1).abs().min() > 1e-3


def test_quantiles_become_the_distribution_of_the_return() -> None:
    """Rewards of episodes of one step are uniform in [0, 10], and so are the returns.

    The quantile Huber loss is smooth within 1, so the quantile t solves t (10 - q - 0.5) = (1 - t) (q - 0.5).
    """
    options = {"learning_rate": 0.05, "gradient_steps": 200, "batch_size": 64, "train_freq": 50, "learning_starts": 0}
    agent = make(distributional=True, n_quantiles=5, **options)
    rng, obs, yes = torch.Generator().manual_seed(0), torch.zeros(8, 4), torch.ones(8, dtype=torch.bool)
    for _ in range(50):
        reward = 10 * torch.rand(8, generator=rng)
        agent.record(agent.act(obs), VecStep(obs, reward, yes, ~yes, obs, reward, reward, {}))
    agent.learn()
    quantiles = agent.critic(obs, torch.zeros(8, 2))
    assert quantiles.shape == (2, 8, 5)
    for critic in quantiles[:, 0]:
        assert sorted(critic.tolist()) == pytest.approx([1.4, 3.2, 5.0, 6.8, 8.6], abs=0.9)


# What it refuses


@pytest.mark.parametrize(
    ("space", "cause"),
    [
        (spaces.Discrete(3), "no policy for the action space"),
        (spaces.MultiDiscrete([2, 2]), "no policy for the action space"),
        (spaces.MultiBinary(2), "no policy for the action space"),
        (spaces.Box(0, 5, (2,), np.int64), "no policy for the action space"),
        (spaces.Box(-np.inf, np.inf, (2,)), "unbounded"),
        (spaces.Box(0.0, np.inf, (2,)), "unbounded"),
        (spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,)), "unbounded"),
    ],
    ids=str,
)
def test_other_actions_are_refused(space: spaces.Space, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause) as error:
        make(action_space=space)
    assert "ppo" in error.value.fix


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"ent_coef": "automatic"}, "auto, or auto_"),
        ({"ent_coef": "auto_0"}, "cannot start at 0"),
        ({"ent_coef": -0.1}, "cannot be below 0"),
        ({"sde_sample_freq": 0}, "at least 1, or -1"),
        ({"policy_delay": 2}, "gradient_steps=1 is no multiple of it"),
        ({"policy_kwargs": {"weight_norm": True}}, "layer_norm"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        make(**options)


def test_an_update_without_a_step_of_the_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="9 gradient steps, which is no multiple of policy_delay=2"):
        make(gradient_steps=-1, policy_delay=2, num_envs=3, train_freq=3)


@pytest.mark.parametrize(("given", "start"), [("auto", 1.0), ("auto_0.1", 0.1), (0.1, 0.1), ("0.1", 0.1), (0, 0.0)])
def test_what_the_weight_starts_from(given: Any, start: float) -> None:
    agent = make(ent_coef=given)
    assert agent.ent_coef().item() == pytest.approx(start)
    assert (agent.log_ent_coef is not None) == str(given).startswith("auto")


def test_memory_is_that_of_the_replay() -> None:
    agent = make(action_space=BOX)
    train(agent, make_echo(agent), 2)
    assert agent.memory() == sum(x.nbytes for x in agent.replay._ring.values())
