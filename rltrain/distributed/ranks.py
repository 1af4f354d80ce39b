"""Ranks: processes that train one agent together, each with its share of the environments.

They are started by ``torchrun``, on any number of machines, or by ``--nproc`` on this one. Rank 0 alone writes, prints
and evaluates. Messages go through ``torch.distributed``, by gloo on the CPU and NCCL on GPUs, and through shared memory
on the CPU of a single machine. A process on its own is :data:`ALONE`, which costs nothing and does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rltrain.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class Ranks:
    """The interface of a rank, and the rank of a process on its own.

    Attributes:
        rank: Number of this rank, from 0.
        world_size: Number of ranks.
        local_world_size: Number of ranks on this machine.
    """

    rank = 0
    world_size = 1
    local_world_size = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The seed of this rank: the run's own on the first rank, and another one on each other rank."""
        if self.first:
            return seed
        from rltrain.rng import derive_seed

        return derive_seed(seed, "rank", self.rank)

    def device(self, name: str) -> str:
        """The device of this rank, given the device of the run."""
        return name

    def threads(self, number: int | None) -> int | None:
        """The number of CPU threads for torch, given the number asked for."""
        return number

    def share(self, what: str, number: int, fix: str) -> int:
        """An equal share of a number.

        Raises:
            ConfigError: It cannot be divided.
        """
        if number % self.world_size:
            raise ConfigError(f"{what}={number} cannot be divided equally among {self.world_size} ranks.", fix)
        return number // self.world_size

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the ranks."""
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Which of these are true on any rank."""
        return flags

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in order; they must be JSON values. Returns when all ranks have called it."""
        return [value]

    def broadcast_object(self, value: Any) -> Any:
        """The first rank's value; it must be a JSON value."""
        return self.gather(value if self.first else None)[0]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Writes the first rank's tensors over those of the others."""


ALONE = Ranks()


def is_first() -> bool:
    """Whether this is the first rank, or the only one; known before the ranks connect."""
    return os.environ.get("RANK", "0") == "0" or int(os.environ.get("WORLD_SIZE", 1)) == 1


def job_name() -> tuple[str, bool] | None:
    """The name of this process's job in ``torchrun``, and whether it should continue an earlier run.

    It should if the job has a name of its own, such as its number in Slurm, or if the process was started again after a
    failure.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    return name, name != "none" or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
