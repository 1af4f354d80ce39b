"""From a policy that was learned from data to reinforcement: what is taken over, the critic's warm-up, the leash."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import as_bits, last_state
from torch import Tensor

import rltrain
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.recording.recorder import record
from rltrain.runs.checkpoint import load_modules, load_policy
from rltrain.runs.layout import list_checkpoints

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
OPTIONS: dict[str, Any] = {
    "progress": False,
    "n_eval_episodes": 0,
    "trackers": ["csv"],
    "num_threads": 1,
    "device": "cpu",
}
PPO = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "normalize_obs": False, "normalize_reward": False}
NET = {"net_arch": [16, 16], "activation_fn": "relu"}
SAC = {"gradient_steps": 1, "batch_size": 16, "learning_starts": 0, "policy_kwargs": NET}

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(algo: str, env: str, **options: Any) -> Path:
        return rltrain.train(algo, env, **{**OPTIONS, "run_dir": tmp_path / "runs", **options}).run_dir

    return run


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return record(CARTPOLE, tmp_path_factory.mktemp("data") / "choices", policies=["random"], episodes=20)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return record(PENDULUM, tmp_path_factory.mktemp("data") / "numbers", episodes=10, max_episode_steps=30)


def cloned(train: Train, data: Dataset, **kwargs: Any) -> Path:
    env = CARTPOLE if "choices" in str(data.path) else PENDULUM
    options = {"data": str(data.path), "total_timesteps": 4096}
    return train("bc", env, agent={"policy_kwargs": {**NET, **kwargs}, "learning_rate": 1e-2}, **options)


def tensors(run: Path, checkpoint: int = -1) -> dict[str, Tensor]:
    saved = list_checkpoints(run / "checkpoints")[checkpoint]
    return {**load_policy(saved), **load_modules(saved)}


def actions(run: Path, obs: np.ndarray) -> np.ndarray:
    return np.asarray(rltrain.load(run).predict(obs)[0])


def test_sac_takes_over_a_clone_that_squashes_its_actions(train: Train, numbers: Dataset) -> None:
    source = cloned(train, numbers, squash_output=True)
    still = {**SAC, "learning_rate": 1e-30}
    with pytest.warns(UserWarning, match=r"fresh are .* critic\.layers"):
        run = train(
            "sac", PENDULUM, init_from=source, agent=still, num_envs=2, total_timesteps=8, env_options=AS_RECORDED
        )
    obs = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(actions(run, obs), actions(source, obs), atol=1e-5)
    clone, actor = rltrain.load(source).agent.actor, rltrain.load(run).agent.actor
    action = torch.tensor([[0.3]]).expand(50, -1)
    likely = [each.log_likelihood(torch.from_numpy(obs), action) for each in (clone, actor)]
    torch.testing.assert_close(likely[0], likely[1], atol=1e-4, rtol=1e-4)


AS_RECORDED = {"rescale_action": False}


def test_sac_refuses_a_policy_that_it_would_not_act_like(train: Train, numbers: Dataset) -> None:
    source = cloned(train, numbers)
    with pytest.raises(ConfigError, match="squashes its actions by tanh") as error:
        train("sac", PENDULUM, init_from=source, agent=SAC, num_envs=2, total_timesteps=8, env_options=AS_RECORDED)
    assert "squash-output true" in error.value.fix


@pytest.mark.parametrize("algo", ["dqn", "pqn"])
def test_who_values_actions_begins_as_the_clone_acts(train: Train, choices: Dataset, algo: str) -> None:
    source = cloned(train, choices)
    still = {"learning_rate": 1e-30, "policy_kwargs": {**NET, "layer_norm": False}}
    more = {"learning_starts": 0} if algo == "dqn" else {"n_steps": 4, "batch_size": 8}
    run = train(algo, CARTPOLE, init_from=source, agent={**still, **more}, num_envs=2, total_timesteps=8)
    obs = np.random.default_rng(0).uniform(-0.2, 0.2, (200, 4)).astype(np.float32)
    assert (actions(run, obs) == actions(source, obs)).all()
    if algo == "dqn":  # so that the first targets are not those of a network that knows nothing
        after = tensors(run)
        for name in ("body.0.weight", "action_head.bias"):
            assert torch.equal(after[f"target.{name}"], after[f"network.{name}"])


def test_another_activation_is_told(train: Train, choices: Dataset) -> None:
    source = cloned(train, choices)
    agent = {**PPO, "policy_kwargs": {"net_arch": [16, 16], "activation_fn": "tanh"}}
    with pytest.warns(UserWarning, match=r"trained with relu, and here they get tanh: give --agent\."):
        train("ppo", CARTPOLE, init_from=source, agent=agent, num_envs=4, total_timesteps=64)


def of_policy(run: Path, checkpoint: int) -> dict[str, Tensor]:
    return load_policy(list_checkpoints(run / "checkpoints")[checkpoint])


@pytest.mark.parametrize("env", [CARTPOLE, PENDULUM])
def test_ppo_changes_the_value_alone_while_it_warms_up(train: Train, env: str) -> None:
    options = {"num_envs": 4, "total_timesteps": 64 * 5, "save_freq": 64, "keep_checkpoints": 9}
    run = train("ppo", env, agent={**PPO, "value_warmup": 3, "policy_kwargs": NET}, **options)
    policies = [of_policy(run, number) for number in range(5)]
    for number, still in ((1, True), (2, True), (3, False), (4, False)):
        for name, tensor in policies[number].items():
            same = torch.equal(tensor, policies[number - 1][name])
            assert same if still else not same, (number, name)
    values = [tensors(run, number)["policy.value_head.weight"] for number in range(5)]
    assert all(not torch.equal(one, other) for one, other in pairwise(values))


def test_after_the_warm_up_steps_are_no_larger_than_others(train: Train) -> None:
    """Adam's moments go on meanwhile: a step count without moments would make the first steps three times as long."""
    options = {"num_envs": 4, "total_timesteps": 64 * 12, "save_freq": 64, "keep_checkpoints": 20}
    run = train("ppo", CARTPOLE, agent={**PPO, "value_warmup": 10, "n_epochs": 1, "policy_kwargs": NET}, **options)
    moved = (of_policy(run, 10)["pi.0.weight"] - of_policy(run, 9)["pi.0.weight"]).abs().max()
    assert 0 < moved < 2 * 1.2 * 3e-4  # of two minibatches


