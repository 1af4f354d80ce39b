"""Masks that allow nothing while an episode goes on, in environments of tensors: the run ends and names the place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.check.op_counter import OpCounter
from rltrain.errors import RunError
from rltrain.spaces import allows_nothing
from rltrain.training.choices import Choices

ROW, LENGTH = 2, 7


@dataclass
class Clock:
    time: Tensor  # (N,) steps of the episode
    row: Tensor  # (N,)


class Locked(rltrain.TensorEnv[Clock]):
    """Episodes of 7 steps; in row 2 the mask allows nothing after step ``at`` of an episode.

    Args:
        at: The step; that of the end is where a mask may allow nothing.
        terminates: Whether episodes end by themselves instead of being cut off.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(3)
    max_episode_steps = LENGTH

    def __init__(self, at: int = 4, terminates: bool = False, **base: Any) -> None:
        super().__init__(**base)
        self.at, self.terminates = at, terminates

    def reset(self, n: int, rng: torch.Generator | None) -> Clock:
        return Clock(torch.zeros(n, device=self.device), torch.arange(n, device=self.device))

    def step(self, state: Clock, action: Tensor, rng: torch.Generator | None) -> tuple[Clock, Tensor, Tensor]:
        after = Clock(state.time + 1, state.row)
        return after, torch.ones_like(state.time), (after.time >= LENGTH) & self.terminates

    def observe(self, state: Clock) -> Tensor:
        return torch.stack([state.time / LENGTH, state.time * 0], 1)

    def action_mask(self, state: Clock) -> Tensor:
        stuck = (state.row == ROW) & (state.time == self.at)
        return ~stuck.unsqueeze(1).expand(-1, 3)


ON_POLICY = {"n_steps": 8, "batch_size": 32, "n_epochs": 1}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("ppo", ON_POLICY),
    "ppo with memory": ("ppo", {**ON_POLICY, "policy_kwargs": {"memory": "gru"}}),
    "pqn": ("pqn", ON_POLICY),
    "pqn with memory": ("pqn", {**ON_POLICY, "policy_kwargs": {"memory": "gru"}}),
    "dqn": ("dqn", {"train_freq": 8, "batch_size": 32, "learning_starts": 32, "buffer_size": 256}),
}


def train(name: str, folder: Path, **kwargs: Any) -> rltrain.RunResult:
    algo, agent = AGENTS[name]
    return rltrain.train(
        algo,
        Locked,
        env_kwargs=kwargs,
        agent=agent,
        num_envs=4,
        total_timesteps=128,
        run_dir=folder,
        n_eval_episodes=4,
        trackers=["csv"],
        progress=False,
        num_threads=1,
    )


@pytest.mark.parametrize("name", AGENTS)
def test_a_mask_that_allows_nothing_while_playing_ends_the_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(name, tmp_path)
    assert caught.value.cause == f"Environment {ROW} allows no action at step 16, and its episode goes on."
    assert "allow an action that does nothing" in caught.value.fix


def test_the_very_first_observation_counts_too(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Environment 2 allows no action at step 0, and its episode goes on"):
        train("ppo", tmp_path, at=0)


@pytest.mark.parametrize("terminates", [False, True], ids=["truncated", "terminated"])
@pytest.mark.parametrize("name", AGENTS)
def test_the_last_mask_of_an_episode_may_allow_nothing(name: str, terminates: bool, tmp_path: Path) -> None:
    assert train(name, tmp_path, at=LENGTH, terminates=terminates).steps == 128


def test_several_seeds_at_once_are_watched_each(tmp_path: Path) -> None:
    results = rltrain.train_seeds(
        "ppo",
        Locked,
        2,
        agent=ON_POLICY,
        num_envs=4,
        total_timesteps=64,
        run_dir=tmp_path,
        n_eval_episodes=0,
        trackers=["csv"],
        progress=False,
        num_threads=1,
    )
    assert len(results) == 2
    for result in results.values():
        assert isinstance(result, RunError)
        assert f"Environment {ROW} allows no action at step 16" in result.cause


def test_an_evaluation_refuses_it_too() -> None:
    policy = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(RunError, match="Environment 2 allows no action in the evaluation"):
        rltrain.evaluate(lambda obs: policy, Locked, episodes=4)


def test_the_check_finds_it() -> None:
    report = rltrain.check_env(Locked)
    assert "masks" in {finding.check for finding in report.errors}, str(report)
    assert "masks" in rltrain.check_env(Locked, at=LENGTH).passed


def test_each_part_of_an_action_needs_a_choice() -> None:
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert allows_nothing(mask, spaces.MultiDiscrete([2, 2])).tolist() == [False, True, True, True]
    assert allows_nothing(mask, spaces.Discrete(4)).tolist() == [False, False, False, True]


def test_nothing_waits_for_the_device() -> None:
    choices = Choices(spaces.Discrete(3), 2)
    with OpCounter() as counter:
        for _ in range(2):
            choices.note({"observation": torch.ones(4, 1), "action_mask": torch.ones(4, 3)})
    assert counter.waits == []
    assert choices.missing is not None
    assert not choices.missing.any()
