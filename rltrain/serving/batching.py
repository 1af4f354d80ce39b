"""Requests that wait together are answered by one call of the policy; no more wait than there is room for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from rltrain.serving.model import Run
from rltrain.serving.monitor import Monitor


class Busy(Exception):
    """There is no room in the queue."""


class _Waiting(NamedTuple):
    inputs: Mapping[str, np.ndarray]
    rows: int
    answer: asyncio.Future[dict[str, np.ndarray]]


class Batcher:
    """Calls a policy for whatever waits. While it computes, the next requests gather.

    Args:
        run: The policy.
        most_rows: Rows of one call, unless a single request has more.
        room: Rows that may wait.
        monitor: Counts the calls.
    """

    def __init__(self, run: Run, *, most_rows: int, room: int, monitor: Monitor) -> None:
        self.most_rows, self.room, self.rows = most_rows, room, 0
        self._run, self._monitor = run, monitor
        self._queue: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "policy")
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for inputs by name.

        Raises:
            Busy: Too many rows are waiting.
        """
        rows = len(next(iter(inputs.values())))
        if self.rows + rows > self.room:
            raise Busy
        answer = asyncio.get_running_loop().create_future()
        self.rows += rows
        self._queue.append(_Waiting(inputs, rows, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = [self._queue.popleft()]
            rows = batch[0].rows
            while self._queue and rows + self._queue[0].rows <= self.most_rows:
                batch.append(self._queue.popleft())
                rows += batch[-1].rows
            self._monitor.batches.observe(rows)
            inputs = batch[0].inputs
            if len(batch) > 1:
                inputs = {name: np.concatenate([each.inputs[name] for each in batch]) for name in inputs}
            try:
                outputs = await loop.run_in_executor(self._thread, self._run, inputs)
            except Exception as error:
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            finally:
                self.rows -= rows
            start = 0
            for each in batch:
                end = start + each.rows
                if not each.answer.done():  # whoever asked may have gone
                    each.answer.set_result({name: array[start:end] for name, array in outputs.items()})
                start = end

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
