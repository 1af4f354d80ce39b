"""What rows about stopping and going on share: runs in processes that can be killed, and all that a run ended with."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from rltrain.cli import main
from rltrain.process.early import die_with
from rltrain.registry import agent_config_class
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints
from tests.bits import last_state

PATIENCE = 600.0  # seconds; only a run that hangs takes so long
ON_POLICY: dict[str, Any] = {"n_steps": 16, "batch_size": 64, "n_epochs": 1, "normalize_obs": True}
OFF_POLICY: dict[str, Any] = {
    "buffer_size": 1_200,
    "learning_starts": 200,
    "batch_size": 32,
    "gradient_steps": 1,
    "target_update_interval": 160,
}
RAINBOW = ("double_q", "dueling", "prioritized_replay", "distributional", "noisy")
SDE = ("use_sde", "distributional", "normalize_obs", "normalize_reward")
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {  # agents with options that are off by default
    "rainbow": ("dqn", {**dict.fromkeys(RAINBOW, True), "n_quantiles": 5, "n_steps": 3}),
    "sde": ("sac", {**dict.fromkeys(SDE, True), "n_quantiles": 5, "n_steps": 3, "train_freq": 4, "sde_sample_freq": 2}),
    "gru": ("ppo", {"policy_kwargs": {"memory": "gru", "memory_size": 8}}),
    "lstm": ("ppo", {"policy_kwargs": {"memory": "lstm", "memory_size": 8}}),
    "pqn-mingru": ("pqn", {"policy_kwargs": {"memory": "mingru", "memory_size": 8}}),
    "hindsight": ("dqn", {"n_sampled_goal": 4}),
    "cloning": ("bc", {"batch_size": 32, "gradient_steps": 2, "dropout": 0.1, "val_fraction": 0.2, "val_freq": 2}),
}


def small(algo: str) -> dict[str, Any]:
    """Settings of an agent, or of one of :data:`ALIASES`, for short runs, with all that has memory."""
    name, more = ALIASES.get(algo, (algo, {}))
    fields = agent_config_class(name).model_fields
    settings = OFF_POLICY if "buffer_size" in fields else ON_POLICY
    return {**{name: value for name, value in settings.items() if name in fields}, **more}


def name_of(algo: str) -> str:
    """The registered name of an agent, which may be one of :data:`ALIASES`."""
    return ALIASES[algo][0] if algo in ALIASES else algo


def words(verb: str, *positional: object, **options: Any) -> list[str]:
    """A command line."""

    def flags(values: dict[str, Any], prefix: str) -> list[str]:
        found: list[str] = []
        for name, value in values.items():
            flag = f"{prefix}{name.replace('_', '-')}"
            found += flags(value, f"{flag}.") if isinstance(value, dict) else [flag, str(value)]
        return found

    return [verb, *map(str, positional), *flags(options, "--"), "--no-progress"]


def start(command: list[str], folder: Path | None = None) -> BaseProcess:
    """Starts a command line in a process, and a process group, of its own, which ends with this one.

    Args:
        command: Its words.
        folder: Where it runs, if not here.
    """
    parent = os.getpid()

    def run() -> NoReturn:
        die_with(parent)
        os.setsid()
        os.chdir(folder or ".")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.exit(main(command))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def until(process: BaseProcess, true: Callable[[], object]) -> bool:
    """Waits until something is true; whether the process still runs then."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "nothing happened"
        if not process.is_alive():
            return False
        time.sleep(0.01)
    return process.is_alive()


def kill(process: BaseProcess, *runs: Path) -> bool:
    """Kills a process and all that it started, at once; whether none of its runs had ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    over = any(RunFolder(run).metadata().get("status") == "completed" for run in runs)
    return process.exitcode == -signal.SIGKILL and not over


def interrupt(process: BaseProcess, number: int) -> bool:
    """Sends a signal to a process and all that it started, as a terminal does; whether that ended its run."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, number)
    process.join(PATIENCE)
    assert process.exitcode in (0, 128 + number), f"left with {process.exitcode}"
    return process.exitcode != 0


def saved(run: Path) -> list[Path]:
    """The checkpoints of a run."""
    return list_checkpoints(run / "checkpoints")


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Fails at the first warning: what cannot be restored is said by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def assert_same(run: Path, expected: Path, ranks: int = 1) -> None:
    """Holds the last checkpoint of a run to that of another."""
    assert saved(run)[-1].name == saved(expected)[-1].name
    for rank in range(ranks):
        state, wanted = last_state(run, rank), last_state(expected, rank)
        differ = [name for name in wanted if state.get(name) != wanted[name]]
        assert state.keys() == wanted.keys(), sorted(state.keys() ^ wanted.keys())[:5]
        assert not differ, f"{len(differ)} of {len(wanted)} differ, the first: {differ[0]}"
