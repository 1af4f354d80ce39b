"""What ``GET /metrics`` tells, as text for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Monitor:
    """The counters of a server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rltrain_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "rltrain_predict_seconds", "Seconds from request to answer.", buckets=SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "rltrain_batch_rows", "Observations in a call of the policy.", buckets=ROWS, registry=self.registry
        )
        self.waiting = Gauge("rltrain_waiting_rows", "Observations that wait for the policy.", registry=self.registry)
        self.sessions = Gauge("rltrain_sessions", "Sessions that are open.", registry=self.registry)

    def count_lost(self, lost: Callable[[], int]) -> None:
        """Adds the number of decisions that could not be logged."""
        gauge = Gauge("rltrain_lost_decisions", "Decisions that could not be logged.", registry=self.registry)
        gauge.set_function(lost)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
