"""The entry point that a platform's machines run: interrupted in the hardest way, it goes on; and it hands over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import rltrain
from rltrain.cloud.entry import command_of, main, read
from rltrain.cloud.mirror import Mirror, bring_back, files_in
from rltrain.cloud.place import Place
from rltrain.errors import ConfigError
from rltrain.runs.layout import list_checkpoints
from rltrain.storage.records import sealed, unsealed

CARTPOLE = "rltrain/CartPole-v1"


def sagemaker(folder: Path, **more: Any) -> dict[str, str]:
    """The variables of a machine of SageMaker, with its folders inside another one."""
    values = {
        "algo": "ppo",
        "env": CARTPOLE,
        "total_timesteps": 4096,
        "num_envs": 4,
        "save_freq": 256,
        "keep_checkpoints": 100,
        "n_eval_episodes": 0,
        "trackers": "[]",
        "agent__n_steps": 16,
        "agent__batch_size": 64,
        "agent__n_epochs": 1,
        **more,
    }
    own = {
        "TRAINING_JOB_NAME": "spot-job-1",
        "SM_HPS": json.dumps(values),
        "SM_HOSTS": '["algo-1"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_OUTPUT_DIR": str(folder / "output"),
        "RLTRAIN_RUNS": str(folder / "checkpoints"),
    }
    return {**os.environ, "OMP_NUM_THREADS": "1", **own}


def start(env: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rltrain.cloud.entry", *(words or ("sagemaker",))]
    return subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE)


def wait_for(path: Path, number: int, process: subprocess.Popen[str]) -> Path:
    """The run folder in a folder, once it has so many checkpoints."""
    for _ in range(1_200):
        runs = [found.parent for found in path.rglob("config.yaml")]
        if runs and len(list_checkpoints(runs[0] / "checkpoints")) >= number:
            return runs[0]
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("there is no checkpoint")


def about(run: Path) -> dict[str, Any]:
    """What a run says about itself."""
    facts: dict[str, Any] = json.loads((run / "metadata.json").read_text())
    return facts


def take_away(process: subprocess.Popen[str]) -> None:
    """Kills a process and all that it has started, as when a machine is gone; torchrun's ranks have their own group."""
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in everyone:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(everyone, timeout=30)
    process.wait()


def test_a_job_whose_machine_is_taken_away_goes_on_where_it_was(tmp_path: Path) -> None:
    """As a managed spot job of SageMaker: killed without a warning, and started again with the same variables."""
    env = sagemaker(tmp_path, total_timesteps=1_000_000)
    process = start(env)
    run = wait_for(tmp_path / "checkpoints", 3, process)
    take_away(process)
    before = max(int(path.name.removeprefix("step_")) for path in list_checkpoints(run / "checkpoints"))
    again = start(env)
    for _ in range(1_200):
        if again.poll() is not None or json.loads((run / "metadata.json").read_text()).get("resumed_at"):
            break
        time.sleep(0.05)
    again.send_signal(signal.SIGTERM)  # this time with a warning
    _, said = again.communicate(timeout=60)
    metadata = json.loads((run / "metadata.json").read_text())
    assert 0 < metadata["resumed_at"][0] <= before, said
    assert metadata["status"] == "interrupted", said
    assert [found.parent for found in (tmp_path / "checkpoints").rglob("config.yaml")] == [run]
    assert again.returncode != 0


def test_the_policy_is_handed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sagemaker", "--algo", "ppo"], sagemaker(tmp_path)) == 0  # SageMaker gives hyperparameters twice
    version = tmp_path / "model" / "policy" / "v1"
    action, _ = rltrain.load(version).predict([0.0, 0.0, 0.0, 0.0])
    assert action in (0, 1)
    assert not (tmp_path / "output").exists()


def test_what_fails_is_told_to_the_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {**sagemaker(tmp_path), "SM_HPS": '{"algo": "ppo"}'}
    assert main(["sagemaker"], env) == 2
    assert "The hyperparameters name no agent and environment." in capsys.readouterr().err
    del env["TRAINING_JOB_NAME"]
    assert main(["sagemaker"], env) == 2
    assert "This is no machine of sagemaker: KeyError 'TRAINING_JOB_NAME'" in capsys.readouterr().err
    (tmp_path / "checkpoints").write_text("no folder")
    assert main(["sagemaker"], sagemaker(tmp_path)) == 3
    assert "exit code 3" in (tmp_path / "output" / "failure").read_text()
    assert main(["nowhere", "--", "ppo", "e"], {}) == 2
    assert "Known: sagemaker, vertex, azureml, skypilot, ray." in capsys.readouterr().err
    assert main([], {}) == 2


