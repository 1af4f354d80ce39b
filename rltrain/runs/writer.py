"""Writes the checkpoints of a run, those that hold a ring in a thread beside training."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.errors import CheckpointError
from rltrain.ring import Ring
from rltrain.runs.checkpoint import save_checkpoint, segments_of
from rltrain.runs.segments import Segments


class CheckpointWriter:
    """Writes one checkpoint after another.

    If the training state holds a :class:`~rltrain.ring.Ring`, a thread writes it while training goes on. The thread
    that trains has the outcome from :meth:`poll`, between two updates, or from :meth:`finish`, which waits. All ranks
    call each of the methods together.

    Args:
        folder: The run's checkpoint folder.
        ranks: The ranks that train together.
    """

    def __init__(self, folder: Path, ranks: Ranks = ALONE) -> None:
        self.folder = folder
        self.ranks = ranks
        self.segments = Segments()
        self._job: Job | None = None

    def resume(self, checkpoint: Path) -> None:
        """Lets the next checkpoint share the segments of the one that was just loaded."""
        self.segments = segments_of(checkpoint)

    def begin(
        self,
        step: int,
        policy: Mapping[str, Tensor],
        training: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins to write a checkpoint; what it holds may change from then on.

        Args:
            step: Environment steps so far.
            policy: See :func:`~rltrain.runs.checkpoint.save_checkpoint`.
            training: The same.
            facts: The same.
            after: Called when the checkpoint is there.
        """
        if self._job is not None:
            raise RuntimeError("the checkpoint before is not finished")
        rings = _rings(training)
        for ring in rings:
            ring.freeze(self.segments.missing(ring))
        relay = Relay(self.ranks) if rings and self.ranks.world_size > 1 else None
        if rings:
            policy, training = _copied(policy), _copied(training)

        def write() -> Path:
            try:
                path = save_checkpoint(self.folder, step, policy, training, relay or self.ranks, facts, self.segments)
            finally:
                for ring in rings:
                    ring.release()
            after()
            return path

        self._job = Job(write, relay, beside=bool(rings))

    @property
    def busy(self) -> bool:
        """Whether a checkpoint was begun of which :meth:`poll` or :meth:`finish` has not told yet."""
        return self._job is not None

    def poll(self) -> Path | None:
        """The checkpoint that was begun, if it is there by now.

        Raises:
            CheckpointError: It could not be written.
        """
        return self._advance(wait=False)

    def finish(self) -> Path | None:
        """Waits for the checkpoint that was begun; None if there is none.

        Raises:
            CheckpointError: It could not be written.
        """
        return self._advance(wait=True)

    def close(self) -> None:
        """Ends writing after an error elsewhere: a process on its own completes the checkpoint, ranks give it up."""
        if (job := self._job) is not None:
            job.abandon()
            self._job = None

    def _advance(self, wait: bool) -> Path | None:
        while (job := self._job) is not None:
            if wait:
                job.still.wait()
            still = job.still.is_set()
            working, failed = self.ranks.any(not still, still and job.error is not None)
            if failed:
                self._job = None
                job.abandon()
                raise job.error or CheckpointError("Another rank could not write its checkpoint.", "See its error.")
            if working:
                return None
            if job.path is not None:
                self._job = None
                return job.path
            assert job.relay is not None
            job.relay.answer(self.ranks.gather(job.relay.value))
        return None


class Job:
    """The writing of a checkpoint.

    Args:
        write: Writes it.
        relay: What it exchanges with other ranks by, if there are any.
        beside: Whether in a thread of its own.

    Attributes:
        still: Set while it is over, or waits for the other ranks.
        path: The checkpoint, once it is there.
        error: Why it could not be written.
    """

    def __init__(self, write: Callable[[], Path], relay: Relay | None, *, beside: bool) -> None:
        self.write = write
        self.relay = relay
        self.still = threading.Event() if relay is None else relay.waits
        self.path: Path | None = None
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None
        if beside:
            self.thread = threading.Thread(target=self._run, name="checkpoint")
            self.thread.start()
        else:
            try:
                self.path = write()
            except CheckpointError as error:
                self.error = error
            self.still.set()

    def abandon(self) -> None:
        """Waits until the thread has ended; it gives up where it would wait for other ranks.

        What the ranks have answered already still reaches it, such as the error of another one.
        """
        while self.thread is not None and self.thread.is_alive():
            if self.relay is None:
                self.thread.join()
            elif self.relay.waits.wait(0.05):
                self.relay.answer(None)

    def _run(self) -> None:
        try:
            self.path = self.write()
        except BaseException as error:  # told by the thread that trains
            self.error = error
        self.still.set()


class Relay(Ranks):
    """The ranks as a thread beside training sees them: its messages go through the thread that trains.

    Messages must leave every rank in the same order, so one thread sends them all.

    Args:
        ranks: The ranks.

    Attributes:
        value: What is to be gathered.
        waits: Set while the thread waits for an answer.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.rank, self.world_size, self.local_world_size = ranks.rank, ranks.world_size, ranks.local_world_size
        self.value: Any = None
        self.waits = threading.Event()
        self._answered = threading.Event()
        self._answer: list[Any] | None = None

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks."""
        self.value = value
        self.waits.set()
        self._answered.wait()
        self._answered.clear()
        if self._answer is None:
            raise CheckpointError("The checkpoint was given up.", "See the error of another rank.")
        return self._answer

    def answer(self, values: list[Any] | None) -> None:
        """Gives the thread the values of all ranks; None makes it give up."""
        self._answer = values
        self.waits.clear()
        self._answered.set()


def _rings(tree: Any) -> list[Ring]:
    """The rings in nested mappings."""
    if isinstance(tree, Ring):
        return [tree]
    return [ring for branch in tree.values() for ring in _rings(branch)] if isinstance(tree, Mapping) else []


def _copied(tree: Any) -> Any:
    """The same nested mappings with copies of all tensors on the host, but the same rings."""
    if isinstance(tree, Ring):
        return tree
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _copied(value) for key, value in tree.items()}
    return copy.deepcopy(tree)
