"""What a server takes, and how it refuses the rest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """What a server takes.

    Attributes:
        body: Bytes of a request.
        rows: Observations in a request, and in a call of the policy.
        waiting: Observations that wait for the policy.
        sessions: Sessions that are open.
        session_seconds: After so many without a request a session is closed.
        request_seconds: A request that is not whole after so many is cut off.
    """

    body: int = 2**20
    rows: int = 256
    waiting: int = 1024
    sessions: int = 1024
    session_seconds: float = 600.0
    request_seconds: float = 30.0


class Refused(Exception):
    """A request that is not answered: its status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
