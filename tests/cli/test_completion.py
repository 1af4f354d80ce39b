"""Completion after the tab key: the words, and the scripts in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rltrain.cli import main
from rltrain.cli.completion import SHELLS, words
from rltrain.plugins import discover, register_verb, verbs

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("", ["train", "runs", "--help"]),
        ("tr", ["train", "trackers"]),
        ("train ", ["ppo", "sac"]),
        ("train ppo rltrain/CartPole-", ["rltrain/CartPole-v1"]),
        ("train --num-envs 4 ppo Pendulum", ["Pendulum-v1"]),
        ("train ppo rltrain/CartPole-v1 --agent.lear", ["--agent.learning-rate"]),
        ("train ppo rltrain/CartPole-v1 --n", ["--num-envs", "--nproc"]),
        ("train ppo x --agent.normalize-obs ", ["true", "false"]),
        ("train ppo x --if-save-fails ", ["stop", "continue"]),
        ("train ppo x --trackers console ", ["csv"]),
        ("eval runs/a rltrain/Cart", []),  # there is one already
        ("eval rltrain/CartPole-", ["rltrain/CartPole-v1"]),
        ("eval --checkpoint ", ["best", "latest"]),
        ("plot --kind p", ["profile"]),
        ("plot runs/a --o", ["--out"]),
        ("runs --sort s", ["seed", "score", "steps", "status", "started"]),
        ("runs --agent p", ["ppo"]),
        ("envs rltrain/Pend", ["rltrain/Pendulum-v1"]),
        ("agents p", ["ppo"]),
        ("trackers ", ["csv"]),
        ("completion f", ["fish"]),
        ("data s", ["show", "split"]),
        ("sweep ", ["ppo", "sac"]),
        ("sweep ppo rltrain/CartPole-v1 --tri", ["--trials"]),
        ("data show --o", ["--out"]),
        ("show ", []),  # files
        ("plot --out ", []),
        ("nonsense ", []),
    ],
)
def test_words(typed: str, some: list[str]) -> None:
    discover()
    found = words(typed.split(" "))
    if some:
        assert set(some) <= set(found)
        assert all(word.startswith(typed.split(" ")[-1]) for word in found)
    else:
        assert found == []


def test_every_built_in_verb_tells_its_options() -> None:
    discover()
    for name, spec in verbs.items():
        if str(spec.entry_point).startswith("rltrain.cli."):
            inner = words([name, ""]) if name in ("data", "preferences") else []  # which have verbs of its own
            for typed in [[name, each] for each in inner] or [[name]]:
                assert "--debug" in words([*typed, "--"]), typed


def test_a_verb_of_a_plugin_is_not_called(clean_registries: None, tmp_path: Path) -> None:
    register_verb("erase", f"{__name__}:erase")
    assert words(["era"]) == ["erase"]
    assert words(["erase", "--"]) == []


def erase(arguments: list[str]) -> int:
    raise AssertionError("called")


def test_scripts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, script in SHELLS.items():
        assert main(["completion", shell]) == 0
        assert capsys.readouterr().out == script + "\n"
    assert main(["completion", "bsh"]) == 2
    assert "Did you mean 'bash'?" in capsys.readouterr().err
    assert main(["completion", "words", "train", "pp"]) == 0
    assert capsys.readouterr().out == "ppo\n"


TRIES = {
    "bash": 'COMP_WORDS=(rltrain train pp); COMP_CWORD=2; _rltrain; printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": "compadd() { print -l -- ${(P)2}; }; words=(rltrain train pp); CURRENT=3; _rltrain",
    "fish": "complete -C 'rltrain train pp'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_in_the_shell(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path)}
    script = f"{SHELLS[shell]}\n{TRIES[shell]}\n"
    done = subprocess.run([program, "-c", script], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["ppo"], done.stderr
