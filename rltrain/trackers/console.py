"""The progress of a run on the terminal."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

from rltrain.tracker import RunInfo, Tracker

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

SHOWN = {
    "rollout/ep_rew_mean": ("mean reward", "{:.1f}"),
    "rollout/success_rate": ("success", "{:.0%}"),
    "eval/mean_reward": ("eval", "{:.1f}"),
}
"""The metrics that are shown, with their names and formats."""

_REFRESH_PER_SECOND = 5  # at 1.4 ms each
_LINE_EVERY = 5.0  # seconds between two plain lines
_SPEED_WINDOW = 10.0  # seconds that steps/s is averaged over


class ConsoleTracker(Tracker):
    """A live display on a terminal or in a notebook; elsewhere a plain line every few seconds, and a last one.

    A call of :meth:`log` only stores the numbers; a thread of rich draws them.

    Args:
        run: The run; its title is the first line.
        stream: Where to write; ``sys.stderr`` when None.
    """

    def __init__(self, run: RunInfo, *, stream: TextIO | None = None) -> None:
        from rich.console import Console

        super().__init__(run)
        self._total = run.total_timesteps
        self._step = run.resume_step or 0
        self._values: dict[str, float] = {}
        self._started = time.monotonic()
        self._speed = math.nan
        self._marks = deque([(self._started, self._step)])  # (seconds, step) of the last _SPEED_WINDOW
        console = Console(file=stream or sys.stderr, highlight=False)
        self._stream = console.file
        self._closed = False
        self._line_at = self._started  # when the last plain line was written
        self._line = ""
        self._live = _live(console, self)
        if self._live:
            self._live.start()
        else:
            self._print(run.title)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Notes the numbers; they are drawn at the next refresh."""
        self._values.update((tag, float(metrics[tag])) for tag in SHOWN if tag in metrics)
        self.advance(step)

    def advance(self, step: int) -> None:
        """Notes the steps so far; a plain line is written if the last one is some seconds old."""
        now = time.monotonic()
        if step > self._step:
            self._step = step
            self._marks.append((now, step))
            while len(self._marks) > 2 and now - self._marks[0][0] > _SPEED_WINDOW:
                self._marks.popleft()
            seconds, first = self._marks[0]
            self._speed = (step - first) / max(now - seconds, 1e-9)
        if self._live is None and now - self._line_at >= _LINE_EVERY:
            self._line_at = now
            self._print_progress()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Notes the final numbers."""
        self.log(metrics, self._step)

    def close(self) -> None:
        """Draws the last state, and leaves the terminal as it was found."""
        if self._closed:
            return
        self._closed = True
        if self._live is None:
            self._print_progress()
        else:
            self._live.refresh()  # rich draws the end by itself on a terminal, but not in a notebook
            self._live.stop()

    def __rich__(self) -> RenderableType:
        """The display, as rich draws it."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(self._total, min(self._step, self._total), width=32),
            Text(f"{min(self._step / self._total, 1):.0%}", style="bold"),
            f"{self._step:,}/{self._total:,} steps",
            Text(_clock(time.monotonic() - self._started), style="dim"),
        )
        numbers = Text()
        for name, value in self._numbers():
            numbers.append(f"{name} ", style="dim").append(f"{value}   ")
        return Group(Text(self.run.title, style="bold"), bar, numbers)

    def _numbers(self) -> list[tuple[str, str]]:
        """The numbers to show, by name."""
        numbers = []
        if math.isfinite(self._speed):
            numbers.append(("steps/s", f"{self._speed:,.0f}"))
        for tag, (name, form) in SHOWN.items():
            if tag in self._values:
                numbers.append((name, form.format(self._values[tag])))
        if self._speed > 0 and self._step < self._total and not self._closed:
            numbers.append(("eta", _clock((self._total - self._step) / self._speed)))
        return numbers

    def _print_progress(self) -> None:
        parts = [f"{self._step:,}/{self._total:,} steps"]
        parts += [f"{value} {name}" if name == "steps/s" else f"{name} {value}" for name, value in self._numbers()]
        self._print("   ".join(parts))

    def _print(self, line: str) -> None:
        """Writes a plain line unless it repeats the last one; ignores that the reader has closed the stream."""
        if line and line != self._line:
            self._line = line
            try:
                self._stream.write(f"  {line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass


def _live(console: Console, content: ConsoleTracker) -> Live | None:
    """A display that redraws itself, or None if the output cannot be redrawn."""
    redrawable = console.file.isatty() and not console.is_dumb_terminal
    if console.is_jupyter:  # rich draws there with ipywidgets
        redrawable = find_spec("ipywidgets") is not None
    if not redrawable:
        return None
    from rich.live import Live

    return Live(
        content,
        console=console,
        refresh_per_second=_REFRESH_PER_SECOND,
        redirect_stdout=sys.stdout.isatty(),  # what is printed goes above the display, what is piped stays as it is
    )


def _clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
