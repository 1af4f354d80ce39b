"""Energy by codecarbon: offline for real, in the bill, and asked for by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rltrain.cli import main
from rltrain.naming.installed import need

WATCHED = """
import os, socket, sys
from pathlib import Path

asked = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        asked.append((event, str(args[1:])))
sys.addaudithook(watch)

from rltrain.config import CostConfig
from rltrain.cost.meter import Meter

meter = Meter(CostConfig(energy=True, watts=1e9), machines=2.0)
total = 0
while meter.seconds < 1.0:
    total += sum(range(1000))
first, second = meter.bill(), meter.bill()
meter.close()
assert meter.bill()["energy_kwh"] >= second["energy_kwh"] >= first["energy_kwh"] > 0.0, (first, second)
assert second["energy_from"].startswith("codecarbon "), second
assert not asked, asked
assert not os.listdir("."), os.listdir(".")
"""


def test_codecarbon_opens_no_connection_and_writes_no_file(tmp_path: Path) -> None:
    pytest.importorskip("codecarbon", reason="the energy by codecarbon needs rltrain[energy]")
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_asks_codecarbon(tmp_path: Path) -> None:
    pytest.importorskip("codecarbon", reason="the energy by codecarbon needs rltrain[energy]")
    words = "--num-envs 4 --agent.n-steps 16 --agent.batch-size 64 --n-eval-episodes 0 --total-timesteps 64 --trackers"
    command = ["train", "ppo", "rltrain/CartPole-v1", *words.split(), "--cost.energy", "--run-dir", str(tmp_path)]
    assert main(command) == 0
    cost = json.loads(next(tmp_path.rglob("metadata.json")).read_text())["cost"]
    assert cost["energy_from"].startswith("codecarbon ")
    assert cost["energy_kwh"] >= 0.0
    assert cost["money"] is None


def test_without_codecarbon_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    monkeypatch.setattr("rltrain.cost.energy.need", lambda *_, **words: need("codecarbon_none", **words))
    command = ["train", "ppo", "rltrain/CartPole-v1", "--cost.energy", "--run-dir", str(tmp_path)]
    assert main(command) == 2
    assert "pip install 'rltrain[energy]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
