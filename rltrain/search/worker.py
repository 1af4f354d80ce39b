"""A process that trains trials for a sweep: reads tasks as lines of JSON, and answers with their evaluations."""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

import torch

from rltrain.callbacks import Callback, Training
from rltrain.errors import RLTrainError
from rltrain.plugins import discover, register_tracker
from rltrain.settings import build_config, canonical, parse_yaml
from rltrain.tracker import Tracker
from rltrain.training.launch import start
from rltrain.training.multi_seed import start_seeds
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult

TRACKER = "sweep"
"""The name of the tracker that reports evaluations to the sweep."""


class Channel:
    """What a task and the sweep tell each other.

    Args:
        send: Called with every answer.

    Attributes:
        task: The number of the task.
        stopped: The numbers of tasks that are not worth going on with.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self.task = -1
        self.stopped: set[int] = set()
        self._send = send

    def say(self, **answer: Any) -> None:
        """Answers the sweep."""
        self._send({"task": self.task, **answer})


class Pipes(Channel):
    """The same over standard input and output.

    Attributes:
        tasks: The tasks that are to be done.
    """

    def __init__(self) -> None:
        super().__init__(self._write)
        self.tasks: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what environments print
        threading.Thread(target=self._listen, daemon=True).start()

    def _write(self, answer: dict[str, Any]) -> None:
        """Writes an answer; ends the process if the sweep has gone."""
        try:
            self._answers.write(json.dumps(answer) + "\n")
            self._answers.flush()
        except OSError:
            os._exit(1)

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "stop" in message:
                self.stopped.add(message["stop"])
            else:
                self.tasks.put(message)
        os._exit(0)  # the sweep has ended, or was killed


class Report(Tracker):
    """Reports every evaluation to the sweep."""

    channel: Channel

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if "eval/mean_reward" in metrics:
            value = float(metrics["eval/mean_reward"])
            self.channel.say(seed=self.run.config["seed"], step=step, value=value)


class Stop(Callback):
    """Ends a run that is not worth going on with."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def on_update(self, trainer: Training, metrics: Mapping[str, Any]) -> None:
        if self.channel.task in self.channel.stopped:
            trainer.stop()


def run(task: dict[str, Any], channel: Channel, run_dir: str | None = None) -> dict[str, Any]:
    """Trains for a task.

    Args:
        task: Its configuration, as YAML, and the number of seeds to train at once.
        channel: Where evaluations are reported.
        run_dir: The folder of all runs, if not that of the configuration.

    Returns:
        The score of each seed, or the error.
    """
    try:
        data = canonical(parse_yaml(task["config"], "the sweep"))
        config, _ = build_config(data["algo"], data["env"]["id"], data, base=({}, "the sweep"))
        config = config.model_copy(update={"trackers": [TRACKER], "run_dir": run_dir or config.run_dir})
        request = RunRequest(config, callbacks=[Stop(channel)], progress=False, num_seeds=task["seeds"])
        results = start_seeds(request) if task["seeds"] > 1 else {config.seed: start(request)}
        scores = {}
        for seed, result in results.items():
            if isinstance(result, RLTrainError):
                return {"error": result.cause}
            assert isinstance(result, RunResult)
            scores[seed] = result.evaluation.mean_reward if result.evaluation else None
        return {"scores": scores}
    except RLTrainError as error:
        return {"error": error.cause}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def prepare(channel: Channel, threads: int) -> None:
    """Makes this process ready for tasks."""
    Report.channel = channel
    discover()
    register_tracker(TRACKER, Report)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)


def main() -> None:
    """Does tasks until the sweep ends."""
    channel = Pipes()
    prepare(channel, int(sys.argv[1]))
    while True:
        task = channel.tasks.get()
        channel.task = task["task"]
        channel.say(**run(task, channel))


if __name__ == "__main__":
    main()
