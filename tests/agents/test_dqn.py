"""The DQN agent: when it explores, when and from what it learns, and what it must not change."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from echo import (
    EVERY_OPTION,
    RAINBOW,
    VECTOR,
    collect,
    make_agent,
    make_echo,
    train,
    train_with_nan_behind_terminations,
)
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.dqn.agent import DQN
from rltrain.agents.parts import off_policy
from rltrain.make import make_vec
from rltrain.tree import leaves
from rltrain.vec import VecStep

SINGLE_OPTIONS: list[dict[str, Any]] = [{}, *({name: True} for name in RAINBOW), {"n_steps": 3}, EVERY_OPTION]
every_option = pytest.mark.parametrize("options", SINGLE_OPTIONS, ids=lambda options: "+".join(options) or "plain")


def make(**changes: Any) -> DQN:
    return make_agent(**{"kind": DQN, "learning_rate": 1e-2, **changes})


def watched(agent: DQN) -> list[tuple[dict[str, Any], Tensor]]:
    """The minibatches of the next updates, each with the errors that the network makes then."""
    original, seen = agent._minibatches, []

    def minibatches(number: int) -> Iterator[dict[str, Any]]:
        for batch in original(number):
            with torch.no_grad():
                error = agent.policy(batch["obs"]).gather(1, batch["action"].unsqueeze(1)) - batch["target"]
            seen.append((copy.deepcopy(batch), error.squeeze(1)))
            yield batch

    agent._minibatches = minibatches
    return seen


def numbers(network: nn.Module) -> Tensor:
    """A copy of all its parameters, end to end."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def adam_steps(agent: DQN) -> int:
    return int(agent.optimizer.state_dict()["step"])


# Exploration


def test_epsilon_is_a_function_of_the_steps() -> None:
    agent = make(learning_starts=64, exploration_initial_eps=0.9, exploration_final_eps=0.1, exploration_fraction=0.5)
    for steps, progress, wanted in (
        (0, 1.0, 1.0),  # random actions before learning starts
        (63, 0.9, 1.0),
        (64, 1.0, 0.9),
        (64, 0.9, 0.74),
        (100, 0.75, 0.5),
        (100, 0.5, 0.1),
        (100, 0.2, 0.1),
        (100, 0.0, 0.1),
    ):
        agent.steps, agent.progress_remaining = steps, progress
        assert agent.epsilon == pytest.approx(wanted), (steps, progress)


def test_epsilon_goes_on_where_it_was() -> None:
    agent = make(learning_starts=64, exploration_fraction=0.5)
    train(agent, make_echo(agent), 3)
    resumed = make(learning_starts=64, exploration_fraction=0.5)
    resumed.load_training_state(copy.deepcopy(agent.training_state()))
    assert resumed.steps == agent.steps == 96
    for each in (agent, resumed):
        each.progress_remaining = 0.75
    assert resumed.epsilon == agent.epsilon == pytest.approx(0.525)


def test_acts_as_often_at_random_as_epsilon_says() -> None:
    agent = make(num_envs=500, learning_starts=0, exploration_initial_eps=0.3)
    obs = torch.zeros(500, 4)
    best = agent.predict(obs).action
    assert len(best.unique()) == 1
    others = sum(int((agent.act(obs).action != best).sum()) for _ in range(8)) / 4000
    assert others == pytest.approx(0.2, abs=0.02)
    agent.steps, agent.config.learning_starts = 0, 1
    assert (agent.act(obs).action != best).float().mean() == pytest.approx(2 / 3, abs=0.08)


