"""The page shows films of the clips, keeps answers by keys, goes on after a kill, and is closed to other sites."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_preferences import CARTPOLE, asked
from PIL import Image, ImageSequence

from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.preferences.asking import ask
from rltrain.preferences.films import film_of, make_films
from rltrain.preferences.folder import Preferences
from rltrain.preferences.page import Labelling, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions with films."""
    prefs = asked(tmp_path_factory.mktemp("page") / "prefs", pairs=3, segment=6, episodes=3)
    make_films(prefs, [pair.name for pair in prefs.rounds()[0].pairs])
    return prefs.path


@pytest.fixture
def prefs(made: Path, tmp_path: Path) -> Preferences:
    return Preferences.open(shutil.copytree(made, tmp_path / "prefs"))


@pytest.fixture
def page(prefs: Preferences) -> Iterator[Page]:
    with Page(Labelling(prefs, [pair.name for pair in prefs.rounds()[0].pairs], "anna")) as served:
        threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True).start()
        yield served
        served.shutdown()


def send(page: Page, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=20)
    given = {"X-Token": page.token, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, None if body is None else json.dumps(body), given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def state(page: Page, path: str = "/api/state", body: Any = None) -> dict[str, Any]:
    status, content, _ = send(page, "GET" if body is None else "POST", path, body)
    assert status == 200, content
    found: dict[str, Any] = json.loads(content)
    return found


def test_answers_are_kept_and_taken_back(page: Page, prefs: Preferences) -> None:
    first, second, third = (pair.name for pair in prefs.rounds()[0].pairs)
    assert state(page)["next"] == first
    after = state(page, "/api/answer", {"pair": first, "choice": "left", "seconds": 1.25})
    assert (after["next"], after["then"], after["answered"], after["can_undo"]) == (second, third, 1, True)
    assert state(page, "/api/answer", {"pair": first, "choice": "right"})["answered"] == 1  # pressed twice
    assert [(each.pair, each.choice, each.seconds) for each in prefs.answers.current()] == [(first, "left", 1.25)]
    assert state(page, "/api/undo", {})["next"] == first
    assert prefs.answers.current() == []
    for pair in (first, second, third):
        last = state(page, "/api/answer", {"pair": pair, "choice": "equal"})
    assert (last["next"], last["answered"]) == (None, 3)


def test_another_server_goes_on_after_a_kill(page: Page, prefs: Preferences) -> None:
    names = [pair.name for pair in prefs.rounds()[0].pairs]
    state(page, "/api/answer", {"pair": names[0], "choice": "skip"})
    later = Labelling(Preferences.open(prefs.path), names, "anna").state()
    assert (later["next"], later["answered"], later["can_undo"]) == (names[1], 1, True)
    assert Labelling(prefs, names, "ben").state()["next"] == names[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Token": "wrong"},
        {"X_Token": ""},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_sites_are_kept_out(page: Page, prefs: Preferences, headers: dict[str, str]) -> None:
    pair = prefs.rounds()[0].pairs[0].name
    assert send(page, "GET", "/api/state", **headers)[0] == 403
    assert send(page, "GET", f"/api/film/{pair}/left", **headers)[0] == 403
    assert send(page, "POST", "/api/answer", {"pair": pair, "choice": "left"}, **headers)[0] == 403
    assert prefs.answers.current() == []


def test_the_page_itself_loads_nothing_from_elsewhere(page: Page) -> None:
    status, content, headers = send(page, "GET", "/", X_Token="")
    assert status == 200
    assert page.token.encode() not in content
    assert b"http" not in content.replace(b"http-equiv", b"")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert send(page, "GET", "/", Host="evil.example")[0] == 403
    assert page.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/nothing", None, 404),
        ("GET", "/api/film/0001-00000/up", None, 404),
        ("GET", "/api/film/..%2f..%2fanswers/left", None, 404),
        ("POST", "/api/nothing", {}, 404),
        ("POST", "/api/answer", {"pair": "0001-00000", "choice": "up"}, 422),
        ("POST", "/api/answer", [1], 400),
        ("POST", "/api/answer", {"pair": "x" * 5000}, 413),
    ],
)
def test_wrong_requests_are_refused(page: Page, method: str, path: str, body: Any, status: int) -> None:
    assert send(page, method, path, body)[0] == status
    assert state(page)["answered"] == 0


