"""Questions go to Label Studio and Scale, and their answers come back; what is damaged or foreign is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse
from xml.etree import ElementTree

import pytest
from made_preferences import asked

from rltrain.cli import main
from rltrain.errors import DatasetError
from rltrain.preferences.folder import Preferences
from rltrain.preferences.label_studio import EQUAL, UNKNOWN, config_of, read_export

EXPORT = Path(__file__).parent / "label_studio_export.json"
"""What Label Studio 1.23 exported of a project with the interface and five tasks of ours, as JSON."""


@pytest.fixture
def prefs(tmp_path: Path) -> Preferences:
    return asked(tmp_path / "prefs", pairs=6, segment=6, episodes=4)


def said(prefs: Preferences) -> list[tuple[str, str, str]]:
    return [(each.pair, each.choice, each.labeller) for each in prefs.answers.current()]


def test_a_project_of_label_studio_has_two_videos_and_all_that_is_open(prefs: Preferences, tmp_path: Path) -> None:
    prefs.answers.add("0001-00000", "left", "anna")
    out = tmp_path / "studio"
    assert main(["preferences", "export", str(prefs.path), "--to", "label-studio", "--out", str(out)]) == 0
    tasks = json.loads((out / "tasks.json").read_text())
    assert [task["data"]["pair"] for task in tasks] == [f"0001-{number:05d}" for number in range(1, 6)]
    for task in tasks:
        for side in ("left", "right"):
            name = task["data"][side].removeprefix("/data/local-files/?d=studio/")
            assert (out / name).read_bytes()[4:8] == b"ftyp"
    interface = ElementTree.fromstring((out / "label_config.xml").read_text())
    (pairwise,) = interface.iter("Pairwise")
    videos = {video.get("name"): video.get("value") for video in interface.iter("Video")}
    assert str(pairwise.get("toName")).split(",") == list(videos) == ["left", "right"]
    assert list(videos.values()) == ["$left", "$right"]
    assert ElementTree.fromstring(config_of('Which "<&> one?')).find("Header").get("value") == 'Which "<&> one?'  # type: ignore[union-attr]


def test_what_label_studio_exported_is_read_once(prefs: Preferences, capsys: Any) -> None:
    for _ in range(2):
        assert main(["preferences", "import", str(prefs.path), str(EXPORT)]) == 0
    assert "0 answers added, 5 were there already" in capsys.readouterr().out
    assert [(pair, choice) for pair, choice, _ in said(prefs)] == [
        ("0001-00000", "left"),
        ("0001-00001", "right"),
        ("0001-00002", "equal"),
        ("0001-00003", "skip"),
        ("0001-00004", "skip"),
    ]
    assert len({labeller for _, _, labeller in said(prefs)}) == 1
    assert prefs.answers.current()[0].labeller.startswith("label-studio:")
    assert prefs.answers.current()[0].seconds is not None


def task(pair: str, *results: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"pair": pair}, "annotations": [{"result": list(results), "completed_by": 1, **more}]}


PAIRWISE = {"type": "pairwise", "value": {"selected": "left"}}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("no", "cannot be read"),
        ("{}", "no list of tasks"),
        ([{"data": {}}], "which was not asked about here"),
        ([task("0002-00000", PAIRWISE)], "which was not asked about here"),
        ([task("0001-00000")], "says nothing"),
        ([task("0001-00000", PAIRWISE, {"type": "choices", "value": {"choices": [EQUAL]}})], "says equal and left"),
        ([task("0001-00000", PAIRWISE, completed_by={"email": "a\nb"})], "no name of a labeller"),
        ([{"data": {"pair": "0001-00000"}}], "no annotations"),
        ([1], "has no data"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_export_of_ours_adds_nothing(prefs: Preferences, tmp_path: Path, content: Any, what: str) -> None:
    file = tmp_path / "export.json"
    file.write_text(content if isinstance(content, str) else json.dumps([task("0001-00001", PAIRWISE), *content]))
    with pytest.raises(DatasetError, match=what):
        read_export(file, {f"0001-{number:05d}" for number in range(6)})
    assert main(["preferences", "import", str(prefs.path), str(file)]) == 4
    assert said(prefs) == []


def test_an_answer_that_was_changed_there_is_changed_here(prefs: Preferences, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    for selected in ("left", "right"):
        file.write_text(json.dumps([task("0001-00001", {"type": "pairwise", "value": {"selected": selected}})]))
        assert main(["preferences", "import", str(prefs.path), str(file)]) == 0
    assert said(prefs) == [("0001-00001", "right", "label-studio:1")]
    assert UNKNOWN in config_of("?")


class Stub(BaseHTTPRequestHandler):
    """As much of Scale's API as the client asks for: making comparison tasks, and listing them."""

    tasks: dict[str, dict[str, Any]]

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/task/comparison" or not self.headers["Authorization"].startswith("Basic "):
            return self.reply(400, {"error": "what is this?"})
        if given["unique_id"] in self.tasks:
            return self.reply(409, {"error": "unique_id is taken"})
        task = {"task_id": f"t{len(self.tasks)}", "status": "pending", "type": "comparison", "params": given}
        self.tasks[given["unique_id"]] = {**task, "metadata": given["metadata"]}
        return self.reply(200, self.tasks[given["unique_id"]])

    def do_GET(self) -> None:
        asked_for = parse_qs(urlparse(self.path).query)
        if asked_for.get("project") != ["walk"]:
            return self.reply(404, {"error": "no such project"})
        found = [each for each in self.tasks.values() if [each["status"]] == asked_for.get("status")]
        return self.reply(200, {"docs": found, "total": len(found), "offset": 0, "limit": 100, "has_more": False})

    def reply(self, status: int, data: dict[str, Any]) -> None:
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The address of the stand-in, and its tasks."""
    if find_spec("scaleapi") is None:
        pytest.skip("the extra scale is not installed")
    handler = type("Fresh", (Stub,), {"tasks": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("SCALE_API_KEY", "live_0000")
        yield f"http://127.0.0.1:{server.server_port}/v1", handler.tasks  # type: ignore[attr-defined]
        server.shutdown()


def test_tasks_of_scale_are_made_once_and_answers_are_fetched(
    prefs: Preferences, scale: tuple[str, dict[str, dict[str, Any]]], capsys: Any
) -> None:
    url, tasks = scale
    at = ["--project", "walk", "--api-url", url]
    export = ["preferences", "export", str(prefs.path), "--to", "scale", "--base-url", "https://films.example/", *at]
    fetch = ["preferences", "import", str(prefs.path), "--from", "scale", *at]
    for made in (6, 0):
        assert main(export) == 0
        assert f"{made} tasks made in walk" in capsys.readouterr().out
    first, second, *_ = tasks.values()
    assert first["params"]["attachments"] == [
        f"https://films.example/0001-00000_{side}.mp4" for side in ("left", "right")
    ]
    assert first["params"]["choices"] == ["left", "right", EQUAL, UNKNOWN]
    assert (prefs.path / "films/0001-00000_left.mp4").exists()
    first.update(status="completed", response={"choice": "right"})
    second.update(status="completed", response={"choice": EQUAL})
    tasks["foreign"] = {**first, "task_id": "f", "metadata": {"pair": "0001-00003", "folder": "another"}}
    assert main(fetch) == 0
    assert said(prefs) == [("0001-00000", "right", "scale"), ("0001-00001", "equal", "scale")]
    second["response"] = {"choice": "both"}
    assert main(fetch) == 4
    assert "is answered with 'both'" in capsys.readouterr().err


def test_what_scale_refuses_is_said(prefs: Preferences, scale: tuple[str, Any], capsys: Any) -> None:
    words = ["preferences", "import", str(prefs.path), "--from", "scale", "--project", "nothing", "--api-url", scale[0]]
    assert main(words) == 3
    assert "no such project" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["export", "{}"], "It is not said what for."),
        (["export", "{}", "--to", "scail"], "There is no '--to scail'."),
        (["export", "{}", "--to", "label-studio"], "It is not said where to write."),
        (["export", "{}", "--to", "label-studio", "--out", "x", "--project", "y"], "are for Scale"),
        (["export", "{}", "--to", "scale", "--project", "y"], "where Scale finds the films"),
        (["import", "{}"], "It is not said which file."),
        (["import", "{}", "nowhere.json"], "cannot be read"),
        (["import", "{}", "--from", "scale"], "It is not said which project."),
    ],
)
def test_mistakes_are_said(prefs: Preferences, words: list[str], what: str, capsys: Any) -> None:
    assert main(["preferences", *(word.format(prefs.path) for word in words)]) in (2, 4)
    assert what in capsys.readouterr().err
