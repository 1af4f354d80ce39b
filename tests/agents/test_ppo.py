"""The PPO agent: what it stores, what it learns from, when it stops, and what it must not change."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from countdown import Countdown
from echo import VECTOR, Echo, collect, make_agent, make_echo, same, train
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.parts.rollout import Rollout, flat, in_chunks, shuffled_minibatches
from rltrain.agents.ppo import agent as ppo_module
from rltrain.agents.ppo.agent import PPO, explained_variance
from rltrain.agents.ppo.loss import Rows, approx_kl
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.tree import leaves
from rltrain.vec import VecStep

NORMALIZED = {"normalize_obs": True, "normalize_reward": True}


@pytest.mark.parametrize("action_space", [spaces.Discrete(2), spaces.Box(-1.0, 1.0, (2,))], ids=str)
def test_learning_sees_the_probabilities_of_acting(action_space: spaces.Space) -> None:
    agent = make_agent(spaces.Box(-3.0, 3.0, (4,)), action_space, learning_rate=1e-2, **NORMALIZED)
    vec = make_echo(agent)
    obs = vec.reset(0)
    for _ in range(2):  # so that neither the statistics nor the policy are the first ones
        obs = collect(agent, vec, obs)
        agent.learn()
    normalizer = agent.obs_normalizer
    assert normalizer is not None
    assert (normalizer.moments["observation"].mean.abs() > 0.5).all()

    acted, valued = [], []
    for _ in range(agent.horizon):
        with torch.no_grad():
            params, value = agent.policy(normalizer(obs))
        out = agent.act(obs)
        raw = agent.rollout["raw"][agent.rollout.step]
        acted.append(agent.distribution.log_prob_entropy(params, raw)[0].detach())
        valued.append(value)
        step = vec.step(out.action)
        agent.record(out, step)
        obs = step.obs

    batch = agent.prepare()
    with torch.no_grad():
        params, value = agent.policy(batch["obs"])
        fresh, _ = agent.distribution.log_prob_entropy(params, batch["raw"])
    for wanted in (torch.cat(acted), fresh):
        torch.testing.assert_close(batch["log_prob"], wanted, rtol=0, atol=1e-6)
    for wanted in (torch.cat(valued), value):
        torch.testing.assert_close(batch["value"], wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(batch["returns"], batch["advantage"] + batch["value"])
    # And with the statistics of the rollout itself they would have been others.
    normalizer.update(flat(agent.rollout["obs"]))
    with torch.no_grad():
        other = agent.policy.value(normalizer(flat(agent.rollout["obs"])))
    assert (other - batch["value"]).abs().max() > 1e-5


def outcome(final_obs: Tensor, reward: list[float], terminated: list[bool], truncated: list[bool]) -> VecStep:
    n = len(reward)
    first_of_next = torch.full_like(final_obs, 0.5)
    return VecStep(
        first_of_next,
        torch.tensor(reward),
        torch.tensor(terminated),
        torch.tensor(truncated),
        final_obs,
        torch.zeros(n),
        torch.zeros(n, dtype=torch.int64),
        {},
    )


def test_truncation_bootstraps_from_where_it_led_and_termination_does_not() -> None:
    agent = make_agent(num_envs=3, n_steps=2, gamma=0.9, gae_lambda=0.8)
    first, second = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    final = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    final[0, 1] = torch.nan  # behind a termination nothing may be looked at
    final[0, 2] = second[2]
    agent.record(agent.act(first), outcome(final[0], [1.0, 2.0, 3.0], [False, True, False], [True, False, False]))
    agent.record(agent.act(second), outcome(final[1], [4.0, 5.0, 6.0], [False] * 3, [False] * 3))
    with torch.no_grad():
        v0, v1 = agent.policy.value(first), agent.policy.value(second)
        f0, f1 = agent.policy.value(final[0]), agent.policy.value(final[1])
    last = torch.tensor([4.0, 5.0, 6.0]) + 0.9 * f1 - v1
    truncated = 1.0 + 0.9 * f0[0] - v0[0]
    terminated = 2.0 - v0[1]
    going_on = 3.0 + 0.9 * v1[2] - v0[2] + 0.9 * 0.8 * last[2]
    wanted = torch.cat([torch.stack([truncated, terminated, going_on]), last])
    torch.testing.assert_close(agent.prepare()["advantage"], wanted, rtol=1e-5, atol=1e-6)


def test_discounted_returns_end_with_the_episode_however_it_ends() -> None:
    agent = make_agent(num_envs=3, n_steps=1, gamma=0.9, normalize_reward=True)
    obs = torch.zeros(3, 4)
    for _ in range(2):
        agent.record(agent.act(obs), outcome(obs, [1.0, 2.0, 3.0], [True, False, False], [False, True, False]))
        agent.learn()
    assert agent.reward_normalizer.returns.tolist() == pytest.approx([0.0, 0.0, 3.0 + 0.9 * 3.0])


class Spy:
    """Watches the minibatches of an update."""

    def __init__(self, agent: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.kl: list[float] = []
        self.grad_norm: list[float] = []
        self.parameters: list[Tensor] = []  # after each minibatch
        step = agent.optimizer.step

        def loss(policy, batch, *args):
            scalar, rows = ppo_module_loss(policy, batch, *args)
            self.sizes.append(batch["advantage"].shape[0])
            self.kl.append(approx_kl(rows.log_ratio).item())
            return scalar, rows

        def watched(*args, **kwargs):
            norm = step(*args, **kwargs)
            self.grad_norm.append(norm.item())
            self.parameters.append(agent.optimizer.flat.detach().clone())
            return norm

        ppo_module_loss = ppo_module.ppo_loss
        monkeypatch.setattr(ppo_module, "ppo_loss", loss)
        monkeypatch.setattr(agent.optimizer, "step", watched)


def test_no_step_is_taken_after_target_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(learning_rate=1e-2, target_kl=1e-3, n_epochs=3)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    spy = Spy(agent, monkeypatch)
    metrics = agent.learn()

    violating = [kl > 1.5e-3 for kl in spy.kl].index(True)
    assert 1 <= violating < len(spy.kl) - 1
    taken, rest = spy.parameters[:violating], spy.parameters[violating:]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(taken))
    assert all(torch.equal(taken[-1], after) for after in rest)
    assert int(agent.optimizer.state_dict()["step"]) == violating
    assert metrics["train/approx_kl"].item() == pytest.approx(np.mean(spy.kl[:violating]), rel=1e-5)
    assert metrics["train/grad_norm"].item() == pytest.approx(np.mean(spy.grad_norm[:violating]), rel=1e-5)

    monkeypatch.undo()
    before = agent.optimizer.flat.detach().clone()
    collect(agent, vec, vec.reset(1))
    agent.learn()
    assert not torch.equal(agent.optimizer.flat, before)  # the next update starts anew


@pytest.mark.parametrize(("share", "steps"), [(1.4, 2), (1.6, 1)])
def test_an_update_goes_on_up_to_one_and_a_half_times_target_kl(share: float, steps: int) -> None:
    """As in Stable-Baselines3. Of two epochs of one minibatch, the first finds a divergence of 0."""

    def update(target_kl: float | None) -> tuple[PPO, float]:
        agent = make_agent(learning_rate=1e-2, n_epochs=2, batch_size=64, target_kl=target_kl)
        vec = make_echo(agent)
        collect(agent, vec, vec.reset(0))
        return agent, agent.learn()["train/approx_kl"].item()

    second = 2 * update(None)[1]
    agent, _ = update(second / share)
    assert int(agent.optimizer.state_dict()["step"]) == steps


def test_without_target_kl_every_step_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(learning_rate=1e-2, n_epochs=3)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    spy = Spy(agent, monkeypatch)
    metrics = agent.learn()
    assert int(agent.optimizer.state_dict()["step"]) == len(spy.kl) == 3 * 4
    assert metrics["train/approx_kl"].item() == pytest.approx(np.mean(spy.kl), rel=1e-4, abs=1e-7)


def test_an_update_stopped_by_an_overflow_reports_only_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio of a policy that ran away is infinite: target_kl saves the policy, and the log stays readable."""
    agent = make_agent(target_kl=0.5)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    original, calls = ppo_module.ppo_loss, []

    def overflows_in_the_third(*args):
        scalar, rows = original(*args)
        calls.append(rows)
        if len(calls) == 3:
            agent.optimizer.flat.grad.fill_(torch.inf)
            far = {name: torch.full_like(x, torch.inf) for name, x in rows._asdict().items()}
            rows = Rows(**{**far, "log_ratio": torch.full_like(rows.log_ratio, 1e3)})  # its exponential is infinite
        return scalar, rows

    monkeypatch.setattr(ppo_module, "ppo_loss", overflows_in_the_third)
    metrics = agent.learn()
    assert int(agent.optimizer.state_dict()["step"]) == 2
    assert all(math.isfinite(value) for value in metrics.values())
    assert agent.optimizer.flat.isfinite().all()


