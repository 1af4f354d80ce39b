"""Seeds that were trained as one batch go on together, bit for bit; one alone goes on too, and says what differs."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from test_resume import (
    CARTPOLE,
    OPTIONS,
    PENDULUM,
    PROCESSES,
    assert_same_state,
    command,
    flags,
    no_process_is_left,  # noqa: F401
    send,
    table,
    until,
)

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of

SEEDS = [3, 4, 5]
SHORT: dict[str, Any] = {
    "total_timesteps": 1_280,
    "num_envs": 4,
    "num_threads": 1,
    "seed": 3,
    "save_freq": 256,
    "keep_checkpoints": 99,
    "n_eval_episodes": 0,
    "agent": {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "normalize_obs": True, "learning_rate": 1e-3},
}


def folders(run_dir: Path, env: str = CARTPOLE, algo: str = "ppo") -> list[Path]:
    return [run_dir / env.replace("/", "-") / f"{algo}_{k + 1}" for k in range(len(SEEDS))]


def cut(run: Path, step: int) -> None:
    """Makes it a run that was killed after the checkpoint at a step."""
    for path in list_checkpoints(run / "checkpoints"):
        if step_of(path) > step:
            shutil.rmtree(path)
    RunFolder(run).update_metadata({"status": "running"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    rltrain.train_seeds("ppo", CARTPOLE, 3, progress=False, run_dir=folder, **SHORT)
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copied"))


@pytest.mark.parametrize(("algo", "env"), [("ppo", PENDULUM), ("pqn", CARTPOLE)])
def test_killed_and_resumed_together_is_as_never_killed(
    algo: str, env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"total_timesteps": 3_000, "num_envs": 6, "eval_freq": 700}
    if algo == "pqn":
        changes["agent"] = {"n_steps": 16, "batch_size": 48, "n_epochs": 1, "normalize_obs": True}
    options = {**OPTIONS, **changes}
    rltrain.train_seeds(algo, env, 3, progress=False, run_dir=tmp_path / "straight", **options)
    (tmp_path / "killed").mkdir()
    words = [
        "train",
        algo,
        env,
        "--num-seeds",
        "3",
        *flags({**options, "run_dir": tmp_path / "killed"}),
        "--no-progress",
    ]
    process = PROCESSES.Process(target=command, args=(words, tmp_path / "output"))
    process.start()
    runs = folders(tmp_path / "killed", env, algo)
    until(process, lambda: len(list_checkpoints(runs[-1] / "checkpoints")) >= 2)
    time.sleep(random.Random(algo).random() * 0.3)
    assert send(process, signal.SIGKILL) == -signal.SIGKILL
    assert main(["resume", *map(str, reversed(runs)), "--json", "--no-progress"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert [run["seed"] for run in json.loads(output.out)["runs"]] == SEEDS
    for run, expected in zip(runs, folders(tmp_path / "straight", env, algo), strict=True):
        assert_same_state(run, expected)
        assert table(run) == table(expected)
        assert RunFolder(run).best() == RunFolder(expected).best()
        names = [path.name for path in list_checkpoints(expected / "checkpoints")]
        assert [path.name for path in list_checkpoints(run / "checkpoints")] == names


def test_they_go_on_from_the_newest_step_that_all_have(trained: Path, copied: Path) -> None:
    """As after a kill between the saving of one and of the next."""
    for run, step in zip(folders(copied), (768, 512, 768), strict=True):
        cut(run, step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(rltrain.resume_seeds(folders(copied), progress=False)) == SEEDS
    for run, expected in zip(folders(copied), folders(trained), strict=True):
        assert_same_state(run, expected)
        assert RunFolder(run).metadata()["resumed_at"] == [512]


def test_without_one_that_had_left_the_batch(tmp_path: Path) -> None:
    """It was at its goal before the others, which go on in a smaller batch from there."""
    options = {
        **SHORT,
        "total_timesteps": 4_096,
        "stats_window_size": 4,
        "stop_at_reward": 35.0,
    }
    rltrain.train_seeds("ppo", CARTPOLE, 3, progress=False, run_dir=tmp_path / "straight", **options)
    steps = [RunFolder(run).metadata()["steps"] for run in folders(tmp_path / "straight")]
    first, last = min(steps), max(steps)
    assert first < last - 300
    shutil.copytree(tmp_path / "straight", tmp_path / "killed")
    for run, steps_of_run in zip(folders(tmp_path / "killed"), steps, strict=True):
        if steps_of_run > first:
            cut(run, first + 256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = rltrain.resume_seeds(folders(tmp_path / "killed"), progress=False)
    assert list(result) == [seed for seed, steps_of_run in zip(SEEDS, steps, strict=True) if steps_of_run > first]
    for run, expected in zip(folders(tmp_path / "killed"), folders(tmp_path / "straight"), strict=True):
        assert_same_state(run, expected)


def test_the_checkpoint_that_all_have_outlives_later_ones_of_one_seed(tmp_path: Path) -> None:
    """However few are kept: one that evaluates best saves more often than the others."""
    options = {**SHORT, "save_freq": 640, "eval_freq": 64, "n_eval_episodes": 2, "keep_checkpoints": 1}
    rltrain.train_seeds("ppo", CARTPOLE, 3, progress=False, run_dir=tmp_path, **{**options, "total_timesteps": 1_216})
    saved = [{step_of(path) for path in list_checkpoints(run / "checkpoints")} for run in folders(tmp_path)]
    assert set.intersection(*saved) >= {640, 1_216}


@pytest.mark.filterwarnings("ignore:batch_size")
def test_one_alone_says_what_differs(copied: Path) -> None:
    run = folders(copied)[1]
    with pytest.warns(
        UserWarning, match=r"Not bit for bit: the seeds 3, 4, 5 were .* and 4 without the others"
    ) as told:
        rltrain.resume(run, total_timesteps=1_536, progress=False)
    assert len(told) == 1
    with warnings.catch_warnings():  # from there on it is a run of its own
        warnings.simplefilter("error")
        rltrain.resume(run, total_timesteps=1_792, progress=False)
    with pytest.warns(UserWarning, match="3, 4, 5 were .* and 3, 5 without the others"):
        rltrain.resume_seeds([folders(copied)[0], folders(copied)[2]], total_timesteps=1_536, progress=False)


def test_what_cannot_go_on_together_is_refused(copied: Path) -> None:
    one, two, three = folders(copied)
    with pytest.raises(ConfigError, match="already been trained for 1,280 steps"):
        rltrain.resume_seeds([one, two, three], progress=False)
    with pytest.raises(ConfigError, match="names no run"):
        rltrain.resume_seeds([])
    with pytest.raises(ConfigError, match="Two of the runs have the seed 3"):
        rltrain.resume_seeds([one, two, one], progress=False)
    with pytest.raises(ConfigError, match="is a checkpoint"):
        rltrain.resume_seeds([one, list_checkpoints(two / "checkpoints")[0]], progress=False)
    text = (two / "config.yaml").read_text()
    (two / "config.yaml").write_text(text.replace("n_epochs: 1", "n_epochs: 2"))
    with pytest.raises(ConfigError, match="differ in more than the seed: agent"):
        rltrain.resume_seeds([one, two], progress=False)
    (two / "config.yaml").write_text(text)
    shutil.rmtree(two / "checkpoints")
    (two / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no step at which all of the 2 runs have a whole checkpoint"):
        rltrain.resume_seeds([one, two], total_timesteps=1_536, progress=False)
    assert main(["resume", str(one), str(three), "--nproc", "2"]) == ConfigError.exit_code
