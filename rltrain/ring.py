"""Large tensors that a checkpoint stores in segments: only those that changed, and while training goes on.

A :class:`Ring` stands in a training state where a plain dict of tensors would stand. Whoever keeps such tensors says
which segments have changed, by a :class:`SegmentLog`; the writer of checkpoints needs to know no more about them.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rltrain.tree import leaves, tree_map

SEGMENTS, LEAST, MOST = 64, 2**20, 2**24  # about so many, of at least and at most so many bytes


class Ring(dict[str, Any]):
    """Named trees of tensors (n, ...) that share their rows, cut into segments of ``size`` rows; the last has the rest.

    The tensors are those that training goes on to write to, not copies. A copy of a ring is a plain dict.

    Args:
        trees: The tensors.
        size: Rows of a segment.
        versions: A name for the content of each segment. Equal names mean equal content, over all sessions of a run.
        due: How many rows all heads can move on before they reach each segment; see :meth:`keep`.
        fresh: Whether nobody else has these tensors, as when they were just loaded.
    """

    def __init__(
        self,
        trees: dict[str, Any],
        size: int,
        versions: Sequence[str],
        due: Sequence[int] = (),
        *,
        fresh: bool = False,
    ) -> None:
        super().__init__(trees)
        self.size = size
        self.versions = list(versions)
        self.fresh = fresh
        self._due = list(due) or [0] * len(self.versions)
        self._lock = threading.Lock()
        self._copies: dict[int, dict[str, Any]] = {}
        self._left: set[int] = set()  # segments that are frozen, and neither read nor copied yet
        self._coming: list[int] = []  # the same and some more, those that the heads reach first at the end

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {name: tree_map(torch.clone, tree) for name, tree in self.items()}

    @property
    def rows(self) -> int:
        """Rows of each tensor."""
        return len(next(leaves(dict(self))))

    def order(self) -> list[int]:
        """The numbers of all segments, first those that the heads reach first."""
        return sorted(range(len(self.versions)), key=self._due.__getitem__)

    def freeze(self, wanted: Collection[int]) -> None:
        """Makes :meth:`segment` give what the rows hold now, whatever is written to them before they are read.

        Args:
            wanted: The segments that will be read for certain. If they are on an accelerator they are copied to the
                host now, because a second thread may not use it while a graph is captured.
        """
        first = next(leaves(dict(self)))
        with self._lock:
            self._left = set(range(len(self.versions)))
            self._coming = self.order()[::-1]
            if first.device.type != "cpu":
                for number in wanted:
                    self._copies[number] = tree_map(Tensor.cpu, self._slice(number))
                    self._left.discard(number)
        self.keep(0)

    def keep(self, rows: int) -> bool:
        """Copies the frozen segments that the heads may reach within ``rows`` rows from where they were.

        Called by the writer of the rows, before it writes.

        Returns:
            Whether it needs to be called any more.
        """
        while self._coming and self._due[self._coming[-1]] <= rows:
            with self._lock:
                number = self._coming.pop()
                if number in self._left:
                    self._copies[number] = tree_map(torch.clone, self._slice(number))
                    self._left.discard(number)
        return bool(self._coming and self._left)

    @contextmanager
    def segment(self, number: int) -> Iterator[dict[str, Any]]:
        """The trees of a segment, as they were when the ring was frozen; valid until the context ends."""
        with self._lock:
            copied = self._copies.pop(number, None)
            if copied is None:
                yield self._slice(number)
                self._left.discard(number)
        if copied is not None:
            yield copied

    def release(self) -> None:
        """Ends what :meth:`freeze` began."""
        with self._lock:
            self._left, self._copies = set(), {}

    def _slice(self, number: int) -> dict[str, Any]:
        rows = slice(number * self.size, (number + 1) * self.size)
        return {name: tree_map(lambda x: x[rows], tree) for name, tree in self.items()}


class SegmentLog:
    """Knows which segments of a ring (rows, N) have changed.

    Column k is written at its head alone, which moves on by one or two rows a step and comes round at the end. So where
    the heads were and where they are tell what was written in between, and no step does anything for it on the device.

    Args:
        rows: Rows of the ring.
        row_bytes: Bytes of a row, of all N columns together.
    """

    def __init__(self, rows: int, row_bytes: int) -> None:
        wanted = min(max(rows * row_bytes // SEGMENTS, LEAST), MOST)
        self.rows = rows
        self.size = min(max(wanted // max(row_bytes, 1), 1), rows)  # rows of a segment
        self._versions: list[str] = []
        self._used = 0  # rows that had been written to
        self._heads: Tensor | None = None  # (N,) rows of the heads when they were looked at last
        self._steps = 0  # since then
        self._ring: Ring | None = None  # given away then, and perhaps being saved

    def writing(self) -> None:
        """To be called before anything is written in a step."""
        if self._ring is not None and not self._ring.keep(2 * self._steps + 1):
            self._ring = None

    def stepped(self) -> None:
        """To be called after the heads have moved."""
        self._steps += 1

    def ring(self, trees: dict[str, Any], heads: Tensor, used: int) -> Ring:
        """The ring as it is now; segments that have changed since the last call get new versions.

        Args:
            trees: All of its tensors, (rows * N, ...).
            heads: (N,) rows of the heads.
            used: Rows that have been written to, from the first on.
        """
        if self._ring is not None:  # which is still being saved: what is left of it is not watched over any more
            self._ring.keep(self.rows)
        heads = heads.cpu()
        columns = len(heads)
        firsts = torch.arange(0, used, self.size)
        lengths = (used - firsts).clamp(max=self.size)
        changed = self._changed(firsts, lengths, heads)
        known = [*self._versions, *[None] * (len(firsts) - len(self._versions))]
        self._versions = [
            version if version and not new else secrets.token_hex(8)
            for version, new in zip(known, changed.tolist(), strict=False)
        ]
        self._heads, self._used, self._steps = heads, used, 0
        distance = (firsts.unsqueeze(1) - heads.unique()) % self.rows
        distance[_within(firsts, lengths, heads.unique())] = 0
        used_trees = tree_map(lambda x: x[: used * columns], trees)
        self._ring = Ring(used_trees, self.size * columns, self._versions, distance.amin(1).tolist())
        return self._ring

    def resume(self, ring: Ring, heads: Tensor) -> None:
        """Goes on from a ring that was loaded: what does not change keeps its versions."""
        columns = len(heads)
        if ring.size == self.size * columns and ring.rows % columns == 0:
            self._versions, self._used = list(ring.versions), ring.rows // columns
            self._heads, self._steps = heads.cpu(), 0

    def _changed(self, firsts: Tensor, lengths: Tensor, heads: Tensor) -> Tensor:
        """(segments,) bool: whether a segment has been written to, or grown, since the heads were looked at."""
        if self._heads is None or 2 * self._steps >= self.rows:  # a head may have gone all the way round
            return torch.ones(len(firsts), dtype=torch.bool)
        way = torch.stack((self._heads, (heads - self._heads) % self.rows)).unique(dim=1)
        reached = (firsts.unsqueeze(1) - way[0]) % self.rows <= way[1]
        grown = lengths > (self._used - firsts)
        return (reached | _within(firsts, lengths, way[0])).any(1) | grown


def _within(firsts: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
    """(segments, R) bool: whether each of the rows (R,) lies in each segment."""
    return (rows >= firsts.unsqueeze(1)) & (rows < (firsts + lengths).unsqueeze(1))
