"""Many seeds at once: each run equals the one it would be alone, and is a run like any other afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.cli import main
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError, RLTrainError, RunError
from rltrain.joined_vec import JoinedVecEnv
from rltrain.make import make_vec
from rltrain.runs.checkpoint import load_policy, load_training
from rltrain.runs.folder import RunFolder
from rltrain.training.session import RunResult

SMALL = {"num_envs": 4, "num_threads": 1, "n_eval_episodes": 0, "save_freq": 0, "trackers": []}
AGENT = {"n_steps": 8, "batch_size": 12, "n_epochs": 2, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def options(agent: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Small ones; a rollout is 32 steps, and its last minibatch is short."""
    return {**SMALL, "total_timesteps": 96, "agent": {**AGENT, **(agent or {})}, **changes}


def ended(result: RunResult | RLTrainError) -> RunResult:
    assert isinstance(result, RunResult), result
    return result


@dataclass
class Drift:
    """Where something is."""

    x: Tensor  # (N, 2) m


class Drifting(TensorEnv[Drift]):
    """A walk that is pushed about by chance in every step."""

    observation_space = spaces.Box(-10.0, 10.0, (2,))
    action_space = spaces.Box(-1.0, 1.0, (2,))
    max_episode_steps = 5

    def reset(self, n: int, rng: torch.Generator | None) -> Drift:
        """Anywhere near."""
        return Drift(torch.rand(n, 2, generator=rng))

    def step(self, state: Drift, action: Tensor, rng: torch.Generator | None) -> tuple[Drift, Tensor, Tensor]:
        """By the action and by chance."""
        x = state.x + 0.1 * action + 0.1 * torch.randn(state.x.shape, generator=rng)
        return Drift(x), -x.square().sum(1), x.abs().amax(1) > 2

    def observe(self, state: Drift) -> Tensor:
        """Where it is."""
        return state.x


