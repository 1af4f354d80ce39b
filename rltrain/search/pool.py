"""The processes that train the trials of a sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, Any

WORKER = "rltrain.search.worker"


class Worker:
    """One process, which does one task at a time.

    Args:
        threads: Threads of torch.
        answers: The queue for what it says, and None when it has ended.
    """

    def __init__(self, threads: int, answers: SimpleQueue[tuple[Worker, dict[str, Any] | None]]) -> None:
        self.task: int | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the sweep, which then ends its processes
            text=True,
        )
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout, answers), daemon=True).start()

    def tell(self, message: dict[str, Any]) -> None:
        """Sends a task or a word about one; that the process has ended is told by the queue."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()

    def _read(self, stream: IO[str], answers: SimpleQueue[tuple[Worker, dict[str, Any] | None]]) -> None:
        with stream:
            for line in stream:
                answers.put((self, json.loads(line)))
        answers.put((self, None))


class Pool:
    """So many processes, which are started when they are first needed, and again when one has died.

    Args:
        size: How many tasks are done at once.
        threads: Threads of torch of each process.
    """

    def __init__(self, size: int, threads: int) -> None:
        self._size, self._threads = size, threads
        self._workers: list[Worker] = []
        self._answers: SimpleQueue[tuple[Worker, dict[str, Any] | None]] = SimpleQueue()
        self._next = 0

    @property
    def free(self) -> int:
        """How many more tasks could be begun."""
        return self._size - sum(worker.task is not None for worker in self._workers)

    def begin(self, config: str, seeds: int) -> int:
        """Begins a task, and returns its number.

        Args:
            config: The configuration, as YAML.
            seeds: How many seeds are trained at once.
        """
        worker = next((each for each in self._workers if each.task is None), None)
        if worker is None:
            worker = Worker(self._threads, self._answers)
            self._workers.append(worker)
        self._next += 1
        worker.task = self._next
        worker.tell({"task": self._next, "config": config, "seeds": seeds})
        return self._next

    def stop(self, task: int) -> None:
        """Asks for the end of a task; its answer still comes."""
        for worker in self._workers:
            if worker.task == task:
                worker.tell({"stop": task})

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next answer: an evaluation, or the end of a task; None if there is none for so long."""
        try:
            worker, answer = self._answers.get(timeout=seconds)
        except Empty:
            return None
        if answer is None:  # it has died
            if worker in self._workers:
                self._workers.remove(worker)
            return None if worker.task is None else {"task": worker.task, "died": True}
        if "value" not in answer and worker.task == answer["task"]:
            worker.task = None
        return answer

    def close(self) -> None:
        """Ends all processes at once."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
