"""Progress on the terminal: a live line, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn

from rltrain.trackers import Tracker

LIVE_EVERY = 0.1  # s between two pictures on a terminal
PLAIN_EVERY = 5.0  # s between two plain lines

WORDS = {
    "rollout/ep_rew_mean": "mean return",
    "rollout/success_rate": "success rate",
    "eval/mean_reward": "evaluation",
}


class ConsoleTracker(Tracker):
    """Steps, speed, mean return and time left.

    Args:
        total_timesteps: Environment steps the run goes to.
        start_step: Environment steps done before, when the run was resumed.
        title: What is being trained.
        stream: Where to write; a terminal or notebook shows a live line, anything else plain lines.
    """

    def __init__(
        self, total_timesteps: int, *, start_step: int = 0, title: str = "", stream: TextIO | None = None
    ) -> None:
        self._total = total_timesteps
        self._start = start_step
        self._started = time.perf_counter()
        self._shown_at = float("-inf")
        self._step = start_step
        self._latest: dict[str, float] = {}
        self._console = Console(file=stream or sys.stderr)
        self._live: Live | None = None
        if self._console.is_terminal or self._console.is_jupyter:
            columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[line]}"))
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task(title, total=total_timesteps, completed=start_step, line="")
            self._live = Live(self._progress, console=self._console, auto_refresh=False)
            self._live.start()
        else:
            self._say(title)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Notes the metrics; shows them if it is time."""
        self._step = step
        self._latest.update((tag, metrics[tag]) for tag in WORDS if tag in metrics)
        now = time.perf_counter()
        if now - self._shown_at >= (LIVE_EVERY if self._live else PLAIN_EVERY):
            self._shown_at = now
            self._show()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Nothing more to show: the command prints the result."""

    def close(self) -> None:
        """Shows where the run ended and leaves the terminal in order."""
        if self._shown_at != float("inf"):
            self._shown_at = float("inf")
            self._show()
            if self._live is not None:
                self._live.stop()

    def _show(self) -> None:
        line = self._line()
        if self._live is not None:
            self._progress.update(self._task, completed=self._step, line=line)
            self._live.refresh()
        else:
            self._say(f"  {line}")

    def _line(self) -> str:
        elapsed = time.perf_counter() - self._started
        speed = (self._step - self._start) / max(elapsed, 1e-9)
        parts = [f"{self._step:,}/{self._total:,} steps", f"{speed:,.0f} steps/s"]
        parts += [f"{words} {self._latest[tag]:.4g}" for tag, words in WORDS.items() if tag in self._latest]
        if speed > 0 and self._step < self._total:
            parts.append(f"eta {_clock((self._total - self._step) / speed)}")
        return "   ".join(parts)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
