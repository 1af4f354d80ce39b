"""Connections that end when their client is too slow, so that a few idle ones cannot keep everybody else out."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class _Impatient(H11Protocol):
    """A connection whose requests must be whole, and whose answers must be taken, within some seconds.

    uvicorn itself waits for ever, except between two requests.
    """

    seconds: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):  # some of a request is here, and not all of it
            self._start()
        else:
            self._stop()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop()

    def _start(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.abort)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def impatient(limit: float) -> type[asyncio.Protocol]:
    """The protocol for ``uvicorn.Config(http=...)`` with so many seconds for a request, and for taking an answer."""
    return type("Impatient", (_Impatient,), {"seconds": limit})
