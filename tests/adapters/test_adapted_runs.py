"""Runs in Gymnasium's environments, from the command line and from Python: train, resume, evaluate, film, describe."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import counting
import gymnasium
import pytest
import torch
import yaml
from counting import Counting
from gymnasium.error import DependencyNotInstalled

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.registry import env_spec
from rltrain.runs.checkpoint import load_policy
from rltrain.wrappers import FrameStack

QUICK: dict[str, Any] = {
    "num_envs": 4,
    "total_timesteps": 256,
    "n_eval_episodes": 2,
    "device": "cpu",
    "agent": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}
WORDS = shlex.split(
    "--num-envs 4 --total-timesteps 256 --n-eval-episodes 2 --agent.n-steps 16 --agent.batch-size 64 "
    "--agent.n-epochs 1 --no-progress --device cpu"
)


def policy_of(run: Path, step: int = 256) -> dict[str, torch.Tensor]:
    return load_policy(run / "checkpoints" / f"step_{step:012d}")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def train(tmp_path: Path, env: Any = "CartPole-v1", **options: Any) -> Path:
    return rltrain.train("ppo", env, progress=False, run_dir=str(tmp_path), **{**QUICK, **options}).run_dir


def test_the_command_line_trains_evaluates_films_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo", "counting:Counting-v0", *WORDS, "--env.kwargs.length", "3", "--frame-stack", "2"]) == 0
    said = capsys.readouterr().err
    assert "settings: the agent's own defaults, which are Stable-Baselines3's" in said
    run = Path("runs/Counting-v0/ppo_1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["env"]["id"] == "Counting-v0"
    assert (config["env"]["kwargs"], config["env"]["frame_stack"]) == ({"length": 3}, 2)
    assert json.loads((run / "metadata.json").read_text())["exact_resume"] is False

    assert main(["eval", str(run), "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_reward"] == 1 + 2 + 3
    assert main(["eval", str(run), "--episodes", "3", "--json", "--env.kwargs.length", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_reward"] == 1 + 2 + 3 + 4
    assert main(["watch", str(run), "--out", "film.gif"]) == 0
    assert capsys.readouterr().out == "film.gif: 3 steps\n"

    assert main(["resume", str(run), "--total-timesteps", "320", "--no-progress"]) == 0
    assert capsys.readouterr().err.count("The episodes of 'Counting-v0' start anew") == 1
    metadata = json.loads((run / "metadata.json").read_text())
    assert metadata["episodes_restarted_at"] == metadata["resumed_at"] == [256]
    assert metadata["steps"] == 320


def test_a_run_of_a_module_is_found_again_by_naming_the_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clean_registries: None
) -> None:
    run = train(tmp_path, "counting:Counting-v0")
    del gymnasium.registry["Counting-v0"]
    monkeypatch.delitem(sys.modules, "counting")
    for verb in ("eval", "watch"):
        assert main([verb, str(run)]) == 2
        assert "--env counting:Counting-v0" in capsys.readouterr().err
    assert main(["eval", str(run), "--episodes", "1", "--env", "counting:Counting-v0"]) == 0
    assert main(["eval", str(run), "--env", "CartPole-v1"]) == 2
    assert "was trained in 'Counting-v0', not in 'CartPole-v1'" in capsys.readouterr().err


def test_the_twin_on_the_device_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppo", "CartPole-v1", *WORDS, "--run-dir", str(tmp_path), "--eval-freq", "64"]) == 0
    assert capsys.readouterr().err.count("'rltrain/CartPole-v1'") == 1


def test_the_same_seed_gives_the_same_run_and_workers_change_nothing(tmp_path: Path) -> None:
    runs = [
        train(tmp_path, seed=seed, env_options={"vectorization": way})
        for seed, way in ((1, "sync"), (1, "sync"), (1, "async"), (2, "sync"))
    ]
    first, again, workers, other = map(policy_of, runs)
    assert equal(first, again)
    assert equal(first, workers)
    assert not equal(first, other)


def test_evaluations_and_films_do_not_touch_training(tmp_path: Path) -> None:
    plain = train(tmp_path)
    watched = train(tmp_path, eval_freq=64, video_freq=128, save_freq=64)
    assert equal(policy_of(plain), policy_of(watched))
    assert len(list((watched / "videos").iterdir())) == 2


def test_everything_but_the_episodes_is_resumed_exactly(tmp_path: Path) -> None:
    """An environment whose episodes are all alike and that begins one when it is resumed: nothing differs then."""
    options = {"env_kwargs": {"length": 4, "observation": "discrete"}, "agent": {**QUICK["agent"], "n_steps": 8}}
    whole = train(tmp_path, Counting, total_timesteps=256, **options)
    half = train(tmp_path, Counting, total_timesteps=128, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rltrain.resume(half, total_timesteps=256, env=Counting, progress=False)
    assert equal(policy_of(whole), policy_of(half))


def test_a_class_of_gymnasiums_trains_and_its_policy_acts(tmp_path: Path) -> None:
    run = train(tmp_path, Counting, env_kwargs={"success": True, "length": 2})
    policy = rltrain.load(run, env=Counting)
    result = policy.evaluate(4)
    assert result.returns.tolist() == [3.0] * 4
    assert result.successes.tolist() == [0.0] * 4
    env = Counting()
    action, _ = policy.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)


def test_what_is_left_out_of_the_observation_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'words' of the observations is text, and left out"):
        train(tmp_path, Counting, env_kwargs={"observation": "nested"})


def test_an_environment_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "CartPole-v1"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "CartPole-v1 (gymnasium)",
        "through rltrain's adapter",
        "twin rltrain/CartPole-v1",
        "action space Discrete(2)",
        "max episode steps 500",
        "sutton_barto_reward [False]",
    ):
        assert part in text
    assert main(["envs", "counting:Counting-v0", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["description"].startswith("An episode has ``length`` steps")
    assert facts["parameters"]["length"]["default"] == 4
    assert main(["envs"]) == 0
    assert "\n  CartPole-v1" not in capsys.readouterr().out


def test_random_play_and_its_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "counting:Counting-v0", "--episodes", "2", "--json", "--env.max-episode-steps", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_ep_length"] == 2
    out = tmp_path / "film.gif"
    assert main(["watch", "counting:Counting-v0", "--out", str(out), "--env.kwargs.length", "5"]) == 0
    assert capsys.readouterr().out == f"{out}: 5 steps\n"
    assert main(["watch", "counting:Counting-v0", "--policy", "baseline", "--out", str(out)]) == 2


MISTAKES = [
    ("counting:Counting-v1", "Did you mean 'Counting-v0'"),
    ("CartPole-v9", "Did you mean 'CartPole-v1'"),
    ("Xyzzy/Q-v0", "Write module:Xyzzy/Q-v0"),
    ("counting:Counting-v0 --env.kwargs.lenght 3", "Did you mean 'length'"),
    ("counting:Counting-v0 --env.kwargs.observation strange", "'Counting-v0' cannot be made: KeyError: 'strange'"),
    ("counting:Counting-v0 --env.kwargs.observation graph", "there is a Graph"),
    ("counting:Counting-v0 --env.kwargs.action words", "no agents that act in Text"),
    ("counting:Counting-v0 --env.vectorization vector", "has no vector form"),
    ("counting:Counting-v0 --env.vectorization paralell", "env.vectorization='paralell'"),
    ("counting:Counting-v0 --env.start-method magic", "env.start_method='magic'"),
    ("counting:Counting-v0 --env.frame-stack 0", "env.frame_stack=0"),
    ("counting:Counting-v0 --env.max-episode-steps 0", "env.max_episode_steps=0"),
    ("counting:Counting-v0 --env.resize 84", "no pictures of bytes"),
    ("counting:Counting-v0 --env.grayscale", "no pictures of bytes"),
    ("counting:Counting-v0 --env.atari", "'Counting-v0' is not an Atari game"),
    ("counting:Counting-v0 --env.rescale-action", "cannot be rescaled"),
    ("counting:Counting-v0 --env.kwargs.frame_stack 3", "is an option: --env.frame-stack"),
    ("counting:Counting-v0 --env.framestack 3", "Did you mean 'env.frame_stack'"),
    ("rltrain/CartPole-v1 --env.vectorization async", "whose environments are tensors"),
]


@pytest.mark.parametrize(("words", "named"), MISTAKES)
def test_a_mistake_is_named_and_leaves_nothing(
    words: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ppo", *words.split(), *WORDS, "--run-dir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("error: ") == error.count("fix: ") == 1
    assert not (tmp_path / "runs").exists()


class NeedsMore(Counting):
    def __init__(self) -> None:
        raise DependencyNotInstalled('MuJoCo is not installed, run `pip install "gymnasium[mujoco]"`')


class NeedsModule(Counting):
    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'Box2D'", name="Box2D")


@pytest.mark.parametrize(
    ("cls", "command"),
    [(NeedsMore, 'pip install "gymnasium[mujoco]"'), (NeedsModule, 'pip install "gymnasium[box2d]"')],
)
def test_what_is_not_installed_is_named_with_the_command(cls: type, command: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(tmp_path / "runs", cls)
    assert caught.value.fix == command
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("env_id", "module", "package"), [("ALE/Pong-v5", "ale_py", "ale-py"), ("PongNoFrameskip-v4", "ale_py", "ale-py")]
)
def test_well_known_ids_name_their_package(
    env_id: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gymnasium, "registry", {})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as caught:
        env_spec(env_id)
    assert (env_id in caught.value.cause, caught.value.fix) == (True, f"pip install {package}")


def test_a_module_that_waits_to_be_told_is_told(monkeypatch: pytest.MonkeyPatch, clean_registries: None) -> None:
    home = ModuleType("waiting")
    home.register_envs = lambda: gymnasium.register("Told-v0", entry_point=Counting)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "waiting", home)
    assert env_spec("waiting:Told-v0").id == "Told-v0"


def test_a_function_register_of_a_module_of_its_own_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_registries: None
) -> None:
    """But not one that needs arguments, such as Gymnasium's own, which many modules import."""
    (tmp_path / "asked.py").write_text(
        "import gymnasium\n\ndef register(backend='gymnasium'):\n"
        "    gymnasium.register('Asked-v0', entry_point='gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    (tmp_path / "imports_it.py").write_text("from gymnasium import register\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert env_spec("asked:Asked-v0").id == "Asked-v0"
    with pytest.raises(ConfigError, match="has no environment 'Never-v0'"):
        env_spec("imports_it:Never-v0")


class Leaving(Counting):
    """Leaves the program when it is closed, as some do when they close their window."""

    def close(self) -> None:
        sys.exit()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_what_happens_when_an_environment_is_closed_harms_nothing(tmp_path: Path, vectorization: str) -> None:
    run = train(tmp_path, Leaving, total_timesteps=64, num_envs=2, env_options={"vectorization": vectorization})
    rltrain.load(run, env=Leaving).evaluate(2)


def test_minigrid_is_imported_for_its_ids(tmp_path: Path) -> None:
    run = train(tmp_path, "MiniGrid-Empty-5x5-v0", total_timesteps=64, n_eval_episodes=0, num_envs=2)
    assert rltrain.load(run).observation_space == gymnasium.spaces.Dict(
        {
            "direction": gymnasium.spaces.Discrete(4),
            "image": gymnasium.spaces.Box(0, 255, (7, 7, 3), "uint8"),  # type: ignore[arg-type]
        }
    )


def test_options_are_honoured_by_what_is_made_later(tmp_path: Path) -> None:
    run = train(
        tmp_path, "CartPole-v1", env_options={"frame_stack": 2, "max_episode_steps": 9, "vectorization": "sync"}
    )
    vec = rltrain.load(run).make_vec(3)
    assert isinstance(vec, FrameStack)
    assert (vec.num_envs, vec.max_episode_steps) == (3, 9)
    assert make_vec("CartPole-v1", 2, frame_stack=2).single_observation_space == vec.single_observation_space


assert counting  # registers
