"""Nothing here phones home: every verb, and every tracker, runs in processes whose sockets are watched.

Python's own sockets are watched by an audit hook, in child processes too, and other connections of those processes, as
programs of Go or Rust make them, by looking at the tables of the system again and again.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from rltrain.cli.built_in import VERBS
from rltrain.plugins import discover, trackers
from rltrain.process.telemetry import NO_TELEMETRY

WATCHED = Path(__file__).parent / "watched"
TRAIN = "train ppo rltrain/CartPole-v1 --total-timesteps 64 --num-envs 2 --n-eval-episodes 1 --agent.n-steps 16"
RUN = "runs/rltrain-CartPole-v1/ppo_1"
COMMANDS = {
    "train": [f"{TRAIN} --agent.batch-size 32"],
    "sweep": ["sweep ppo rltrain/CartPole-v1 --trials 1 --total-timesteps 64 --num-envs 2"],
    "resume": [f"resume {RUN} --total-timesteps 128 --no-progress"],
    "eval": [f"eval {RUN} --episodes 2"],
    "watch": [f"watch {RUN} --out film.gif --max-steps 3"],
    "record": [f"record {RUN} --episodes 20 --out episodes"],
    "data": ["data show episodes", "data check episodes"],
    "runs": ["runs"],
    "show": [f"show {RUN}"],
    "compare": [f"compare {RUN} {RUN}"],
    "rm": ["rm nothing"],
    "plot": [f"plot {RUN} --out curve.png"],
    "report": ["report runs --out report.html"],
    "tensorboard": ["tensorboard --help"],
    "envs": ["envs", "envs rltrain/CartPole-v1"],
    "check": ["check rltrain/CartPole-v1"],
    "new-env": ["new-env mine"],
    "agents": ["agents"],
    "trackers": ["trackers"],
    "export": [f"export {RUN} --to onnx --out policy.onnx"],
    "serve": [f"serve {RUN} --host here"],
    "completion": ["completion bash"],
    "models": [
        f"models register pole {RUN}", "models promote pole", "models list", f"models card {RUN}", "models sbom pole@1"
    ],
    "drift": ["drift episodes episodes"],
    "retrain": ["retrain pole.yaml"],
    "hub": ["hub push pole@1 me/pole", "hub pull me --out x"],  # both refused before anybody is asked
    "import-sb3": ["import-sb3 nothing.zip"],
    "doctor": ["doctor"],
}  # fmt: skip
"""What is run of each verb, in this order, in one folder; of verbs that are not named here, the verb alone. Servers end
by a mistake."""


def watched(folder: Path) -> tuple[Path, dict[str, str]]:
    """The file with the calls, and the environment in which they are written down."""
    calls = folder / "calls.txt"
    env = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    env |= {"WATCHED": str(calls), "PYTHONPATH": str(WATCHED), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    for name in ("WANDB_API_KEY", "COMET_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_URI"):
        env.pop(name, None)
    return calls, env


def seen_by_the_system(process: psutil.Process) -> set[str]:
    """Where the sockets of a process and its children lead to, this machine left out."""
    found = set()
    with suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                for connection in each.net_connections("inet"):
                    if connection.raddr and not ipaddress.ip_address(connection.raddr[0]).is_loopback:
                        found.add(f"{each.name()} to {connection.raddr[0]}:{connection.raddr[1]}")
    return found


def run(command: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str, set[str]]:
    """Runs Python to its end; exit code, output, and the connections that the system has seen."""
    options: dict[str, Any] = {"cwd": folder, "env": env, "text": True}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            found.update(seen_by_the_system(psutil.Process(process.pid)))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        over.set()
        looking.join()
    return process.returncode, output, found


EACH = """
import sys
from rltrain.cli import main
for line in sys.argv[1:]:
    print("VERB", line, main(line.split()), flush=True)
"""
"""Runs command lines one after another, in one process because importing torch takes seconds."""


def test_every_verb_keeps_to_this_machine(tmp_path: Path) -> None:
    assert not set(COMMANDS) - set(VERBS)
    (tmp_path / "pole.yaml").write_text("model: pole\ncollect: {episodes: 20}\nreference_episodes: 20\n")
    calls, env = watched(tmp_path)
    lines = [line for several in COMMANDS.values() for line in several] + [*(set(VERBS) - set(COMMANDS))]
    code, output, found = run(["-c", EACH, *lines], tmp_path, env)
    assert (code, "Traceback" in output) == (0, False), output[-3000:]
    assert output.count("VERB ") == len(lines), output
    assert not calls.exists(), calls.read_text()
    assert not found
    wanted = (
        "learning_curve.png",
        "policy.safetensors",
        "report.html",
        "episodes/dataset.json",
        "card.md",
        "sbom.json",
    )
    for name in wanted:
        assert list(tmp_path.rglob(name)), f"{name} was not written, so its verb was not tried: {output}"


@pytest.mark.parametrize("name", ["wandb", "mlflow", "comet", "trackio", "dvclive"])
def test_every_tracker_keeps_to_this_machine(name: str, tmp_path: Path) -> None:
    discover()
    if trackers[name].missing:
        pytest.skip(f"{name} is not installed: {trackers[name].missing}")
    calls, env = watched(tmp_path)
    code, output, connections = run(["-m", "rltrain", *TRAIN.split(), "--trackers", name], tmp_path, env)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not calls.exists():  # what a tracker sends goes on for a while
        time.sleep(0.5)
    assert code == 0, output
    assert not calls.exists(), calls.read_text()
    assert not connections


def test_a_call_is_seen(tmp_path: Path) -> None:
    """In a child of a child, too; and what is near is let through."""
    code = (
        "import socket, subprocess, sys\n"
        "def child(code): subprocess.run([sys.executable, '-c', code])\n"
        "child(\"import socket; socket.create_connection(('192.0.2.1', 80), 1)\")\n"
        "child(\"import urllib.request as u; u.urlopen('http://example.invalid')\")\n"
        "socket.create_server(('127.0.0.1', 0)).close()\n"
        "socket.getaddrinfo('localhost', 80)\n"
    )
    calls, env = watched(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL, check=False, timeout=60)
    lines = calls.read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["'192.0.2.1'", "'example.invalid'"]
