"""Numbers that are not finite: noticed within an update, named, never saved; the last checkpoint can go on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from broken_numbers import BrokenGym, BrokenNumbers, Spoils, SpoilsLearning
from safetensors.torch import load_file

import rltrain
from rltrain.check.op_counter import OpCounter
from rltrain.cli import main
from rltrain.errors import RunError
from rltrain.runs.layout import list_checkpoints
from rltrain.training.watch import Watch

VALUES = [math.nan, -math.inf, 1e38]
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 32, "n_epochs": 1, "normalize_obs": True},
    "pqn": {"n_steps": 8, "batch_size": 32, "n_epochs": 1, "normalize_obs": True},
    "dqn": {"train_freq": 8, "gradient_steps": 1, "batch_size": 32, "learning_starts": 32, "buffer_size": 256},
}
SHARED = {
    "num_envs": 4,
    "save_freq": 32,
    "n_eval_episodes": 0,
    "progress": False,
    "trackers": ["csv"],
    "num_threads": 1,
}
LAST_GOOD = 64  # the fault is in step 21 of every environment: in the third update of 8 steps of 4 environments


@pytest.fixture(autouse=True)
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BrokenNumbers, "mended", False)
    monkeypatch.setattr(BrokenGym, "mended", False)


def train(algo: str, env: type, folder: Path, *callbacks: rltrain.Callback, **kwargs: Any) -> rltrain.RunResult:
    settings = {"agent": SETTINGS[algo], "env_kwargs": kwargs, "run_dir": folder, "total_timesteps": 320}
    if not kwargs.get("terminates"):
        settings["env_options"] = {"max_episode_steps": 7}
    return rltrain.train(algo, env, callbacks=callbacks, **SHARED, **settings)


def the_run(folder: Path) -> Path:
    (run,) = folder.glob("*/*")
    return run


def assert_the_last_checkpoint_is_sound(run: Path, env: type, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    saved = list_checkpoints(run / "checkpoints")
    assert int(saved[-1].name.removeprefix("step_")) == last
    for path in saved:
        assert all(bool(x.isfinite().all()) for x in load_file(path / "policy.safetensors").values())
        state = load_file(path / "training.safetensors")
        # Statistics of episodes are NaN where there were none.
        kept = {name: x for name, x in state.items() if x.is_floating_point() and not name.startswith("episodes")}
        assert not [name for name, x in kept.items() if not bool((x.abs() < 1e30).all())]
    monkeypatch.setattr(env, "mended", True)
    assert rltrain.resume(run, env=env, progress=False, total_timesteps=last + 96).steps == last + 96


@pytest.mark.parametrize(
    ("algo", "where", "value", "env"),
    [
        (algo, where, VALUES[(i + j) % 3], (BrokenNumbers, BrokenGym)[(i + 2 * j) % 2])  # the scorecard has all
        for i, algo in enumerate(SETTINGS)
        for j, where in enumerate(("observation", "reward", "final_obs"))
    ],
    ids=str,
)
def test_what_an_environment_gives(
    env: type, algo: str, where: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 20 if where == "observation" else 21  # the end of an episode
    with pytest.raises(RunError) as caught:
        train(algo, env, tmp_path, where=where, value=str(value), at=at)
    row = 2 if env is BrokenNumbers else 0
    assert f"The {where} is" in caught.value.cause
    assert f"in environment {row} at step {4 * at}" in caught.value.cause
    assert "after 96 steps" in caught.value.cause
    assert f"{abs(value):g}" in caught.value.cause
    run = the_run(tmp_path)
    metadata = json.loads((run / "metadata.json").read_text())
    assert metadata["status"] == "failed"
    assert f"The {where} is" in metadata["error"]
    assert_the_last_checkpoint_is_sound(run, env, monkeypatch, LAST_GOOD)


@pytest.mark.parametrize("algo", SETTINGS)
@pytest.mark.parametrize("env", [BrokenNumbers, BrokenGym])
def test_nan_in_the_last_observation_of_a_terminated_episode_is_harmless(env: type, algo: str, tmp_path: Path) -> None:
    for at in (21, 24):  # within an update; the last step of one comes at 24
        result = train(algo, env, tmp_path / str(at), where="final_obs", at=at, length=at, terminates=True)
        assert result.steps == 320
        modules = rltrain.load(result.run_dir, env=env).agent.state_dict().values()
        assert all(bool(x.isfinite().all()) for x in modules)


@pytest.mark.parametrize("algo", SETTINGS)
def test_the_first_observation_of_an_episode_that_no_update_has_seen_is_not_saved(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="observation is not finite after 96 steps: nan in environment 2 at step 96"):
        train(algo, BrokenNumbers, tmp_path, where="start", at=24, length=24, terminates=True)
    assert_the_last_checkpoint_is_sound(the_run(tmp_path), BrokenNumbers, monkeypatch, LAST_GOOD)


@pytest.mark.parametrize(
    ("algo", "where", "named", "value"),
    [
        ("ppo", "loss", "The loss", math.nan),
        ("dqn", "gradient", "The gradient", math.inf),
        ("pqn", "gradient", "The gradient", 1e38),
        ("dqn", "parameters", "'actor.", math.nan),
        ("pqn", "parameters", "'actor.", 1e38),
        ("ppo", "optimizer", "'exp_avg' of the optimizer", -math.inf),
        ("pqn", "normaliser", "mean", math.nan),
    ],
)
def test_what_learning_makes(
    algo: str, where: str, named: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SpoilsLearning if where in ("loss", "gradient") else Spoils
    with pytest.raises(RunError) as caught:
        train(algo, BrokenNumbers, tmp_path, kind(where, value, after=96))
    assert named in caught.value.cause
    assert "after 96 steps" in caught.value.cause
    assert_the_last_checkpoint_is_sound(the_run(tmp_path), BrokenNumbers, monkeypatch, LAST_GOOD)


@pytest.mark.parametrize(
    ("moment", "value", "noticed"),
    [
        ("exp_avg", math.nan, 128),
        ("exp_avg", 1e38, 128),  # in the parameters, after the next step
        ("exp_avg_sq", math.inf, 96),  # which keeps a parameter where it is
        ("exp_avg_sq", 1e38, 96),
    ],
)
@pytest.mark.parametrize("algo", SETTINGS)
def test_moments_are_noticed_within_an_update_where_nothing_is_saved(
    algo: str, moment: str, value: float, noticed: int, tmp_path: Path
) -> None:
    class Spoil(Spoils):
        def on_update(self, trainer: Any, metrics: dict[str, Any]) -> None:
            if self.is_due(trainer):
                trainer.agent.optimizer.state_dict()[moment][0] = value

    with pytest.raises(RunError, match=f"'{moment}' of the optimizer is .* after {noticed} steps"):
        rltrain.train(
            algo,
            BrokenNumbers,
            callbacks=[Spoil("", value, after=96)],
            agent=SETTINGS[algo],
            run_dir=tmp_path,
            total_timesteps=320,
            env_options={"max_episode_steps": 7},
            **{**SHARED, "save_freq": 0},
        )


def test_the_earliest_is_named_whatever_follows_from_it(tmp_path: Path) -> None:
    """A NaN reward makes the loss, the gradient and the parameters NaN in the same update."""
    with pytest.raises(RunError, match=r"The reward is not finite after 96 steps: nan in environment 2 at step 84\."):
        train("ppo", BrokenNumbers, tmp_path, where="reward")


def test_the_error_says_from_where_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        train("dqn", BrokenNumbers, tmp_path, where="reward")
    assert "The checkpoint at step 64 is sound" in caught.value.fix


def test_one_of_several_seeds_fails_and_names_its_own_environment(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="failed, the others go on"):
        results = rltrain.train_seeds(
            "ppo",
            BrokenNumbers,
            2,
            agent=SETTINGS["ppo"],
            run_dir=tmp_path,
            total_timesteps=320,
            env_kwargs={"where": "observation", "at": 20},
            env_options={"max_episode_steps": 7},
            **SHARED,
        )
    assert all(isinstance(result, RunError) for result in results.values())
    assert "in environment 2 at step 80" in str(results[0])


def test_an_exploded_policy_is_diagnosed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"train ppo rltrain/CartPole-v1 --run-dir {tmp_path} --agent.learning-rate 1e3 --total-timesteps 2048"
    words += " --num-envs 8 --agent.n-steps 32 --no-progress --num-threads 1 --device cpu --n-eval-episodes 10"
    assert main(words.split()) == 0
    assert "warning: The policy has exploded" in capsys.readouterr().err
    metadata = json.loads((the_run(tmp_path) / "metadata.json").read_text())
    assert "learning-rate" in metadata["diagnosis"]


class Blind(rltrain.Callback):
    """Makes a policy prefer its first action by far."""

    def on_update(self, trainer: Any, metrics: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in trainer.agent.actor.named_parameters():
                parameter.zero_()
                if name.endswith("bias") and parameter.shape == (2,):
                    parameter[0] = 5.0


def test_a_collapsed_policy_is_diagnosed_and_a_sound_one_is_not(tmp_path: Path) -> None:
    settings = {"agent": SETTINGS["ppo"], "run_dir": tmp_path, "total_timesteps": 320}
    shared = {**SHARED, "n_eval_episodes": 40}
    with pytest.warns(UserWarning, match=r"the same action, 0, in each of [0-9,]+ steps"):
        result = rltrain.train("ppo", "rltrain/CartPole-v1", callbacks=[Blind()], **shared, **settings)
    assert result.diagnosis is not None
    assert "collapsed" in result.diagnosis
    settings["agent"] = {"n_steps": 32, "batch_size": 256, "n_epochs": 10}
    sound = rltrain.train(
        "ppo", "rltrain/CartPole-v1", **{**shared, **settings, "total_timesteps": 16384, "num_envs": 8}
    )
    assert sound.diagnosis is None


def test_a_policy_is_given_no_nan(tmp_path: Path) -> None:
    result = train("ppo", BrokenNumbers, tmp_path)
    policy = rltrain.load(result.run_dir, env=BrokenNumbers)
    for bad in (np.nan, np.inf):
        with pytest.raises(rltrain.RLTrainError, match="NaN or infinity"):
            policy.predict(np.array([0.0, bad, 0.0], np.float32))
    assert policy.predict(np.zeros(3, np.float32))[0] in (0, 1)


class Counts(rltrain.Callback):
    """Counts the operations of a look at an update, but for reading its sums, and finds what would wait for a GPU."""

    def on_update(self, trainer: Any, metrics: dict[str, Any]) -> None:
        counters = []
        for late in (False, True):
            watch = Watch(trainer.agent, trainer.env.device)
            watch.late = late
            with OpCounter() as counter:
                watch.update(metrics, trainer.given(), trainer.span)
            counters.append(counter)
        self.total, self.waits = counters[0].total - len(counters[0].waits), counters[1].waits


@pytest.mark.parametrize(("algo", "most"), [("ppo", 24), ("pqn", 19), ("dqn", 14)])
def test_a_look_costs_few_operations_and_waits_for_nothing(algo: str, most: int, tmp_path: Path) -> None:
    counts = Counts()
    train(algo, BrokenNumbers, tmp_path, counts)
    assert 3 < counts.total <= most
    assert counts.waits == []
