"""A process that trains trials for a sweep: reads tasks as lines of JSON, and answers with their evaluations."""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections.abc import Mapping
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
    """Tasks and answers.

    Attributes:
        tasks: The tasks that are to be done.
        stopped: The numbers of tasks that are not worth going on with.
    """

    def __init__(self) -> None:
        self.tasks: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.stopped: set[int] = set()
        self.task = -1
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what environments print
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **answer: Any) -> None:
        """Answers the sweep; ends the process if that has gone."""
        try:
            self._answers.write(json.dumps({"task": self.task, **answer}) + "\n")
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


def run(task: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Trains for a task, and returns the score of each seed, or the error."""
    try:
        data = canonical(parse_yaml(task["config"], "the sweep"))
        config, _ = build_config(data["algo"], data["env"]["id"], data, base=({}, "the sweep"))
        config = config.model_copy(update={"trackers": [TRACKER]})
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


def main() -> None:
    """Does tasks until the sweep ends."""
    channel = Channel()
    Report.channel = channel
    discover()
    register_tracker(TRACKER, Report)
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(sys.argv[1]))
    while True:
        task = channel.tasks.get()
        channel.task = task["task"]
        channel.say(**run(task, channel))


if __name__ == "__main__":
    main()
