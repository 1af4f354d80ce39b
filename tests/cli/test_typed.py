"""What is typed for an option that is text reaches it as it was typed, whatever YAML would make of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import pytest
from pydantic import BaseModel

import rltrain
from rltrain.cli import main
from rltrain.cli.typed import Kind, kinds_of, read
from rltrain.runs.folder import RunFolder

WORDS = [
    "none",
    "null",
    "Null",
    "on",
    "off",
    "yes",
    "no",
    "true",
    "2024",
    "1e3",
    "0x10",
    "1:30",
    "2024-01-01",
    "~",
    "[a]",
]
QUICK = shlex.split(
    "--num-envs 2 --total-timesteps 64 --n-eval-episodes 0 --agent.n-steps 16 --agent.batch-size 32 "
    "--no-progress --trackers none --device cpu"
)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_stays_a_word(word: str) -> None:
    assert read(word, Kind(is_text=True, may_be_none=False)) == word
    optional = read(word, Kind(is_text=True, may_be_none=True))
    assert optional is None if word.lower() in ("none", "null") else optional == word


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("1e3", 1000.0), ("true", True), ("[1, a]", [1, "a"]), ("a", "a")]
)
def test_anything_else_is_yaml(text: str, value: Any) -> None:
    assert read(text) == value
    assert read(text, Kind(is_text=False, may_be_none=False)) == value
    assert read("none") is None
    assert read("none", Kind(is_text=False, may_be_none=False)) == "none"  # so that the error shows the word


def test_kinds_are_those_of_the_annotations() -> None:
    class Inner(BaseModel):
        word: str = ""
        choice: Literal["on", "off"] | None = None

    class Model(BaseModel):
        number: Annotated[int, "of them"] = 1
        maybe: float | None = None
        schedule: float | str = 0.1
        inner: Inner = Inner()
        listed: list[str] = []

    assert dict(kinds_of(Model)) == {
        "number": Kind(False, False),
        "maybe": Kind(False, True),
        "schedule": Kind(False, False),
        "inner.word": Kind(True, False),
        "inner.choice": Kind(True, True),
    }


@pytest.mark.parametrize("word", ["none", "on", "2024"])
def test_a_run_folder_may_have_any_name(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo", "rltrain/CartPole-v1", *QUICK, f"--run-dir={word}"]) == 0
    config = RunFolder.open(Path(word, "rltrain-CartPole-v1", "ppo_1"))[0].config()
    assert (config.run_dir, config.init_from) == (word, None)


def make_worded(word: str = "x", number: int = 1, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    seen.append((word, number))
    return gymnasium.make("CartPole-v1", max_episode_steps=5, render_mode=render_mode)


seen: list[tuple[Any, Any]] = []


@pytest.mark.parametrize("word", ["on", "no", "none", "1e3"])
def test_text_arguments_of_environments_are_text(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        gymnasium.registry, "words/Worded-v0", spec := gymnasium.envs.registration.EnvSpec("words/Worded-v0")
    )
    spec.entry_point = make_worded
    options = ["--env.kwargs.word", word, "--env.kwargs.number", "7"]
    seen.clear()
    assert main(["train", "ppo", "words/Worded-v0", *QUICK, *options, "--env.vectorization", "sync"]) == 0
    run = "runs/words-Worded-v0/ppo_1"
    for command in (["eval", run], ["eval", "words/Worded-v0"], ["watch", "words/Worded-v0", "--out", "x.gif"]):
        few = ["--episodes", "1"] if command[0] == "eval" else []
        assert main([*command, *few, *options]) == 0
    assert set(seen) == {(word, 7)}


def test_what_python_gives_is_left_alone() -> None:
    from rltrain.settings import build_config

    config, _ = build_config("ppo", "rltrain/CartPole-v1", {"run_dir": "none", "init_from": None})
    assert (config.run_dir, config.init_from) == ("none", None)
    assert rltrain.make_vec("rltrain/CartPole-v1", 1)
