"""Measures for how long training stands still while a large replay is saved.

    python -m benchmarks.checkpoint_stall                      # MinAtar Breakout, 1,000,000 places: 415 MB
    python -m benchmarks.checkpoint_stall --places 100000 --save-every 20000

DQN fills its replay by random actions and trains on. The first checkpoint comes when the replay is full, and has to
write all of it; the others write what has changed since the one before. The stall is how much longer the iteration
with the save took than the median of those without. While the thread writes, which takes processor time from training
if there is no core to spare, the longest iteration is given too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import rltrain
from rltrain.runs.segments import SEGMENT

NUM_ENVS = 64


class Stopwatch(rltrain.Callback):
    """Notes how long every iteration took, from update to update, and what was saved meanwhile."""

    def __init__(self) -> None:
        self.iterations: list[tuple[float, int | None, bool]] = []  # seconds, step saved in it, whether writing
        self.written: dict[int, tuple[float, float]] = {}  # by step: megabytes, seconds until it was there
        self._last = time.perf_counter()
        self._saved: int | None = None
        self._begun: dict[int, float] = {}

    def on_update(self, trainer: Any, metrics: Any) -> None:
        now = time.perf_counter()
        saved = trainer.saved_step if trainer.saved_step != self._saved else None
        if saved is not None:
            self._begun[saved] = now
        self.iterations.append((now - self._last, saved, trainer.writer.busy))
        self._saved, self._last = trainer.saved_step, now

    def on_checkpoint(self, trainer: Any, path: Path) -> None:
        files = [file.stat() for file in path.glob(f"{SEGMENT}*")]
        step = int(path.name.removeprefix("step_"))
        took = time.perf_counter() - self._begun.get(step, time.perf_counter())
        self.written[step] = sum(file.st_size for file in files if file.st_nlink == 1) / 1e6, took
        self._last = time.perf_counter()


def measure(places: int, save_every: int, saves: int, folder: Path) -> list[dict[str, float]]:
    """Trains, and returns a row for each checkpoint but the last, at the end of the run, which is waited for.

    Args:
        places: Of the replay.
        save_every: Environment steps between two checkpoints after the replay is full.
        saves: How many of those.
        folder: Where to.

    Returns:
        By name: ``step``, ``megabytes`` written, the ``stall`` and the ``longest`` iteration while the thread wrote,
        both beyond the median, and the ``median``, in milliseconds, and ``seconds`` until the checkpoint was there.
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
    median = statistics.median(seconds for seconds, saved, busy in learned if saved is None and not busy)
    rows, current = [], None
    for seconds, saved, _ in watch.iterations:
        beyond = 1e3 * (seconds - median)
        if saved is not None and saved in watch.written:
            megabytes, took = watch.written[saved]
            current = {"step": saved, "megabytes": megabytes, "stall": beyond, "longest": 0.0}
            rows.append(current | {"median": 1e3 * median, "seconds": took})
        elif rows and current is not None:
            rows[-1]["longest"] = max(rows[-1]["longest"], beyond)
    return rows[:-1] if rows and rows[-1]["step"] not in watch.written else rows


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
    print(
        "| step | written, MB | stall, ms | longest other iteration until the next, ms | median, ms | there after, s |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['step']:,} | {row['megabytes']:.1f} | {row['stall']:.1f} | {row['longest']:.1f} "
            f"| {row['median']:.2f} | {row['seconds']:.2f} |"
        )


if __name__ == "__main__":
    main()