def test_a_batch_size_that_does_not_divide_warns_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(num_envs=5, n_steps=5, batch_size=10)
    with pytest.warns(UserWarning, match="last minibatch of an epoch has 5 transitions") as record:
        agent.check()
    assert len(record) == 1
    assert "\n" not in str(record[0].message)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    spy = Spy(agent, monkeypatch)
    agent.learn()
    assert spy.sizes == [10, 10, 5] * 2
    assert not torch.equal(spy.parameters[1], spy.parameters[2])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_agent(num_envs=5, n_steps=4, batch_size=10).check()


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_minibatches_of_any_size(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row alone is not normalized: its deviation is NaN."""
    agent = make_agent(num_envs=2, n_steps=5, batch_size=batch_size, n_epochs=1, normalize_advantage=True)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    before = agent.optimizer.flat.detach().clone()
    spy = Spy(agent, monkeypatch)
    metrics = agent.learn()
    assert spy.sizes == {1: [1] * 10, 3: [3, 3, 3, 1], 1000: [10]}[batch_size]
    assert all(math.isfinite(value) for value in metrics.values())
    assert agent.optimizer.flat.isfinite().all()
    assert not torch.equal(agent.optimizer.flat, before)


def test_every_transition_is_used_once_per_epoch() -> None:
    batch = {"a": torch.arange(10), "b": {"c": torch.arange(10).view(10, 1) * 2}}
    rng = torch.Generator().manual_seed(0)
    epochs = [list(shuffled_minibatches(batch, 4, rng)) for _ in range(2)]
    orders = [torch.cat([part["a"] for part in parts]) for parts in epochs]
    assert [len(part["a"]) for part in epochs[0]] == [4, 4, 2]
    assert all(sorted(order.tolist()) == list(range(10)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], torch.arange(10))
    assert all(torch.equal(part["a"] * 2, part["b"]["c"].squeeze(1)) for parts in epochs for part in parts)


def test_chunks_do_not_change_a_value() -> None:
    tree = {"a": torch.randn(10, 3)}
    whole = tree["a"].sum(1)
    for size in (1, 3, 10, 20):
        assert torch.equal(in_chunks(lambda x: x["a"].sum(1), tree, size), whole)


def test_a_rollout_keeps_copies() -> None:
    rollout = Rollout(2)
    value = torch.zeros(3)
    for step in range(2):
        rollout.store(x=value.fill_(step), y={"z": value})
        rollout.advance()
    value.fill_(9)
    assert rollout.step == 2
    assert rollout["x"].tolist() == rollout["y"]["z"].tolist() == [[0, 0, 0], [1, 1, 1]]
    place = rollout["x"].data_ptr()
    rollout.clear()
    rollout.store(x=value)
    assert rollout["x"].data_ptr() == place
    assert rollout.step == 0


def test_statistics_change_only_when_learning() -> None:
    agent = make_agent(**NORMALIZED)
    vec = make_echo(agent)
    obs = vec.reset(0)

    def statistics() -> dict[str, Tensor]:
        return {name: x.clone() for name, x in agent.state_dict().items() if "normalizer" in name}

    fresh = statistics()
    assert len(fresh) == 6
    obs = collect(agent, vec, obs)
    agent.predict(obs, deterministic=False, rng=torch.Generator())
    assert same(statistics(), fresh)
    agent.learn()
    learned = statistics()
    assert all(not torch.equal(learned[name], fresh[name]) for name in fresh)
    moments = agent.obs_normalizer.moments["observation"]
    torch.testing.assert_close(moments.mean.float(), flat(agent.rollout["obs"]).mean(0), rtol=1e-4, atol=1e-5)
    collect(agent, vec, obs)
    assert same(statistics(), learned)


def test_schedules_follow_the_progress() -> None:
    agent = make_agent(learning_rate="lin_0.02", clip_range="lin_0.4", clip_range_vf=0.3)
    vec = make_echo(agent)
    obs = vec.reset(0)
    for progress in (1.0, 0.25):
        agent.progress_remaining = progress
        obs = collect(agent, vec, obs)
        metrics = agent.learn()
        assert metrics["train/learning_rate"] == pytest.approx(0.02 * progress)
        assert metrics["train/clip_range"] == pytest.approx(0.4 * progress)
        assert metrics["train/clip_range_vf"] == pytest.approx(0.3)
    assert metrics["train/n_updates"] == 4

    agent.progress_remaining = 0.0  # a step size of 0 moves nothing
    before = agent.optimizer.flat.detach().clone()
    collect(agent, vec, obs)
    agent.learn()
    assert torch.equal(agent.optimizer.flat, before)


def test_metrics_are_0d_and_named_as_in_stable_baselines3() -> None:
    agent = make_agent(action_space=VECTOR, clip_range_vf=0.2)
    metrics = train(agent, make_echo(agent), 1)
    names = "approx_kl clip_fraction clip_range clip_range_vf entropy_loss explained_variance learning_rate loss "
    names += "n_updates policy_gradient_loss value_loss std grad_norm"
    assert set(metrics) == {f"train/{name}" for name in names.split()}
    tensors = [value for value in metrics.values() if isinstance(value, Tensor)]
    assert all(value.shape == () and not value.requires_grad for value in tensors)
    assert len(tensors) == len(metrics) - 4  # learning rate, clip ranges and updates are numbers anyway


def test_explained_variance_by_hand() -> None:
    target = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(target + 5.0, target) == 1.0
    assert explained_variance(torch.full((4,), 2.0), target) == 0.0
    # residuals 0.5, -0.5, 0.5, -0.5: variance 0.25 of 1.25
    predicted = target - torch.tensor([0.5, -0.5, 0.5, -0.5])
    assert explained_variance(predicted, target).item() == pytest.approx(0.8)
    assert explained_variance(target, torch.ones(4)).isnan()


IMAGE = spaces.Box(0, 255, (12, 12, 2), np.uint8)
GOALS = spaces.Dict({"goal": spaces.Discrete(3, start=1), "picture": IMAGE, "speed": VECTOR})
MASKABLE = spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(2)})


@pytest.mark.parametrize(
    ("observation_space", "action_space", "squash"),
    [
        (VECTOR, spaces.MultiDiscrete([3, 2], start=[1, -1]), False),
        (VECTOR, spaces.MultiBinary(3), False),
        (VECTOR, spaces.Box(-0.5, 2.0, (2,)), False),
        (VECTOR, spaces.Box(-0.5, 2.0, (2,)), True),
        (VECTOR, spaces.Box(-0.5, 2.0, (2, 2)), True),
        (VECTOR, spaces.Box(-1.0, 1.0, ()), False),
        (VECTOR, spaces.Discrete(3, start=4), False),
        (IMAGE, spaces.Discrete(2), False),
        (spaces.Box(0, 1, (10, 10, 4), bool), spaces.Discrete(2), False),
        (spaces.Discrete(5, start=-2), spaces.Discrete(2), False),
        (spaces.MultiDiscrete([3, 2]), spaces.Discrete(2), False),
        (spaces.MultiBinary(4), spaces.Discrete(2), False),
        (spaces.Box(-1.0, 1.0, ()), spaces.Discrete(2), False),
        (spaces.Box(-1.0, 1.0, (3,), np.float64), spaces.Discrete(2), False),
        (GOALS, spaces.MultiDiscrete([2, 2]), False),
        (MASKABLE, spaces.Discrete(2), False),
    ],
    ids=str,
)
def test_learns_in_every_kind_of_space(
    observation_space: spaces.Space, action_space: spaces.Space, squash: bool
) -> None:
    """Echo itself checks that every action is inside its space."""
    agent = make_agent(
        observation_space,
        action_space,
        num_envs=6,
        n_steps=4,
        batch_size=12,
        policy_kwargs={"net_arch": [16], "squash_output": squash},
        **NORMALIZED,
    )
    before = {name: x.clone() for name, x in agent.policy.named_parameters()}
    metrics = train(agent, make_echo(agent), 3)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(parameter.isfinite().all() for parameter in agent.parameters())
    moved = {name for name, x in agent.policy.named_parameters() if not torch.equal(x, before[name])}
    assert {"action_head.weight", "value_head.weight"} <= moved
    obs = make_echo(agent).reset(3)
    action = agent.predict(obs).action
    assert action.shape == (6, *action_space.shape)
    stored = agent.rollout["obs"]
    assert [x.dtype for x in leaves(stored)] == [x.dtype for x in leaves(obs)]  # stored as they came


def test_masked_actions_are_never_taken_in_training() -> None:
    vec = make_vec(Countdown, 16)
    agent = make_agent(vec.single_observation_space, vec.single_action_space, num_envs=16, learning_rate=0.01)
    obs = vec.reset(0)
    forbidden = 0
    for _ in range(4):
        for _ in range(agent.horizon):
            out = agent.act(obs)
            assert obs["action_mask"].gather(1, out.action.unsqueeze(1)).all()
            forbidden += int((~obs["action_mask"]).sum())
            step = vec.step(out.action)
            agent.record(out, step)
            obs = step.obs
        metrics = agent.learn()
    assert forbidden > 100
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [(spaces.Text(3), spaces.Discrete(2)), (VECTOR, spaces.Text(3)), (VECTOR, spaces.Box(0, 3, (1,), np.int64))],
    ids=str,
)
def test_spaces_it_cannot_handle_are_refused(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    with pytest.raises(ConfigError) as error:
        make_agent(observation_space, action_space)
    assert error.value.fix


def test_echo_refuses_actions_outside_its_space() -> None:
    """The control of the tests above."""
    env = Echo(VECTOR, spaces.Discrete(2))
    with pytest.raises(AssertionError):
        env.step(env.reset(2, None), torch.tensor([0, 2]), None)
