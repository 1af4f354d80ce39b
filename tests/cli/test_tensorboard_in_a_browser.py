"""``rltrain tensorboard`` serves what a run wrote, and a browser shows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

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


class Recording(BaseHTTPRequestHandler):
    """Hands requests on to TensorBoard, and notes their paths."""

    behind = ""
    paths: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.hand_on(None)

    def do_POST(self) -> None:
        self.hand_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def hand_on(self, body: bytes | None) -> None:
        self.paths.append(urllib.parse.unquote(self.path))
        kind = {"Content-Type": self.headers["Content-Type"]} if self.headers["Content-Type"] else {}
        request = urllib.request.Request(self.behind.rstrip("/") + self.path, body, kind)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, content, kind = answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), dict(error.headers)
        self.send_response(status)
        for name in ("Content-Type", "Content-Encoding"):
            if name in kind:
                self.send_header(name, kind[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


SHOWN = {
    "timeseries": "/data/plugin/timeseries/timeSeries",
    "custom_scalars": "/data/plugin/custom_scalars/scalars?tag=rollout/ep_rew_mean&run=env/ppo_1",
    "images": "/data/plugin/images/individualImage",
    "histograms": "/data/plugin/histograms/histograms?",
    "text": "/data/plugin/text/text?",
    "hparams": "/data/plugin/hparams/session_groups",
}
"""By tab, what the page asks the server for when it draws what we have written."""


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open it with (Debian: apt install chromium)")
def test_a_browser_draws_every_tab(url: str, tmp_path: Path) -> None:
    handler = type("Handler", (Recording,), {"behind": url, "paths": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        for tab, path in SHOWN.items():
            for _ in range(3):  # a loaded machine may not have drawn it in time
                subprocess.run(
                    [
                        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"),
                        *("--window-size=1400,1200", "--virtual-time-budget=20000"),
                        f"--screenshot={tmp_path / tab}.png",
                        f"http://127.0.0.1:{proxy.server_port}/#{tab}",
                    ],
                    capture_output=True,
                    timeout=120,
                )
                if any(each.startswith(path) for each in handler.paths):
                    break
            assert any(each.startswith(path) for each in handler.paths), (tab, handler.paths)
            assert (tmp_path / f"{tab}.png").stat().st_size > 5_000
        proxy.shutdown()


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
