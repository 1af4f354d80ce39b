"""An export from a run to a file: loads the policy, writes the file in one step, measures it and describes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rltrain.errors import ConfigError
from rltrain.export.description import lineage_of, path_of, versions_of, write_description
from rltrain.export.whole_policy import WholePolicy
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import step_name
from rltrain.runs.policy import Policy, load
from rltrain.storage.files import reason
from rltrain.storage.making import replacing

Run: TypeAlias = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""Runs an exported policy: inputs by name to outputs by name."""

CALLS, SECONDS = 200, 0.5
"""The median of so many calls is a latency, or of those that fit into so many seconds."""


class Job:
    """An export.

    Args:
        run: A run folder, or a checkpoint directory in it.
        out: The file; if None, ``policy_<step>`` in the run folder.
        ending: What its name must end with.
        checkpoint: ``latest``, ``best``, or a step.
        narrow: Whether all numbers have 32 bits.

    Attributes:
        policy: The policy, on the CPU.
        module: The whole of it.
        path: The file.

    Raises:
        ConfigError: There cannot be such a file.
        CheckpointError: There is no such run or checkpoint.
    """

    def __init__(
        self, run: str | Path, out: str | Path | None, ending: str, *, checkpoint: str, narrow: bool = False
    ) -> None:
        self.folder = RunFolder.open(run)[0]
        self.policy: Policy = load(run, checkpoint=checkpoint)
        default = self.folder.path / f"policy_{step_name(self.policy.step)}{ending}"
        self.path = default if out is None else Path(out)
        if not self.path.name.endswith(ending) or self.path.name == ending:
            raise ConfigError(f"'{self.path}' does not end with {ending}.", f"Name a file such as {default.name}.")
        if self.path.is_dir():
            raise ConfigError(f"'{self.path}' is a folder.", f"Name a file in it: {self.path / default.name}.")
        self.module = WholePolicy(self.policy, narrow=narrow)

    @contextmanager
    def writing(self, path: Path | None = None) -> Iterator[Path]:
        """A new file that replaces the one to be written, or another ``path``, on success.

        Raises:
            ConfigError: It cannot be written.
        """
        path = path or self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                yield temporary
        except OSError as error:
            raise _cannot_write(path, error) from error

    def finish(
        self,
        kind: str,
        run: Run,
        by: str,
        facts: Mapping[str, Any],
        path: Path | None = None,
        *,
        rows: tuple[int, ...] = (1, 64),
    ) -> str:
        """Describes a file that was written.

        Args:
            kind: The format.
            run: Runs what was written.
            by: What runs it, in words.
            facts: What the format has to say about itself; ``packages`` are those whose versions are kept.
            path: The file, unless it is that of the export.
            rows: Numbers of observations that the latency of a call is measured for.

        Returns:
            Its size and its latency, in words.

        Raises:
            ConfigError: The description cannot be written.
        """
        path, facts = path or self.path, dict(facts)
        times = {number: latency(run, self.module.examples(number)) * 1e6 for number in rows}
        facts["versions"] = versions_of(*facts.pop("packages", ()))
        facts["lineage"] = lineage_of(self.policy, self.folder)
        facts["latency_us"] = {f"rows_{number}": round(time, 1) for number, time in times.items()}
        try:
            write_description(path, kind, self.policy, self.module.signature, facts)
        except OSError as error:
            raise _cannot_write(path_of(path), error) from error
        said = " and ".join(f"{time:,.0f} us for {number}" for number, time in times.items())
        return f"{path.stat().st_size:,} bytes, a call by {by} takes {said} at once"


def latency(run: Run, inputs: Mapping[str, np.ndarray]) -> float:
    """Seconds of a call: the median of :data:`CALLS`, after some that do not count."""
    for _ in range(3):
        run(inputs)
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < CALLS and (not times or time.perf_counter() < end):
        start = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"'{path}' cannot be written: {reason(error)}.", "Choose another --out.")
