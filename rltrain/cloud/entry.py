"""What the machines of a platform run: ``python -m rltrain.cloud.entry PLATFORM [--NAME=VALUE ...] [-- ALGO ENV ...]``.

It reads where it is, starts the ranks of its machine by ``torchrun``, and hands the policy over at the end. The ranks
are told the name of the job, so that a job that was interrupted, in whatever way, goes on from its newest whole
checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rltrain.cloud.mirror import Mirror, bring_back
from rltrain.cloud.place import Place, place_of
from rltrain.errors import CheckpointError, ConfigError, RLTrainError, RunError
from rltrain.process.early import die_with
from rltrain.runs.metadata import Metadata
from rltrain.runs.places import find_runs

RESTARTS = 3
OPTIONS = ("ranks", "runs", "data", "model", "mirror")
OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of the platform that torchrun sets anew."""
MODEL = "policy"


def main(words: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Trains; returns the exit code."""
    env = os.environ if env is None else env
    place: Place | None = None
    try:
        platform, options, arguments = read(sys.argv[1:] if words is None else words)
        if platform == "ray":  # whose actor may be killed, where the machine stays
            die_with(os.getppid(), number=signal.SIGTERM)
        place = place_of(platform, options, arguments, env)
        code = train(place, env)
        if code == 0 and place.node == 0 and place.model is not None:
            hand_over(place)
    except RLTrainError as error:
        print(f"error: {error.cause}\nfix: {error.fix}", file=sys.stderr)
        code = error.exit_code
    if code and place is not None and place.failure is not None:
        with suppress(OSError):
            place.failure.parent.mkdir(parents=True, exist_ok=True)
            place.failure.write_text(f"rltrain left with exit code {code}; its log says why.\n", encoding="utf-8")
    return code


def read(words: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """Platform, options and the arguments behind ``--``.

    What SageMaker adds of its own is left out: it hands hyperparameters over in two ways.

    Raises:
        ConfigError: Something is unknown.
    """
    words = list(words)
    if not words:
        raise ConfigError("The entry point is given no platform.", "Start it by the job file.")
    platform, own = words[0], words[1:]
    arguments: list[str] = []
    if "--" in own:
        at = own.index("--")
        own, arguments = own[:at], own[at + 1 :]
    if platform == "sagemaker":
        return platform, {}, arguments
    options = {}
    for word in own:
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in OPTIONS or not equals:
            raise ConfigError(f"The entry point knows no '{word}'.", f"It knows --{'=, --'.join(OPTIONS)}=.")
        options[name] = value
    return platform, options, arguments


def command_of(place: Place) -> list[str]:
    """The command that starts the ranks of this machine."""
    meeting = f"{place.first}:{place.port}" if place.nodes > 1 else "localhost:0"
    host = [f"--rdzv-conf=is_host={'true' if place.node == 0 else 'false'}"] if place.nodes > 1 else []
    data = [f"--data={place.data}"] if place.data is not None else []
    return [
        sys.executable,
        *("-m", "torch.distributed.run"),
        f"--nnodes={place.nodes}",
        f"--nproc-per-node={place.ranks}",
        f"--max-restarts={RESTARTS}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={meeting}",
        f"--rdzv-id={place.job}",
        *host,
        *("-m", "rltrain", "train"),
        *place.arguments,
        *data,
        f"--run-dir={place.runs}",
        "--no-progress",
    ]


def train(place: Place, env: Mapping[str, str]) -> int:
    """Runs the ranks of this machine to their end. A signal is handed on to them, and they save.

    Raises:
        RunError: The run folders cannot be brought back.
    """
    with ExitStack() as stack:
        try:
            place.runs.mkdir(parents=True, exist_ok=True)
            if place.mirror is not None:
                number = bring_back(place.mirror, place.runs)
                print(f"{number} files brought back from {place.mirror}", file=sys.stderr)
        except OSError as error:
            raise RunError(f"The run folders cannot be brought back: {error}.", "See whether it is mounted.") from error
        if place.mirror is not None:
            stack.enter_context(Mirror(place.runs, place.mirror))
        own = {name: value for name, value in env.items() if name not in OF_RANKS}
        process = subprocess.Popen(command_of(place), env=own)

        def hand_on(number: int, _: Any) -> None:
            process.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, hand_on))
        code = process.wait()
    return code if code >= 0 else 128 - code


def hand_over(place: Place) -> Path:
    """Puts the policy of the job's run where the platform collects it: as a version of a registry of its own.

    Raises:
        CheckpointError: There is no run of this job.
        RunError: It cannot be written.
    """
    from rltrain.model_registry.store import Registry

    assert place.model is not None
    run = run_of(place)
    try:
        place.model.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"'{place.model}' cannot be made: {error.strerror}.", "See that it may be written to."
        ) from error
    registry = Registry(place.model, MODEL)
    number = registry.register(run)
    path = place.model / MODEL / f"v{number}"
    print(f"the policy is in {path}", file=sys.stderr)
    return path


def run_of(place: Place) -> Path:
    """The newest run folder of the job.

    Raises:
        CheckpointError: There is none.
    """
    mine = []
    for path in find_runs(place.runs):
        with suppress(CheckpointError):
            if Metadata(path).read().get("job") == place.job:
                mine.append(path)
    if not mine:
        raise CheckpointError(f"There is no run of the job '{place.job}' in '{place.runs}'.", "Its log says why.")
    return max(mine, key=lambda path: path.stat().st_mtime)


if __name__ == "__main__":
    sys.exit(main())
