"""Ids of libraries that are not installed are refused before anything is created."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import pytest

from rltrain.adapters import from_gymnax
from rltrain.adapters.foreign import check_arguments
from rltrain.cli import main
from rltrain.errors import ConfigError, ended_by
from rltrain.naming.reasons import command_in
from rltrain.registry import EnvSpec


@pytest.mark.parametrize(
    ("id", "package", "extra"),
    [
        ("gymnax/CartPole-v1", "gymnax", "jax"),
        ("brax/ant", "brax", "jax"),
        ("envpool/Pong-v5", "envpool", "envpool"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "watch", "check", "envs"])
def test_what_is_missing_is_named_with_the_command(
    id: str,
    package: str,
    extra: str,
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    from_gymnax.find.cache_clear()
    assert main([verb, *(["ppo"] if verb == "train" else []), id]) == 2
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"error: '{id}' needs the package {package}, which is not installed.",
        f"  fix: pip install 'rltrain[{extra}]'",
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("run `pip install gymnasium[box2d]`.", "pip install gymnasium[box2d]"),
        ('Use pip install -U "highway-env>=1.9" and try again', 'pip install -U "highway-env>=1.9"'),
        ("C extension not built: run 'python -m pip install -ve . --no-build-isolation' in its folder", ""),
        ("pip install -r requirements.txt", ""),
        ("pip install . where it lies", ""),
    ],
)
def test_only_a_command_that_names_a_package_is_passed_on(text: str, command: str) -> None:
    assert command_in(ImportError(text)) == command


def test_the_line_that_calls_exit_is_named_and_not_pythons_own() -> None:
    with pytest.raises(SystemExit) as leaving:
        exit(3)
    assert "told to exit with 3 in line" in ended_by(leaving.value).cause
    assert __file__ in ended_by(leaving.value).cause


@pytest.mark.usefixtures("clean_registries")
@pytest.mark.parametrize("verb", ["train", "eval", "watch", "check", "envs", "record"])
@pytest.mark.parametrize(
    ("raised", "command"),
    [
        (
            "gymnasium.error.DependencyNotInstalled('MuJoCo is missing, run `pip install \"gymnasium[mujoco]\"`')",
            'pip install "gymnasium[mujoco]"',
        ),
        ("ModuleNotFoundError(\"No module named 'Box2D'\", name='Box2D')", 'pip install "gymnasium[box2d]"'),
        ("ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')", 'pip install "opencv-python"'),
    ],
)
def test_what_a_registered_environment_lacks_is_named_by_every_verb(
    verb: str,
    raised: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "lacking_game.py").write_text(f"import gymnasium.error\n\nraise {raised}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(home)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    gymnasium.register("Lacking-v0", entry_point="lacking_game:Game")
    before, after = (["ppo"] if verb == "train" else []), (["--out", "data"] if verb == "record" else [])
    assert main([verb, *before, "Lacking-v0", *after]) == 2
    cause, fix = capsys.readouterr().err.splitlines()[-2:]
    assert cause.startswith("error: 'Lacking-v0' needs ")
    assert fix == f"  fix: {command}"
    assert not list(here.iterdir())


def test_arguments_are_held_to_what_there_is() -> None:
    spec = EnvSpec("lib/JaxGame", "lib:JaxGame", group="lib", parameters={"gravity": 9.8})
    check_arguments(spec, {"gravity": 1.6})
    with pytest.raises(ConfigError, match=r"no constructor argument 'gravty'\. Did you mean 'gravity'"):
        check_arguments(spec, {"gravty": 1.6})
    with pytest.raises(ConfigError, match="'vectorization' is not for 'lib/JaxGame', which lib steps by itself"):
        check_arguments(spec, {"vectorization": "sync"})
