"""What a person may have meant by an environment's name, and what an exception says is missing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from rltrain.errors import ConfigError
from rltrain.naming.reasons import did_you_mean_env, fix_at, reason_of, remedy_for
from rltrain.registry import env_spec

KNOWN = [
    *("CartPole-v0", "CartPole-v1", "rltrain/CartPole-v1", "FetchReach-v3", "FetchPush-v3", "PointMaze_UMaze-v3"),
    *(
        "HandReach-v2",
        "Ant-v5",
        "Hopper-v4",
        "Hopper-v5",
        "ALE/Pong-v5",
        "InvertedPendulum-v5",
        "Reacher-v5",
        "Pusher-v5",
    ),
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("CartPole-v2", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("rltrain/cartpole-v3", "rltrain/CartPole-v1"),
        ("rltrain/CartPol-v1", "rltrain/CartPole-v1"),
        ("CratPole-v1", "CartPole-v1"),
        ("Hopper-v2", "Hopper-v5"),
        ("Hoper-v4", "Hopper-v4"),
        ("Pong-v4", "ALE/Pong-v5"),
        ("fetch-reach-v3", "FetchReach-v3"),
        ("Ants-v5", "Ant-v5"),
    ],
)
def test_what_was_meant(typed: str, meant: str) -> None:
    assert did_you_mean_env(typed, KNOWN, "nothing") == f"Did you mean '{meant}'?"


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "PandaReach-v3",
            "FetchSlide-v3",
            "AntMaze_UMaze-v5",
            "ALE/King-v5",
            "InvertedDoublePendulum-v5",
            "HandPen-v2",
        ),
        *("Bat-v5", "Cat-v5x", "x", "", "highway-v0"),
    ],
)
def test_another_robot_is_never_offered(typed: str) -> None:
    assert did_you_mean_env(typed, KNOWN, "nothing") == "nothing"


def raised(code: str) -> BaseException:
    try:
        exec(code, {"os": os})
    except BaseException as error:
        return error
    raise AssertionError(code)


@pytest.mark.parametrize(
    ("code", "what", "fix"),
    [
        ("os.environ['SUMO_HOME_X']", "environment variable SUMO_HOME_X", "export SUMO_HOME_X="),
        (
            "raise SystemExit(\"please declare environment variable 'SUMO_HOME'\")",
            "variable SUMO_HOME,",
            "SUMO_HOME=...",
        ),
        ("raise RuntimeError('Please set $UNREAL_ROOT before')", "variable UNREAL_ROOT,", "export UNREAL_ROOT"),
        ("raise ImportError('CARLA_ROOT is not set')", "variable CARLA_ROOT,", "export CARLA_ROOT"),
        ("raise OSError('libGL.so.1: cannot open shared object file: No such file')", "libGL.so.1", "install libgl1"),
        ("raise ImportError('libEGL.so.1: cannot open shared object file')", "library libEGL.so.1", "libegl1"),
        (
            "raise ImportError('libfoo-2.3.so.7: cannot open shared object')",
            "libfoo-2.3.so.7",
            "that has libfoo-2.3.so",
        ),
        ("import no_such_thing.at_all", "no_such_thing, which is not installed", 'pip install "no_such_thing"'),
        ("raise ModuleNotFoundError('x', name='cv2')", "cv2", "opencv-python"),
        ("import subprocess; subprocess.run(['no-such-program'])", "program no-such-program", "PATH"),
        ("class NoSuchDisplayException(Exception): ...\nraise NoSuchDisplayException('None')", "a display", "xvfb-run"),
    ],
)
def test_what_is_missing_is_named(code: str, what: str, fix: str) -> None:
    clause, cure = remedy_for(raised(code)) or ("", "")
    assert what in clause
    assert fix in cure


@pytest.mark.parametrize(
    "code",
    [
        "{}['size']",
        "{}['SIZE']",
        "FOO_BAR",
        "1 / 0",
        "raise ValueError('RGB_ARRAY is no mode')",
        "open('/no/such.txt')",
    ],
)
def test_nothing_is_invented(code: str) -> None:
    assert remedy_for(raised(code)) is None


def in_module(path: Path, name: str) -> BaseException:
    """What a module raises that lies somewhere, as a library or as a file of the user's."""
    code = compile("import json\n\njson.loads('{')", str(path), "exec")
    try:
        exec(code, {"__name__": name})
    except ValueError as error:
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # without the line above
    raise AssertionError


def test_the_line_of_a_mistake_is_named_and_whose_it_is(tmp_path: Path) -> None:
    own = in_module(tmp_path / "rltrain" / "my_env.py", "my_env")  # a folder that is called so is no matter
    assert fix_at(own) == "Mend line 3 of my_env.py; --debug shows the whole traceback."
    library = in_module(tmp_path / "site-packages" / "games" / "envs" / "chess.py", "games.envs.chess")
    assert fix_at(library).startswith("It is in line 3 of games/envs/chess.py. Other arguments (--env.kwargs)")
    told = fix_at(library, otherwise="Leave films out")
    assert told == "It is in line 3 of games/envs/chess.py. Leave films out; --debug shows the whole traceback."
    assert fix_at(in_module(tmp_path / "core.py", "gymnasium.core")) == "--debug shows where."
    assert "line 3 of core.py" in fix_at(in_module(tmp_path / "core.py", "gymnasium.envs.mujoco.core"))


def test_an_exception_without_a_message_is_named_by_the_line_that_raised_it() -> None:
    with pytest.raises(AssertionError) as raised:
        exec(compile("joints = 3\nif joints > 2: raise AssertionError", "robots.py", "exec"))
    assert reason_of(raised.value) == "AssertionError: line 2 of robots.py"

    def fails(joints: int) -> None:
        if joints > 2:
            raise KeyError

    with pytest.raises(KeyError) as missing:
        fails(3)
    assert reason_of(missing.value).startswith("KeyError: raise KeyError (line ")
    assert reason_of(ValueError()) == "ValueError"  # never raised


@pytest.mark.parametrize(
    ("needs", "found"),
    [
        ("gymnasium>=1.0", True),
        ("Gymnasium[mujoco] (>=0.29)", True),
        ("gymnasium ; extra == 'rl'", False),
        ("gymnasium-robotics", False),
        ("gym", False),
    ],
)
def test_an_unknown_id_names_the_installed_modules_that_may_have_it(
    needs: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "gym_traffic-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: gym-traffic\nVersion: 1.0\nRequires-Dist: {needs}\n"
    )
    info.joinpath("top_level.txt").write_text("gym_traffic\n_build\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="no environment 'Crossing-v0'") as raised:
        env_spec("Crossing-v0")
    with pytest.raises(ConfigError) as sure:
        env_spec("cartpole-V1")
    assert sure.value.fix == "Did you mean 'CartPole-v1'?"
    with pytest.raises(ConfigError) as alike:
        env_spec("traffic-v3")
    assert ("Write gym_traffic:traffic-v3 for one of the module gym_traffic" in alike.value.fix) is found
    assert ("Write module:Crossing-v0" in raised.value.fix and "gym_traffic" in raised.value.fix) is found
    assert not {"_build", "rltrain"}.intersection(re.findall(r"\w+", raised.value.fix.partition("may have it:")[2]))
    with pytest.raises(ConfigError) as near:
        env_spec("Snake-v1")
    assert near.value.fix.startswith("Did you mean 'rltrain/Snake-v0'? ")
    assert "module:Snake-v1" in near.value.fix