@every_option
def test_masked_actions_are_never_taken(options: dict[str, Any]) -> None:
    vec = make_vec(Countdown, 16)
    agent = make(
        observation_space=vec.single_observation_space, action_space=vec.single_action_space, num_envs=16, **options
    )
    obs, forbidden = vec.reset(0), 0
    for iteration in range(8):
        agent.progress_remaining = 1 - iteration / 8
        for _ in range(agent.horizon):
            out = agent.act(obs)
            for action in (out.action, agent.predict(obs).action, agent.predict(obs, deterministic=False).action):
                assert obs["action_mask"].gather(1, action.unsqueeze(1)).all()
            forbidden += int((~obs["action_mask"]).sum())
            step = vec.step(out.action)
            agent.record(out, step)
            obs = step.obs
        metrics = agent.learn()
    assert forbidden > 100
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["train/q_target"].abs() < 100  # nor does a forbidden one count in a target


# When it learns


@pytest.mark.parametrize(("learning_starts", "first"), [(0, 1), (31, 1), (32, 2), (33, 2), (100, 4)])
def test_nothing_is_learned_before_learning_starts(learning_starts: int, first: int) -> None:
    """As in Stable-Baselines3: more than that many environment steps, here 32 to an iteration."""
    agent = make(learning_starts=learning_starts)
    vec = make_echo(agent)
    obs, before = vec.reset(0), agent.optimizer.flat.detach().clone()
    for iteration in range(1, 6):
        obs = collect(agent, vec, obs)
        metrics = agent.learn()
        assert ("train/loss" in metrics) == (iteration >= first)
        assert torch.equal(agent.optimizer.flat, before) == (iteration < first)
        assert adam_steps(agent) == max(0, iteration - first + 1)


