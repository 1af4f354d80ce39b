"""Sweeps: trials, pruning, what is kept of them, and what a kill, a signal or a second process does to a study."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rltrain.cli import main
from rltrain.errors import ConfigError, RunError
from rltrain.search import sweep as sweep_module
from rltrain.search.request import SweepRequest
from rltrain.search.space import parse_space
from rltrain.search.sweep import SweepResult, sweep
from rltrain.settings import build_config, load_config

optuna = pytest.importorskip("optuna", reason="pip install 'rltrain[sweep]'")

ENV = "rltrain/CartPole-v1"
SPACE: dict[str, Any] = {
    "agent.learning_rate": {"log": [1e-4, 1e-1]},
    "agent.normalize_obs": {"categorical": [False, True]},
}
SETTINGS: dict[str, Any] = {"total_timesteps": 512, "num_envs": 2, "n_eval_episodes": 2, "device": "cpu"}
SHORT = {**SETTINGS, "agent": {"n_steps": 32, "batch_size": 64, "n_epochs": 1}}


class Scripted:
    """A pool whose runs take no time: the score falls with the distance of the learning rate from 0.01.

    Attributes:
        fails: Learning rates from which on training fails.
        dies: Numbers of tasks whose process dies.
        signals: The number of the task at which the user presses Ctrl-C.
    """

    fails = 1.0
    dies: tuple[int, ...] = ()
    signals: int | None = None
    done: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, size: int, threads: int) -> None:
        self.free = size
        self.answers: deque[dict[str, Any]] = deque()
        self.stopped: set[int] = set()
        self.task = 0

    def begin(self, config: str, seeds: int) -> int:
        self.task += 1
        self.free -= 1
        settings = yaml.safe_load(config)
        self.done.append(settings)
        rate = settings["agent"]["learning_rate"]
        if self.task == self.signals:
            os.kill(os.getpid(), signal.SIGINT)
        if self.task in self.dies:
            self.answers.append({"task": self.task, "died": True})
            return self.task
        if rate >= self.fails:
            self.answers.append({"task": self.task, "error": "a weight is not finite"})
            return self.task
        score = 100 - abs(rate - 0.01) * 1000
        first = settings["seed"]
        for number in range(1, 5):
            for seed in range(first, first + seeds):
                step = number * settings["eval_freq"]
                self.answers.append({"task": self.task, "seed": seed, "step": step, "value": score * number / 5 + seed})
        self.answers.append({"task": self.task, "scores": {str(first + k): score + k for k in range(seeds)}})
        return self.task

    def stop(self, task: int) -> None:
        self.stopped.add(task)
        self.answers = deque(each for each in self.answers if each["task"] != task or "scores" in each)

    def answer(self, seconds: float) -> dict[str, Any] | None:
        answer = self.answers.popleft()
        self.free += "value" not in answer
        return answer

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr(sweep_module, "Pool", Scripted)
    for name, value in (("fails", 1.0), ("dies", ()), ("signals", None), ("done", [])):
        monkeypatch.setattr(Scripted, name, value)
    return Scripted


def request(out: Path, **changes: Any) -> SweepRequest:
    options = {"settings": SHORT, "trials": 8, "out": out / "study", "name": "study", **changes}
    return SweepRequest("ppo", ENV, parse_space(options.pop("space", SPACE), "space.yaml"), **options)


def run(out: Path, **changes: Any) -> SweepResult:
    return sweep(request(out, **changes))


def study_of(out: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(out / "study" / "study.journal")))
    return optuna.load_study(study_name="study", storage=storage)


def test_the_best_trial_becomes_a_config_that_train_takes(tmp_path: Path, scripted: type[Scripted]) -> None:
    result = run(tmp_path, trials=25, seeds=3)
    assert result.best is not None
    assert result.counts["complete"] + result.counts["pruned"] == 25
    assert result.counts["pruned"] > 0
    assert result.best["value"] == max(
        trial.value for trial in study_of(tmp_path).trials if trial.state.name == "COMPLETE"
    )
    assert len(result.best["scores"]) == 3
    assert result.config is not None
    text = result.config.read_text()
    assert text.startswith(f"# Trial {result.best['number']} of a sweep, the best of 25: mean score ")
    config, _ = build_config("ppo", ENV, load_config(result.config))
    assert config.agent.learning_rate == result.best["params"]["agent.learning_rate"]
    assert (config.total_timesteps, config.num_envs, config.eval_freq) == (512, 2, 0)
    assert not {"seed", "device", "run_dir", "trackers"} & yaml.safe_load(text).keys()
    assert result.table is not None
    rows = list(csv.DictReader(result.table.read_text().splitlines()))
    assert len(rows) == 25
    assert rows[result.best["number"]]["value"] == str(result.best["value"])
    assert next(iter(result.importances)) == "agent.learning_rate"
    assert result.picture is not None
    assert result.picture.stat().st_size > 10_000
    assert not (tmp_path / "study" / "runs").exists()


def test_trials_are_given_to_as_many_processes_as_jobs(tmp_path: Path, scripted: type[Scripted]) -> None:
    run(tmp_path, trials=4, jobs=4)
    assert len(scripted.done) == 4
    assert len({each["agent"]["learning_rate"] for each in scripted.done}) == 4
    assert {each["seed"] for each in scripted.done} == {0}


def test_seeds_that_cannot_be_one_batch_are_runs_of_their_own(tmp_path: Path, scripted: type[Scripted]) -> None:
    space = {"agent.learning_rate": {"log": [1e-4, 1e-1]}}
    settings = {**SETTINGS, "agent": {"learning_starts": 10}}
    wanted = SweepRequest("dqn", ENV, parse_space(space, "x"), settings, trials=2, seeds=3, out=tmp_path / "study")
    result = sweep(wanted)
    assert [each["seed"] for each in scripted.done] == [0, 1, 2] * 2
    assert len({each["run_dir"] for each in scripted.done}) == 6
    assert result.best is not None
    assert list(result.best["scores"]) == ["0", "1", "2"]


def test_the_same_command_goes_on_and_another_is_refused(tmp_path: Path, scripted: type[Scripted]) -> None:
    run(tmp_path, trials=3)
    run(tmp_path, trials=3)
    assert len(scripted.done) == 3
    run(tmp_path, trials=5, jobs=2)
    assert len(scripted.done) == 5
    for changes, message in (
        ({"seeds": 2}, r"was begun with other seeds \(1, now 2\)"),
        ({"settings": {**SHORT, "total_timesteps": 600}}, r"another settings: total_timesteps \(512, now 600\)"),
        ({"settings": {**SHORT, "agent": {"n_steps": 64}}}, r"another settings: agent: n_steps \(32, now 64\)"),
        ({"space": {"agent.gamma": {"uniform": [0.9, 1]}}}, "another space"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, trials=5, **changes)
    assert len(study_of(tmp_path).trials) == 5


def test_a_trial_that_cannot_be_trained_is_told_and_learned_from(tmp_path: Path, scripted: type[Scripted]) -> None:
    scripted.fails = 0.005
    lines: list[str] = []
    result = sweep(request(tmp_path, trials=12), lines.append)
    failed = [line for line in lines if "could not be trained: a weight is not finite" in line]
    assert failed
    assert result.counts["pruned"] >= len(failed)
    assert result.table is not None
    assert "a weight is not finite" in result.table.read_text()


def test_a_sweep_none_of_whose_trials_can_be_trained_gives_up(tmp_path: Path, scripted: type[Scripted]) -> None:
    scripted.fails = 0.0
    with pytest.raises(RunError, match=r"None of 5 trials could be trained\. The last: a weight is not finite"):
        run(tmp_path)


def test_a_trial_whose_process_dies_is_tried_again_a_few_times(tmp_path: Path, scripted: type[Scripted]) -> None:
    scripted.dies = (2,)
    result = run(tmp_path, trials=3)
    assert (result.counts["complete"], result.counts["fail"]) == (3, 1)
    rates = [each["agent"]["learning_rate"] for each in scripted.done]
    assert rates[1] == rates[2]
    scripted.done.clear()
    scripted.dies = (1, 2, 3)
    lines: list[str] = []
    sweep(request(tmp_path, trials=4), lines.append)
    assert len({each["agent"]["learning_rate"] for each in scripted.done}) == 2
    assert [line.partition("; ")[2] for line in lines[:3]] == [*["it is tried again"] * 2, "it is left out"]


def test_a_sweep_whose_processes_always_die_gives_up(tmp_path: Path, scripted: type[Scripted]) -> None:
    scripted.dies = tuple(range(2, 100))
    with pytest.raises(RunError, match=r"The processes of 6 trials in a row died\."):
        run(tmp_path)
    assert len(scripted.done) == 7


def test_ctrl_c_keeps_what_is_done_and_the_rest_for_later(tmp_path: Path, scripted: type[Scripted]) -> None:
    scripted.signals = 4
    result = run(tmp_path, trials=10)
    assert result.signal == signal.SIGINT
    assert result.best is not None
    assert result.counts["waiting"] == 1
    assert result.counts["running"] == 0
    before = [each["agent"]["learning_rate"] for each in scripted.done]
    scripted.signals = None
    again = run(tmp_path, trials=10)
    assert again.counts["complete"] + again.counts["pruned"] == 10
    assert scripted.done[len(before)]["agent"]["learning_rate"] == before[-1]


def test_a_line_that_was_never_finished_is_left_out_and_the_study_goes_on(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    run(tmp_path, trials=2)
    journal = tmp_path / "study" / "study.journal"
    whole = journal.read_bytes()
    torn = whole + b'{"op_code":5,"worker_id":"'
    journal.write_bytes(torn)
    with pytest.warns(UserWarning, match="The last line of .*study.journal' was never finished"):
        result = run(tmp_path, trials=4)
    assert result.counts["complete"] + result.counts["pruned"] == 4
    assert len(scripted.done) == 4
    assert journal.read_bytes().startswith(whole)
    assert (tmp_path / "study" / "damaged_1_study.journal").read_bytes() == torn


def _link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(b"")
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("name", "make", "what"),
    [
        ("study.journal", os.mkfifo, "it is a named pipe, not a file"),
        ("study.journal", _link, "it is a symbolic link, not a file"),
        ("study.journal", lambda path: (path.touch(), os.truncate(path, 2**40)), "it has more than"),
        ("study.journal", lambda path: path.write_text('{"op_code": 99}\n' * 3), "cannot be used"),
        ("runs", _link, "it is a symbolic link, not a folder"),
    ],
)
def test_what_somebody_else_made_of_the_folder_is_refused(
    name: str, make: Callable[[Path], object], what: str, tmp_path: Path, scripted: type[Scripted]
) -> None:
    (tmp_path / "study").mkdir()
    make(tmp_path / "study" / name)
    with pytest.raises(ConfigError, match=what):
        run(tmp_path, trials=1)
    elsewhere = tmp_path / "study" / "elsewhere"
    assert not elsewhere.exists() or not elsewhere.read_bytes()


def test_a_full_disk_is_named_and_the_study_goes_on_later(
    tmp_path: Path, scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Scripted):
        def answer(self, seconds: float) -> dict[str, Any] | None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sweep_module, "Pool", Full)
    with pytest.raises(RunError, match=r"study\.journal' cannot be written: No space"):
        run(tmp_path, trials=2)
    monkeypatch.setattr(sweep_module, "Pool", scripted)
    assert run(tmp_path, trials=2).counts["complete"] == 2


def test_a_database_is_shared_by_url(tmp_path: Path, scripted: type[Scripted]) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    run(tmp_path / "a", trials=3, storage=url)
    result = run(tmp_path / "b", trials=6, storage=url)
    assert len(scripted.done) == 6
    assert result.counts["complete"] + result.counts["pruned"] == 6
    assert len({each["agent"]["learning_rate"] for each in scripted.done}) == 6
    with pytest.raises(ConfigError, match=r"The study in nodb://\.\.\.@x cannot be used"):
        run(tmp_path / "c", storage="nodb://me:secret@x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ppo", "Name an agent and an environment"),
        ("ppo rltrain/CartPole-v1 more", "'more' is too much"),
        ("pppo rltrain/CartPole-v1", "There is no agent 'pppo'. Did you mean 'ppo'"),
        ("ppo rltrain/CartPol-v1", "There is no environment 'rltrain/CartPol-v1'"),
        ("sac rltrain/CartPole-v1", "SAC has no policy for the action space Discrete(2)"),
        ("ppo rltrain/CartPole-v1 --trials 0", "--trials 0 does not fit"),
        ("ppo rltrain/CartPole-v1 --jobs two", "--jobs two does not fit"),
        ("ppo rltrain/CartPole-v1 --sampler tpp", "There is no sampler 'tpp'. Did you mean 'tpe'"),
        ("ppo rltrain/CartPole-v1 --pruner x", "There is no pruner 'x'"),
        ("ppo rltrain/CartPole-v1 --space gone.yaml", "'gone.yaml' cannot be read"),
        ("ppo rltrain/CartPole-v1 --space", "'--space' needs a value"),
        ("ppo rltrain/CartPole-v1 --agent.gama 0.9", "There is no option 'agent.gama'"),
        ("ppo rltrain/CartPole-v1 --trackers csv", "The runs of a sweep have no trackers"),
        ("ppo rltrain/CartPole-v1 --num-seeds 3", "'--num-seeds' is not for sweeps. Give --seeds"),
    ],
)
def test_mistakes_are_told_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words.split()]) == 2
    told = " ".join(line.partition(": ")[2] for line in capsys.readouterr().err.splitlines())
    assert message in told
    assert not list(tmp_path.iterdir())


COMMAND = [
    *("sweep", "ppo", ENV, "--space", "space.yaml", "--out", "study", "--seeds", "2", "--total-timesteps", "512"),
    *("--num-envs", "2", "--agent.n-steps", "32", "--agent.batch-size", "64", "--agent.n-epochs", "1"),
    *("--n-eval-episodes", "2", "--device", "cpu"),
]


def test_a_killed_sweep_goes_on_with_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("agent.learning_rate: {log: [1e-4, 1e-2]}\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rltrain", *COMMAND, "--trials", "500"]
    first = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    while "1 of 500" not in first.stderr.readline():
        assert first.poll() is None
    workers = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stderr.close()
    gone, left = psutil.wait_procs(workers, timeout=30)
    assert gone
    assert not left
    done = [trial.number for trial in study_of(tmp_path).trials if trial.state.name != "RUNNING"]
    killed = [trial for trial in study_of(tmp_path).trials if trial.state.name == "RUNNING"]

    assert main([*COMMAND, "--trials", str(len(done) + 1), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["counts"]["running"] == 0
    assert result["counts"]["complete"] + result["counts"]["pruned"] == len(done) + 1
    trials = study_of(tmp_path).trials
    for trial in killed:
        assert trials[trial.number].state.name == "FAIL"
        assert trials[-1].params == trial.params or not trial.params
    assert len(result["best"]["scores"]) == 2
    assert not (tmp_path / "study" / "runs").exists()