def test_films_show_what_was_recorded(made: Path) -> None:
    """A clip's pictures are those of the states in it: drawn again from the observations, they are the same."""
    import torch

    from rltrain.make import make_vec

    prefs = Preferences.open(made)
    asked_round = prefs.rounds()[0]
    vec = make_vec(CARTPOLE, 1, render=True)
    vec.reset(0)
    for pair in asked_round.pairs:
        with Image.open(film_of(prefs, pair.name, "left")) as film:
            shown = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]
        start = asked_round.dataset.episodes.start[pair.left.episode] + pair.left.start
        obs = asked_round.dataset.read("obs", int(start), int(start) + 1)[0]
        for name, value in zip(vec.state.__dataclass_fields__, obs, strict=False):
            setattr(vec.state, name, torch.tensor([value])) if not name.startswith("_") else None
        drawn = vec.render().numpy()
        picture = Image.fromarray(drawn)
        picture.thumbnail((360, 360), Image.Resampling.BOX)
        expected = np.asarray(picture).astype(int)
        assert np.abs(shown[0][: expected.shape[0]] - expected).mean() < 6
    assert make_films(prefs, [pair.name for pair in asked_round.pairs]) == 0


def test_episodes_of_gymnasium_are_filmed_alone(tmp_path: Path) -> None:
    ask(tmp_path / "p", "CartPole-v1", pairs=2, segment=5, episodes=5, num_envs=2)
    prefs = Preferences.open(tmp_path / "p")
    assert make_films(prefs, [pair.name for pair in prefs.rounds()[0].pairs]) == 4
    with Image.open(film_of(prefs, "0001-00000", "left")) as film:
        assert getattr(film, "n_frames", 1) > 1


def test_an_environment_that_does_something_else_is_not_filmed(tmp_path: Path, clean_registries: None) -> None:
    import gymnasium

    class Moody(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

        def __init__(self, render_mode: str | None = None) -> None:
            self.render_mode = render_mode

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.left = 8
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            self.left -= 1
            reward = float(np.random.default_rng().random())
            return np.zeros(1, np.float32), reward, self.left == 0, False, {}

        def render(self) -> Any:
            return np.zeros((8, 8, 3), np.uint8)

    gymnasium.register("Moody-v0", Moody)
    ask(tmp_path / "p", "Moody-v0", pairs=1, segment=3, episodes=2)
    with pytest.raises(ConfigError, match="does not do again what it did"):
        make_films(Preferences.open(tmp_path / "p"), ["0001-00000"])


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open it with (Debian: apt install chromium)")
def test_a_browser_shows_the_question_and_keeps_what_keys_say(page: Page, prefs: Preferences, tmp_path: Path) -> None:
    """A script in the page presses keys as a person would, and waits for each question to be shown."""
    page.html = page.html.replace("</script>", SCRIPT + "</script>")
    picture = tmp_path / "page.png"
    for _ in range(3):  # a loaded machine may not have drawn it in time
        subprocess.run(
            [
                *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"),
                *("--window-size=1100,800", "--virtual-time-budget=15000", f"--screenshot={picture}", page.url),
            ],
            capture_output=True,
            timeout=120,
        )
        if picture.exists() and len(prefs.answers.current()) == 2:
            break
    first, second, third = (pair.name for pair in prefs.rounds()[0].pairs)
    assert [(each.pair, each.choice) for each in prefs.answers.current()] == [(first, "right"), (second, "equal")]
    assert [each.choice for each in prefs.answers.lines() if each] == ["left", "undo", "right", "equal"]
    assert state(page)["next"] == third
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert (np.ptp(pixels.reshape(-1, 3), 0) > 100).all()  # films are drawn, not empty frames


SCRIPT = """
(async () => {
  const wait = async (past) => {
    while (!("pair" in document.body.dataset) || document.body.dataset.pair === past || busy)
      await new Promise((go) => setTimeout(go, 20));
    return document.body.dataset.pair;
  };
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
  let pair = await wait(null);
  for (const key of ["ArrowLeft", "u", "ArrowRight", "ArrowDown"]) {
    press(key);
    pair = await wait(pair);
  }
})();
"""


def test_the_verb_serves_until_a_signal_and_goes_on(prefs: Preferences) -> None:
    command = [sys.executable, "-m", "rltrain", "preferences", "label", str(prefs.path), "--labeller", "anna"]
    for number in range(2):
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        line = server.stdout.readline()
        assert f"{3 - number} questions for anna at http://127.0.0.1:" in line
        address, _, token = line.split(" at ")[1].split()[0].partition("/#")
        host = address.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=20)
        pair = prefs.rounds()[0].pairs[number].name
        connection.request("POST", "/api/answer", json.dumps({"pair": pair, "choice": "left"}), {"X-Token": token})
        assert connection.getresponse().status == 200
        server.send_signal(signal.SIGKILL if number == 0 else signal.SIGINT)
        assert server.wait(timeout=30) == (-9 if number == 0 else 0)
    assert len(prefs.answers.current()) == 2


def test_nothing_is_served_when_all_is_answered(prefs: Preferences, capsys: Any) -> None:
    assert main(["preferences", "label", str(prefs.path), "--oracle"]) == 0
    assert main(["preferences", "label", str(prefs.path)]) == 0
    assert "All questions are answered." in capsys.readouterr().out
    assert main(["preferences", "label", str(prefs.path), "--labeller", "a\tb"]) == 2