@pytest.mark.parametrize(
    ("gradient_steps", "train_freq", "num_envs", "number"), [(1, 4, 8, 1), (3, 2, 4, 3), (-1, 2, 4, 8), (-1, 5, 1, 5)]
)
@pytest.mark.parametrize("options", [{}, {"double_q": True}, {"prioritized_replay": True}], ids=str)
def test_as_many_gradient_steps_as_asked_for(
    options: dict[str, Any],
    gradient_steps: int,
    train_freq: int,
    num_envs: int,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = make(gradient_steps=gradient_steps, train_freq=train_freq, num_envs=num_envs, learning_starts=0, **options)
    seen = watched(agent)
    monkeypatch.setattr(off_policy, "AT_ONCE", 40)  # two minibatches, and a half
    metrics = train(agent, make_echo(agent), 2)
    assert [len(error) for _, error in seen] == [16] * 2 * number
    if number > 1:  # each is drawn anew
        assert not torch.equal(seen[0][0]["place"], seen[1][0]["place"])
    assert adam_steps(agent) == metrics["train/n_updates"] == 2 * number


def test_no_gradient_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, or -1"):
        make(gradient_steps=0)


def test_the_target_network_stands_still_between_updates() -> None:
    agent = make(target_update_interval=96, learning_starts=0)
    vec = make_echo(agent)
    obs, before = vec.reset(0), numbers(agent.target)
    for iteration in range(1, 7):
        own = numbers(agent.policy)
        obs = collect(agent, vec, obs)
        agent.learn()
        if iteration % 3 == 0:  # to where the network was when it acted
            assert torch.equal(numbers(agent.target), own)
            before = own
        assert torch.equal(numbers(agent.target), before)
    assert not any(parameter.requires_grad for parameter in agent.target.parameters())


def test_targets_are_of_the_target_network() -> None:
    agent = make(target_update_interval=10**6, gamma=1.0)
    train(agent, make_echo(agent), 4)
    with torch.no_grad():
        for parameter in agent.target.parameters():
            parameter.zero_()
    batch = agent.prepare(agent.draw(200))
    assert ((batch["target"] >= 0) & (batch["target"] <= 1)).all()  # rewards alone
    agent.target.action_head.bias.data.fill_(7.0)
    assert (agent.prepare(agent.draw(200))["target"].round() == 7).any()


@pytest.mark.parametrize(("double_q", "worth"), [(False, 5), (True, 1)])
def test_who_chooses_the_next_action(double_q: bool, worth: int) -> None:
    """The network that is trained, in double Q-learning; the target network values it all the same."""
    agent = make(double_q=double_q, gamma=1.0, target_update_interval=10**6)
    train(agent, make_echo(agent), 4)
    with torch.no_grad():
        for network, biases in ((agent.policy, [9.0, 0.0, 0.0]), (agent.target, [1.0, 5.0, 0.0])):
            network.action_head.weight.zero_()
            network.action_head.bias.copy_(torch.tensor(biases))
    batch = agent.prepare(agent.draw(200))  # rewards are between 0 and 1
    assert set(batch["target"].floor().unique().tolist()) == {0.0, float(worth)}


# What it learns from


def test_priorities_follow_the_errors() -> None:
    agent = make(prioritized_replay=True, priority_alpha=0.7, learning_starts=0)
    seen, vec = watched(agent), make_echo(agent)
    obs = collect(agent, vec, vec.reset(0))
    for _ in range(3):
        agent.learn()
        batch, error = seen[-1]
        wanted = (error.abs() + 1e-6).pow(0.7)
        assert error.std() > 0
        for row, place in enumerate(batch["place"].tolist()):
            same_place = [wanted[other].item() for other in (batch["place"] == place).nonzero().flatten().tolist()]
            assert same_place == pytest.approx([wanted[row].item()] * len(same_place), rel=1e-5)
            assert agent.replay.priority[place].item() == pytest.approx(wanted[row].item(), rel=1e-5)
        obs = collect(agent, vec, obs)


def test_beta_rises_to_1_over_training() -> None:
    """A weight is the priority, over the least of the minibatch, to the power of -beta."""
    agent = make(prioritized_replay=True, priority_beta=0.4)
    train(agent, make_echo(agent), 4)
    priority = agent.replay.state_dict()["priority"]
    for progress, beta in ((1.0, 0.4), (0.5, 0.7), (0.0, 1.0)):
        agent.progress_remaining = progress
        batch = agent.draw(64)
        drawn = priority[batch.place]
        assert drawn.min() < 0.5 * drawn.max()
        torch.testing.assert_close(batch.weight, (drawn / drawn.min()).pow(-beta))


@every_option
def test_what_is_no_step_teaches_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(**options)
    train(agent, make_echo(agent), 4)
    original = agent.replay.sample
    monkeypatch.setattr(agent.replay, "sample", lambda *args: original(*args)._replace(weight=torch.zeros(16)))
    agent.optimizer.load_state_dict({name: 0 * value for name, value in agent.optimizer.state_dict().items()})
    before = agent.optimizer.flat.detach().clone()
    assert agent.learn()["train/loss"] == 0.0
    assert torch.equal(agent.optimizer.flat, before)


@every_option
def test_nothing_behind_a_termination_is_looked_at(options: dict[str, Any]) -> None:
    agent = make(num_envs=3, learning_starts=0, **options)
    metrics = train_with_nan_behind_terminations(agent)
    assert all(math.isfinite(value) for value in metrics.values())
    assert agent.optimizer.flat.isfinite().all()


def test_a_truncation_leads_to_its_final_observation() -> None:
    agent = make(num_envs=2, gamma=0.9, learning_starts=0)
    obs, final, first = (torch.full((2, 4), x) for x in (1.0, 2.0, 3.0))
    flags = torch.tensor([False, True]), torch.tensor([True, False])
    nothing = torch.zeros(2)
    for now in (obs, first):
        agent.record(agent.act(now), VecStep(first, torch.ones(2), *flags, final, nothing, nothing, {}))
    batch = agent.prepare(agent.draw(100))
    with torch.no_grad():
        value = agent.target(final[:1]).max().item()
    wanted = torch.where(batch["place"] % 2 == 0, 1 + 0.9 * value, 1.0)
    used = batch["share"].sum(1) > 0
    assert batch["target"].flatten()[used].tolist() == pytest.approx(wanted[used].tolist(), abs=1e-5)
    assert 0 < used.sum() < 100


def test_observations_are_kept_in_their_own_types() -> None:
    agent = make(observation_space=GOALS, num_envs=4)
    obs = make_echo(agent).reset(0)
    train(agent, make_echo(agent), 2)
    stored = agent.replay.state_dict()["ring"]["obs"]
    assert [x.dtype for x in leaves(stored)] == [x.dtype for x in leaves(obs)]
    assert stored["picture"].dtype == torch.uint8
    assert stored["flag"].dtype == torch.bool
    held = sum(x.nbytes for x in leaves(agent.replay._ring))
    assert agent.memory() == held


# Spaces

IMAGE = spaces.Box(0, 255, (12, 12, 2), np.uint8)
GOALS = spaces.Dict(
    {"goal": spaces.Discrete(3, start=1), "picture": IMAGE, "flag": spaces.Box(0, 1, (2,), bool), "speed": VECTOR}
)
OBSERVATIONS = [
    VECTOR,
    IMAGE,
    spaces.Box(0, 1, (10, 10, 4), bool),
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiBinary(4),
    spaces.Box(-1.0, 1.0, ()),
    GOALS,
    spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(3)}),
]


