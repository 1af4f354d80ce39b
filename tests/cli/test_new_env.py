"""`rltrain new-env` writes a package that installs, passes its tests, and trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rltrain.check.scaffold import names_of
from rltrain.cli import main
from rltrain.errors import ConfigError

FILES = {
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "tests/test_env.py",
    "walk_home/__init__.py",
    "walk_home/env.py",
    "walk_home/configs/ppo/WalkHome-v0.yaml",
}
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, which is installed beside it."""
    path = tmp_path_factory.mktemp("room")
    run([str(BIN / "rltrain"), "new-env", "walk-home"], path)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    target = ["--no-build-isolation", "--target", str(path / "site"), str(path / "walk-home")]
    run([sys.executable, *install, *target], path)
    return path


def run(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_complete_and_nothing_of_the_template_is_left(room: Path) -> None:
    project = room / "walk-home"
    texts = {file.relative_to(project).as_posix(): file for file in project.rglob("*") if file.is_file()}
    assert {name for name in texts if not name.startswith(("build/", "walk_home.egg-info/"))} == FILES
    for name in FILES:
        text = texts[name].read_text()
        assert not any(old in text for old in ("my_env", "my-env", "MyEnv")), name
    assert tomllib.loads(texts["pyproject.toml"].read_text())["project"]["name"] == "walk-home"


def test_its_tests_pass(room: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    out = run(command, room / "walk-home", PYTHONPATH=str(room / "site"))
    assert int(out.split(" passed")[0].split()[-1]) > 20
    assert "failed" not in out


def test_it_is_found_checked_trained_in_and_watched(room: Path) -> None:
    program, env = [sys.executable, "-m", "rltrain"], "walk_home/WalkHome-v0"
    site = {"PYTHONPATH": str(room / "site"), "OMP_NUM_THREADS": "1"}
    assert env in run([*program, "envs"], room, **site)
    assert json.loads(run([*program, "check", env, "--json"], room, **site))["findings"] == []
    out = json.loads(run([*program, "train", "ppo", env, "--json", "--no-progress"], room, **site))
    assert out["evaluation"]["success_rate"] > 0.95
    assert out["evaluation"]["mean_reward"] > -34  # about -30; at random about -98
    run([*program, "watch", out["run_dir"], "--out", "film.gif"], room, **site)
    assert (room / "film.gif").stat().st_size > 1_000


def test_its_code_is_as_tidy_as_ours(room: Path) -> None:
    pytest.importorskip("ruff", reason="the linter is not part of the test extra")
    settings = ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), "walk_home", "tests"]
    run([sys.executable, "-m", "ruff", "check", *settings], room / "walk-home")
    run([sys.executable, "-m", "ruff", "format", "--check", *settings], room / "walk-home")


@pytest.mark.parametrize(
    ("name", "cause", "fix"),
    [
        ("Walk", "not a package name", "such as walk."),
        ("WalkHome", "not a package name", "such as walk-home."),
        ("walk home", "not a package name", "such as walk-home."),
        ("../walk", "not a package name", "such as walk."),
        ("walk.home", "not a package name", "walk-home"),
        ("2walk", "not a package name", "such as walk."),
        ("walk--home", "not a package name", "walk-home"),
        ("wälder", "not a package name", "lower-case"),
        ("", "is blank", ""),
        ("w" * 60, "not a package name", "lower-case"),
        ("class", "a word of Python's", "another name"),
        ("match", "a word of Python's", "another name"),
        ("json", "a module of Python's", "another name"),
        ("print", "a module of Python's", "another name"),
        ("rltrain", "the namespace of other environments", "another name"),
        ("torch", "an installed package", "another name"),
        ("safetensors", "an installed package", "another name"),
        ("tests", "a folder beside the package", "another name"),
        ("tensor", "the class Tensor, which the code needs", "another name"),
        ("tensor-env", "the class TensorEnv, which the code needs", "another name"),
        ("none", "the class None, which Python has", "another name"),
        ("exception", "the class Exception, which Python has", "another name"),
        ("there", "'there' already exists", "another name"),
        ("dangling", "'dangling' already exists", "another name"),
    ],
)
def test_a_name_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, cause: str, fix: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    assert main(["new-env", name]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    first, second = output.err.splitlines()
    assert cause in first
    assert fix in second
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "there"]


def test_names() -> None:
    assert names_of("walk-home") == names_of("walk_home") == ("walk_home", "WalkHome")
    assert names_of("grid2") == ("grid2", "Grid2")
    with pytest.raises(ConfigError):
        names_of("walk-")
