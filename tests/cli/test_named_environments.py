"""Environments that are named by a module, a class, a function or an object: trained in, and found again."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.wrappers import TransformReward

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.naming import environments as module_envs
from rltrain.registry import env_spec
from rltrain.runs.folder import RunFolder

MINE = '''
import os
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from rltrain import TensorEnv


class Short(gymnasium.Env):
    """Five steps, a reward of its size in each."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, size=1.0, name="short", render_mode=None):
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.size, self.name, self.render_mode = size, name, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.n += 1
        return np.zeros(2, np.float32), float(self.size), self.n >= 5, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


def make_short(size=3.0, render_mode=None):
    return Short(size, render_mode=render_mode)


@dataclass
class Place:
    x: torch.Tensor


class Walk(TensorEnv[Place]):
    """Every episode is cut off after four steps."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    max_episode_steps = 4

    def reset(self, n, rng):
        return Place(torch.zeros(n, device=self.device))

    def step(self, state, action, rng):
        return Place(state.x + 0.1), torch.ones_like(state.x), state.x > 9

    def observe(self, state):
        return state.x[:, None]

    def render(self, state, index=0):
        return torch.zeros(16, 16, 3, dtype=torch.uint8)
'''
WORDS = shlex.split(
    "--num-envs 2 --total-timesteps 64 --n-eval-episodes 2 --agent.n-steps 16 --agent.batch-size 32 "
    "--agent.n-epochs 1 --no-progress --device cpu --trackers csv"
)
QUICK: dict[str, Any] = {
    "num_envs": 2,
    "total_timesteps": 64,
    "n_eval_episodes": 2,
    "device": "cpu",
    "progress": False,
    "trackers": ["csv"],
    "agent": {"n_steps": 16, "batch_size": 32, "n_epochs": 1},
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of environments and one that registers an id, as this process had never seen them."""
    (tmp_path / "my_games.py").write_text(MINE)
    only = "import gymnasium\nfrom my_games import Short\ngymnasium.register('you/Only-v0', entry_point=Short)\n"
    (tmp_path / "only_one.py").write_text(only)
    (tmp_path / "needs_home.py").write_text("import os\nos.environ['SUMO_HOME']\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(\"please declare environment variable 'SUMO_HOME'\")\n")
    (tmp_path / "broken_inside.py").write_text("import no_such_library\n")
    moved = "raise ImportError('It has moved. Install with `pip install games2`. See the page.')\n"
    (tmp_path / "has_moved.py").write_text(moved)
    (tmp_path / "no_games.py").write_text("x = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SUMO_HOME", raising=False)
    yield tmp_path
    forget()


def forget() -> None:
    """Forgets what was found, as a new process would."""
    for name in ("my_games", "only_one", "needs_home", "leaves", "broken_inside", "no_games"):
        sys.modules.pop(name, None)
    importlib.reload(module_envs)
    gymnasium.registry.pop("you/Only-v0", None)