@pytest.mark.parametrize("options", [{}, EVERY_OPTION], ids=["plain", "all"])
@pytest.mark.parametrize("observation_space", OBSERVATIONS, ids=str)
def test_learns_from_every_kind_of_observation(observation_space: spaces.Space, options: dict[str, Any]) -> None:
    """Echo itself checks that every action is inside its space."""
    agent = make(observation_space=observation_space, action_space=spaces.Discrete(3, start=4), **options)
    before = {name: x.clone() for name, x in agent.policy.named_parameters()}
    metrics = train(agent, make_echo(agent), 4)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(not torch.equal(x, before[name]) for name, x in agent.policy.named_parameters())
    obs = make_echo(agent).reset(3)
    for deterministic in (True, False):
        action = agent.predict(obs, deterministic=deterministic).action
        assert ((action >= 4) & (action < 7)).all()


def test_actions_are_stored_from_0() -> None:
    agent = make(action_space=spaces.Discrete(3, start=4), exploration_initial_eps=0.0, learning_starts=0)
    out = agent.act(torch.randn(8, 4))
    assert torch.equal(out.action, agent.action + 4)
    assert torch.equal(agent.action, agent.policy(agent.replay._ring["obs"][:8]).argmax(1))


# What it leaves alone


def test_without_the_replay_it_collects_anew_and_says_so() -> None:
    agent, resumed = (make(save_replay_buffer=False, learning_starts=40) for _ in range(2))
    vec = make_echo(agent)
    train(agent, vec, 4)
    state = agent.training_state()
    assert state["replay"] == {}
    resumed.load_state_dict(agent.state_dict())
    with pytest.warns(UserWarning, match=r"(?s)Not bit for bit.*no transitions.*40 environment steps") as record:
        resumed.load_training_state(copy.deepcopy(state))
    assert len(record) == 1
    resumed.progress_remaining = 0.5
    assert resumed.epsilon == pytest.approx(0.05)  # it goes on by its policy
    obs, steps = vec.reset(1), adam_steps(agent)
    for learned in (False, True, True):  # 32, 64, 96 steps
        obs = collect(resumed, vec, obs)
        assert ("train/loss" in resumed.learn()) == learned
    assert adam_steps(resumed) == steps + 2


# What it says


def test_metrics_are_0d_and_named_as_in_stable_baselines3() -> None:
    agent = make()
    metrics = train(agent, make_echo(agent), 1)
    assert metrics == {"rollout/exploration_rate": 1.0}
    metrics = train(agent, make_echo(agent), 2)
    assert {"rollout/exploration_rate", "train/loss", "train/learning_rate", "train/n_updates"} < metrics.keys()
    tensors = [value for value in metrics.values() if isinstance(value, Tensor)]
    assert all(value.shape == () and not value.requires_grad for value in tensors)


def test_a_target_network_that_follows_at_every_update_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="target_update_interval=31 is less than the 4 steps x 8") as record:
        make(target_update_interval=31).check()
    assert len(record) == 1
    assert "\n" not in str(record[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(target_update_interval=32).check()
