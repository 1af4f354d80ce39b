"""Whether the code that runs is being compiled: some of it does the same in another way then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_recording = False


def is_compiling() -> bool:
    """Whether ``torch.compile`` traces the caller, or :class:`~rltrain.traced.Traced` records its operations."""
    return _recording or torch.compiler.is_compiling()


@contextmanager
def recording() -> Iterator[None]:
    """Says inside of the block that operations are being recorded."""
    global _recording
    _recording = True
    try:
        yield
    finally:
        _recording = False
