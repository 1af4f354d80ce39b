"""A disk on which some operations fail: a stand-in for the calls of the system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
OPERATIONS = ("open", "write", "fsync", "ftruncate", "mkdir", "rename", "replace", "link")


class FailingDisk:
    """Within it, operations that write below a folder are counted, and some of them fail.

    Args:
        folder: The folder.
        fails: From the number of an operation, from 0, to whether it fails.
        error: The error that it fails with.
    """

    def __init__(self, folder: Path, fails: Callable[[int], bool] = lambda number: False, error: int = 0) -> None:
        self.folder, self.fails, self.error = str(folder), fails, error
        self.done: list[str] = []
        self._ours: set[int] = set()  # descriptors of files below the folder
        self._real: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> FailingDisk:
        for name in OPERATIONS:
            self._replace(os, name, self._instead_of(name, getattr(os, name)))
        close = os.close
        self._replace(os, "close", lambda handle: (self._ours.discard(handle), close(handle))[1])
        real = safetensors.torch.serialize_file  # type: ignore[attr-defined]
        self._replace(safetensors.torch, "serialize_file", self._tensors(real))
        return self

    def __exit__(self, *_: object) -> None:
        for where, name, real in reversed(self._real):
            setattr(where, name, real)

    def _replace(self, where: Any, name: str, function: Callable[..., Any]) -> None:
        self._real.append((where, name, getattr(where, name)))
        setattr(where, name, function)

    def _instead_of(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            if name in ("write", "fsync", "ftruncate"):
                counts = first in self._ours
            elif name == "open":
                counts = self._below(first) and bool(rest and rest[0] & os.O_CREAT)
            else:
                counts = self._below(first)
            if counts and self._fails(name):
                if name == "write":  # a part is written before the disk is full
                    real(first, bytes(rest[0])[: len(rest[0]) // 2])
                raise OSError(
                    self.error, os.strerror(self.error), *([str(first)] if isinstance(first, str | Path) else [])
                )
            answer = real(first, *rest, **named)
            if name == "open" and self._below(first):
                self._ours.add(answer)
            return answer

        return call

    def _tensors(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The library's own way to write, and its own error."""

        def call(data: Any, path: Any, *rest: Any, **named: Any) -> Any:
            real(data, path, *rest, **named)
            if self._below(path) and self._fails("tensors"):
                os.truncate(path, Path(path).stat().st_size // 2)
                said = os.strerror(self.error)
                raise SafetensorError(f"Error while serializing: I/O error: {said} (os error {self.error})")

        return call

    def _below(self, path: Any) -> bool:
        return isinstance(path, str | Path) and os.path.abspath(path).startswith(self.folder)

    def _fails(self, name: str) -> bool:
        self.done.append(name)
        return self.fails(len(self.done) - 1)
