"""The Decision Transformer: what it looks at, its losses in a loop, memory, and learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import as_bits, last_state
from gymnasium import spaces
from offline_sets import CARTPOLE, CHOICE, NUMBERS, OBS, half_random_cartpole, make_set
from torch import Tensor

import rltrain
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError
from rltrain.runs.layout import list_checkpoints

pytest.importorskip("transformers", reason="the extra dt is not installed")

from rltrain.agents.dt.agent import DT
from rltrain.agents.dt.config import DTConfig
from rltrain.agents.dt.model import Pieces

SMALL: dict[str, Any] = {"hidden_size": 16, "n_layer": 2, "n_head": 2, "dropout": 0.0, "max_ep_len": 12}


def make(dataset: Dataset, seed: int = 0, **options: Any) -> DT:
    given = {"context": 4, "batch_size": 8, "gradient_steps": 2, "policy_kwargs": SMALL, **options}
    config = DTConfig.model_validate(given)
    agent = DT(dataset.observation_space, dataset.action_space, 1, config, seed=seed)
    agent.use_data(dataset)
    return agent


def test_losses_are_those_of_a_loop_over_single_steps(tmp_path: Path) -> None:
    """Each step by itself, seen with nothing but what came before it: so later ones have no part in it."""
    dataset = make_set(tmp_path / "set", lengths=(5, 3, 8, 1, 6))
    agent = make(dataset)
    first = np.array([0, 3, 6, 9, 16, 17, 22])
    loss, error = agent._losses(first)
    largest = float(np.abs(dataset.episodes.returns).max())
    terms, errors = [], []
    for begin in first.tolist():
        number = int(np.searchsorted(dataset.episodes.end, begin, side="right"))
        episode, start = dataset.episode(number), int(dataset.episodes.start[number])
        to_go = [sum(map(float, episode["reward"][t:])) / largest for t in range(len(episode["reward"]) + 1)]
        for step in range(begin - start, min(begin - start + 4, len(episode["reward"]))):
            seen = range(begin - start, step + 1)
            pieces = Pieces(
                torch.from_numpy(np.stack([episode["obs"][t] for t in seen]))[None],
                torch.eye(3)[[int(episode["action"][t]) - 2 for t in seen]][None],
                torch.tensor([[to_go[t] for t in seen]]),
                torch.tensor([list(seen)]),
            )
            logits, predicted = agent.actor.predict(pieces)
            terms.append(-logits[0, -1].log_softmax(0)[int(episode["action"][step]) - 2].item())
            errors.append((predicted[0, -1].item() - to_go[step + 1]) ** 2)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    assert error.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_acting_sees_the_last_steps_and_the_return_to_go(tmp_path: Path) -> None:
    """Ten steps one after another, against the model on a window that is written out."""
    dataset = make_set(tmp_path / "set")
    agent = make(dataset, target_return=3.0)
    actor, state = agent.actor, agent.actor.initial_state(2)
    largest = float(np.abs(dataset.episodes.returns).max())
    obs = torch.rand(10, 2, 4, generator=torch.Generator().manual_seed(0))
    acted: list[Tensor] = []
    to_go = [torch.full((2,), 3.0 / largest)]
    with torch.no_grad():
        for t in range(10):
            out = actor(obs[t], state)
            seen = list(range(max(0, t - 3), t + 1))
            before = torch.stack([*acted, torch.zeros(2, 3)], 1)[:, seen]
            window = Pieces(
                obs[seen].transpose(0, 1), before, torch.stack(to_go, 1)[:, seen], torch.tensor([seen]).expand(2, -1)
            )
            logits = actor.predict(window)[0][:, -1]
            assert out.action.tolist() == (logits.argmax(1) + 2).tolist()
            acted.append(torch.eye(3)[out.action - 2])
            after = torch.stack(acted, 1)[:, seen]
            to_go.append(actor.predict(window._replace(action=after))[1][:, -1])
            torch.testing.assert_close(out.state["next"], to_go[-1], atol=1e-5, rtol=1e-4)
            state = out.state


@pytest.mark.parametrize("space", [CHOICE, NUMBERS, spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)], ids=str)
def test_every_kind_of_action_goes_on_bit_for_bit(tmp_path: Path, space: spaces.Space) -> None:
    dataset = make_set(tmp_path / "set", space)
    options = {"policy_kwargs": {**SMALL, "dropout": 0.2}, "learning_rate": 1e-2}
    before = torch.get_rng_state()
    agent, resumed = make(dataset, **options), make(dataset, seed=0, **options)
    agent.learn()
    resumed.load_state_dict(agent.state_dict())
    resumed.load_training_state(agent.training_state())
    for _ in range(5):
        metrics, others = agent.learn(), resumed.learn()
    assert float(metrics["train/loss"]) == float(others["train/loss"])
    assert torch.equal(agent.optimizer.flat, resumed.optimizer.flat)
    assert torch.equal(torch.get_rng_state(), before)
    obs = torch.rand(5, 4)
    for deterministic in (True, False):
        taken = agent.predict(obs, deterministic=deterministic, rng=torch.Generator().manual_seed(0)).action
        assert all(space.contains(np.asarray(row, space.dtype)) for row in taken.numpy())


def test_it_does_what_led_to_the_return_that_it_is_asked_for(tmp_path: Path) -> None:
    """Half of the episodes do nothing but action 0 and get nothing, the others do 1 and get 1 for each step."""
    rng, episodes, length = np.random.default_rng(0), 40, 4
    action = np.repeat(np.arange(episodes) % 2, length)
    obs = rng.uniform(-1, 1, (len(action), 4)).astype(np.float32)
    end = np.arange(len(action)) % length == length - 1
    columns = {"obs": obs, "action": action, "reward": action.astype(np.float32)}
    columns |= {"terminated": end, "truncated": np.zeros_like(end)}
    with DatasetWriter(tmp_path / "set", OBS, spaces.Discrete(2)) as writer:
        writer.add(columns, [length] * episodes, {"obs": obs[end]})
    for target, wanted in ((0.0, 0), (4.0, 1), (None, 1)):
        agent = make(Dataset.open(tmp_path / "set"), target_return=target, learning_rate=1e-2)
        for _ in range(25):
            agent.learn()
        state = None
        for _ in range(length):
            out = agent.predict(torch.rand(6, 4), state)
            assert out.action.tolist() == [wanted] * 6
            state = out.state


def test_masks_are_kept_to(tmp_path: Path) -> None:
    agent = make(make_set(tmp_path / "set", masked=True))
    assert math.isfinite(float(agent.learn()["train/loss"]))
    obs = {"observation": torch.rand(50, 4), "action_mask": torch.tensor([[0, 1, 1]]).repeat(50, 1)}
    taken = agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(0)).action
    assert set(taken.tolist()) <= {3, 4}


def test_heads_must_divide_the_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hidden_size=16 cannot be divided by n_head=3"):
        make(make_set(tmp_path / "set"), policy_kwargs={**SMALL, "n_head": 3})


def test_a_run_is_asked_for_returns_resumes_and_remembers(tmp_path: Path) -> None:
    dataset = half_random_cartpole(tmp_path / "set", 30)
    small = {**SMALL, "n_layer": 1, "hidden_size": 32, "max_ep_len": 500}
    agent = {"context": 4, "batch_size": 32, "policy_kwargs": small, "learning_rate": 3e-3}
    options: dict[str, Any] = {"device": "cpu", "num_threads": 1, "trackers": ["csv"], "progress": False}
    options |= {"data": str(dataset.path), "run_dir": tmp_path / "runs", "agent": agent}
    run = rltrain.train("dt", CARTPOLE, total_timesteps=30_720, save_freq=15_360, n_eval_episodes=0, **options)
    assert rltrain.load(run.run_dir).evaluate(10).mean_reward > 100
    wanted = as_bits(last_state(run.run_dir))
    rltrain.resume(list_checkpoints(run.run_dir / "checkpoints")[0], progress=False)
    assert as_bits(last_state(run.run_dir)) == wanted
    policy = rltrain.load(run.run_dir)
    action, state = policy.predict(np.zeros(4, np.float32))
    assert action in (0, 1)
    again, later = policy.predict(np.zeros(4, np.float32), state)
    assert again in (0, 1)
    assert later["steps"].tolist() == [2]
    assert policy.predict(np.zeros(4, np.float32), later, episode_start=[True])[1]["steps"].tolist() == [1]