def test_words_of_the_job_file() -> None:
    assert read(["vertex", "--ranks=2", "--", "ppo", "e", "--runs=x"]) == (
        "vertex",
        {"ranks": "2"},
        ["ppo", "e", "--runs=x"],
    )
    with pytest.raises(ConfigError, match="knows no '--rank=2'"):
        read(["vertex", "--rank=2"])


def test_ranks_over_several_machines_meet_at_the_first() -> None:
    words = command_of(Place("j", ["ppo", "e"], 4, 2, 1, "algo-1", 7777, Path("/runs")))
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=algo-1:7777", "--rdzv-id=j"} <= set(words)
    assert "--rdzv-conf=is_host=false" in words
    assert words[-2:] == ["--run-dir=/runs", "--no-progress"]


def test_a_mirror_follows_a_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "run" / "a").mkdir(parents=True)
    (here / "run" / "a" / "one").write_text("1")
    (here / "run" / ".unfinished.tmp").write_text("x")
    (here / "run" / "link").symlink_to(tmp_path)
    with Mirror(here, there, seconds=1_000) as mirror:
        mirror.look()
        assert set(files_in(there)) == {"run/a/one"}
        (here / "run" / "a" / "one").unlink()
        (here / "run" / "two").write_text("2")
    assert {name: (there / name).read_text() for name in files_in(there)} == {"run/two": "2"}
    assert bring_back(there, tmp_path / "new") == 1
    assert (tmp_path / "new" / "run" / "two").read_text() == "2"
    (here / "run" / "two").write_text("mine")
    assert bring_back(there, here) == 0
    assert (here / "run" / "two").read_text() == "mine"


def test_a_mirror_keeps_its_copies_when_the_folder_goes_and_goes_on_when_a_copy_cannot_be_removed(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "run").mkdir(parents=True)
    for name in ("one", "two"):
        (here / "run" / name).write_text(name)
    with Mirror(here, there, seconds=1_000) as mirror:
        mirror.look()
        here.rename(tmp_path / "moved")
        mirror.look()
        assert set(files_in(there)) == {"run/one", "run/two"}
        (tmp_path / "moved").rename(here)
        (here / "run" / "one").unlink()
        (there / "run" / "one").unlink()
        (there / "run" / "one" / "in the way").mkdir(parents=True)
        (here / "run" / "three").write_text("3")
        with pytest.warns(UserWarning, match="run/one"):
            mirror.look()
        assert (there / "run" / "three").read_text() == "3"
        (there / "run" / "one" / "in the way").rmdir()
        (there / "run" / "one").rmdir()
    assert set(files_in(there)) == {"run/two", "run/three"}


def test_a_job_on_another_machine_goes_on_from_the_mirror(tmp_path: Path) -> None:
    """As a job of Vertex AI, whose disk does not stay."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CLOUD_ML_JOB_ID": "77"}
    arguments = ["ppo", CARTPOLE, "--num-envs=4", "--save-freq=256", "--agent.n-steps=16", "--agent.batch-size=64"]
    arguments += ["--n-eval-episodes=0", "--trackers=[]", "--agent.n-epochs=1", "--total-timesteps=1024"]

    disk, bucket, model = tmp_path / "disk", tmp_path / "bucket", tmp_path / "model"
    words = ["vertex", f"--runs={disk}", f"--mirror={bucket}", f"--model={model}", "--", *arguments]
    assert main(words, env) == 0
    run = next(bucket.rglob("config.yaml")).parent
    for checkpoint in list_checkpoints(run / "checkpoints")[-1:]:  # as if the machine had gone before the last one
        for path in checkpoint.iterdir():
            path.unlink()
        checkpoint.rmdir()
    metadata = {**unsealed((run / "metadata.json").read_text())[0], "status": "running"}
    (run / "metadata.json").write_text(sealed(metadata))
    shutil.rmtree(disk)
    assert main(words, env) == 0
    (other,) = [path.parent for path in disk.rglob("config.yaml")]
    assert json.loads((other / "metadata.json").read_text())["resumed_at"]
    assert rltrain.load(model / "policy" / "v2").step == 1024
