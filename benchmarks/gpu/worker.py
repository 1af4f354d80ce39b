"""Rows run in a process of their own, which can be ended: by time, or because the GPU takes nothing any more."""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

LONGEST_REASON = 300  # characters


class Worker:
    """Does one row after the other in a process, and starts another process where that one ended.

    Args:
        device: Such as cuda or cpu.
        mini: As of :class:`benchmarks.gpu.setup.Setup`.
    """

    def __init__(self, device: str, mini: bool) -> None:
        self.arguments = device, mini
        self.process: Any = None

    def ask(self, work: str, options: dict[str, Any], seconds: float) -> dict[str, Any]:
        """What the work returned; ``error`` and where it came from if it failed or was not done in time."""
        begin = time.perf_counter()
        if self.process is None:
            self._start()
        answer: dict[str, Any] = {"error": f"it was not done after {seconds:.0f} s", "ended": True}
        try:
            self.pipe.send((work, options))
            if self.pipe.poll(seconds):
                answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            answer["error"] = f"its process died, exit code {self.process.exitcode}"
        if answer.pop("ended", False):
            self.close()
        return {**answer, "took_s": round(time.perf_counter() - begin, 1)}

    def close(self) -> None:
        """Ends the process and all that it started."""
        if self.process is None:
            return
        for kill in (os.killpg, os.kill):  # it leads a group from its first moments on
            with contextlib.suppress(ProcessLookupError):
                kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.pipe.close()
        self.process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *self.arguments))
        self.process.start()
        theirs.close()


def serve(pipe: Connection, device: str, mini: bool) -> None:
    """Answers until nobody asks any more."""
    os.setsid()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would keep most of the GPU's memory
    while True:
        try:
            work, options = pipe.recv()
        except EOFError:
            return
        pipe.send(answer_to(work, options, device, mini))


def answer_to(work: str, options: dict[str, Any], device: str, mini: bool) -> dict[str, Any]:
    """One row, and everything as it was before it; ``ended`` where the process is of no use any more."""
    try:
        from benchmarks.gpu.setup import Setup

        module, _, name = work.partition(":")
        function = getattr(importlib.import_module(module), name)
        answer = function(Setup(device, mini), **options)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        answer = {"error": reason[:LONGEST_REASON], "where": traceback.format_exc()[-2_000:]}
    return answer | cleaned(device)


def cleaned(device: str) -> dict[str, Any]:
    """Forgets what was compiled, and gives memory back; says so where the device does not answer."""
    try:
        import torch

        torch.compiler.reset()  # there is a limit to how often one function is compiled
        gc.collect()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        torch.zeros(1, device=device).item()
    except Exception:
        return {"ended": True}
    return {}
