"""The PQN agent: its targets, an epoch by hand, and what it must not change."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from echo import VECTOR, collect, make_agent, make_echo, train
from gymnasium import spaces
from torch import nn

from rltrain.agents.parts.rollout import flat
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.pqn.config import PQNConfig
from rltrain.make import make_vec

NORMALIZED = {"normalize_obs": True}
options = pytest.mark.parametrize("options", [{}, NORMALIZED], ids=["plain", "normalized"])


def make(**changes: Any) -> PQN:
    return make_agent(**{"kind": PQN, "learning_rate": 1e-2, **changes})


@torch.no_grad()
@pytest.mark.parametrize(("gamma", "q_lambda"), [(0.9, 0.65), (0.9, 0.0), (0.9, 1.0), (1.0, 0.5)])
def test_targets_are_those_of_a_loop(gamma: float, q_lambda: float) -> None:
    """Gallici et al. (2024), equation 2; the best action of what followed, also where time was up."""
    agent = make(gamma=gamma, q_lambda=q_lambda, n_steps=12)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    rollout = {name: agent.rollout[name] for name in ("reward", "terminated", "truncated", "final_obs")}
    assert rollout["terminated"].any()
    assert rollout["truncated"].any()
    rollout["final_obs"][rollout["terminated"]] = torch.nan  # behind a termination nothing may be looked at
    best = agent.policy(flat(rollout["final_obs"])).view(12, 8, 3).max(2).values.tolist()
    targets = agent.targets().view(12, 8)
    for env in range(8):
        ahead = None
        for t in reversed(range(12)):
            target = rollout["reward"][t, env].item()
            if rollout["truncated"][t, env] or ahead is None:
                target += 0.0 if rollout["terminated"][t, env] else gamma * best[t][env]
            elif not rollout["terminated"][t, env]:
                target += gamma * (q_lambda * ahead + (1 - q_lambda) * best[t][env])
            assert targets[t, env].item() == pytest.approx(target, abs=1e-5), (t, env)
            ahead = target


@torch.no_grad()
def test_targets_do_not_count_forbidden_actions() -> None:
    vec = make_vec(Countdown, 16)
    agent = make(observation_space=vec.single_observation_space, action_space=vec.single_action_space, num_envs=16)
    obs, forbidden = vec.reset(0), 0
    for _ in range(agent.horizon):
        out = agent.act(obs)
        for action in (out.action, agent.predict(obs).action, agent.predict(obs, deterministic=False).action):
            assert obs["action_mask"].gather(1, action.unsqueeze(1)).all()
        forbidden += int((~obs["action_mask"]).sum())
        step = vec.step(out.action)
        agent.record(out, step)
        obs = step.obs
    assert forbidden > 20
    agent.policy.action_head.weight.zero_()
    agent.policy.action_head.bias.copy_(torch.tensor([1.0, 2.0, 100.0]))
    mask = flat(agent.rollout["final_obs"])["action_mask"]
    best = torch.tensor([1.0, 2.0, 100.0]).where(mask, -1e8).amax(1)
    reward, terminated = (flat(agent.rollout[name]) for name in ("reward", "terminated"))
    agent.config.q_lambda = 0.0
    torch.testing.assert_close(agent.targets(), reward + 0.99 * best.masked_fill(terminated, 0.0))
    assert (best < 100)[~terminated].any()


def test_an_epoch_is_that_of_a_plain_loop() -> None:
    """Algorithm 1 with torch's own Adam: shuffled minibatches, half the mean square, clipped gradients."""
    agent = make(n_epochs=2, batch_size=20, max_grad_norm=0.05)
    vec = make_echo(agent)
    collect(agent, vec, vec.reset(0))
    policy, rng = copy.deepcopy(agent.policy), torch.Generator()
    rng.set_state(agent.rng.get_state())
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2, eps=1e-8)
    obs, action, target = flat(agent.rollout["obs"]), flat(agent.rollout["action"]), agent.targets()
    losses, norms = [], []
    for _ in range(2):
        order = torch.randperm(64, generator=rng)
        for rows in order.split(20):
            loss = torch.zeros(())
            for row in rows.tolist():
                loss = loss + 0.5 * (policy(obs[row : row + 1])[0, action[row]] - target[row]) ** 2 / len(rows)
            optimizer.zero_grad()
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(policy.parameters(), 0.05).item())
            losses.append(loss.item())
            optimizer.step()
    metrics = agent.learn()
    assert len(losses) == 8
    assert min(norms) > 0.05
    for ours, theirs in zip(agent.policy.parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert metrics["train/loss"].item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert metrics["train/grad_norm"].item() == pytest.approx(np.mean(norms), rel=1e-4)
    assert metrics["train/q_target"].item() == pytest.approx(target.mean().item(), rel=1e-5)
    assert metrics["train/n_updates"] == 2


def test_layers_are_normalised_unless_told_otherwise() -> None:
    def norms(**kwargs: Any) -> int:
        agent = make(**kwargs)
        return sum(isinstance(layer, nn.LayerNorm) for layer in agent.policy.modules())

    assert norms(policy_kwargs={"net_arch": [16, 16]}) == 2
    assert norms(policy_kwargs={"net_arch": [16], "layer_norm": False}) == 0
    assert norms(policy_kwargs={}, observation_space=spaces.Box(0, 1, (10, 10, 4), bool)) == 3
    assert PQNConfig().policy_kwargs.layer_norm
    assert PQNConfig(policy_kwargs={"activation_fn": "tanh"}).policy_kwargs.net_arch == [128]


def test_epsilon_is_a_function_of_the_progress() -> None:
    agent = make(exploration_initial_eps=0.9, exploration_final_eps=0.1, exploration_fraction=0.5)
    for progress, wanted in ((1.0, 0.9), (0.75, 0.5), (0.5, 0.1), (0.0, 0.1)):
        agent.progress_remaining = progress
        assert agent.epsilon == pytest.approx(wanted)
    agent = make(num_envs=500, exploration_initial_eps=0.3, exploration_final_eps=0.0)
    obs = torch.zeros(500, 4)
    best = agent.predict(obs).action
    others = 0
    for _ in range(agent.horizon):
        others += int((agent.act(obs).action != best).sum())
        agent.rollout.advance()
    assert others / 4000 == pytest.approx(0.2, abs=0.02)
    agent.rollout.clear()
    agent.progress_remaining = 0.0
    assert torch.equal(agent.act(obs).action, best)


def test_statistics_change_only_when_learning() -> None:
    agent = make(**NORMALIZED)
    vec = make_echo(agent)
    moments = agent.obs_normalizer.moments["observation"]
    obs = collect(agent, vec, vec.reset(0))
    fresh = moments.mean.clone()
    agent.predict(obs)
    agent.targets()
    assert torch.equal(moments.mean, fresh)
    agent.learn()
    torch.testing.assert_close(moments.mean.float(), flat(agent.rollout["obs"]).mean(0), rtol=1e-4, atol=1e-5)


IMAGE = spaces.Box(0, 255, (12, 12, 2), np.uint8)
OBSERVATIONS = [
    VECTOR,
    IMAGE,
    spaces.Box(0, 1, (10, 10, 4), bool),
    spaces.Discrete(5, start=2),
    spaces.MultiDiscrete([3, 2]),
    spaces.Dict({"goal": spaces.Discrete(3, start=1), "picture": IMAGE, "speed": VECTOR}),
    spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(3)}),
]


@options
@pytest.mark.parametrize("observation_space", OBSERVATIONS, ids=str)
def test_learns_from_every_kind_of_observation(observation_space: spaces.Space, options: dict[str, Any]) -> None:
    """Echo itself checks that every action is inside its space."""
    agent = make(observation_space=observation_space, action_space=spaces.Discrete(3, start=4), **options)
    before = {name: x.clone() for name, x in agent.policy.named_parameters()}
    metrics = train(agent, make_echo(agent), 3)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(not torch.equal(x, before[name]) for name, x in agent.policy.named_parameters())
    assert ((flat(agent.rollout["action"]) >= 0) & (flat(agent.rollout["action"]) < 3)).all()
    action = agent.predict(make_echo(agent).reset(3)).action
    assert ((action >= 4) & (action < 7)).all()


def test_a_batch_size_that_does_not_divide_warns() -> None:
    with pytest.warns(UserWarning, match=r"batch_size=12 does not divide .* = 32: the last minibatch .* has 8"):
        make(num_envs=4, n_steps=8, batch_size=12).check()
