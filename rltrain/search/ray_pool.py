"""The processes that train the trials of a sweep, on a cluster of Ray."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from typing import Any

from rltrain.errors import ConfigError
from rltrain.naming.installed import need
from rltrain.process.telemetry import switch_off

LOCAL = "local"
"""The address of a cluster that is started on this machine, with a worker for each task, and ends with the sweep."""


def need_ray() -> None:
    """Raises an error without Ray.

    Raises:
        ConfigError: It is not installed.
    """
    need("ray", install="rltrain[ray]")


class Trainer:
    """An actor of Ray that does one task at a time.

    Args:
        threads: Threads of torch.
        answers: The queue of Ray for evaluations.
    """

    def __init__(self, threads: int, answers: Any) -> None:
        from rltrain.search.worker import Channel, prepare

        self._channel = Channel(answers.put)
        prepare(self._channel, threads)

    def train(self, task: dict[str, Any]) -> dict[str, Any]:
        """Trains, in a folder that is removed after it."""
        from rltrain.search.worker import run

        with tempfile.TemporaryDirectory() as folder:
            self._channel.task = task["task"]
            return {"task": task["task"], **run(task, self._channel, run_dir=folder)}

    def stop(self, task: int) -> None:
        """Asks for the end of a task."""
        self._channel.stopped.add(task)


class RayPool:
    """Actors on a cluster; the same interface as :class:`~rltrain.search.pool.Pool`.

    Args:
        size: How many tasks are done at once.
        threads: Threads of torch of each actor, and the cores that it asks Ray for.
        address: Of the cluster, or ``local``.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, size: int, threads: int, address: str) -> None:
        need_ray()
        switch_off()
        import ray
        from ray.util.queue import Queue

        self._ray, self._size, self._threads = ray, size, threads
        here: dict[str, Any] = {}
        if address == LOCAL:
            here = {
                "num_cpus": size * threads + 1,
                "include_dashboard": False,
                "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
                "_node_ip_address": "127.0.0.1",  # it listens on this machine alone
            }
        try:
            ray.init(address, log_to_driver=False, logging_level="error", **here)
        except Exception as error:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ConfigError(f"Ray cannot be used at '{address}': {why}", "Give another --ray.") from error
        self._answers = Queue()
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}  # by what Ray returns for a call: the actor, the task
        self._ended: deque[dict[str, Any]] = deque()
        self._next = 0

    @property
    def free(self) -> int:
        """How many more tasks could be begun."""
        return self._size - len(self._busy)

    def begin(self, config: str, seeds: int) -> int:
        """Begins a task, and returns its number; see :meth:`Pool.begin <rltrain.search.pool.Pool.begin>`."""
        if self._idle:
            actor = self._idle.pop()
        else:
            make = self._ray.remote(num_cpus=self._threads, max_concurrency=2)(Trainer)  # trains, and hears of a stop
            actor = make.remote(self._threads, self._answers)
        self._next += 1
        call = actor.train.remote({"task": self._next, "config": config, "seeds": seeds})
        self._busy[call] = actor, self._next
        return self._next

    def stop(self, task: int) -> None:
        """Asks for the end of a task; its answer still comes."""
        for actor, busy_with in self._busy.values():
            if busy_with == task:
                actor.stop.remote(task)

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next answer: an evaluation, or the end of a task; None if there is none for so long."""
        if not self._ended:
            calls, _ = self._ray.wait([*self._busy], timeout=seconds) if self._busy else ([], [])
            for call in calls:
                actor, task = self._busy.pop(call)
                try:
                    self._ended.append(self._ray.get(call))
                    self._idle.append(actor)
                except self._ray.exceptions.RayError:
                    self._ended.append({"task": task, "died": True})
        if not self._answers.empty():  # those of a task come before its end
            answer: dict[str, Any] = self._answers.get()
            return answer
        return self._ended.popleft() if self._ended else None

    def close(self) -> None:
        """Ends all actors at once, and a cluster that was started for them."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            self._ray.kill(actor)
        self._ray.shutdown()
