"""A run that was killed continues bit for bit as if nothing had happened."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from bits import TIMING, last_state
from countdown import Countdown, CountdownState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.runs.checkpoint import load_training
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import MANIFEST, POLICY, STATE, list_checkpoints, step_of
from rltrain.runs.verify import find_fault

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
STEPS = 8_000
OPTIONS: dict[str, Any] = {
    "total_timesteps": STEPS,
    "num_envs": 8,
    "num_threads": 1,
    "seed": 3,
    "save_freq": 500,
    "keep_checkpoints": 3,
    "eval_freq": 1_500,
    "n_eval_episodes": 4,
    "log_interval": 3,
    "agent": {
        "learning_rate": "lin_0.001",
        "n_steps": 32,
        "batch_size": 64,
        "n_epochs": 2,
        "normalize_obs": True,
        "normalize_reward": True,
    },
}
# Hyperparameters of the other agents, with all that has memory.
REPLAY: dict[str, Any] = {
    "learning_rate": "lin_0.001",
    "buffer_size": 1_500,  # goes round
    "learning_starts": 200,
    "target_update_interval": 160,
    "tau": 0.5,
    "gradient_steps": 2,
    "exploration_fraction": 0.7,
}
RAINBOW: dict[str, Any] = {
    **dict.fromkeys(("double_q", "dueling", "prioritized_replay", "distributional", "noisy"), True),
    "n_quantiles": 5,
    "n_steps": 3,
}
ROLLOUTS = {"n_steps": 16, "batch_size": 64, "n_epochs": 1, "normalize_obs": True, "exploration_fraction": 0.7}
SAC: dict[str, Any] = {
    "learning_rate": "lin_0.001",
    "buffer_size": 1_500,
    "learning_starts": 200,
    "gradient_steps": 2,
    "train_freq": 4,
    "policy_delay": 2,
    "n_steps": 2,
    "batch_size": 32,
    "use_sde": True,
    "normalize_obs": True,
    "normalize_reward": True,
    "policy_kwargs": {"net_arch": [16]},
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("dqn", REPLAY),
    "rainbow": ("dqn", {**REPLAY, **RAINBOW}),
    "pqn": ("pqn", ROLLOUTS),
    "sac": ("sac", SAC),
}


def flags(options: dict[str, Any], prefix: str = "--") -> list[str]:
    """The same options for the command line."""
    words = []
    for name, value in options.items():
        words += flags(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}", str(value)]
    return words


# Processes of their own, forked from one that has torch loaded: starting it takes longer than the training here.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["rltrain.training.launch", "torch._dynamo", "matplotlib.backends.backend_agg"])


def command(words: list[str], output: Path) -> NoReturn:
    """What a process does: a command line, its output in a file."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(main(words))


def start(env: str, run_dir: Path, algo: str = "ppo", **changes: Any) -> tuple[BaseProcess, Path]:
    """Starts training in a process of its own; gives it and its run folder."""
    words = ["train", algo, env, *flags({**OPTIONS, "run_dir": run_dir, **changes}), "--no-progress"]
    process = PROCESSES.Process(target=command, args=(words, run_dir / "output"))
    process.start()
    return process, run_dir / env.replace("/", "-") / f"{algo}_1"


def until(process: BaseProcess, true: Callable[[], object]) -> None:
    """Waits while the process runs."""
    deadline = time.monotonic() + 60
    while not true():
        assert process.is_alive(), process.exitcode
        assert time.monotonic() < deadline
        time.sleep(0.002)


def send(process: BaseProcess, number: signal.Signals, patience: float = 60) -> int | None:
    """Sends a signal; gives the exit code, None if it lives on."""
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(patience)
    return process.exitcode


