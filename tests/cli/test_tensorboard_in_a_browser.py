"""``rltrain tensorboard`` serves what a run wrote, and a browser shows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rltrain.cli import main
from rltrain.tracker import RunInfo
from rltrain.trackers.tags import charts_of
from rltrain.trackers.tensorboard import TensorBoardTracker
from rltrain.training.tracker_list import flatten

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), "")
RUN = "env/ppo_1"
CONFIG = {"algo": "ppo", "env": {"id": "rltrain/CartPole-v1"}, "agent": {"learning_rate": "lin_0.005"}, "seed": 0}
SERVE = [sys.executable, "-m", "rltrain", "tensorboard"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the events of a run."""
    folder = tmp_path_factory.mktemp("board") / "runs"
    (folder / RUN).mkdir(parents=True)
    tracker = TensorBoardTracker(RunInfo(folder / RUN, 100, config=CONFIG))
    tracker.hparams(flatten(CONFIG))
    tracker.layout(charts_of("ppo"))
    for step in range(10, 100, 10):
        tracker.log({"rollout/ep_rew_mean": float(step), "eval/mean_reward": float(step)}, step)
    tracker.text("session", "as **started**", 0)
    tracker.histogram("actions", np.arange(10.0), 50)
    tracker.image("eval/film", np.full((8, 8, 3), 200, np.uint8), 50)
    tracker.close()
    return folder


@pytest.fixture(scope="module")
def url(runs: Path) -> Iterator[str]:
    """The address of the runs."""
    server = subprocess.Popen([*SERVE, str(runs), "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = ""
    while "http://" not in line and server.poll() is None:
        line = server.stdout.readline()
    address = line.partition("http://")[2].split()[0]
    yield f"http://{address}"
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=60) == 130


def asked(url: str) -> dict[str, object]:
    answer: dict[str, object] = json.load(urllib.request.urlopen(url, timeout=20))
    return answer


def test_it_is_served_on_this_machine_alone(url: str) -> None:
    assert url.startswith("http://127.0.0.1:")
    tags: dict[str, object] = {}
    deadline = time.monotonic() + 60
    while RUN not in tags and time.monotonic() < deadline:
        time.sleep(0.2)
        tags = asked(f"{url}data/plugin/scalars/tags")
    described = tags[RUN]["rollout/ep_rew_mean"]["description"]  # type: ignore[index]
    assert "Mean return" in str(described)


RUN_COLOUR = np.array([255, 112, 67])
"""In which TensorBoard draws, and labels, what belongs to the first run."""


def drawn(picture: Path) -> int:
    """Pixels in the colour of the run, beside the bar at the top and the list of runs."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)[90:, 370:]
    return int((np.abs(pixels - RUN_COLOUR).sum(2) < 12).sum())


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open it with (Debian: apt install chromium)")
def test_a_browser_draws_what_was_written(url: str, tmp_path: Path) -> None:
    for tab in ("scalars", "custom_scalars", "images", "histograms", "text"):
        picture = tmp_path / f"{tab}.png"
        for _ in range(3):  # a loaded machine may not have drawn it in time
            subprocess.run(
                [
                    *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"),
                    *("--window-size=1500,1300", "--virtual-time-budget=12000"),
                    *(f"--screenshot={picture}", f"{url}#{tab}"),
                ],
                capture_output=True,
                timeout=120,
            )
            if picture.exists() and drawn(picture) > 200:
                break
        assert drawn(picture) > 200, tab


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["nowhere"], "There is no folder 'nowhere'."),
        (["empty"], "There is nothing of TensorBoard in 'empty'."),
        (["{runs}", "--port", "{taken}"], "is taken."),
        (["{runs}", "--port", "x"], "'x' is not a whole number"),
        (["{runs}", "--port", "99999"], "There is no port 99999."),
        (["{runs}", "--host", "no.such.place"], "Nobody can listen at no.such.place"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    words: list[str],
    cause: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("empty")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given = [word.format(runs=runs, taken=port) for word in words]
        assert main(["tensorboard", *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert cause in lines[0]
