"""Standard output is ours: one JSON object whatever an environment or a C library prints; no colours in pipes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium import logger

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.plugins import VerbSpec, verbs

NOISY = """
import atexit
import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
from gymnasium import logger, spaces

print("pygame 2.6.1 (SDL 2.28.4) Hello from the pygame community.")
atexit.register(os.write, 1, b"C: good bye\\n")


class Noisy(gymnasium.Env):
    def __init__(self):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
        print("made", file=sys.__stdout__, flush=True)
        logger.warn("a warning in yellow")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        os.write(1, b"C: reset\\n")
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.n += 1
        if self.n == 1:
            subprocess.run(["echo", "a child speaks"])
        print("step", self.n)
        return np.zeros(2, np.float32), 1.0, self.n >= 4, False, {}

    def close(self):
        print("closed")
"""
WORDS = shlex.split(
    "--num-envs 2 --total-timesteps 64 --n-eval-episodes 2 --agent.n-steps 16 --agent.batch-size 32 --device cpu "
    "--env.vectorization async"
)


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "rltrain", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def test_json_is_one_object_whatever_is_printed(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    done = run(["train", "ppo", "noisy:Noisy", *WORDS, "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["steps"] == 64
    assert "\x1b" not in done.stderr
    assert "[33m" not in done.stderr
    assert "Hello from the pygame community" in done.stderr  # it is not lost
    assert "C: good bye" in done.stderr


def test_a_film_is_made_in_silence_without_a_sound_card(tmp_path: Path) -> None:
    """SDL, by which Gymnasium draws, would open the sound and say at length that there is none."""
    made = run(["watch", "CartPole-v1", "--out", "film.gif", "--max-steps", "2"], tmp_path)
    assert (made.returncode, made.stdout) == (0, "film.gif: 2 steps\n")
    assert "ALSA" not in made.stderr


def test_the_result_alone_is_printed_for_people_too(capfd: pytest.CaptureFixture[str], clean_registries: None) -> None:
    gymnasium.register("noise/Noisy-v0", entry_point=make_noisy)
    assert main(["eval", "noise/Noisy-v0", "--episodes", "2"]) == 0
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["random", "mean", "mean"]
    assert "C speaks" in err
    assert "Python speaks" in err
    print("after")
    os.write(1, b"and after\n")
    assert capfd.readouterr().out.split() == ["after", "and", "after"]  # as before


def make_noisy() -> gymnasium.Env[Any, Any]:
    os.write(1, b"C speaks\n")
    print("Python speaks")
    return gymnasium.make("CartPole-v1", max_episode_steps=5)


def test_help_and_plugins_write_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["eval", "--help"], ["train", "--help"], ["--help"], ["--version"]):
        assert main(words) == 0
        output = capsys.readouterr()
        assert output.out
        assert not output.err


def test_an_error_carries_no_colours() -> None:
    error = ConfigError("\x1b[33mWARN: red\x1b[0m and [33mbare[0m \x1b]0;title\x07", "\x1b[1;31mfix\x1b[0m\x00")
    assert (error.cause, error.fix) == ("WARN: red and bare ", r"fix\x00")


def test_warnings_of_libraries_are_not_passed_on(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def verb(_: list[str]) -> int:
        logger.warn("The environment is out of date")
        warnings.warn("one of ours", stacklevel=2)
        return 0

    shown = warnings.showwarning
    monkeypatch.setitem(verbs, "warn", VerbSpec("warn", verb))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["warn"]) == 0
    warnings.showwarning = shown
    assert capsys.readouterr().err == "warning: one of ours\n"


def test_check_shows_gymnasiums_warnings_in_plain_text() -> None:
    report = rltrain.check_env("CartPole-v1")
    assert "\x1b" not in str(report)
    assert "[33m" not in str(report)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and a shell")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("envs > /dev/full", 3, "error: What is printed cannot be written: No space left on device."),
        ("envs >&- 2>&-", 0, ""),
        ("envs nowhere <&- >&-", 2, "error: There is no environment 'nowhere'."),
    ],
)
def test_streams_that_are_closed_or_full(line: str, code: int, said: str, tmp_path: Path) -> None:
    shell = f"{shlex.quote(sys.executable)} -m rltrain {line}"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert done.stderr.partition("\n")[0].startswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a folder in use cannot be removed elsewhere")
def test_a_folder_that_was_removed_under_the_command(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    shell = f"rmdir ../gone && {shlex.quote(sys.executable)} -m rltrain train ppo rltrain/CartPole-v1"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path / "gone", capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "error: The folder that this is run in has been removed.",
        "  fix: Go to another one: cd",
    ]
