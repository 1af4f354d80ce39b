"""Runs with memory: what they learn, and that a resume, ranks, evaluation and predictions treat the memory alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from several import Several
from torch import Tensor

import rltrain
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed
from rltrain.runs.checkpoint import load_modules, load_policy, load_training
from rltrain.runs.layout import list_checkpoints

CHAIN = "rltrain/MemoryChain-v0"
PPO = {"n_steps": 16, "batch_size": 512, "n_epochs": 4, "learning_rate": 5e-3, "ent_coef": 0.01}
PQN = {"n_steps": 16, "batch_size": 256, "learning_rate": 3e-3, "gamma": 0.9, "exploration_fraction": 0.5}
AGENTS: dict[str, dict[str, Any]] = {"ppo": PPO, "pqn": PQN}


def train(algo: str, memory: str | None, run_dir: Path, total: int, **options: Any) -> rltrain.RunResult:
    """Remembering a bit over three steps."""
    network = {"net_arch": [16], "memory": memory, "memory_size": 16}
    common: dict[str, Any] = {"num_envs": 64, "num_threads": 1, "device": "cpu", "progress": False}
    agent = {**AGENTS[algo], "policy_kwargs": network, **options.pop("agent", {})}
    arguments = {**common, "agent": agent, "env_kwargs": {"memory_length": 3}, **options}
    return rltrain.train(algo, CHAIN, total_timesteps=total, run_dir=run_dir, **arguments)


@pytest.mark.parametrize(
    ("algo", "memory", "solved"),
    [
        ("ppo", "gru", True),
        ("ppo", "mingru", True),
        ("ppo", None, False),
        ("pqn", "lstm", True),
        ("pqn", None, False),
    ],
)
def test_only_who_remembers_can_answer(algo: str, memory: str | None, solved: bool, tmp_path: Path) -> None:
    """Without memory every answer is a guess, which earns 0 on average; deviations are of 400 guesses."""
    result = train(algo, memory, tmp_path, 12_288 if algo == "ppo" else 16_384, n_eval_episodes=400)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward > 0.9 if solved else abs(result.evaluation.mean_reward) < 0.25


@pytest.mark.parametrize(("algo", "memory"), [("ppo", "lstm"), ("ppo", "mingru"), ("pqn", "gru")])
def test_a_plain_loop_of_predictions_is_an_evaluation(algo: str, memory: str, tmp_path: Path) -> None:
    """With numbers, ``state`` and ``episode_start`` as for Stable-Baselines3, in the middle of learning."""
    policy = rltrain.load(train(algo, memory, tmp_path, 1024, n_eval_episodes=0).run_dir)
    expected = policy.evaluate(24, seed=3).returns
    vec = policy.make_vec(24)
    obs, state, start = vec.reset(derive_seed(3, "fresh")).numpy(), None, np.ones(24, bool)
    returns, ended = np.zeros(24), np.zeros(24, bool)
    while not ended.all():
        action, state = policy.predict(obs, state, episode_start=start)
        step = vec.step(torch.as_tensor(action))
        returns += np.where(ended, 0.0, step.reward.numpy())
        obs, start = step.obs.numpy(), (step.terminated | step.truncated).numpy()
        ended |= start
    assert sorted(returns) == sorted(expected)
    assert set(expected) == {-1.0, 1.0}


def everything(run: Path, rank: int = 0) -> dict[str, Tensor]:
    """The tensors of the last checkpoint, the memories of the episodes in play among them."""
    last = list_checkpoints(run / "checkpoints")[-1]
    state = load_training(last, rank)
    kept = {"rng": state["agent"]["rng"], **{f"memory.{k}": x for k, x in memories(state["state"]["state"]).items()}}
    return {**load_policy(last), **load_modules(last), **state["agent"]["optimizer"], **kept}


def memories(tree: Any) -> dict[str, Tensor]:
    return tree if isinstance(tree, dict) else {"": tree}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("algo", "memory"), [("ppo", "gru"), ("pqn", "lstm")])
def test_a_run_goes_on_bit_for_bit_in_the_middle_of_episodes(algo: str, memory: str, tmp_path: Path) -> None:
    agent: dict[str, Any] = {"n_steps": 6, "batch_size": 96}  # episodes have 4 steps
    if algo == "pqn":
        agent["exploration_initial_eps"] = 0.05  # which otherwise falls with the share of all steps
    options: dict[str, Any] = {"num_envs": 32, "n_eval_episodes": 0, "agent": agent}
    whole = train(algo, memory, tmp_path / "whole", 6 * 192, **options).run_dir
    run = train(algo, memory, tmp_path / "parts", 3 * 192, **options).run_dir
    middle = everything(run)
    assert any(x.any() for name, x in middle.items() if name.startswith("memory"))
    rltrain.resume(run, total_timesteps=6 * 192, progress=False)
    assert same(everything(run), everything(whole))


def train_on_ranks(run_dir: Path) -> None:
    train("ppo", "gru", run_dir, 5 * 192, num_envs=32, n_eval_episodes=0, agent={"n_steps": 6, "batch_size": 96})


def test_ranks_have_one_policy_and_memories_of_their_own(tmp_path: Path) -> None:
    assert Several(train_on_ranks, tmp_path).codes() == [0, 0]
    (run,) = tmp_path.glob("*/ppo_1")
    first, second = (everything(run, rank) for rank in range(2))
    different = {name for name in first if not torch.equal(first[name], second[name])}
    assert {"memory."} <= different <= {"memory.", "rng"}
    assert rltrain.load(run).predict(np.zeros(3, np.float32))[1].shape == (1, 16)


def test_several_seeds_are_refused_in_a_line(tmp_path: Path) -> None:
    agent = {"policy_kwargs": {"memory": "gru"}}
    with pytest.raises(ConfigError, match="cannot be trained for several seeds at once") as error:
        rltrain.train_seeds("ppo", CHAIN, 2, run_dir=tmp_path, agent=agent)
    assert "memory" in error.value.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algo", ["dqn", "sac"])
def test_who_learns_from_single_steps_has_no_memory(algo: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="memory"):
        rltrain.train(algo, "rltrain/Pendulum-v1", run_dir=tmp_path, agent={"policy_kwargs": {"memory": "gru"}})
    with pytest.raises(ConfigError, match="gru") as error:
        rltrain.train("ppo", CHAIN, run_dir=tmp_path, agent={"policy_kwargs": {"memory": "rnn"}})
    assert "mingru" in str(error.value)
    assert not list(tmp_path.iterdir())
