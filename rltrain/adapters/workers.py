"""Worker processes that step Gymnasium environments, each a share of them; this process steps a share too."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from rltrain.adapters.block import Block
from rltrain.adapters.loop import Loop, Recipe
from rltrain.adapters.spaces import Actions, Leaf
from rltrain.errors import RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 2.0  # seconds that a worker has to finish


class Workers:
    """Does what a :class:`~rltrain.adapters.loop.Loop` does, in several processes.

    This process steps the first share itself while the workers step theirs, which hides the time that it takes to wake
    them. They share the block's memory with it, and pipes carry commands alone. Workers ignore SIGINT and SIGTERM,
    which this process handles, and exit when it is gone.

    Args:
        recipe: How to make the environments.
        num_envs: N.
        leaves: The parts of observations.
        actions: The conversion of actions.
        fields: Fields of the block.
        block: The block with the data.
        processes: Number of processes, from 2 to N, this one included.
        start_method: ``fork``, ``spawn`` or ``forkserver``; Python's own choice when None.

    Raises:
        RunError: A worker cannot make its environments.
    """

    def __init__(
        self,
        recipe: Recipe,
        num_envs: int,
        leaves: Sequence[Leaf],
        actions: Actions,
        fields: dict[str, Any],
        block: Block,
        *,
        processes: int,
        start_method: str | None = None,
    ) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        edges = [num_envs * k // processes for k in range(processes + 1)]
        mine, *self._rows = [range(first, last) for first, last in pairwise(edges)]
        self._loop = Loop(recipe, mine, leaves, actions, block.arrays)
        # At the latest when this process ends, and then before multiprocessing waits for its children.
        self._finish = Finalize(self, _end, (self._pipes, self._processes), exitpriority=10)
        try:
            if context.get_start_method() == "forkserver":
                ensure_running()  # while no signals are held: all that it forks would hold them too
            with _signals_held():
                for k, rows in enumerate(self._rows):
                    ours, theirs = context.Pipe()
                    what = CloudpickleWrapper((recipe, rows, leaves, actions, fields))  # type: ignore[arg-type]
                    process = context.Process(
                        target=_work, args=(theirs, ours, what, block.memory), name=f"rltrain-env-{k}", daemon=True
                    )
                    process.start()
                    theirs.close()
                    self._pipes.append(ours)
                    self._processes.append(process)
            self._answers()
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: Sequence[int]) -> None:
        """As of the loop."""
        for k, rows in enumerate(self._rows):
            self._tell(k, ("reset", seeds[rows.start : rows.stop]))
        self._loop.reset(seeds[: len(self._loop.rows)])
        self._answers()

    def step(self) -> None:
        """As of the loop."""
        for k in range(len(self._pipes)):
            self._tell(k, ("step",))
        self._loop.step()
        self._answers()

    def close(self) -> None:
        """Ends the processes and closes the environments of this one."""
        self._finish()
        self._loop.close()

    def _tell(self, k: int, words: tuple) -> None:
        try:
            self._pipes[k].send(words)
        except OSError as error:
            raise self._lost(k) from error

    def _answers(self) -> None:
        faults = []
        for k, pipe in enumerate(self._pipes):
            try:
                fault = pipe.recv()
            except (EOFError, OSError) as error:
                raise self._lost(k) from error
            if fault is not None:
                faults.append(fault)
        if faults:
            cause, fix, trace = faults[0]
            raise RunError(cause, fix) from RuntimeError(trace)

    def _lost(self, k: int) -> RunError:
        process = self._processes[k]
        process.join(PATIENCE)
        code, rows = process.exitcode, self._rows[k]
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        return RunError(
            f"Worker {k} (process {process.pid}), which steps environments {rows.start} to {rows.stop - 1}, {how}.",
            "Go on from the last checkpoint with 'rltrain resume'; SIGKILL often means that memory ran out.",
        )


def _end(pipes: list[Connection], processes: list[Any]) -> None:
    """Asks workers to exit, and ends those that do not."""
    for pipe in pipes:
        with suppress(OSError):
            pipe.send(("close",))
    for process in processes:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
    for pipe in pipes:
        pipe.close()


def _work(pipe: Connection, others_end: Connection, what: Any, memory: Any) -> None:
    """The loop of a worker, until it is told to close or the main process is gone."""
    for number in SIGNALS:
        signal.signal(number, _take_no_notice)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    others_end.close()  # the copies that came along; while one is open, the other side does not seem closed
    if "torch" in sys.modules:  # with fork, whose child has none of its threads
        sys.modules["torch"].set_num_threads(1)
    recipe, rows, leaves, actions, fields = what.fn
    loop: Loop | None = None
    try:
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            try:
                loop = Loop(recipe, rows, leaves, actions, Block(fields, memory).arrays)
                pipe.send(None)
            except Exception as error:
                pipe.send((f"Worker {os.getpid()} cannot make its environments: {error}", "", traceback.format_exc()))
                return
            while True:
                word, *arguments = pipe.recv()
                if word == "close":
                    return
                if word == "reset":  # for environments that draw from the generators of the process
                    random.seed(arguments[0][0])
                    np.random.seed(arguments[0][0])
                try:
                    getattr(loop, word)(*arguments)
                    pipe.send(None)
                except RunError as error:
                    pipe.send((error.cause, error.fix, traceback.format_exc()))
    finally:
        if loop is not None:
            loop.close()


def _take_no_notice(number: int, frame: Any) -> None:
    """Ignores a signal by a handler, because programs that an environment starts would inherit SIG_IGN."""


@contextmanager
def _signals_held() -> Iterator[None]:
    """Holds signals back, so that a process started meanwhile is not hit before it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
