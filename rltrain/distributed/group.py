"""One of several ranks: it joins the others, exchanges messages with them, and notices when one has died.

torch is imported only if there are other ranks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.distributed.spawn import Starter
from rltrain.errors import ConfigError, RankFailed, RLTrainError, RunError

if TYPE_CHECKING:
    from torch import Tensor

    from rltrain.distributed.shared_memory import SharedMemory

PATIENCE = timedelta(days=7)
"""How long a rank waits for another, which may be evaluating or filming. A rank that died is noticed at once."""
MEETING = timedelta(minutes=10)
"""How long ranks wait for each other at the start."""

_meetings = 0  # the number of meetings of this process, so that each has its own keys in the store


class Group(Ranks):
    """One of several ranks.

    Args:
        rank: Its number, from 0.
        world_size: Number of ranks.
        local_world_size: Number of ranks on this machine.
        local_rank: Its number among those on this machine, from 0.
        store: The ``torch.distributed.Store`` by which they meet.
        starter: The starter of the other ranks, if this process started them.
    """

    def __init__(
        self, rank: int, world_size: int, local_world_size: int, local_rank: int, store: Any, starter: Starter | None
    ) -> None:
        import torch
        import torch.distributed as dist

        global _meetings
        _meetings += 1
        self.rank, self.world_size = rank, world_size
        self.local_rank, self.local_world_size = local_rank, local_world_size
        self._dist, self._torch, self._starter = dist, torch, starter
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)  # ignores the keys of an earlier try in the store
        self._store = dist.PrefixStore(f"rltrain/{again}/{_meetings}", store)
        if starter is not None:
            starter.wait(lambda: self._store.add("here", 0) == world_size - 1)
        else:
            self._store.add("here", 1)
        on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
        if on_gpus and local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        self._memory: SharedMemory | None = None
        with self._talking():
            backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
            dist.init_process_group(backend, store=self._store, rank=rank, world_size=world_size, timeout=PATIENCE)
        if local_world_size == world_size:
            self._memory = self._share_memory()

    def device(self, name: str) -> str:
        """A GPU of its own, or the CPU.

        Raises:
            ConfigError: All of them are asked to use the same GPU, or to use another accelerator than CUDA.
        """
        if name.partition(":")[0] not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"Ranks cannot train on '{name}'.", "Use --device cpu or cuda, or leave --nproc out.")
        if name.startswith("cuda:") and self.local_world_size > 1:
            raise ConfigError(
                f"{self.local_world_size} ranks on this machine would share '{name}'.", "Use --device cuda."
            )
        return f"cuda:{self.local_rank}" if name in ("auto", "cuda") and self._torch.cuda.is_available() else name

    def threads(self, number: int | None) -> int | None:
        """One, unless another number is asked for, because ranks on the same cores would slow each other down."""
        return number or (None if "OMP_NUM_THREADS" in os.environ else 1)

    def _share_memory(self) -> SharedMemory | None:
        """Memory shared by all ranks, if all are on this machine; None if one of them cannot open it."""
        from rltrain.distributed.shared_memory import SharedMemory

        path = self.broadcast_object(str(SharedMemory.make(self.world_size) or "") if self.first else None)
        memory = None
        if path:
            with suppress(OSError):
                memory = SharedMemory(Path(path), self.rank, self.world_size)
        (refused,) = self.any(memory is None)  # all have opened it, or tried to
        if path and self.first:
            Path(path).unlink()
        return None if refused else memory

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the ranks, bit for bit the same on all."""
        share = (tensor / self.world_size).contiguous()
        with self._talking():
            if self._memory is not None and self._memory.fits(share):
                return self._memory.gather(share).sum(0)
            self._dist.all_reduce(share)
        return share

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Which of these are true on any rank."""
        votes = self._torch.tensor(flags, dtype=self._torch.int32)
        with self._talking():
            if self._memory is not None:
                votes = self._memory.gather(votes).amax(0)
            else:
                self._dist.all_reduce(votes, op=self._dist.ReduceOp.MAX)
        return tuple(map(bool, votes.tolist()))

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in order; they must be JSON values. Returns when all ranks have called it."""
        torch = self._torch
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        with self._talking():
            self._dist.all_gather(sizes, torch.tensor([len(text)]))
            most = max(int(size) for size in sizes)
            texts = [torch.zeros(most, dtype=torch.uint8) for _ in range(self.world_size)]
            self._dist.all_gather(texts, torch.cat((text, text.new_zeros(most - len(text)))))
        return [json.loads(bytes(text[: int(size)].tolist())) for text, size in zip(texts, sizes, strict=True)]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Writes the first rank's tensors over those of the others."""
        with self._torch.no_grad(), self._talking():
            for tensor in tensors:
                packed = tensor.contiguous()
                self._dist.broadcast(packed, 0)
                tensor.copy_(packed)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Converts the error of a broken connection into the failure of the rank at its other end."""
        try:
            yield
        except RuntimeError as error:
            raise self._who_failed() or self._lost() from error

    def _who_failed(self) -> RankFailed | None:
        """The rank that failed first and reported why, if there is one."""
        try:
            said = json.loads(self._store.get("failed")) if self._store.check(["failed"]) else None
        except RuntimeError:  # the first rank, and the store with it, is gone
            said = {"rank": 0, "why": "is gone", "exit_code": RunError.exit_code}
        return said and RankFailed(f"Rank {said['rank']} failed: {said['why']}", exit_code=said["exit_code"])

    def _lost(self) -> RunError:
        """The error for a rank that died without a report."""
        who = self._starter.who_died() if self._starter is not None else None
        return RunError(
            f"{who or 'Another rank died'}, and the others cannot train without it.",
            "'rltrain resume' goes on from the last checkpoint; torchrun --max-restarts does so by itself.",
        )

    def blame(self, error: BaseException) -> RankFailed | None:
        """Reports to the others why this rank fails; returns another rank's failure if that came first."""
        if isinstance(error, RankFailed):
            return None
        code = error.exit_code if isinstance(error, RLTrainError) else RunError.exit_code
        said = {"rank": self.rank, "why": f"{type(error).__name__}: {error}", "exit_code": code}
        if isinstance(error, KeyboardInterrupt):
            said["exit_code"] = 130
        try:
            mine = json.dumps(said)
            first = self._store.compare_set("failed", "", mine).decode() == mine
        except RuntimeError:
            return self._who_failed()
        return None if first else self._who_failed()

    def leave(self) -> None:
        """Closes the connections, so that nobody waits for this rank any more."""
        if self._memory is not None:
            self._memory.leave()
        if self._dist.is_initialized():
            self._dist.destroy_process_group()


