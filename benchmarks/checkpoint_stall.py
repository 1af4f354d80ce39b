"""Measures for how long training stands still while a large replay is saved.

    python -m benchmarks.checkpoint_stall                      # MinAtar Breakout, 1,000,000 places: 415 MB
    python -m benchmarks.checkpoint_stall --places 100000 --save-every 20000

DQN fills its replay by random actions and trains on. The first checkpoint comes when the replay is full, and has to
write all of it; the others write what has changed since the one before. The stall is how much longer the iteration
with the save took than the median of those without: by the clock, and by the processor time of the training thread
alone, which other programs on the machine do not lengthen. The longest iteration until the next save is given too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import rltrain
from rltrain.runs.segments import SEGMENT

NUM_ENVS = 64


class Iteration(NamedTuple):
    """From one update to the next."""

    seconds: float
    processor: float  # seconds of the training thread
    saved: int | None  # the step, if a checkpoint of it was begun
    writing: bool  # whether a checkpoint was being written at the end


class Stopwatch(rltrain.Callback):
    """Notes how long every iteration took, from update to update, and what was saved meanwhile."""

    def __init__(self) -> None:
        self.iterations: list[Iteration] = []
        self.written: dict[int, tuple[float, float]] = {}  # by step: megabytes, seconds until it was there
        self._last, self._last_busy = time.perf_counter(), time.thread_time()
        self._saved: int | None = None
        self._begun: dict[int, float] = {}

    def on_update(self, trainer: Any, metrics: Any) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        saved = trainer.saved_step if trainer.saved_step != self._saved else None
        if saved is not None:
            self._begun[saved] = now
        self.iterations.append(Iteration(now - self._last, busy - self._last_busy, saved, trainer.writer.busy))
        self._saved, self._last, self._last_busy = trainer.saved_step, now, busy

    def on_checkpoint(self, trainer: Any, path: Path) -> None:
        files = [file.stat() for file in path.glob(f"{SEGMENT}*")]
        step = int(path.name.removeprefix("step_"))
        took = time.perf_counter() - self._begun.get(step, time.perf_counter())
        self.written[step] = sum(file.st_size for file in files if file.st_nlink == 1) / 1e6, took
        self._last, self._last_busy = time.perf_counter(), time.thread_time()


def measure(places: int, save_every: int, saves: int, folder: Path) -> list[dict[str, float]]:
    """Trains, and returns a row for each checkpoint but the last, at the end of the run, which is waited for.

    Args:
        places: Of the replay.
        save_every: Environment steps between two checkpoints after the replay is full.
        saves: How many of those.
        folder: Where to.

    Returns:
        By name: ``step``, ``megabytes`` written, ``seconds`` until the checkpoint was there, and in milliseconds beyond
        the ``median`` iteration the ``stall``, the same in ``processor`` time, and the ``longest`` until the next save.
    """
    watch = Stopwatch()

    class Saves(rltrain.Callback):
        def on_rollout(self, trainer: Any) -> None:
            done = trainer.global_step - places - NUM_ENVS
            if 0 <= done // save_every <= saves and done % save_every < NUM_ENVS and done >= 0:
                trainer.config.save_freq = NUM_ENVS  # in this iteration
            else:
                trainer.config.save_freq = 0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rltrain.train(
            "dqn",
            "rltrain/MinAtar-Breakout-v1",
            total_timesteps=places + (saves + 1) * save_every,
            num_envs=NUM_ENVS,
            num_threads=1,
            save_freq=0,
            n_eval_episodes=0,
            trackers=[],
            progress=False,
            run_dir=folder,
            callbacks=[Saves(), watch],
            agent={
                "buffer_size": places,
                "learning_starts": places,
                "train_freq": 1,
                "gradient_steps": 1,
                "batch_size": 128,
                "exploration_final_eps": 0.5,
                "policy_kwargs": {"net_arch": [128]},
            },
        )
    learned = watch.iterations[-(saves + 1) * save_every // NUM_ENVS :]
    quiet = [each for each in learned if each.saved is None and not each.writing]
    median = statistics.median(each.seconds for each in quiet)
    busy = statistics.median(each.processor for each in quiet)
    rows: list[dict[str, float]] = []
    for each in watch.iterations:
        if each.saved in watch.written:
            megabytes, seconds = watch.written[each.saved]
            row = {
                "step": each.saved,
                "megabytes": megabytes,
                "seconds": seconds,
                "median": 1e3 * median,
                "longest": 0.0,
            }
            rows.append(row | {"stall": 1e3 * (each.seconds - median), "processor": 1e3 * (each.processor - busy)})
        elif rows:
            rows[-1]["longest"] = max(rows[-1]["longest"], 1e3 * (each.seconds - median))
    return rows


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=1_000_000, help="of the replay [1000000]")
    parser.add_argument("--save-every", type=int, default=100_000, help="steps between two checkpoints [100000]")
    parser.add_argument("--saves", type=int, default=3, help="checkpoints after the first [3]")
    parser.add_argument("--folder", type=Path, help="on the disk to measure [a temporary one]")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=parsed.folder) as folder:
        rows = measure(parsed.places, parsed.save_every, parsed.saves, Path(folder))
    names = ("written, MB", "stall, ms", "processor, ms", "longest until the next, ms", "median, ms", "there after, s")
    print(f"| step | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    for row in rows:
        cells = (row[name] for name in ("megabytes", "stall", "processor", "longest", "median", "seconds"))
        print(f"| {row['step']:,} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
