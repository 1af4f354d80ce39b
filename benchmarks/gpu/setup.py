"""The conditions that every row is measured under: the device, the modes, the hyperparameters, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import measures
from benchmarks.peers.ours import Loop

EPOCHS, MINIBATCHES = 4, 4


@dataclass(frozen=True)
class Setup:
    """Where it runs, and whether it is only to be tried.

    Attributes:
        device: Such as cuda or cpu.
        mini: Tiny sizes and times, and nothing is compiled by Inductor.
    """

    device: str
    mini: bool

    @property
    def cuda(self) -> bool:
        """Whether there are CUDA graphs, a profiler of kernels, and waits to be caught."""
        return torch.device(self.device).type == "cuda"

    @property
    def n_steps(self) -> int:
        """Steps of each environment in an iteration."""
        return 8 if self.mini else 32

    @property
    def warm_ups(self) -> int:
        """Iterations until everything is compiled and recorded: a recording comes after three calls."""
        return 6 if self.cuda else 2

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def speed_up(self, mode: str, *parts: Any) -> None:
        """Puts agents and environments into a mode.

        ``graphs`` is what Dynamo captures, run as it is; on a GPU within CUDA graphs, as everything that is compiled.
        """
        if mode == "eager":
            return
        backend = {"backend": "eager"} if mode == "graphs" or self.mini else {}
        for part in parts:
            part.compile(**backend)

    def settings(self, algo: str, num_envs: int) -> dict[str, Any]:
        """The agent's hyperparameters: 16 gradient steps an iteration, each on a quarter of its transitions."""
        transitions = num_envs * self.n_steps
        shared = {"batch_size": transitions // MINIBATCHES}
        if algo == "dqn":
            return {
                **shared,
                "buffer_size": 4 * transitions,
                "learning_starts": 0,
                "train_freq": self.n_steps,
                "gradient_steps": EPOCHS * MINIBATCHES,
                "target_update_interval": transitions,
            }
        return {**shared, "n_steps": self.n_steps, "n_epochs": EPOCHS, **(measures.PPO if algo == "ppo" else {})}

    def loop(self, algo: str, env: str, num_envs: int, mode: str) -> Loop:
        """An agent in its environments, in a mode, before its first iteration."""
        options = {"device": self.device, "bfloat16": mode == "bfloat16", "num_envs": num_envs, "seed": 0}
        loop = Loop(algo, env, {**options, "agent": self.settings(algo, num_envs)})
        self.speed_up(mode, loop.agent, loop.env)
        return loop

    def seconds_of(self, work: Callable[[], int]) -> tuple[float, int]:
        """How long some work took until the device had done it, and what it returned."""
        self.wait()
        begin = time.perf_counter()
        result = work()
        self.wait()
        return time.perf_counter() - begin, result

    def rates(self, iterate: Callable[[], int]) -> list[int]:
        """Steps per second, three times over about a second.

        The device is waited for at the end of each second only, so that iterations overlap as in training.
        """
        once, _ = self.seconds_of(iterate)
        calls = max(1, round((0.02 if self.mini else 1.0) / once))
        rates = []
        for _ in range(1 if self.mini else 3):
            seconds, steps = self.seconds_of(lambda: sum(iterate() for _ in range(calls)))
            rates.append(round(steps / seconds))
        return rates