def interrupt(
    env: str, run_dir: Path, number: signal.Signals, chance: random.Random, algo: str = "ppo", **changes: Any
) -> tuple[int | None, Path]:
    """Sends a running training a signal at a random point after its first checkpoint."""
    process, run = start(env, run_dir, algo, **changes)
    saved = chance.randint(1, 3)
    until(process, lambda: len(list_checkpoints(run / "checkpoints")) >= saved)
    time.sleep(chance.random() * 0.2)
    return send(process, number), run


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Whatever becomes of a test."""
    yield
    for process in multiprocessing.active_children():
        process.kill()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run from start to end, by environment."""
    made: dict[str, Path] = {}

    def run(env: str) -> Path:
        if env not in made:
            folder = tmp_path_factory.mktemp("uninterrupted")
            made[env] = rltrain.train("ppo", env, progress=False, run_dir=folder, **OPTIONS).run_dir
        return made[env]

    return run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Copies of a run that was interrupted by SIGTERM."""
    code, run = interrupt(CARTPOLE, tmp_path_factory.mktemp("stopped"), signal.SIGTERM, random.Random(0))
    assert code == 128 + signal.SIGTERM

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(run, folder / "copies" / "ppo_1"))

    return copy


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every point that TensorBoard shows, by tag."""
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    reader.Reload()
    tags = [tag for tag in reader.Tags()["scalars"] if not TIMING.match(tag)]
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in tags}


def table(run: Path) -> list[dict[str, str]]:
    """The rows of progress.csv, without empty cells and without timing."""
    with (run / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: cell for key, cell in row.items() if cell and not TIMING.match(key)} for row in rows]


def assert_same_state(run: Path, expected: Path) -> None:
    state, wanted = last_state(run), last_state(expected)
    assert state.keys() == wanted.keys()
    assert [name for name in wanted if state[name] != wanted[name]] == []