PQN = {"policy_kwargs": {"net_arch": [16, 8]}}
CASES = {
    "categories": ("rltrain/CartPole-v1", {}),
    "squashed": (
        "rltrain/Pendulum-v1",
        {"policy_kwargs": {"squash_output": True, "activation_fn": "silu"}, "ent_coef": 0.01},
    ),
    "normalised, by chance": (Drifting, {"normalize_obs": True, "normalize_reward": True, "clip_range_vf": 0.2}),
    "masks and one-hot": ("rltrain/Taxi-v4", {"ent_coef": 0.01, "policy_kwargs": {"activation_fn": "relu"}}),
    "target_kl": ("rltrain/CartPole-v1", {"target_kl": 1e-3, "learning_rate": "lin_0.003"}),
    "pqn": ("rltrain/CartPole-v1", PQN),
    "pqn, normalised": ("rltrain/CartPole-v1", {**PQN, "normalize_obs": True, "learning_rate": "lin_0.003"}),
    "pqn, masks and one-hot": ("rltrain/TaxiMasked-v4", {"policy_kwargs": {"layer_norm": False}}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:batch_size")
def test_each_run_is_what_it_would_be_alone(case: str) -> None:
    env, agent = CASES[case]
    algo = "pqn" if case.startswith("pqn") else "ppo"
    together = rltrain.train_seeds(algo, env, 3, seed=5, progress=False, **options(agent))
    assert list(together) == [5, 6, 7]
    for seed, result in together.items():
        alone = rltrain.train(algo, env, seed=seed, progress=False, run_dir="alone", **options(agent))
        paths = [RunFolder.open(each.run_dir)[0].checkpoint()[0] for each in (ended(result), alone)]
        assert_close(*map(load_policy, paths))
        states = [load_training(path) for path in paths]
        for state in states:
            state.pop("generators")  # of the process, which nobody draws from
            for name in ("seconds", "pauses", "cost"):
                state["trainer"].pop(name)
            latest = state["trainer"]["latest"]
            for tag in [tag for tag in latest if tag.startswith(("time/", "system/")) and tag != "time/iterations"]:
                latest.pop(tag)
        assert_close(*states)


def assert_close(ours: Any, theirs: Any, where: str = "") -> None:
    """Holds nested mappings of tensors and numbers to each other: generators exactly, numbers to their rounding."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_close(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, Tensor | float):
        ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
        torch.testing.assert_close(
            ours, theirs, rtol=2e-3, atol=2e-4, equal_nan=True, msg=lambda text: f"{where}: {text}"
        )
    else:
        assert ours == theirs, where


def test_joined_environments_go_on_alone_where_they_are_split() -> None:
    parts = [make_vec("rltrain/CartPole-v1", 3) for _ in range(4)]
    obs = [part.reset(seed) for seed, part in enumerate(parts)]
    joined: JoinedVecEnv = JoinedVecEnv(parts[:2])  # type: ignore[arg-type]
    assert joined.num_envs == 6
    for part, seed in zip(parts[2:], (0, 1), strict=True):
        part.reset(seed)
    actions = torch.randint(2, (60, 6), generator=torch.Generator().manual_seed(0))
    ends = 0
    for t, action in enumerate(actions):
        if t == 40:  # each by itself from here on
            joined.split()
        steps = [part.step(action[3 * k : 3 * k + 3]) for k, part in enumerate(parts[2:])]
        ours = [part.step(action[3 * k : 3 * k + 3]) for k, part in enumerate(parts[:2])] if t >= 40 else None
        obs = torch.cat([step.obs for step in steps])
        assert torch.equal(obs, torch.cat([step.obs for step in ours]) if ours else joined.step(action).obs)
        ends += sum(int(step.terminated.sum()) for step in steps)
    assert ends > 6


@pytest.mark.filterwarnings("ignore:batch_size", "ignore:Not bit for bit")
def test_a_run_of_many_goes_on_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "ppo", "rltrain/CartPole-v1", "--num-seeds", "3", "--seed", "5", "--num-envs", "4", "--json"]
    words += ["--total-timesteps", "96", "--eval-freq", "64", "--n-eval-episodes", "2", "--no-progress"]
    assert main([*words, "--agent.n-steps", "8", "--agent.batch-size", "16"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["seed"] for run in runs] == [5, 6, 7]
    for k, run in enumerate(runs):
        folder = Path(run["run_dir"])
        assert folder.name == f"ppo_{k + 1}"
        assert RunFolder(folder).config().seed == 5 + k
        assert RunFolder(folder).metadata()["status"] == "completed"
        assert RunFolder(folder).best() is not None
        assert run["steps"] == 96
        assert Path(run["picture"]).is_file()
        assert any(folder.glob("events.*"))
        assert len((folder / "progress.csv").read_text().splitlines()) > 3
        assert main(["eval", str(folder), "--episodes", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["episodes"] == 2
    middle = runs[1]["run_dir"]
    assert main(["resume", middle, "--total-timesteps", "160", "--json", "--no-progress"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 160
    assert RunFolder(Path(middle)).checkpoint()[0].name == "step_000000000160"


def test_a_seed_that_is_there_leaves_and_the_others_go_on() -> None:
    changes = {"total_timesteps": 640, "stats_window_size": 4, "stop_at_reward": 35.0}
    agent = {"batch_size": 16}
    together = rltrain.train_seeds("ppo", "rltrain/CartPole-v1", 4, progress=False, **options(agent, **changes))
    steps = {seed: ended(result).steps for seed, result in together.items()}
    assert len(set(steps.values())) > 1
    for seed, result in together.items():
        alone = rltrain.train("ppo", "rltrain/CartPole-v1", seed=seed, progress=False, **options(agent, **changes))
        assert (alone.steps, alone.stopped_by) == (ended(result).steps, ended(result).stopped_by)


class Poisoned(Drifting):
    """Its rewards are nowhere for those who start in a corner."""

    def step(self, state: Drift, action: Tensor, rng: torch.Generator | None) -> tuple[Drift, Tensor, Tensor]:
        """NaN in the corner."""
        after, reward, terminated = super().step(state, action, rng)
        return after, reward.masked_fill(after.x.amin(1) > 0.99, torch.nan), terminated


def test_a_seed_that_fails_fails_alone() -> None:
    with pytest.warns(UserWarning, match="failed, the others go on"):
        together = rltrain.train_seeds("ppo", Poisoned, 4, progress=False, **options({"batch_size": 16}))
    failed = {seed for seed, result in together.items() if isinstance(result, RunError)}
    assert 0 < len(failed) < 4
    folders = [RunFolder(path) for path in sorted(Path("runs").glob("*/ppo_*"))]
    for seed, folder in enumerate(folders):
        assert folder.metadata()["status"] == ("failed" if seed in failed else "completed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ppo rltrain/CartPole-v1 --num-seeds 0", "num_seeds=0 is out of range"),
        ("ppo rltrain/CartPole-v1 --num-seeds 1000000000", "num_seeds=1000000000 is out of range"),
        ("ppo rltrain/CartPole-v1 --num-seeds", "num_seeds=True is out of range"),
        ("ppo rltrain/CartPole-v1 --num-seeds two", "num_seeds='two' is out of range"),
        ("ppo rltrain/CartPole-v1 --num-seeds 2 --seed 9223372036854775807", "no 2 seeds"),
        ("ppo rltrain/CartPole-v1 --num-seeds 2 --nproc 2", "One process trains several seeds"),
        ("ppo rltrain/CartPole-v1 --num-seeds 2 --compile true", "What trains several seeds is not compiled"),
        ("dqn rltrain/CartPole-v1 --num-seeds 2", "'dqn' cannot train several seeds at once.\n  fix: Train ppo or pqn"),
        ("pqn rltrain/MinAtar-Breakout-v1 --num-seeds 2", "These networks cannot be trained for several seeds"),
        ("ppo CartPole-v1 --num-seeds 2", "which is no environment of tensors"),
        ("ppo rltrain/CartPole-v1 --num-seeds 2 --env.frame-stack 2", "with such options around it"),
        (
            "ppo rltrain/MinAtar-Breakout-v1 --num-seeds 2 --agent.policy-kwargs.features-extractor-class auto",
            "These networks cannot be trained for several seeds",
        ),
        ("ppo rltrain/CartPole-v1 --num-seeds 2 --agent.policy-kwargs.activation-fn gelu", "These networks cannot"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments.split(), "--total-timesteps", "64"]) == ConfigError.exit_code
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()