@pytest.mark.parametrize(
    ("typed", "id", "score"),
    [
        ("my_games:Short", "Short", 5),
        ("my_games:make_short", "make_short", 15),
        ("my_games:Walk", "Walk", 4),
        ("only_one", "you/Only-v0", 5),
        ("only_one:", "you/Only-v0", 5),
        ("only_one:you/Only-v0", "you/Only-v0", 5),
    ],
)
def test_the_commands_that_are_printed_work_as_printed(
    typed: str, id: str, score: float, modules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ppo", typed, *WORDS, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    run = result["run_dir"]
    assert RunFolder.open(run)[0].config().env.id == id
    assert result["evaluation"]["mean_reward"] == score

    forget()  # as in another process
    for verb in ("eval", "watch", "resume") if typed == "my_games:Short" else ("eval",):
        more = ["--total-timesteps", "128"] if verb == "resume" else []
        assert main([verb, run, *more]) == 2
        error = capsys.readouterr().err
        assert "is not registered here" in error
        assert "my_games" not in sys.modules  # nothing in the folder causes an import
        option = shlex.split(error.partition("--env ")[2])[0].rstrip(";")
        few = ["--episodes", "2"] if verb == "eval" else []
        assert main([verb, run, "--env", option, *more, *few]) == 0
        capsys.readouterr()
        forget()
    assert rltrain.load(run, env=option).evaluate(3).mean_reward == score


def test_the_command_that_goes_on_with_an_interrupted_run_can_be_pasted(
    modules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rltrain.cli.report import report
    from rltrain.training.session import RunResult

    assert main(["train", "ppo", "my_games:Short", *WORDS, "--run-dir", "my runs"]) == 0
    capsys.readouterr()
    run = Path("my runs/Short/ppo_1")
    report(RunResult(run, 64, 1.0, 0.0, "interrupted", 2, None, None), as_json=False)
    printed = capsys.readouterr().out.splitlines()[0].partition("go on with: ")[2]
    forget()
    assert main([*shlex.split(printed)[1:], "--total-timesteps", "96"]) == 0


@pytest.mark.parametrize(
    ("typed", "cause", "fix"),
    [
        ("my_games:", "'my_games' has 2 environments", "Name one, as in my_games:Short. It has: Short, Walk"),
        ("my_games", "'my_games' has 2 environments", "Name one, as in my_games:Short. It has: Short, Walk"),
        ("my_games:Shrt", "The module 'my_games' has no environment 'Shrt'", "Did you mean 'Short'?"),
        ("my_games:np", "has no environment 'np'", "It has: Short, Walk"),
        ("no_games:Short", "The module 'no_games' has no environment 'Short'", "Name a class in it"),
        ("only_one:you/Other-v0", "has no environment 'you/Other-v0'", "It has: you/Only-v0"),
        ("needs_home:Env-v0", "needs the environment variable SUMO_HOME", "export SUMO_HOME="),
        ("leaves:Env-v0", "needs the environment variable SUMO_HOME", "export SUMO_HOME="),
        ("has_moved:Env-v0", "It has moved", "fix: pip install games2"),
        ("broken_inside:Env-v0", "needs no_such_library", 'pip install "no_such_library"'),
        ("no_such_module:Env-v0", "'no_such_module' of the environment", "Check its name"),
    ],
)
def test_a_wrong_name_is_told(
    typed: str, cause: str, fix: str, modules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["train", "ppo", typed, *WORDS], ["check", typed]):
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()[-2:]
        assert cause in said[0]
        assert fix in said[1]
    assert not Path("runs").exists()


def test_two_classes_of_one_name_are_not_confused(modules: Path) -> None:
    (modules / "other_games.py").write_text(MINE)
    rltrain.make_vec("my_games:Walk", 1)
    with pytest.raises(ConfigError, match="Two environments are called 'Walk'"):
        rltrain.make_vec("other_games:Walk", 1)
    sys.modules.pop("other_games")


def test_a_module_that_registers_nothing_of_the_kind_is_not_imported_by_a_run_folder(modules: Path) -> None:
    run = rltrain.train("ppo", "CartPole-v1", run_dir="runs", **QUICK).run_dir
    config = (run / "config.yaml").read_text()
    for name in ("my_games", "my_games:Short", "only_one"):
        (run / "config.yaml").write_text(config.replace("id: CartPole-v1", f"id: '{name}'"))
        with pytest.raises(ConfigError):
            rltrain.load(run).evaluate(1)
        assert "my_games" not in sys.modules
        assert "only_one" not in sys.modules


# Objects and functions, from Python


def test_the_spec_of_an_object_is_taken(tmp_path: Path) -> None:
    env = gymnasium.make("CartPole-v1", max_episode_steps=7, sutton_barto_reward=True, render_mode="rgb_array")
    run = rltrain.train("ppo", env, run_dir=tmp_path, **QUICK).run_dir
    config = RunFolder.open(run)[0].config().env
    assert (config.id, config.kwargs, config.max_episode_steps) == ("CartPole-v1", {"sutton_barto_reward": True}, 7)
    assert rltrain.load(run).evaluate(4).lengths.max() <= 7
    assert rltrain.evaluate("random", env, 4).lengths.max() <= 7
    ours = gymnasium.make("rltrain/CartPole-v1", gravity=3.0)
    config = RunFolder.open(rltrain.train("ppo", ours, run_dir=tmp_path, **QUICK).run_dir)[0].config().env
    assert (config.id, config.kwargs) == ("rltrain/CartPole-v1", {"gravity": 3.0})


def test_an_object_with_wrappers_is_not_taken_for_its_id(tmp_path: Path) -> None:
    env = TransformReward(gymnasium.make("CartPole-v1"), lambda reward: 2 * float(reward))
    run = rltrain.train("ppo", env, run_dir=tmp_path, **QUICK).run_dir
    with pytest.raises(ConfigError, match="is not registered here"):
        rltrain.load(run).evaluate(2)
    result = rltrain.load(run, env=env).evaluate(2)
    assert (result.returns == 2 * result.lengths).all()


def test_functions_make_environments(tmp_path: Path, modules: Path) -> None:
    from my_games import Short  # type: ignore[import-not-found]

    for function in (lambda: Short(2.0), lambda size=2.0: Short(size)):
        run = rltrain.train("ppo", function, run_dir=tmp_path, **QUICK).run_dir  # type: ignore[arg-type]
        assert rltrain.load(run, env=function).evaluate(2).mean_reward == 10  # type: ignore[arg-type]
    run = rltrain.train("ppo", lambda size: Short(size), env_kwargs={"size": 3.0}, run_dir=tmp_path, **QUICK).run_dir  # type: ignore[arg-type]
    assert RunFolder.open(run)[0].config().env.kwargs == {"size": 3.0}


class NoRecord(gymnasium.Wrapper[Any, Any, Any, Any]):
    pass


class OldGym:
    __module__ = "gym.core"


class Parallel:
    possible_agents = ("a", "b")


@pytest.mark.parametrize(
    ("make", "cause", "fix"),
    [
        (lambda: None, "'None' is not an environment", "Give an id"),
        (lambda: 3, "'3' is not an environment", "Give an id"),
        (lambda: [1], "'list' is not an environment", "Give an id"),
        (lambda: [lambda: gymnasium.make("CartPole-v1")], "'list' holds functions", "Give one function"),
        (lambda: gymnasium.spec("CartPole-v1"), "is given as its registration", "Give its id: 'CartPole-v1'"),
        (lambda: gymnasium.make("CartPole-v1").unwrapped.__class__(), "is one object", "Give its class"),
        (lambda: NoRecord(gymnasium.make("CartPole-v1")), "does not say how it was made", "a function that makes"),
        (lambda: gymnasium.make_vec("CartPole-v1", 2), "is a vector environment", "--num-envs"),
        (lambda: rltrain.make_env("rltrain/CartPole-v1"), "one object of an environment's class", "CartPole, not"),
        (lambda: OldGym, "is an environment of Gym, which Gymnasium has replaced", "shimmy"),
        (lambda: lambda: OldGym(), "what <lambda> makes' is an environment of Gym", "shimmy"),
        (lambda: Parallel(), "of PettingZoo, in which several agents act", "trains one agent"),
        (lambda: Parallel, "of PettingZoo, in which several agents act", "trains one agent"),
        (lambda: lambda: Parallel(), "of PettingZoo, in which several agents act", "trains one agent"),
    ],
)
def test_what_is_no_environment_is_told_what_it_is(make: Any, cause: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        rltrain.train("ppo", make(), run_dir=tmp_path / "runs", **QUICK)
    assert cause in caught.value.cause
    assert fix in caught.value.fix
    assert not (tmp_path / "runs").exists()


def test_an_id_that_a_package_registers_in_its_module_envs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocks_rl" / "envs").mkdir(parents=True)
    (tmp_path / "blocks_rl" / "__init__.py").write_text("")
    (tmp_path / "blocks_rl" / "envs" / "__init__.py").write_text(
        "import gymnasium\ngymnasium.register('blocks/Fall-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(ConfigError, match=r"has no environment 'blocks/Rise-v0'.*It has: blocks/Fall-v0"):
            env_spec("blocks_rl:blocks/Rise-v0")
        assert env_spec("blocks_rl:blocks/Fall-v0").id == "blocks/Fall-v0"
    finally:
        gymnasium.registry.pop("blocks/Fall-v0", None)
        for name in [name for name in sys.modules if name.partition(".")[0] == "blocks_rl"]:
            del sys.modules[name]


def test_a_class_with_reset_and_step_that_is_no_gymnasium_env_is_told_what_it_lacks() -> None:
    class Crafts:
        def reset(self) -> Any: ...
        def step(self, action: Any) -> Any: ...

    with pytest.raises(ConfigError, match=r"'Crafts' has reset and step, but is no gymnasium\.Env.*five values"):
        rltrain.make_vec(Crafts, 2)  # type: ignore[arg-type]


OLD = """
import sys, types

class Registered(types.SimpleNamespace):
    pass

gym = types.ModuleType("gym")
gym.envs = types.ModuleType("gym.envs")
gym.envs.registry = {"Old-v0": Registered(entry_point="old_games:Old")}
sys.modules["gym"] = gym
"""


@pytest.mark.parametrize("name", ["old_games", "old_games:Old-v0"])
def test_a_module_that_registers_with_old_gym_is_told_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old_games.py").write_text(OLD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gym", None)  # put back afterwards
    monkeypatch.delitem(sys.modules, "gym")
    monkeypatch.delitem(sys.modules, "old_games", raising=False)
    assert main(["train", "ppo", name]) == 2
    told = capsys.readouterr().err
    assert "'Old-v0' is an environment of Gym, which Gymnasium has replaced" in told
    assert "shimmy" in told
    monkeypatch.delitem(sys.modules, "old_games")
