"""rltrain itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

import rltrain
from benchmarks.peers import ACTIONS, SOLVED
from rltrain.make import make_vec
from rltrain.process.memory import keep_memory
from rltrain.registry import env_spec
from rltrain.settings import build_config, tuned_defaults
from rltrain.training.metrics import EpisodeStats
from rltrain.training.request import RunRequest
from rltrain.training.setup import Setup

ENV = "rltrain/CartPole-v1"
PLAIN: tuple[dict[str, Any], str] = ({}, "Stable-Baselines3")  # defaults in place of tuned settings


class Loop:
    """An agent with untuned settings, trained as by ``Trainer``, with episode statistics and without logging."""

    def __init__(self, algo: str, env_id: str, options: dict[str, Any]) -> None:
        keep_memory()  # as every run of rltrain does
        config, _ = build_config(algo, env_id, {"device": "cpu", **options}, base=PLAIN)
        self.setup = Setup.build(RunRequest(config))
        self.agent, self.env = self.setup.agent, self.setup.env
        self.transitions = self.agent.horizon * self.env.num_envs
        self.episodes = EpisodeStats(100, self.agent.horizon, self.env.num_envs, self.env.device)
        self.obs = self.env.reset(0)

    def iterate(self) -> int:
        """A rollout and an update; returns the transitions."""
        self.collect()
        return self.learn()

    def collect(self) -> int:
        """A rollout; returns its transitions."""
        for _ in range(self.agent.horizon):
            out = self.agent.act(self.obs)
            step = self.env.step(out.action)
            self.agent.record(out, step)
            self.episodes.note(step)
            self.obs = step.obs
        self.episodes.merge()
        return self.transitions

    def learn(self) -> int:
        """An update; returns the transitions that it learned from."""
        self.agent.learn()
        return self.transitions

    def close(self) -> None:
        """Ends the environments."""
        self.setup.close()


def stepping(how: str, num_envs: int, seed: int) -> Callable[[], int]:
    """Eager steps with random actions."""
    keep_memory()
    vec = make_vec(ENV, num_envs)
    vec.reset(seed)
    actions = torch.randint(2, (ACTIONS, num_envs), generator=torch.Generator().manual_seed(seed))

    def work() -> int:
        for action in actions:
            vec.step(action)
        return ACTIONS * num_envs

    return work


def training(how: str, point: dict[str, Any], seed: int) -> Callable[[], int]:
    """An agent, eager or compiled, past the steps that DQN collects before it learns."""
    policy = {"net_arch": point["net_arch"]}
    agent = {**point["agent"], "policy_kwargs": policy}
    options = {"num_envs": point["num_envs"], "seed": seed, "agent": agent, "compile": how == "compiled"}
    loop = Loop(point["algo"], ENV, options)
    for _ in range(point["agent"].get("learning_starts", 0) // loop.transitions):
        loop.iterate()
    if how == "compiled":
        loop.iterate()  # the first iteration compiles the last pieces only after others ran
    return loop.iterate


def solving(how: str, seed: int) -> dict[str, Any]:
    """Tuned settings with logging and checkpoint; or the whole command, with evaluation and plots."""
    algo, _, prompt = how.partition(" ")
    algo = algo.lower()
    settings, _ = tuned_defaults(algo, env_spec(ENV))
    with tempfile.TemporaryDirectory() as folder:
        if prompt:
            command = [sys.executable, "-m", "rltrain", "train", algo, ENV, "--stop-at-reward", str(SOLVED)]
            begin = time.perf_counter()
            subprocess.run([*command, "--seed", str(seed), "--run-dir", folder], check=True, stdout=sys.stderr)
            seconds = time.perf_counter() - begin
            return {"seconds": round(seconds, 3), "solved": True, "settings": settings, "peak_mib": None}
        result = rltrain.train(
            algo, ENV, seed=seed, stop_at_reward=SOLVED, run_dir=folder, n_eval_episodes=0, progress=False
        )
    solved = result.stopped_by == "stop_at_reward"
    return {"seconds": round(result.seconds, 3), "steps": result.steps, "solved": solved, "settings": settings}