def assert_same_run(run: Path, expected: Path) -> None:
    """The last checkpoint, the best one, every row of the table and every point of every curve."""
    assert_same_state(run, expected)
    names = [p.name for p in list_checkpoints(expected / "checkpoints")]
    assert [p.name for p in list_checkpoints(run / "checkpoints")] == names
    assert RunFolder(run).best() == RunFolder(expected).best()
    rows = table(run)
    assert rows == table(expected)
    steps = [int(row["time/total_timesteps"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] > STEPS - 3 * 8 * 32  # the last log point
    points = scalars(run)
    assert points == scalars(expected)
    assert all(len(curve) == len({step for step, _ in curve}) for curve in points.values())
    metadata = RunFolder(run).metadata()
    wanted = RunFolder(expected).metadata()
    assert metadata["status"] == "completed"
    assert all(metadata[key] == wanted[key] for key in ("steps", "stopped_by", "evaluation", "total_timesteps"))


def test_what_is_compared_is_all_there_is(uninterrupted: Callable[[str], Path]) -> None:
    """The comparison would see a difference in any of these."""
    run = uninterrupted(PENDULUM)
    names = set(last_state(run))
    assert {
        "policy.action_head.weight",
        "policy.distribution.log_std",
        "policy.obs_normalizer.moments.observation.mean",
        "training.modules.policy.value_head.weight",
        "training.modules.reward_normalizer.moments.var",
        "training.agent.optimizer.exp_avg",
        "training.agent.optimizer.exp_avg_sq",
        "training.agent.optimizer.step",
        "training.agent.rng",
        "training.agent.discounted_returns",
        "training.agent.n_updates",
        "training.env.rng",
        "training.env.state.th",
        "training.env.state.thdot",
        "training.env.return",
        "training.env.length",
        "training.obs.obs",
        "training.episodes.ring",
        "training.episodes.count",
        "training.generators.torch",
        "training.generators.numpy.keys",
        "training.generators.python.internal",
        "training.trainer.best_step",
        "training.trainer.latest.rollout/ep_rew_mean",
    } <= names
    assert {"train/loss", "rollout/ep_rew_mean", "eval/mean_reward", "time/iterations"} <= scalars(run).keys()
    columns = {key for row in table(run) for key in row}
    assert {"train/loss", "rollout/ep_rew_mean", "eval/mean_reward", "time/total_timesteps"} <= columns


@pytest.mark.parametrize("env", [CARTPOLE, PENDULUM])
def test_killed_and_resumed_is_as_never_killed(
    env: str, tmp_path: Path, uninterrupted: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = interrupt(env, tmp_path, signal.SIGKILL, random.Random(env))
    assert code == -signal.SIGKILL
    assert RunFolder(run).metadata()["status"] == "running"
    saved = [step_of(path) for path in list_checkpoints(run / "checkpoints")]
    assert 0 < saved[-1] < STEPS
    left_over = run / "checkpoints" / ".writing-123"
    left_over.mkdir()
    assert main(["resume", str(run), "--json", "--no-progress"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    result = json.loads(output.out)
    assert result["stopped_by"] == "total_timesteps"
    assert result["steps"] >= STEPS
    assert not left_over.exists()
    assert RunFolder(run).metadata()["resumed_at"] == [saved[-1]]
    assert_same_run(run, uninterrupted(env))


@pytest.mark.parametrize("name", OTHERS)
def test_other_agents_too(name: str, tmp_path: Path) -> None:
    """With the replay, its priorities and the target network; with the statistics of observations."""
    algo, agent = OTHERS[name]
    env = PENDULUM if algo == "sac" else CARTPOLE
    changes = {"agent": agent, "eval_freq": 3_000}
    options = {**OPTIONS, **changes, "run_dir": tmp_path / "straight"}
    straight = rltrain.train(algo, env, progress=False, **options).run_dir
    (tmp_path / "killed").mkdir()
    code, run = interrupt(env, tmp_path / "killed", signal.SIGKILL, random.Random(name), algo, **changes)
    assert code == -signal.SIGKILL
    assert step_of(list_checkpoints(run / "checkpoints")[-1]) < STEPS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rltrain.resume(run, progress=False)
    assert_same_run(run, straight)
    saved = set(last_state(run))
    wanted = {"policy.network.action_head.weight", "training.agent.optimizer.exp_avg", "training.agent.rng"}
    if algo == "sac":
        wanted = {f"training.agent.{each}_optimizer.exp_avg" for each in ("policy", "critic", "ent_coef")}
        wanted |= {"policy.log_std", "training.modules.critic_target.layers.0.weight", "training.modules.log_ent_coef"}
        wanted |= {"training.agent.discounted_returns", "training.modules.reward_normalizer.moments.var"}
    if algo == "dqn":
        wanted |= {"training.modules.target.action_head.weight", "training.agent.steps"}
        wanted |= {f"training.agent.replay.{part}" for part in ("ring.obs", "ring.end", "head", "size")}
    if name == "rainbow":
        wanted |= {"training.agent.replay.priority", "training.agent.replay.highest"}
    assert wanted <= saved


def test_without_its_replay_a_run_goes_on_and_says_what_that_costs(tmp_path: Path) -> None:
    agent = {**REPLAY, "learning_rate": 0.001, "save_replay_buffer": False}
    options = {**OPTIONS, "agent": agent, "total_timesteps": 1_600, "eval_freq": 0, "n_eval_episodes": 0}
    run = rltrain.train("dqn", CARTPOLE, progress=False, run_dir=tmp_path, **options).run_dir
    assert not [name for name in last_state(run) if "replay" in name]
    before = load_training(list_checkpoints(run / "checkpoints")[-1])["agent"]["n_updates"]
    with pytest.warns(UserWarning, match=r"Not bit for bit.*after 200 environment steps"):
        rltrain.resume(run, total_timesteps=2_400, progress=False)
    after = load_training(list_checkpoints(run / "checkpoints")[-1])["agent"]["n_updates"]
    assert 0 < after - before < 2 * 800 // 32  # not in the first 200 steps
    assert RunFolder(run).metadata()["status"] == "completed"


def test_a_replay_of_another_size_does_not_fit(tmp_path: Path) -> None:
    agent = {**REPLAY, "learning_rate": 0.001}
    options = {**OPTIONS, "agent": agent, "total_timesteps": 1_600, "eval_freq": 0, "n_eval_episodes": 0}
    run = rltrain.train("dqn", CARTPOLE, progress=False, run_dir=tmp_path, **options).run_dir
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("buffer_size: 1500", "buffer_size: 3000"))
    with pytest.raises(CheckpointError, match="the saved replay has 188 rows"):
        rltrain.resume(run, total_timesteps=2_400, progress=False)


def test_sigterm_finishes_the_update_and_saves(
    tmp_path: Path, stopped: Callable[[Path], Path], uninterrupted: Callable[[str], Path]
) -> None:
    run = stopped(tmp_path)
    metadata = RunFolder(run).metadata()
    last = list_checkpoints(run / "checkpoints")[-1]
    assert metadata["status"] == metadata["stopped_by"] == "interrupted"
    assert metadata["steps"] == step_of(last) < STEPS
    assert find_fault(last) is None
    result = rltrain.resume(run, progress=False)
    assert result.stopped_by == "total_timesteps"
    assert result.signal is None
    assert_same_run(run, uninterrupted(CARTPOLE))


def test_sigint_does_the_same(tmp_path: Path) -> None:
    code, run = interrupt(CARTPOLE, tmp_path, signal.SIGINT, random.Random(1))
    assert code == 128 + signal.SIGINT
    metadata = RunFolder(run).metadata()
    assert metadata["status"] == "interrupted"
    assert metadata["steps"] == step_of(list_checkpoints(run / "checkpoints")[-1]) < STEPS


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    endless = {**OPTIONS["agent"], "n_epochs": 10_000_000}
    process, run = start(PENDULUM, tmp_path, agent=endless)
    until(process, lambda: (run / "progress.csv").exists())
    time.sleep(0.3)
    assert send(process, signal.SIGINT, patience=0.7) is None  # it is busy with the update
    assert send(process, signal.SIGINT, patience=5) == -signal.SIGINT
    RunFolder(run).lock()  # which died with it


def test_a_damaged_checkpoint_is_named_set_aside_and_done_without(
    tmp_path: Path, stopped: Callable[[Path], Path], uninterrupted: Callable[[str], Path]
) -> None:
    run = stopped(tmp_path)
    *_, before, last = list_checkpoints(run / "checkpoints")
    data = bytearray((last / POLICY).read_bytes())
    data[-1] ^= 1
    (last / POLICY).write_bytes(data)
    with pytest.warns(UserWarning, match=rf"{last.name}.*damaged.*{POLICY}"):
        rltrain.resume(run, progress=False)
    assert RunFolder(run).metadata()["resumed_at"] == [step_of(before)]
    aside = run / "checkpoints" / "superseded_1" / last.name / POLICY
    assert aside.read_bytes() == data
    assert_same_run(run, uninterrupted(CARTPOLE))


def test_from_an_earlier_checkpoint(
    tmp_path: Path, stopped: Callable[[Path], Path], uninterrupted: Callable[[str], Path]
) -> None:
    run = stopped(tmp_path)
    first, *later = list_checkpoints(run / "checkpoints")
    rltrain.resume(first, progress=False)
    assert RunFolder(run).metadata()["resumed_at"] == [step_of(first)]
    assert sorted(p.name for p in (run / "checkpoints" / "superseded_1").iterdir()) == [p.name for p in later]
    assert_same_run(run, uninterrupted(CARTPOLE))


class Careless(Countdown):
    """Draws from every generator but the one it is given."""

    def step(
        self, state: CountdownState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CountdownState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward + torch.rand(1) + random.random() + np.random.random(), terminated


class Impatient(rltrain.Callback):
    """Sends SIGTERM with every seventh update of a session."""

    def __init__(self) -> None:
        self.updates = 0

    def on_update(self, trainer: rltrain.Training, metrics: dict[str, Tensor | float]) -> None:
        self.updates += 1
        if self.updates == 7:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("env", [CARTPOLE, Careless], ids=["CartPole", "Careless"])
def test_interrupted_again_and_again(env: str | type[Countdown], tmp_path: Path) -> None:
    """A resumed run can be resumed: here after every seventh update, from the first on."""
    options = {**OPTIONS, "total_timesteps": 5_000, "eval_freq": 0, "save_freq": 0, "n_eval_episodes": 0}
    options["progress"] = False
    straight = rltrain.train("ppo", env, run_dir=tmp_path / "straight", **options).run_dir
    result = rltrain.train("ppo", env, run_dir=tmp_path / "often", callbacks=[Impatient()], **options)
    sessions = 1
    while result.stopped_by == "interrupted":
        again = None if isinstance(env, str) else env
        result = rltrain.resume(result.run_dir, env=again, progress=False, callbacks=[Impatient()])
        sessions += 1
    assert sessions == 3  # 20 updates
    assert_same_state(result.run_dir, straight)
    assert table(result.run_dir) == table(straight)
    assert scalars(result.run_dir) == scalars(straight)


def test_half_and_half_is_the_whole(tmp_path: Path) -> None:
    """A finished run that is trained on equals one that was made for as long."""
    agent = {**OPTIONS["agent"], "learning_rate": 0.001}
    options = {**OPTIONS, "agent": agent, "eval_freq": 0, "n_eval_episodes": 0}
    whole = {**options, "total_timesteps": 6_144, "run_dir": tmp_path / "whole"}
    half = {**options, "total_timesteps": 3_072, "run_dir": tmp_path / "half"}
    expected = rltrain.train("ppo", PENDULUM, progress=False, **whole).run_dir
    run = rltrain.train("ppo", PENDULUM, progress=False, **half).run_dir
    with pytest.raises(ConfigError, match="already been trained for 3,072 steps"):
        rltrain.resume(run, progress=False)
    with pytest.raises(ConfigError, match="already been trained for 3,072 steps"):
        rltrain.resume(run, total_timesteps=3_072, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = rltrain.resume(run, total_timesteps=6_144, progress=False)
    assert result.steps == 6_144
    assert_same_state(run, expected)
    assert RunFolder(run).metadata()["total_timesteps"] == 6_144
    assert scalars(run) == scalars(expected)


def test_a_longer_run_says_that_its_schedules_have_ended(tmp_path: Path) -> None:
    options = {**OPTIONS, "total_timesteps": 512, "run_dir": tmp_path, "n_eval_episodes": 0, "log_interval": 1}
    run = rltrain.train("ppo", CARTPOLE, progress=False, **options).run_dir
    with pytest.warns(UserWarning, match="schedules ended at 512 steps"):
        rltrain.resume(run, total_timesteps=1_024, progress=False)
    rates = [value for _, value in scalars(run)["train/learning_rate"]]
    assert rates == pytest.approx([0.001, 0.0005, 0.0, 0.0])


def test_killed_while_it_was_evaluated(tmp_path: Path, uninterrupted: Callable[[str], Path]) -> None:
    """Everything is trained, but the last evaluation is missing: resume plays it."""
    whole = uninterrupted(CARTPOLE)
    run = Path(shutil.copytree(whole, tmp_path / "copies" / "ppo_1"))
    metadata = RunFolder(run).metadata()
    for lost in ("steps", "seconds", "stopped_by", "evaluation"):
        del metadata[lost]
    (run / "metadata.json").write_text(json.dumps({**metadata, "status": "running"}))
    assert rltrain.resume(run, progress=False).evaluation is not None
    assert_same_run(run, whole)


def test_a_reward_to_stop_at_holds_over_a_kill_but_not_when_trained_on(tmp_path: Path) -> None:
    options = {**OPTIONS, "stats_window_size": 5, "stop_at_reward": 5.0, "run_dir": tmp_path, "eval_freq": 0}
    result = rltrain.train("ppo", CARTPOLE, progress=False, **options)
    assert result.stopped_by == "stop_at_reward"
    assert result.steps < STEPS
    run = result.run_dir
    with pytest.raises(ConfigError, match="already been trained"):
        rltrain.resume(run, progress=False)
    goal = result.steps + 512
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert rltrain.resume(run, total_timesteps=goal, progress=False).stopped_by == "total_timesteps"
    # The same again, as if that session had been killed after its first checkpoint.
    last = list_checkpoints(run / "checkpoints")[-1]
    shutil.rmtree(last)
    RunFolder(run).update_metadata({"status": "running"})
    result = rltrain.resume(run, progress=False)
    assert (result.stopped_by, result.steps) == ("total_timesteps", goal)


# What cannot be resumed


def refused(run: Path, kind: type[Exception], text: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(kind, match=text):
        rltrain.resume(run, progress=False)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    folder = RunFolder(run)
    folder.lock()  # was given back
    folder.release()


def test_a_locked_run(tmp_path: Path, stopped: Callable[[Path], Path]) -> None:
    run = stopped(tmp_path)
    holder = RunFolder(run)
    holder.lock()
    with pytest.raises(RunError, match="in use"):
        rltrain.resume(run, progress=False)
    holder.release()


def test_an_environment_with_other_spaces(tmp_path: Path, stopped: Callable[[Path], Path]) -> None:
    run = stopped(tmp_path)
    text = (run / "config.yaml").read_text().replace(CARTPOLE, PENDULUM)
    (run / "config.yaml").write_text(text)
    refused(run, CheckpointError, "other spaces")


def test_no_whole_checkpoint(tmp_path: Path, stopped: Callable[[Path], Path]) -> None:
    run = stopped(tmp_path)
    for path in list_checkpoints(run / "checkpoints"):
        os.truncate(path / STATE, 5)
    refused(run, CheckpointError, f"is whole.*{STATE}")
    shutil.rmtree(run / "checkpoints")
    refused(run, CheckpointError, "no checkpoint yet")


@pytest.mark.parametrize("key", ["mode", "total_timesteps", "observation_space", "action_space"])
def test_a_damaged_record(tmp_path: Path, stopped: Callable[[Path], Path], key: str) -> None:
    """The copy in the newest checkpoint is used, and what was damaged is kept; without a copy the run is refused."""
    run = stopped(tmp_path)
    metadata = RunFolder(run).metadata()
    lost = {name: value for name, value in metadata.items() if name != key}
    (run / "metadata.json").write_text(json.dumps(lost))
    with pytest.warns(UserWarning, match=rf"metadata.json' cannot be read: '{key}' is missing.*copy"):
        assert rltrain.resume(run, progress=False).steps >= STEPS
    assert RunFolder(run).metadata()[key] == metadata[key]
    assert json.loads((run / "damaged_1_metadata.json").read_text()) == lost
    old = stopped(tmp_path / "old")
    (old / "metadata.json").write_text(json.dumps(lost))
    for path in list_checkpoints(old / "checkpoints"):  # as older versions wrote them
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps({name: manifest[name] for name in ("format", "step", "files")}))
    refused(old, CheckpointError, f"metadata.json.*'{key}' is missing")


def test_a_changed_configuration(tmp_path: Path, stopped: Callable[[Path], Path]) -> None:
    """What no longer fits the tensors is a checkpoint error, and the run says that it failed."""
    for number, (old, new) in enumerate(
        (
            ("num_envs: 8", "num_envs: 4"),
            ("normalize_obs: true", "normalize_obs: false"),
            ("net_arch: null", "net_arch: [32]"),
        )
    ):
        run = stopped(tmp_path / str(number))
        text = (run / "config.yaml").read_text()
        assert old in text
        (run / "config.yaml").write_text(text.replace(old, new))
        with pytest.raises(CheckpointError, match="does not fit"):
            rltrain.resume(run, progress=False)
        assert RunFolder(run).metadata()["status"] == "failed"


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"mode": {"processor": "AVX9"}}, r"Not bit for bit: processor was AVX9, and is \w+\.$"),
        ({"mode": {"compile": True}}, r"Not bit for bit: compile was on, and is off\.$"),
        ({"versions": {"torch": "1.0"}}, r"Not bit for bit: torch was 1\.0, and is 2"),
    ],
    ids=["processor", "compile", "torch"],
)
def test_what_changes_the_last_bits_is_named(
    tmp_path: Path, stopped: Callable[[Path], Path], recorded: dict[str, Any], said: str
) -> None:
    run = RunFolder(stopped(tmp_path))
    metadata = run.metadata()
    run.update_metadata({name: {**metadata[name], **values} for name, values in recorded.items()})
    with pytest.warns(UserWarning, match=said):
        rltrain.resume(run.path, total_timesteps=metadata["steps"] + 1, progress=False)


def test_another_mode_is_said_aloud(
    tmp_path: Path, stopped: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(tmp_path)
    RunFolder(run).update_metadata({"mode": {"device": "cuda:0", "threads": 64}})
    step = RunFolder(run).metadata()["steps"]
    with warnings.catch_warnings():
        assert main(["resume", str(run), "--total-timesteps", str(step + 1), "--device", "cpu", "--json"]) == 0
    output = capsys.readouterr()
    assert "warning: Not bit for bit" in output.err
    assert "device was cuda:0, and is cpu; threads was 64, and is" in output.err
    assert "processor" not in output.err  # a run of an older version did not record it
    assert json.loads(output.out)["steps"] > step
