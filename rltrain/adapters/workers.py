"""Worker processes that step Gymnasium environments, each a share of them; this process steps a share too."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from rltrain.adapters.block import Block
from rltrain.adapters.loop import Loop, Recipe
from rltrain.adapters.progress import HANGS, LOOKS, Guard, Hanging, Progress, make_places
from rltrain.adapters.spaces import Actions, Leaf
from rltrain.errors import RLTrainError, RunError
from rltrain.naming.reasons import fix_at, reason_of
from rltrain.process import stopping
from rltrain.process.early import die_with

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 2.0  # seconds that a worker has to finish


class Workers:
    """Does what a :class:`~rltrain.adapters.loop.Loop` does, in several processes.

    This process steps the first share itself while the workers step theirs, which hides the time that it takes to wake
    them. They share the block's memory with it, and pipes carry commands alone. Workers ignore SIGINT and SIGTERM,
    which this process handles, and die with it, however it dies and whatever they are doing.

    Args:
        recipe: How to make the environments.
        num_envs: N.
        leaves: The parts of observations.
        actions: The conversion of actions.
        fields: Fields of the block.
        block: The block with the data.
        processes: Number of processes, this one included: from 2 to N, or to N + 1 with a time limit.
        start_method: ``fork``, ``spawn`` or ``forkserver``; Python's own choice when None.
        step_timeout: Seconds that an environment may take for a step. With a limit this process steps none: it could
            not end itself.

    Raises:
        RunError: A worker cannot make its environments.
    """

    seeds_each = True  # as for the loop

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
        step_timeout: float | None = None,
    ) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        shares = processes if step_timeout is None else processes - 1
        edges = [num_envs * k // shares for k in range(shares + 1)]
        own = edges[:2] if step_timeout is None else [0, 0]
        self._rows = [range(first, last) for first, last in pairwise(edges if step_timeout is not None else edges[1:])]
        self._limit = step_timeout
        self._given_up: dict[int, RLTrainError] = {}  # by worker
        self._guard: Guard | None = None
        self._places = make_places(processes)
        progress = Progress(self._places, 0, own[1])
        self._loop = Loop(recipe, range(*own), leaves, actions, block.arrays, progress=progress)
        server = context.get_start_method() == "forkserver"
        # On Linux a child dies with the thread that started it, so only with one that lives as long as the process.
        origin = 0 if server else os.getpid(), threading.current_thread() is threading.main_thread()
        # At the latest when this process ends, and then before multiprocessing waits for its children.
        self._finish = Finalize(self, _end, (self._pipes, self._processes), exitpriority=10)
        try:
            if server:
                ensure_running()  # while no signals are held: all that it forks would hold them too
            with _signals_held():
                for k, rows in enumerate(self._rows):
                    ours, theirs = context.Pipe()
                    what = CloudpickleWrapper((recipe, rows, leaves, actions, fields))  # type: ignore[arg-type]
                    shared = block.memory, self._places, k + 1
                    process = context.Process(
                        target=_work, args=(theirs, ours, what, shared, origin), name=f"rltrain-env-{k}", daemon=True
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

    def where(self) -> tuple[int, ...]:
        """Numbers that change with every environment that is stepped."""
        return tuple(self._places)

    def guard(self, name: str) -> Guard:
        """Begins to warn of environments that hang, and to keep the time limit; ``name`` is what they are called."""
        looks = LOOKS if self._limit is None else min(LOOKS, self._limit / 4)
        self._guard = Guard(self, Hanging(self._places, [self._loop.rows, *self._rows], name), looks)
        return self._guard

    def on_hang(self, place: int, row: int, seconds: float) -> None:
        """Ends the worker of an environment that took longer than it may, or that keeps this process from stopping."""
        k = place - 1
        if k < 0 or k in self._given_up:
            return
        if self._limit is not None and seconds >= self._limit:
            self._given_up[k] = RunError(
                f"Environment {row} did not answer within {self._limit:g} s (--env.step-timeout).",
                "Mend the environment, or give it more time; 'rltrain resume' goes on from the last checkpoint.",
            )
        elif (number := stopping.asked()) is not None and seconds >= HANGS:
            self._given_up[k] = stopping.Stopped(number)
        else:
            return
        self._processes[k].kill()

    def close(self) -> None:
        """Ends the processes and closes the environments of this one."""
        if self._guard is not None:
            self._guard.stop()
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

    def _lost(self, k: int) -> RLTrainError:
        if k in self._given_up:
            return self._given_up[k]
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
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    for pipe in pipes:
        pipe.close()


def _work(pipe: Connection, others_end: Connection, what: Any, shared: tuple, origin: tuple[int, bool]) -> None:
    """The loop of a worker, until it is told to close or the main process is gone."""
    parent, by_system = origin
    multiprocessing.current_process().daemon = False  # Python lets no daemon start processes, as simulators do
    if parent:
        die_with(parent, by_system=by_system)
    else:  # the parent of this process is the fork server, which lives on as long as any of its children
        threading.Thread(target=_follow, daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, _take_no_notice)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    others_end.close()  # the copies that came along; while one is open, the other side does not seem closed
    if "torch" in sys.modules:  # with fork, whose child has none of its threads
        sys.modules["torch"].set_num_threads(1)
    recipe, rows, leaves, actions, fields = what.fn
    memory, places, own = shared
    loop: Loop | None = None
    try:
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            try:
                progress = Progress(places, own, len(rows))
                loop = Loop(recipe, rows, leaves, actions, Block(fields, memory).arrays, progress=progress)
                pipe.send(None)
            except (Exception, SystemExit) as error:
                cause = f"Worker {os.getpid()} cannot make its environments: {reason_of(error)}."
                pipe.send((cause, fix_at(error), traceback.format_exc()))
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


def _follow() -> None:
    """Ends this process when the one that asked for it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


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
