"""What a job of Ray runs: ``python -m rltrain.cloud.ray_job --NAME=VALUE ... -- ALGO ENV ...``.

It asks Ray for so many machines, and starts the entry point of platforms on each of them, which starts the ranks by
``torchrun``. When a machine is lost it asks for others, and the run goes on from its newest checkpoint, as it does when
the same job is started again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rltrain.errors import ConfigError, RLTrainError, RunError
from rltrain.process.telemetry import switch_off
from rltrain.search.ray_pool import need_ray

RESTARTS = 3
"""How often other machines are asked for."""
WAIT = 10.0
"""Seconds after which it is told that the cluster has no room yet."""
GRACE = 60.0
"""Seconds that ranks have to save and end."""
NUMBERS = ("nodes", "ranks", "gpus", "seconds")
TEXTS = ("job", "gpu", "runs", "data", "model")
FIX = "Start it by the file that 'rltrain cloud ray' wrote."
OF_ENTRY = ("ranks", "runs", "data", "model")


@dataclass(frozen=True)
class Request:
    """What is asked of a cluster.

    Attributes:
        job: The name of the job, by which it finds its run again.
        nodes: Machines.
        ranks: Ranks on each, and the cores asked for.
        gpus: GPUs of each.
        gpu: Their type, by Ray's name.
        seconds: After how many seconds it is stopped.
        words: What the entry point is given.
    """

    job: str
    nodes: int
    ranks: int
    gpus: int
    gpu: str | None
    seconds: int
    words: Sequence[str]

    @property
    def bundle(self) -> dict[str, float]:
        """What is asked of each machine, in Ray's words."""
        found: dict[str, float] = {"CPU": self.ranks}
        if self.gpus:
            found["GPU"] = self.gpus
        if self.gpu is not None:
            found[f"accelerator_type:{self.gpu}"] = 0.001  # so that any number of jobs find room for it
        return found


def read(words: Sequence[str]) -> Request:
    """What was typed.

    Raises:
        ConfigError: Something is unknown or missing.
    """
    words = list(words)
    if "--" not in words:
        raise ConfigError("The job says nothing to train.", FIX)
    at = words.index("--")
    given: dict[str, str] = {}
    for word in words[:at]:
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in (*NUMBERS, *TEXTS) or not equals:
            raise ConfigError(f"A job of Ray knows no '{word}'.", f"It knows --{'=, --'.join((*NUMBERS, *TEXTS))}=.")
        if name in NUMBERS and not value.isdecimal():
            raise ConfigError(f"'{word}' is no number.", "Give a whole number.")
        given[name] = value
    if missing := [name for name in ("job", "runs") if name not in given]:
        raise ConfigError(f"A job of Ray needs --{missing[0]}=.", FIX)
    numbers = {"nodes": 1, "ranks": 1, "gpus": 0, "seconds": 24 * 3600}
    numbers |= {name: int(given[name]) for name in NUMBERS if name in given}
    own = [f"--{name}={numbers.get(name) or given[name]}" for name in OF_ENTRY if name in given or name == "ranks"]
    return Request(given["job"], gpu=given.get("gpu"), words=[*own, *words[at:]], **numbers)


class Machine:
    """An actor of Ray: a machine's share of a job."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def meeting(self) -> tuple[str, int]:
        """Address and port at which the ranks can meet here."""
        from ray.util import get_node_ip_address

        with socket.socket() as free:
            free.bind(("", 0))
            return get_node_ip_address(), free.getsockname()[1]

    def run(self, words: Sequence[str], env: Mapping[str, str]) -> int:
        """Starts the entry point; its exit code. It prints where Ray collects what is printed."""
        command = [sys.executable, "-m", "rltrain.cloud.entry", "ray", *words]
        self._process = subprocess.Popen(command, env={**os.environ, **env}, stdin=subprocess.DEVNULL)
        return self._process.wait()

    def stop(self) -> None:
        """Asks the ranks to save and to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


class Deadline:
    """Until when a job may go on: a signal, or the end of its time.

    Args:
        seconds: After how many seconds it ends.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._signal: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)  # an exception would be lost inside of Ray

    def _note(self, number: int, _: Any) -> None:
        self._signal = number

    @property
    def code(self) -> int | None:
        """The exit code once it is over; None before."""
        if self._signal is not None:
            return 128 + self._signal
        return 124 if time.monotonic() > self._end else None


def train(request: Request) -> int:
    """Trains on machines of the cluster; returns the exit code.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
        RunError: Machines were lost too often.
    """
    need_ray()
    switch_off()
    import ray

    try:
        ray.init("auto", logging_level="error")
    except ConnectionError as error:
        why = str(error).strip().partition("\n")[0]
        fix = "Run this on a machine of a cluster: the file of 'rltrain cloud ray' hands it over."
        raise ConfigError(f"There is no cluster of Ray: {why}", fix) from error
    deadline = Deadline(request.seconds)
    for attempt in range(RESTARTS + 1):
        code = _attempt(ray, request, deadline)
        if code is not None:
            return code
        _say(f"a machine was lost; asking for others ({attempt + 1} of {RESTARTS})")
    raise RunError("Machines were lost too often.", "Start the job again: it goes on from its newest checkpoint.")


def _attempt(ray: Any, request: Request, deadline: Deadline) -> int | None:
    """Trains on machines until the end; None where one is lost."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([request.bundle] * request.nodes, "STRICT_SPREAD" if request.nodes > 1 else "PACK")
    machines: list[Any] = []
    try:
        ready, told = [group.ready()], False
        while not ray.wait(ready, timeout=WAIT)[0]:
            if (code := deadline.code) is not None:
                return code
            if not told:
                _say(f"waiting for {request.nodes} machines with {request.bundle}, which the cluster has not free")
                told = True
        for index in range(request.nodes):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
            actor = ray.remote(num_cpus=request.ranks, num_gpus=request.gpus, max_concurrency=2)(Machine)
            machines.append(actor.options(scheduling_strategy=place).remote())
        first, port = ray.get(machines[0].meeting.remote())
        calls = []
        for index, machine in enumerate(machines):
            env = {"JOB": request.job, "NODES": request.nodes, "NODE": index, "FIRST": first, "PORT": port}
            calls.append(
                machine.run.remote(request.words, {f"RLTRAIN_{name}": str(value) for name, value in env.items()})
            )
        return _outcome(ray, machines, calls, deadline)
    except ray.exceptions.RayError:
        return None
    finally:
        for machine in machines:
            ray.kill(machine)
        remove_placement_group(group)


def _outcome(ray: Any, machines: Sequence[Any], calls: Sequence[Any], deadline: Deadline) -> int | None:
    """The exit code of a job; None where a machine was lost. The others are asked to stop, and waited for."""
    code: int | None = 0
    waiting = list(calls)
    while waiting and code == 0:
        done, waiting = ray.wait(waiting, timeout=1.0)
        for call in done:
            try:
                code = code or ray.get(call)
            except ray.exceptions.RayError:
                code = None
        if code == 0 and waiting:
            code = deadline.code or 0
    if waiting:
        for machine in machines:
            machine.stop.remote()
        ray.wait(waiting, num_returns=len(waiting), timeout=GRACE)
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Trains; returns the exit code."""
    try:
        return train(read(sys.argv[1:] if words is None else words))
    except RLTrainError as error:
        print(f"error: {error.cause}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
