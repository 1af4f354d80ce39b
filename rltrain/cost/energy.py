"""Energy by codecarbon, offline: it reads the counters of processor and GPU, or guesses from what they are."""

from __future__ import annotations

import importlib
import logging
from importlib.metadata import version
from typing import Any, Protocol

from rltrain.naming.installed import need

ANYWHERE = "SWE"
"""codecarbon wants a country, for emissions, which nobody asks it for here; the energy does not depend on it."""


class Source(Protocol):
    """What tells the energy of this machine."""

    name: str

    def kwh(self) -> float:
        """Kilowatt hours since it was made."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class EnergyTracker:
    """codecarbon's offline tracker of the whole machine. It writes no files and talks to nobody.

    Raises:
        ConfigError: codecarbon is not installed.
    """

    def __init__(self) -> None:
        self.check()
        codecarbon = importlib.import_module("codecarbon")
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # which its import has set
        self.name = f"codecarbon {version('codecarbon')}"
        self._kwh, self._closed = 0.0, False
        self._tracker: Any = codecarbon.OfflineEmissionsTracker(
            country_iso_code=ANYWHERE,
            save_to_file=False,
            save_to_api=False,
            log_level="critical",
            tracking_mode="machine",
            allow_multiple_runs=True,
        )
        self._tracker.start_task()

    @staticmethod
    def check() -> None:
        """Raises a ConfigError if codecarbon is not installed."""
        need("codecarbon", install="rltrain[energy]")

    def kwh(self) -> float:
        """Kilowatt hours since it was made."""
        if not self._closed:
            self._kwh += float(self._tracker.stop_task().energy_consumed)
            self._tracker.start_task()
        return self._kwh

    def close(self) -> None:
        """Ends it."""
        if not self._closed:
            self._kwh += float(self._tracker.stop_task().energy_consumed)
            self._closed = True
            self._tracker.stop()
