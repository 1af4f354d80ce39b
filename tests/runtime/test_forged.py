"""Forged run folders: wherever a value of a wrong type stands, the folder is at fault, and no run has failed."""

import random
import shutil
import warnings
from pathlib import Path

import pytest

import rltrain
from tests.forging import WRONG, forge, places
from tests.torture.commands import command

OPTIONS = {
    "total_timesteps": 128,
    "num_envs": 2,
    "num_threads": 1,
    "save_freq": 64,
    "eval_freq": 128,
    "n_eval_episodes": 1,
    "log_interval": 3,
    "device": "cpu",
    "trackers": [],
}
AGENTS = {
    "ppo": ("rltrain/CartPole-v1", {"n_steps": 16, "batch_size": 32, "n_epochs": 1}),
    "dqn": ("rltrain/CartPole-v1", {"buffer_size": 64, "learning_starts": 8, "batch_size": 8, "train_freq": 4}),
    "sac": ("rltrain/Pendulum-v1", {"buffer_size": 64, "learning_starts": 8, "batch_size": 8, "train_freq": 4}),
}
SAMPLES = 30


@pytest.fixture(scope="module", params=AGENTS)
def run(request, tmp_path_factory):
    env, agent = AGENTS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        where = tmp_path_factory.mktemp("runs")
        return rltrain.train(request.param, env, progress=False, run_dir=where, agent=agent, **OPTIONS).run_dir


def test_a_forged_value_is_damage(run, tmp_path):
    chance = random.Random(0)
    for number, (file, place) in enumerate(chance.sample([*places(run)], SAMPLES)):
        copy = Path(shutil.copytree(run, tmp_path / str(number)))
        value = chance.choice(WRONG)
        forge(copy, file, place, value)
        for words in (["resume", str(copy), "--total-timesteps", "192", "--no-progress"], ["eval", str(copy)]):
            said = command(*words, *(("--episodes", "1") if words[0] == "eval" else ()))
            # 2 where it is of the right type: a space that the environment does not have may be the user's doing.
            assert said.code in (0, 2, 4), f"{words[0]} after {file} {place} = {value!r}: {said.code}, {said.err}"


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("trainer", "global_step"), "128", "trainer.global_step"),
        (("trainer", "global_step"), 64, "trainer.global_step"),
        (("trainer", "latest"), {"rollout/ep_rew_mean": "high"}, "trainer.latest"),
        (("trainer", "seconds"), -1.0, "trainer.seconds"),
        (("metrics",), [], "metrics"),
        (("generators", "python", "version"), "x", "generators.python.version"),
    ],
)
def test_the_place_is_named(run, tmp_path, place, value, named):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    forge(copy, next(file for file, _ in places(copy) if file.endswith("state.json")), place, value)
    said = command("resume", str(copy), "--total-timesteps", "192", "--no-progress")
    assert said.code == 4
    assert f"'{named}'" in said.err


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("generators", "python", "gauss_next"), "x"),
        (("trainer", "health"), {"memory": {"return/now": "high"}, "streaks": {}, "stands": {}}),
        (("trainer", "health"), {"memory": {}, "streaks": {"plateau": 3}, "stands": {}}),
        (("trainer", "pauses"), {"save": "long"}),
    ],
)
def test_what_the_parts_of_a_run_make_of_it_is_damage_too(run, tmp_path, place, value):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    forge(copy, next(file for file, _ in places(copy) if file.endswith("state.json")), place, value)
    assert command("resume", str(copy), "--total-timesteps", "192", "--no-progress").code == 4
