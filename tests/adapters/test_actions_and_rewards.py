"""Actions far from [-1, 1], and rewards that are not plain numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.wrappers import scale_of

RUN: dict[str, Any] = {
    "total_timesteps": 128,
    "num_envs": 4,
    "num_threads": 1,
    "n_eval_episodes": 0,
    "trackers": [],
    "progress": False,
    "agent": {"n_steps": 16, "batch_size": 32, "n_epochs": 1},
}


class Throttle(gymnasium.Env[Any, Any]):
    """Notes the actions it is given. Its reward can have any form."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, low: Any = 0.0, high: Any = 512.0, form: str = "number") -> None:
        self.action_space = spaces.Box(np.float32(low), np.float32(high), (2,))
        self.form = form

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        forms = {"number": 1.5, "array": np.array([1.5]), "0-d": np.array(1.5), "vector": np.array([1.0, 0.5])}
        reward: Any = forms[self.form]
        return np.float32(action / 512), reward, False, self.time == 5, {}


class Objectives(Throttle):
    """Says what its reward is, as MO-Gymnasium's environments do."""

    reward_space = spaces.Box(-10.0, 10.0, (2,))

    def __init__(self) -> None:
        super().__init__(-1.0, 1.0, "vector")


def box(low: Any, high: Any) -> spaces.Box:
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


@pytest.mark.parametrize(
    ("space", "scaled"),
    [
        (box([-1], [1]), None),
        (box([-2], [2]), None),  # Pendulum's
        (box([-0.5], [0.5]), None),
        (box([0], [512]), ([0], [512])),
        (box([0], [1]), ([0], [1])),
        (box([-0.4], [0.4]), ([-0.4], [0.4])),
        (box([-1, 0], [1, 30]), ([-1, 0], [1, 30])),
        (box([0], [np.inf]), None),
        (box([-np.inf], [np.inf]), None),
        (box([0, 0], [np.inf, 9]), ([-1, 0], [1, 9])),  # the first is left as it is
        (box([-3e38], [3e38]), None),  # bounds that bound nothing
        (box([3], [3]), None),  # no choice
        (spaces.Discrete(4), None),
    ],
    ids=str,
)
def test_which_boxes_are_rescaled_by_default(space: spaces.Space, scaled: Any) -> None:
    scale = scale_of(space, None)
    assert (scale is None) == (scaled is None)
    if scale is not None:
        np.testing.assert_allclose(scale[0], np.float32(scaled[0]))
        np.testing.assert_allclose(scale[1], np.float32(scaled[1]))
    assert scale_of(space, False) is None


def test_a_box_with_one_bound_is_clipped_and_the_rest_rescaled() -> None:
    vec = make_vec(Throttle, 1, low=[0, 0], high=[np.inf, 9], rescale_action=None)
    assert vec.single_action_space == box([0, -1], [np.inf, 1])
    vec.reset(0)
    obs = vec.step(torch.tensor([[3.0, 1.0]])).obs
    assert isinstance(obs, torch.Tensor)
    torch.testing.assert_close(obs * 512, torch.tensor([[3.0, 9.0]]))
    obs = vec.step(torch.tensor([[-3.0, -1.0]])).obs
    assert isinstance(obs, torch.Tensor)
    torch.testing.assert_close(obs, torch.zeros(1, 2))
    vec.close()


def test_make_vec_alone_leaves_actions_as_they_are() -> None:
    vec = make_vec(Throttle, 1)
    assert vec.single_action_space == box([0, 0], [512, 512])
    vec.close()


def test_a_run_says_so_and_its_policy_acts_in_the_environments_bounds(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Actions from 0 to 512 are rescaled: the agent acts in \[-1, 1\]"):
        run = rltrain.train("ppo", Throttle, run_dir=tmp_path, **RUN).run_dir
    policy = rltrain.load(run, env=Throttle)
    assert policy.action_space == box([-1, -1], [1, 1])
    action, _ = policy.predict(np.zeros(2, np.float32))
    assert np.abs(action - 256).max() < 100  # around the middle, and not in a corner
    assert policy.evaluate(2).returns.tolist() == [7.5, 7.5]
    assert policy.in_env(Throttle).evaluate(2).returns.tolist() == [7.5, 7.5]
    resumed = rltrain.resume(run, env=Throttle, total_timesteps=192, progress=False)
    assert resumed.steps == 192


def test_a_run_of_before_the_option_acts_as_it_did(tmp_path: Path) -> None:
    """Its configuration says that nothing is rescaled, and does not know the other options."""
    run = rltrain.train("ppo", Throttle, run_dir=tmp_path, env_options={"rescale_action": False}, **RUN).run_dir
    before = rltrain.load(run, env=Throttle).predict(np.ones(2, np.float32))[0]
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["env"]["action_masks"], config["env"]["reward_weights"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    policy = rltrain.load(run, env=Throttle)
    assert policy.action_space == box([0, 0], [512, 512])
    assert (policy.predict(np.ones(2, np.float32))[0] == before).all()
    assert rltrain.resume(run, env=Throttle, total_timesteps=192, progress=False).steps == 192


@pytest.mark.parametrize("form", ["number", "array", "0-d"])
def test_a_reward_with_one_number_is_a_number(form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vec = make_vec(Throttle, 2, low=-1.0, high=1.0, form=form)
        vec.reset(0)
        assert vec.step(torch.zeros(2, 2)).reward.tolist() == [1.5, 1.5]
    vec.close()


def test_several_objectives_are_refused_by_name_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'Objectives' has 2 objectives") as error:
        rltrain.train("ppo", Objectives, run_dir=tmp_path / "runs", **RUN)
    assert "--env.reward-weights 1 1" in error.value.fix
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ConfigError, match="2 objectives, and there are 3 weights"):
        make_vec(Objectives, 1, reward_weights=[1, 2, 3])


def test_weights_make_one_number_of_them(tmp_path: Path) -> None:
    vec = make_vec(Objectives, 2, reward_weights=[1.0, 4.0])
    vec.reset(0)
    assert vec.step(torch.zeros(2, 2)).reward.tolist() == [3.0, 3.0]
    vec.close()
    run = rltrain.train("ppo", Objectives, run_dir=tmp_path, env_options={"reward_weights": [1, 4]}, **RUN).run_dir
    assert rltrain.load(run, env=Objectives).evaluate(2).returns.tolist() == [15.0, 15.0]


def test_a_vector_that_nobody_announced_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'Throttle' has 2 objectives, or agents: its reward is a vector") as caught:
        make_vec(Throttle, 1, low=-1.0, high=1.0, form="vector")
    assert caught.value.fix == "Weigh them: --env.reward-weights 1 1"


@pytest.mark.parametrize("words", [["1", "4"], ["[1, 4]"], ["1, 4"]], ids=" ".join)
def test_weights_on_the_command_line(
    words: list[str], capsys: pytest.CaptureFixture[str], clean_registries: None
) -> None:
    gymnasium.register("Objectives-v0", entry_point="test_actions_and_rewards:Objectives")
    assert main(["eval", "Objectives-v0", "--episodes", "2", "--json", "--env.reward-weights", *words]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["mean_reward"] == 15.0
