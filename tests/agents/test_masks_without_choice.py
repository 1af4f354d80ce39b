"""Masks that allow nothing: at the end of a truncated game, and where one should not be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.parts.exploration import EpsilonGreedy
from rltrain.agents.parts.networks import mask_logits
from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.settings import QNetworkKwargs
from rltrain.agents.parts.td import td_target
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.pqn.config import PQNConfig
from rltrain.spaces import random_actions
from rltrain.vec import VecStep

ROWS, ACTIONS = 6, 3
SPACE = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (4,)), "action_mask": spaces.MultiBinary(ACTIONS)})
NONE = torch.arange(ROWS) % 2 == 0  # the rows without a choice


def masked(dtype: torch.dtype = torch.int8) -> dict[str, Tensor]:
    mask = torch.ones(ROWS, ACTIONS)
    mask[NONE] = 0
    return {"x": torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0)), "action_mask": mask.to(dtype)}


def network(**options: Any) -> QNetwork:
    return QNetwork(SPACE, spaces.Discrete(ACTIONS), QNetworkKwargs(), **options)


def batch(obs: Any) -> Batch:
    numbers = torch.arange(ROWS) + 1.0
    no = torch.zeros(ROWS, dtype=torch.bool)
    action = torch.zeros(ROWS, dtype=torch.int64)
    return Batch(obs, action, numbers, obs, torch.full((ROWS,), 0.9), no, torch.ones(ROWS), action)


@pytest.mark.parametrize("double", [False, True], ids=["", "double"])
@pytest.mark.parametrize("k", [1, 4], ids=["", "quantiles"])
def test_no_action_is_worth_nothing(double: bool, k: int) -> None:
    net, obs = network(n_quantiles=k), masked()
    target = td_target(batch(obs), net, net if double else None)
    reward = torch.arange(ROWS) + 1.0
    assert torch.equal(target[NONE], reward[NONE].unsqueeze(1).expand(-1, k))
    assert (target[~NONE] != reward[~NONE].unsqueeze(1)).all()
    assert target.abs().max() < 100


def test_where_states_are_valued_it_is_the_state_s() -> None:
    net, obs = network(dueling=True), masked()
    target = td_target(batch(obs), net)
    wanted = (torch.arange(ROWS) + 1.0) + 0.9 * net.state_value(obs).squeeze(1)
    torch.testing.assert_close(target[NONE].squeeze(1), wanted[NONE])


def test_the_targets_of_pqn_stay_finite_and_small() -> None:
    config = PQNConfig(n_steps=2, batch_size=4)
    agent = PQN(SPACE, spaces.Discrete(ACTIONS), ROWS, config)
    no, reward = torch.zeros(ROWS, dtype=torch.bool), torch.ones(ROWS)
    obs = {**masked(), "action_mask": torch.ones(ROWS, ACTIONS)}
    for _ in range(2):
        out = agent.act(obs)
        agent.record(out, VecStep(obs, reward, no, ~no, masked(), reward, reward.long(), {}))
    targets = agent.targets().view(2, ROWS)
    assert torch.equal(targets[:, NONE], torch.ones(2, int(NONE.sum())))
    assert targets.abs().max() < 100


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float32, torch.int64])
def test_a_row_without_a_choice_does_not_mean_the_first_action(dtype: torch.dtype) -> None:
    obs, logits = masked(dtype), torch.tensor([[0.0, 1.0, 2.0]]).expand(ROWS, ACTIONS)
    assert (mask_logits(logits, obs).argmax(-1) == 2).all()
    rng = torch.Generator().manual_seed(0)
    explore = EpsilonGreedy(50, ROWS, ACTIONS, torch.device("cpu"), rng)
    for epsilon, least in ((0.0, 1), (1.0, 3)):
        chosen = torch.stack([explore(logits, obs, epsilon) for _ in range(50)])
        assert len(chosen[:, NONE].unique()) == least
    drawn = torch.stack(
        [
            random_actions(spaces.Discrete(ACTIONS), ROWS, torch.device("cpu"), rng, obs["action_mask"])
            for _ in range(50)
        ]
    )
    assert len(drawn[:, NONE].unique()) == ACTIONS
