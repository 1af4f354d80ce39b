"""EnvPool through our adapter: no transition is made up, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cartpole_steps import judged
from gymnasium import spaces

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.make import make_vec

pytest.importorskip("envpool", reason="EnvPool is an extra: pip install -c constraints.txt -e '.[test,envpool]'")

CARTPOLE = "envpool/CartPole-v1"


def test_it_keeps_the_promises_of_a_vector_environment() -> None:
    report = rltrain.check_env(CARTPOLE)
    assert not report.findings, report


def test_every_transition_is_one_that_happened() -> None:
    steps = judged(make_vec(CARTPOLE, 4), 120)
    assert sum(int(step.terminated.sum()) for step in steps) > 10
    assert not any(step.truncated.any() for step in steps)


def test_the_time_limit_truncates_and_an_end_in_its_step_is_an_end() -> None:
    push = torch.ones(1, dtype=torch.int64)
    vec = make_vec(CARTPOLE, 1)
    vec.reset(0)
    fallen = next(step for step in (vec.step(push) for _ in range(100)) if step.terminated)
    for limit, ends in ((int(fallen.episode_length), (True, False)), (int(fallen.episode_length) - 1, (False, True))):
        vec = make_vec(CARTPOLE, 1, max_episode_steps=limit)
        vec.reset(0)
        last = [vec.step(push) for _ in range(limit)][-1]
        assert (last.terminated.item(), last.truncated.item()) == ends
        assert vec.step(push).episode_length.item() == 1


def test_rows_begin_differently_and_a_seed_brings_them_back() -> None:
    vec = make_vec(CARTPOLE, 3)
    first = vec.reset(1)
    assert len(first.unique(dim=0)) == 3
    assert not torch.equal(vec.reset(2), first)
    assert torch.equal(vec.reset(1), first)


def test_pong_in_bytes_cut_off_in_time() -> None:
    vec = make_vec("envpool/Pong-v5", 2, max_episode_steps=3, num_threads=1)
    assert vec.single_observation_space == spaces.Box(0, 255, (4, 84, 84), np.uint8)
    obs = vec.reset(0)
    steps = [vec.step(torch.zeros(2, dtype=torch.int64)) for _ in range(4)]
    assert obs.dtype == torch.uint8
    assert [step.truncated.all().item() for step in steps] == [False, False, True, False]
    assert steps[-1].episode_length.tolist() == [1, 1]


def test_entries_of_a_dict_and_bounds_that_are_none() -> None:
    vec = make_vec("envpool/MiniGrid-Empty-5x5-v0", 2)
    obs = vec.reset(0)
    assert {name: tuple(part.shape) for name, part in obs.items()} == {
        "direction": (2,), "image": (2, 7, 7, 3), "mission": (2, 96),
    }  # fmt: skip
    assert np.isneginf(make_vec("envpool/LunarLander-v3", 1).single_observation_space.low).all()


def test_success_is_said_where_the_environment_says_it() -> None:
    vec = make_vec("envpool/FetchReach-v1", 2)
    vec.reset(0)
    assert vec.step(torch.zeros(2, 4)).info["is_success"].tolist() == [0.0, 0.0]


def test_a_run_is_trained_resumed_and_filmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--total-timesteps 256 --num-envs 4 --n-eval-episodes 2 --agent.n-steps 16 --no-progress"
    assert main(["train", "ppo", CARTPOLE, *options.split()]) == 0
    run = Path("runs/envpool-CartPole-v1/ppo_1")
    assert json.loads((run / "metadata.json").read_text())["exact_resume"] is False
    assert main(["resume", str(run), "--total-timesteps", "320", "--no-progress"]) == 0
    assert capsys.readouterr().err.count(f"The episodes of '{CARTPOLE}' start anew") == 1
    assert main(["watch", str(run), "--out", "film.gif"]) == 0
    assert Path("film.gif").stat().st_size > 1000


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("train ppo envpool/CartPol-v1", "There is no environment 'envpool/CartPol-v1'."),
        (f"train ppo {CARTPOLE} --env.kwargs.batch-size 3", "has no constructor argument 'batch_size'"),
        (f"train ppo {CARTPOLE} --env.vectorization sync", "which envpool steps by itself"),
        ("watch envpool/FrozenLake-v1 --out f.gif", "EnvPool draws no pictures of it"),
        ("train ppo envpool/Go9x9-v1", "'envpool/Go9x9-v1' is a game of several players"),
        (
            "train ppo envpool/IntersectionMultiAgent-v1",
            "'envpool/IntersectionMultiAgent-v1' is a game of several players",
        ),
        ("train ppo envpool/MultiDuel-v1", "'envpool/MultiDuel-v1' is a game of several players"),
    ],
)
def test_mistakes_are_named_before_anything_is_created(
    command: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert cause in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_would_end_the_process_is_not_tried_in_it() -> None:
    from rltrain.adapters.from_envpool import check_drawing

    check_drawing("envpool/CartPole-v1", "CartPole-v1", "envpool.classic_control")
    with pytest.raises(ConfigError, match="'envpool/None-v0' draws no pictures here"):
        check_drawing("envpool/None-v0", "None-v0", "envpool.mujoco.gym")