def test_a_run_that_warms_up_resumes_bit_for_bit(train: Train) -> None:
    for warmup in (1, 3):  # over before the checkpoint, and in the middle of it
        agent = {**PPO, "value_warmup": warmup, "policy_kwargs": NET}
        whole = train("ppo", CARTPOLE, agent=agent, num_envs=4, total_timesteps=64 * 4, save_freq=128)
        wanted = as_bits(last_state(whole))
        rltrain.resume(list_checkpoints(whole / "checkpoints")[0], progress=False)
        assert as_bits(last_state(whole)) == wanted


def test_seeds_together_warm_up_as_alone(train: Train, tmp_path: Path) -> None:
    agent = {**PPO, "value_warmup": 2, "policy_kwargs": NET}
    options = {**OPTIONS, "agent": agent, "num_envs": 4, "total_timesteps": 64 * 3, "learning_rate_scale": {"vf": 0.5}}
    runs = rltrain.train_seeds("ppo", CARTPOLE, 2, **{**options, "run_dir": tmp_path / "many"})
    for seed, result in runs.items():
        assert not isinstance(result, Exception)
        alone = tensors(train("ppo", CARTPOLE, **{**options, "seed": seed}))
        for name, tensor in tensors(result.run_dir).items():
            torch.testing.assert_close(tensor, alone[name], rtol=1e-3, atol=1e-5)


def test_sac_changes_the_critics_alone_while_it_warms_up(train: Train) -> None:
    options = {"num_envs": 2, "total_timesteps": 2 * 8, "save_freq": 4, "keep_checkpoints": 9}
    run = train("sac", PENDULUM, agent={**SAC, "value_warmup": 4}, **options)
    saved = [tensors(run, number) for number in range(4)]  # after 2, 4, 6 and 8 gradient steps
    for number, still in ((1, True), (2, False), (3, False)):
        for name in ("body.0.weight", "head.bias", "log_ent_coef"):
            assert torch.equal(saved[number][name], saved[number - 1][name]) == still
        assert not torch.equal(saved[number]["critic.layers.0.weight"], saved[number - 1]["critic.layers.0.weight"])


def test_a_leash_keeps_sac_near_its_teacher(train: Train, numbers: Dataset) -> None:
    source = cloned(train, numbers, squash_output=True)
    options = {"init_from": source, "num_envs": 4, "total_timesteps": 400, "env_options": AS_RECORDED}
    agent = {**SAC, "gradient_steps": -1, "learning_rate": 3e-3}
    obs = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    before = actions(source, obs)
    free, held = (
        np.abs(actions(train("sac", PENDULUM, agent=agent, **options, **more), obs) - before).mean()
        for more in ({}, {"teacher": source, "teacher_coef": 100.0})
    )
    assert held < 0.5 * free
    run = train("sac", PENDULUM, agent=agent, **options, teacher=source, save_freq=200)
    header = (run / "progress.csv").read_text().splitlines()[0]
    assert "train/teacher_loss" in header
    wanted = as_bits(last_state(run))
    rltrain.resume(list_checkpoints(run / "checkpoints")[0], progress=False)
    assert as_bits(last_state(run)) == wanted
