"""Starts functions and command lines as ranks, in processes forked from one that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from torch.distributed import TCPStore

from rltrain.cli import main

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["rltrain.training.launch", "torch._dynamo", "matplotlib.backends.backend_agg"])
PATIENCE = 60  # seconds


class Several:
    """K processes as ranks, which meet at a store of this one, as ``torchrun`` would have it.

    Args:
        function: What each of them calls.
        arguments: Of the function.
        size: K.
        **environment: Further variables.
    """

    def __init__(self, function: Callable[..., object], *arguments: Any, size: int = 2, **environment: str) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        known = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            **environment,
        }
        self.ranks: list[BaseProcess] = []
        for rank in range(size):
            env = {**known, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            self.ranks.append(PROCESSES.Process(target=as_rank, args=(env, function, arguments)))
            self.ranks[-1].start()

    def codes(self) -> list[int | None]:
        """Waits for all of them; their exit codes."""
        for rank in self.ranks:
            rank.join(PATIENCE)
        return [rank.exitcode for rank in self.ranks]


def as_rank(environment: dict[str, str], function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    function(*arguments)


def command(words: list[str], output: Path) -> NoReturn:
    """A command line, its output in a file for each rank."""
    with Path(f"{output}{os.environ['RANK']}").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(main(words))
