"""Conservative Q-learning: its loss by hand, a loop in float64, and learning."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import as_bits, last_state
from gymnasium import spaces
from offline_sets import CARTPOLE, CHOICE, NUMBERS, half_random_cartpole, make_offline, make_set
from torch import nn

import rltrain
from rltrain.agents.cql.agent import CQL
from rltrain.agents.cql.loss import cql_loss
from rltrain.agents.parts.offline import Shuffled
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.runs.layout import list_checkpoints


def test_the_loss_is_that_computed_by_hand() -> None:
    values = torch.tensor([[0.0, math.log(3.0)], [2.0, -1e8]])  # the second action of the second row is forbidden
    loss, error, penalty = cql_loss(values, torch.tensor([0, 0]), torch.tensor([0.5, 4.0]), alpha=2.0)
    huber = (0.5 * 0.5**2 + (2.0 - 0.5)) / 2
    assert error.item() == pytest.approx(huber)
    assert penalty.item() == pytest.approx((math.log(4.0) + 0.0) / 2)
    assert loss.item() == pytest.approx(huber + 2.0 * math.log(4.0) / 2)


@pytest.mark.parametrize("double_q", [True, False])
def test_learning_is_that_of_a_plain_loop_in_float64(tmp_path: Path, double_q: bool) -> None:
    dataset = make_set(tmp_path / "set")
    options = {"learning_rate": 3e-3, "tau": 0.1, "gamma": 0.95, "alpha": 0.3, "reward_scale": 0.7}
    agent = make_offline(CQL, dataset, double_q=double_q, **options)
    network = nn.Sequential(*copy.deepcopy([*agent.policy.body.children(), agent.policy.action_head])).double()
    target, optimizer = copy.deepcopy(network), torch.optim.Adam(network.parameters(), lr=3e-3, eps=1e-8)
    order = Shuffled(agent.data.steps, 16, agent.batches.seed)
    for _ in range(8):
        agent.learn()
        for _ in range(3):
            steps = next(order)
            obs, after = (
                torch.from_numpy(x).double() for x in (dataset.take("obs", steps), dataset.after("obs", steps))
            )
            action = torch.from_numpy(dataset.take("action", steps)) - 2
            reward = 0.7 * torch.from_numpy(dataset.take("reward", steps)).double()
            over = torch.from_numpy(dataset.take("terminated", steps))
            loss = torch.zeros((), dtype=torch.float64)
            for row in range(16):
                with torch.no_grad():
                    best = (network if double_q else target)(after[row]).argmax()
                    wanted = reward[row] + (0.0 if over[row] else 0.95 * target(after[row])[best])
                values = network(obs[row])
                error = (values[action[row]] - wanted).abs()
                loss = loss + torch.where(error < 1, 0.5 * error**2, error - 0.5) / 16
                loss = loss + 0.3 * (values.exp().sum().log() - values[action[row]]) / 16
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
    for mine, theirs in ((agent.policy, network), (agent.target, target)):
        torch.testing.assert_close(mine(torch.eye(4)).double(), theirs(torch.eye(4).double()), rtol=1e-3, atol=1e-4)


def test_the_penalty_keeps_to_the_data(tmp_path: Path) -> None:
    """Nobody took action 4, so with the penalty it is never the best, whatever the values of others are."""
    dataset = make_set(tmp_path / "set")
    rows = np.arange(len(dataset))
    columns = {name: dataset.take(name, rows) for name in dataset.columns}
    columns["action"] = 2 + (rows % 2)
    from rltrain.data.writer import DatasetWriter

    with DatasetWriter(tmp_path / "two", dataset.observation_space, CHOICE) as writer:
        finals = {"obs": dataset.final("obs", np.arange(len(dataset.episodes)))}
        writer.add(columns, dataset.episodes.length.tolist(), finals)
    agent = make_offline(CQL, Dataset.open(tmp_path / "two"), learning_rate=1e-2, gradient_steps=100)
    agent.learn()
    taken = agent.predict(torch.rand(500, 4) * 2 - 1).action
    assert (taken == 4).float().mean() < 0.02


@pytest.mark.parametrize("space", [NUMBERS, spaces.MultiDiscrete([2, 2])], ids=["numbers", "choices"])
def test_it_is_for_discrete_actions(tmp_path: Path, space: spaces.Space) -> None:
    with pytest.raises(ConfigError, match="no action values"):
        make_offline(CQL, make_set(tmp_path / "set", space))


TRAIN: dict[str, Any] = {"device": "cpu", "num_threads": 1, "trackers": ["csv"], "progress": False}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """About 100 steps an episode."""
    return half_random_cartpole(tmp_path_factory.mktemp("data") / "mixed")


@pytest.mark.parametrize("seed", range(2))
def test_it_is_better_than_the_data(tmp_path: Path, mixed: Dataset, seed: int) -> None:
    agent = {"learning_rate": 1e-3, "tau": 0.02, "alpha": 0.3}
    result = rltrain.train(
        "cql",
        CARTPOLE,
        data=mixed.path,
        run_dir=tmp_path,
        seed=seed,
        n_eval_episodes=20,
        total_timesteps=300_000,
        agent=agent,
        **TRAIN,
    )
    assert result.evaluation is not None
    assert result.evaluation.mean_reward > 2 * mixed.episodes.returns.mean()


def test_a_run_goes_on_bit_for_bit_and_dqn_from_it(tmp_path: Path, mixed: Dataset) -> None:
    agent = {"batch_size": 32, "gradient_steps": 4, "dueling": True}
    options = {**TRAIN, "run_dir": tmp_path, "n_eval_episodes": 0}
    data = {"data": str(mixed.path), "agent": agent, "total_timesteps": 2048, "save_freq": 1024}
    whole = rltrain.train("cql", CARTPOLE, **data, **options).run_dir
    wanted = as_bits(last_state(whole))
    rltrain.resume(list_checkpoints(whole / "checkpoints")[0], progress=False)
    assert as_bits(last_state(whole)) == wanted
    still = {"learning_starts": 1000, "dueling": True}
    pupil = rltrain.train("dqn", CARTPOLE, init_from=whole, num_envs=1, total_timesteps=8, agent=still, **options)
    before, after = (dict(rltrain.load(each).agent.actor.state_dict()) for each in (whole, pupil.run_dir))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
