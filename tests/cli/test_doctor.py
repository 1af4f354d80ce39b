"""``rltrain doctor`` tells what there is, and what stands in the way."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import torch

from rltrain.cli import main
from rltrain.cli.doctor import advise


def test_the_machine_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    for text in (f"torch {torch.__version__}", torch.backends.cpu.get_cpu_capability(), "devices", "optuna", "minari"):
        assert text in output


def test_the_machine_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts.keys() == {"machine", "devices", "compiler", "extras", "advice"}
    assert facts["machine"]["threads"] == torch.get_num_threads()
    assert 1 <= facts["machine"]["cores"] <= (os.cpu_count() or 1)
    assert facts["devices"][0] == "cpu"
    assert {"sb3", "sweep", "wandb", "onnx", "serve"} <= facts["extras"].keys()
    assert "stable-baselines3 2" in facts["extras"]["sb3"]


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, []),
        ({"threads": 64}, ["set --num-threads 2"]),
        ({"shared_memory": 2**26}, ["--shm-size"]),
        ({"compiler": None}, ["Install g++"]),
        ({"extras": {"sweep": "optuna 1.0 is too old: >=4.0"}}, ["pip install --upgrade 'rltrain[sweep]'"]),
        ({"extras": {"sweep": "optuna is missing"}}, []),  # nobody needs everything
    ],
    ids=["nothing", "threads", "shared memory", "compiler", "old package", "missing package"],
)
def test_what_to_do(changes: dict[str, Any], advice: list[str]) -> None:
    machine = {"threads": 2, "cores": 2, "shared_memory": None}
    facts: dict[str, Any] = {"machine": machine, "compiler": "g++", "extras": {}, "devices": ["cpu"]}
    for name, value in changes.items():
        (machine if name in machine else facts)[name] = value
    found = advise(facts)
    assert len(found) == len(advice)
    for line, part in zip(found, advice, strict=True):
        assert part in line