@contextmanager
def joined(nproc: int, command: Sequence[str] | None = None) -> Iterator[Ranks]:
    """Joins the ranks that this process belongs to.

    Args:
        nproc: Number of ranks on this machine; more than 1 are started here, unless ``torchrun`` has done so.
        command: The arguments of ``rltrain`` to start further ranks with.

    Raises:
        ConfigError: The number of ranks is not the one asked for.
        RankFailed: Another rank failed and reported why.
        RunError: Another rank was killed.
    """
    env = os.environ
    size = int(env.get("WORLD_SIZE", 1))
    if nproc > 1 and size > 1 and nproc != size:
        raise ConfigError(f"nproc={nproc} does not fit the {size} ranks that there are.", "Leave it out.")
    if size == 1 and nproc > 1 and command is None:
        raise ConfigError(
            f"nproc={nproc} needs {nproc} processes, and this is one.",
            f"Start the script by 'torchrun --nproc-per-node {nproc}', or use the command line.",
        )
    if max(size, nproc) == 1:
        yield ALONE
        return
    with ExitStack() as stack:
        group: Group
        if size > 1:
            from torch.distributed import rendezvous

            store, index, size = next(rendezvous("env://", timeout=MEETING))
            local = int(env.get("LOCAL_RANK", 0))
            group = Group(index, size, int(env.get("LOCAL_WORLD_SIZE", 1)), local, store, None)
        else:
            assert command is not None
            starter = stack.enter_context(Starter(nproc, command))
            group = Group(0, nproc, nproc, 0, starter.store, starter)
        stack.callback(group.leave)
        try:
            yield group
        except BaseException as error:
            if (other := group.blame(error)) is not None:
                raise other from error
            raise
