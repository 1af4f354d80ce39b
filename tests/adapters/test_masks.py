"""Action masks: each way in which an environment can give one, and what may not happen to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from masked_envs import ACTIONS, LENGTH, ByMethod, Corridor, InInfo, InObservation

import rltrain
from rltrain.adapters.from_gymnasium import seconds_per_step
from rltrain.check.conformance import check_env
from rltrain.cli import main
from rltrain.errors import ConfigError, InputError, RunError
from rltrain.make import make_vec
from rltrain.spaces import random_actions
from rltrain.vec import VecEnv

CONVENTIONS: list[Any] = [InInfo, ByMethod, InObservation]
DTYPES = ["int8", "bool", "float32", "float64", "uint8", "int64"]
SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
RUN: dict[str, Any] = {"num_envs": 4, "num_threads": 1, "n_eval_episodes": 2, "trackers": [], "progress": False}


def walk(vec: VecEnv, steps: int) -> None:
    """Takes random allowed actions; the environments raise on others."""
    obs = vec.reset(0)
    for _ in range(steps):
        assert isinstance(obs, dict)
        mask = obs["action_mask"]
        obs = vec.step(random_actions(vec.single_action_space, vec.num_envs, vec.device, None, mask)).obs


@pytest.mark.parametrize("env", CONVENTIONS)
def test_each_convention_gives_a_mask_that_holds(env: type[Corridor]) -> None:
    vec = make_vec(env, 3)
    space = vec.single_observation_space
    assert isinstance(space, spaces.Dict)
    assert set(space.spaces) == {"observation" if env is not InObservation else "board", "action_mask"}
    walk(vec, 3 * LENGTH)
    vec.close()


def test_a_convention_that_is_not_wanted() -> None:
    vec = make_vec(InInfo, 2, action_masks=False)
    assert vec.single_observation_space == Corridor.board
    vec.close()


def test_one_reset_tells_of_the_mask_and_of_the_interface() -> None:
    class Slow(InInfo):
        resets = 0

        def reset(self, **options: Any) -> Any:
            Slow.resets += 1
            return super().reset(**options)

    make_vec(Slow, 1, vectorization="sync").close()
    assert Slow.resets == 1


def test_workers_give_the_mask_too() -> None:
    vec = make_vec(InInfo, 2, vectorization="async")
    walk(vec, LENGTH)
    vec.close()


@pytest.mark.parametrize("env", [InInfo, ByMethod, InObservation])
def test_the_timing_trial_heeds_the_mask(env: type[Corridor]) -> None:
    assert seconds_per_step(env()) > 0


@pytest.mark.parametrize("env", [InInfo, ByMethod])
def test_random_policies_films_and_training_heed_the_mask(env: type[Corridor], tmp_path: Path) -> None:
    result = rltrain.evaluate("random", env, 4)
    assert result.lengths.tolist() == [LENGTH] * 4
    run = rltrain.train("ppo", env, total_timesteps=128, run_dir=tmp_path, agent=SMALL, **RUN)
    assert run.evaluation is not None
    assert run.evaluation.lengths.tolist() == [LENGTH] * 2
    policy = rltrain.load(run.run_dir, env=env)
    assert policy.film(tmp_path / "film.gif") == LENGTH
    game = env()
    obs, _ = game.reset(seed=0)
    with pytest.raises(InputError, match=r"obs has no 'action_mask'.*Give \{'action_mask': ..., 'observation': ...\}"):
        policy.predict(obs)
    action, _ = policy.predict({"observation": obs, "action_mask": game.allowed})
    game.step(action)


def test_watch_heeds_the_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_registries: None) -> None:
    gymnasium.register("MaskedCorridor-v0", entry_point="masked_envs:InInfo")
    monkeypatch.chdir(tmp_path)
    assert main(["watch", "MaskedCorridor-v0", "--out", "film.gif"]) == 0
    assert main(["eval", "MaskedCorridor-v0", "--policy", "random", "--episodes", "2"]) == 0


@pytest.mark.parametrize("env", CONVENTIONS)
def test_checks_heed_the_mask(env: type[Corridor]) -> None:
    made = gymnasium.make(gymnasium.envs.registration.EnvSpec(env.__name__, entry_point=env))
    findings = [finding for finding in check_env(made).findings if "illegal move" in str(finding)]
    assert not findings


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mask_of_any_type_is_neither_normalised_nor_stacked(dtype: str, tmp_path: Path) -> None:
    """The environment raises on a forbidden action, so a run that ends took none."""
    options = {"env_kwargs": {"kind": dtype}, "env_options": {"frame_stack": 3}, "run_dir": tmp_path, **RUN}
    agent = {**SMALL, "normalize_obs": True}
    run = rltrain.train("ppo", InObservation, total_timesteps=512, agent=agent, **options)
    policy = rltrain.load(run.run_dir, env=InObservation)
    assert policy.observation_space["action_mask"].shape == (ACTIONS,)
    assert policy.observation_space["board"].shape == (9,)


@pytest.mark.parametrize("algo", ["dqn", "pqn"])
def test_agents_with_action_values_heed_it(algo: str, tmp_path: Path) -> None:
    agent = {"learning_starts": 64, "buffer_size": 500} if algo == "dqn" else SMALL
    for ends in ("terminated", "truncated"):
        run = rltrain.train(
            algo,
            InInfo,
            total_timesteps=512,
            run_dir=tmp_path,
            agent=agent,
            env_kwargs={"ends": ends},
            **RUN,
        )
        assert run.evaluation is not None
        assert run.evaluation.mean_reward == LENGTH


def test_a_mask_that_allows_nothing_while_playing_is_an_error() -> None:
    vec = make_vec(InInfo, 2, stuck_at=3)
    vec.reset(0)
    actions = torch.zeros(2, dtype=torch.int64)
    vec.step(actions)
    vec.step(actions)
    with pytest.raises(RunError, match="Environment 0 of 'InInfo' allows no action, and its episode goes on"):
        vec.step(actions)
    vec.close()


class Wrong(InObservation):
    """A mask for one action too many."""

    def mask_space(self) -> spaces.Space:
        return spaces.MultiBinary(ACTIONS + 1)


class WrongInInfo(InInfo):
    """The same in info."""

    def info(self) -> dict[str, Any]:
        return {"action_mask": np.ones(ACTIONS + 1, np.int8)}


class OnlyMask(InObservation):
    """Nothing but a mask to see."""

    def mask_space(self) -> spaces.Space:
        self.observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(ACTIONS)})
        return spaces.MultiBinary(ACTIONS)

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(ACTIONS)})


class Continuous(InObservation):
    """A mask for actions that are numbers."""

    action_space = spaces.Box(-1.0, 1.0, (ACTIONS,))  # type: ignore[assignment]

    def step(self, action: Any) -> Any:
        return self.observe(), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Wrong, r"the observation 'action_mask' is of shape \(4,\), and its space has \(5,\)"),
        (WrongInInfo, r"info\['action_mask'\] of 'WrongInInfo' has 5 entries, and there are 4 actions"),
        (OnlyMask, "There is nothing to observe but the action_mask"),
        (Continuous, "actions of Box.* cannot be masked"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_anything_is_made(
    env: type[Corridor], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        rltrain.train("ppo", env, total_timesteps=64, run_dir=tmp_path / "runs", **RUN)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("env", [WrongInInfo, OnlyMask, Continuous])
def test_the_check_tells_of_masks_that_do_not_fit(env: type[Corridor]) -> None:
    assert "masks" in {finding.check for finding in check_env(env).findings}


class Numbers(Corridor):
    """Has a method of that name, and actions that are numbers."""

    action_space = spaces.Box(-1.0, 1.0, (ACTIONS,))  # type: ignore[assignment]

    def action_masks(self) -> np.ndarray:
        return np.ones(ACTIONS)

    def step(self, action: Any) -> Any:
        return np.zeros(3, np.float32), 0.0, True, False, {}


def test_a_mask_for_actions_that_are_numbers_is_left_aside_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"action_masks\(\) of 'Numbers' is left aside: actions of Box"):
        make_vec(Numbers, 2).close()


class LegalMoves(Corridor):
    """Gives its mask in info, under a name of its own."""

    def info(self) -> dict[str, Any]:
        return {"legal_moves": self.allowed}


class GetMask(Corridor):
    """Gives it by a method of another name."""

    def get_action_mask(self) -> Any:
        return self.allowed


@pytest.mark.parametrize(("env", "name"), [(LegalMoves, r"info\['legal_moves'\]"), (GetMask, "get_action_mask")])
def test_a_mask_under_another_name_is_pointed_out_where_the_environment_fails(env: type[Corridor], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"If {name} says which actions are allowed.*method action_masks\(\)"):
        make_vec(env, 2)


class Combination(gymnasium.Env[Any, Any]):
    """A MultiDiscrete action of which each part has one allowed choice, as sb3-contrib's masks have it."""

    observation_space = spaces.Box(0.0, 9.0, (1,))
    action_space = spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def action_masks(self) -> np.ndarray:
        return np.concatenate([np.eye(3)[self.time % 3], np.eye(2)[self.time % 2]]).astype(bool)

    def step(self, action: Any) -> Any:
        if list(action) != [self.time % 3, self.time % 2]:
            raise RuntimeError("illegal move")
        self.time += 1
        return np.full(1, self.time, np.float32), 1.0, self.time == 8, False, {}


def test_a_mask_of_several_parts(tmp_path: Path) -> None:
    assert seconds_per_step(Combination()) > 0
    run = rltrain.train("ppo", Combination, total_timesteps=128, run_dir=tmp_path, agent=SMALL, **RUN)
    assert run.evaluation is not None
    assert run.evaluation.mean_reward == 8
    assert rltrain.evaluate("random", Combination, 3).mean_reward == 8
