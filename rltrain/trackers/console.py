"""The progress of a run on the terminal."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers.sparkline import ASCII, BLOCKS, sparkline

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

SHOWN = {
    "rollout/ep_rew_mean": ("mean reward", "{:.1f}"),
    "rollout/success_rate": ("success", "{:.0%}"),
    "eval/mean_reward": ("eval", "{:.1f}"),
}
"""The metrics that are always shown, with their names and formats."""
DETAILS = {
    "train/approx_kl": ("KL", "{:.3f}"),
    "train/explained_variance": ("explained variance", "{:.2f}"),
    "train/q_target": ("Q", "{:.4g}"),
    "train/q_value": ("Q", "{:.4g}"),
    "train/ent_coef": ("temperature", "{:.3g}"),
    "rollout/exploration_rate": ("epsilon", "{:.2f}"),
    "system/memory_gib": ("memory", "{:.1f} GiB"),
    "system/device_memory_gib": ("on the device", "{:.1f} GiB"),
}
"""Those that a display which is redrawn shows too."""
RETURN = "rollout/ep_rew_mean"
BESIDE = ("time/eval_seconds", "time/video_seconds", "time/save_seconds")
WIDEST = 120  # columns

_REFRESH_PER_SECOND = 5  # at 1.4 ms each
_LINE_EVERY = 5.0  # seconds between two plain lines
_OBJECT_EVERY = 1.0  # seconds between two JSON objects
_LOOK_EVERY = 1.0  # seconds between two looks of the thread that writes lines while nothing comes
_SPEED_WINDOW = 10.0  # seconds that steps/s is averaged over
_CURVE = 2_000  # points of the curve of returns that are kept


class ConsoleTracker(Tracker):
    """A live display on a terminal or in a notebook; elsewhere a plain line every few seconds, and a last one.

    A call of :meth:`log` only stores the numbers; a thread of rich draws them. The setting ``log_format`` of the run
    asks for plain lines everywhere (``text``), or for JSON objects, one a line, at most one a second and a last one.
    While nothing is logged, as in a long update, a thread writes a line every few seconds all the same.
    The speed, and what it says of the time left, leave out evaluations, films and checkpoints.

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
        self._all: dict[str, float] = {}  # the last value of every metric
        self._curve: list[float] = []
        self._beside: float | None = None if run.resume_step else 0.0  # seconds beside training before this session
        self._format = str(run.config.get("log_format", "auto"))
        self._started = time.monotonic()
        self._speed = math.nan
        self._marks = deque([(self._started, self._step)])  # (seconds, step) of the last _SPEED_WINDOW
        console = Console(file=stream or sys.stderr, highlight=False)
        self._stream = console.file
        self._closed = False
        self._writing = threading.RLock()
        self._line_at = self._started  # when the last plain line was written
        self._step_at = self._started  # when a step was last heard of
        self._line = ""
        self._live = _live(console, self) if self._format == "auto" else None
        if self._live:
            self._live.start()
        elif self._format == "json":
            self._print(json.dumps({"run": str(run.run_dir), "title": run.title, "total_timesteps": self._total}))
        else:
            self._print(f"  {run.title}" if run.title else "")
        if self._live is None:
            self._over = threading.Event()
            thread = threading.Thread(target=_watch, args=(weakref.ref(self), self._over), daemon=True)
            thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Notes the numbers; they are drawn at the next refresh."""
        self._values.update((tag, float(metrics[tag])) for tag in (*SHOWN, *DETAILS) if tag in metrics)
        self._all.update((tag, float(value)) for tag, value in metrics.items())
        if RETURN in metrics:
            self._curve.append(float(metrics[RETURN]))
            if len(self._curve) > _CURVE:
                self._curve = self._curve[::2]
        now = time.monotonic() - self._seconds_beside()
        if step > self._marks[-1][1]:
            self._marks.append((now, step))
            while len(self._marks) > 2 and now - self._marks[0][0] > _SPEED_WINDOW:
                self._marks.popleft()
            self._measure(now, step)
        self.advance(step)

    def advance(self, step: int) -> None:
        """Notes the steps so far; a plain line is written if the last one is some seconds old."""
        wall = time.monotonic()
        if step > self._step:
            self._step, self._step_at = step, wall
            if len(self._marks) == 1:  # the first log point is still to come; later on speed includes learning
                self._measure(wall - self._seconds_beside(), step)
        if self._live is None:
            with self._writing:
                if wall - self._line_at >= (_OBJECT_EVERY if self._format == "json" else _LINE_EVERY):
                    self._line_at = wall
                    self._print_progress()

    def still(self) -> None:
        """Writes a plain line if the last one is some seconds old and no step has come since."""
        with self._writing:
            wall = time.monotonic()
            quiet = wall - max(self._line_at, self._step_at) >= _LINE_EVERY
            if quiet and not self._closed:
                self._line_at = wall
                self._print_progress(since=wall - self._step_at)

    def _seconds_beside(self) -> float:
        """Seconds of this session that evaluations, films and checkpoints took."""
        beside = sum(value for tag, value in self._all.items() if tag in BESIDE)
        if self._beside is None and self._all:  # the first metrics of a resumed run
            self._beside = beside
        return beside - (self._beside or 0.0)

    def _measure(self, now: float, step: int) -> None:
        """Computes the speed since the oldest log point that counts."""
        seconds, first = self._marks[0]
        self._speed = (step - first) / max(now - seconds, 1e-9)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Notes the final numbers."""
        self.log(metrics, self._step)

    def close(self) -> None:
        """Draws the last state, and leaves the terminal as it was found."""
        if self._closed:
            return
        self._closed = True
        if self._live is None:
            self._over.set()
            with self._writing:
                self._print_progress()
        else:
            self._live.refresh()  # rich draws the end by itself on a terminal, but not in a notebook
            self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The display, as rich draws it."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = min(options.max_width, WIDEST)
        yield Text(self.run.title, style="bold", overflow="fold")
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(self._total, min(self._step, self._total), width=max(8, min(32, width - 46))),
            Text(f"{min(self._step / self._total, 1):.0%}", style="bold"),
            f"{self._step:,}/{self._total:,} steps",
            Text(_clock(time.monotonic() - self._started), style="dim"),
        )
        yield bar
        blocks = BLOCKS if console.encoding.lower().startswith("utf") else ASCII
        if curve := sparkline(self._curve, width - 12, blocks=blocks):
            yield Text.assemble(("return      ", "dim"), curve)
        line = Text()
        for name, value in self._numbers(details=True):
            item = Text.assemble((f"{name} ", "dim"), value)
            if line and len(line) + 3 + len(item) > width:
                yield line
                line = Text()
            line = line + Text("   ") + item if line else item
        yield line

    def _numbers(self, *, details: bool = False) -> list[tuple[str, str]]:
        """The numbers to show, by name."""
        numbers = []
        if math.isfinite(self._speed):
            numbers.append(("steps/s", f"{self._speed:,.0f}"))
        for tag, (name, form) in SHOWN.items():
            if tag in self._values:
                numbers.append((name, form.format(self._values[tag])))
        if self._speed > 0 and self._step < self._total and not self._closed:
            numbers.append(("eta", _clock((self._total - self._step) / self._speed)))
        if details:
            shown = [(tag, form) for tag, form in DETAILS.items() if tag in self._values]
            numbers += [(name, form.format(self._values[tag])) for tag, (name, form) in shown]
        return numbers

    def _print_progress(self, since: float | None = None) -> None:
        """Writes the state of the run.

        Args:
            since: Seconds since the last step, to be told where they are many.
        """
        if self._format == "json":
            self._print(self._object())
            return
        parts = [f"{self._step:,}/{self._total:,} steps"]
        parts += [f"{value} {name}" if name == "steps/s" else f"{name} {value}" for name, value in self._numbers()]
        if since is not None:
            parts.append(f"last step {_clock(since)} ago")
        self._print("  " + "   ".join(parts))

    def _object(self) -> str:
        """The state of the run as JSON; numbers that are not finite are null."""
        going = self._speed > 0 and self._step < self._total and not self._closed
        state = {
            "step": self._step,
            "total_timesteps": self._total,
            "seconds": round(time.monotonic() - self._started, 3),
            "steps_per_second": round(self._speed, 1) if math.isfinite(self._speed) else None,
            "eta_seconds": round((self._total - self._step) / self._speed, 1) if going else None,
            "metrics": {tag: value if math.isfinite(value) else None for tag, value in dict(self._all).items()},
        }
        return json.dumps(state)

    def _print(self, line: str) -> None:
        """Writes a plain line unless it repeats the last one; ignores that the reader has closed the stream."""
        if line and line != self._line:
            self._line = line
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass


def _watch(tracker: weakref.ref[ConsoleTracker], over: threading.Event) -> None:
    """Writes a line now and then while nothing is logged, until the tracker is closed or gone."""
    while not over.wait(_LOOK_EVERY):
        if (shown := tracker()) is None:
            return
        shown.still()
        del shown


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
