"""Several trainings in threads of one process learn what each learns alone, and a second one what the first did.

Also where the process-wide generators are drawn from: by an environment, by a network, by a callback, and by
Stable-Baselines3.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium import spaces
from torch import Tensor, nn

import rltrain
from rltrain.process.turns import Turns

AGENTS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
    "dqn": {"learning_starts": 64, "buffer_size": 2048, "batch_size": 32, "train_freq": 4},
}
JOBS = [("ppo", "rltrain/CartPole-v1", 0), ("ppo", "CartPole-v1", 1), ("dqn", "rltrain/CartPole-v1", 2)]


def learned(job: tuple[str, str, int], run_dir: Path) -> tuple[str, float]:
    """A digest of the policy, and its score."""
    algo, env, seed = job
    options: dict[str, Any] = {"num_envs": 8, "total_timesteps": 512, "eval_freq": 256, "n_eval_episodes": 2}
    if not env.startswith("rltrain/"):
        options["env_options"] = {"vectorization": "sync"}
    result = rltrain.train(
        algo,
        env,
        seed=seed,
        run_dir=run_dir,
        progress=False,
        trackers=["csv"],
        device="cpu",
        agent=AGENTS[algo],
        **options,
    )
    newest = sorted((result.run_dir / "checkpoints").glob("step_*"))[-1]
    assert result.evaluation is not None
    return hashlib.sha256((newest / "policy.safetensors").read_bytes()).hexdigest(), result.evaluation.mean_reward


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    alone = {job: learned(job, tmp_path) for job in JOBS}
    assert learned(JOBS[0], tmp_path) == alone[JOBS[0]]  # again, as in a notebook
    together: dict[Any, Any] = {}
    threads = [threading.Thread(target=lambda job=job: together.update({job: learned(job, tmp_path)})) for job in JOBS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


class Careless(gymnasium.Env[Any, Any]):
    """Draws from every process-wide generator in every step."""

    observation_space = spaces.Box(-10.0, 10.0, (3,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.look(), random.random() + float(action), bool(np.random.rand() < 0.1), False, {}

    def look(self) -> Any:
        drawn = [random.gauss(0, 1), np.random.randn(), torch.randn(()).item()]
        return np.clip(drawn, -10, 10).astype(np.float32)


class CarelessTensors(Countdown):
    """Draws from torch's default generator."""

    def step(self, state: Any, action: Tensor, rng: Any) -> tuple[Any, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward + torch.rand(reward.shape), terminated


class Forgetful(nn.Module):
    """A network with dropout, which draws from torch's default generator."""

    def __init__(self, observation_space: spaces.Space, features_dim: int = 8) -> None:
        super().__init__()
        self.features_dim = features_dim
        self.layers = nn.Sequential(nn.Linear(4, features_dim), nn.Dropout(0.2))

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(obs)


class Drawing(rltrain.Callback):
    """Draws whenever it is called."""

    def on_update(self, trainer: Any, metrics: Any) -> None:
        torch.rand(3)


ROLLOUT = AGENTS["ppo"]
SHARED: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "ppo": ("ppo", Careless, {"agent": ROLLOUT}),
    "dqn": ("dqn", Careless, {"agent": AGENTS["dqn"], "num_envs": 2}),
    "tensors": ("ppo", CarelessTensors, {"agent": ROLLOUT}),
    "sb3": ("sb3/ppo", Careless, {"agent": ROLLOUT}),
    "sb3 off policy": ("sb3/dqn", "rltrain/CartPole-v1", {"agent": {"learning_starts": 64, "buffer_size": 512}}),
    "dropout": (
        "ppo",
        "rltrain/CartPole-v1",
        {"agent": {**ROLLOUT, "policy_kwargs": {"features_extractor_class": Forgetful}}},
    ),
    "callback": ("ppo", "rltrain/CartPole-v1", {"agent": ROLLOUT, "callbacks": [Drawing()]}),
    "ours": ("ppo", "rltrain/CartPole-v1", {"agent": ROLLOUT}),  # which takes no turns
}
"""Runs: an agent, an environment, and options."""


def weights(name: str, run_dir: Path) -> tuple[str, list[float]]:
    """A digest of what a run has learned and of the generators that it left, and the returns of its evaluation."""
    algo, env, options = SHARED[name]
    result = rltrain.train(
        algo,
        env,
        **{
            "num_envs": 4,
            "total_timesteps": 512,
            "num_threads": 1,
            "eval_freq": 256,
            "n_eval_episodes": 2,
            "env_options": {} if name in ("tensors", "ours", "dropout", "callback") or "off" in name else SYNC,
            **options,
        },
        run_dir=run_dir,
        progress=False,
        trackers=["csv"],
        device="cpu",
    )
    newest = max((result.run_dir / "checkpoints").glob("step_*"))
    digest = hashlib.sha256()
    for file in sorted(newest.glob("*.safetensors")):
        digest.update(file.read_bytes())
    assert result.evaluation is not None
    return digest.hexdigest(), result.evaluation.returns.tolist()


SYNC = {"vectorization": "sync"}


@pytest.mark.filterwarnings("ignore:.*states no time limit", "ignore:The episodes of", "ignore:.*exploded")
def test_what_draws_from_shared_generators_has_them_to_itself(tmp_path: Path) -> None:
    alone = {name: weights(name, tmp_path) for name in SHARED}
    before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()  # type: ignore[index]
    assert weights("ppo", tmp_path) == alone["ppo"], "a second run in the same process"
    with ThreadPoolExecutor(len(SHARED)) as pool:
        together = dict(zip(SHARED, pool.map(lambda name: weights(name, tmp_path), SHARED), strict=True))
    assert [name for name in SHARED if together[name] != alone[name]] == []
    after = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()  # type: ignore[index]
    assert after == before, "the process is left as it was found"


def test_turns_are_shared_by_time() -> None:
    """One whose steps are long does not keep the others from theirs."""
    here: list[int] = [0]
    turns = Turns(lambda: list(here), lambda state: here.__setitem__(slice(None), state))
    held = {"slow": 0.0, "quick": 0.0}
    over = time.monotonic() + 2.0

    def work(name: str, seconds: float) -> int:
        with turns.joined():
            here[0] = 0
            count = 0
            while time.monotonic() < over:
                began = time.monotonic()
                time.sleep(seconds)
                here[0], count = here[0] + 1, count + 1
                held[name] += time.monotonic() - began
                turns.pass_on()
            assert here[0] == count, "what it left is what it finds"
            return count

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(work, held, (0.3, 0.01)))
    assert min(counts) >= 2
    assert held["quick"] > 0.2 * held["slow"]
    assert here == [0]


def test_a_run_inside_a_run_leaves_it_as_it_was() -> None:
    here: list[int] = [5]
    turns = Turns(lambda: list(here), lambda state: here.__setitem__(slice(None), state))
    with turns.joined():
        here[0] = 1
        with turns.joined():
            here[0] = 2
        assert here == [1]
        turns.leave()
        with turns.joined():
            here[0] = 3
            assert turns.mine
        assert turns.left == [1]
    assert here == [5]
    assert turns.left is None


def test_an_error_passes_the_turn_on() -> None:
    turns = Turns(lambda: 0, lambda state: None)

    def fail() -> None:
        with turns.joined():
            raise KeyError

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyError):
        pool.submit(fail).result(timeout=5)
    with turns.joined():
        assert turns.mine
