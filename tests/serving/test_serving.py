"""The service: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from safetensors.numpy import load, save
from served import Client, counting_model, plain_model, serving

import rltrain
from rltrain.cli import main
from rltrain.export.signature import Array, Signature
from rltrain.serving.app import BINARY
from rltrain.serving.model import Served
from rltrain.serving.server import open_port
from rltrain.serving.sessions import NoRoom, Sessions

OBS = {"place": [0.5, -0.5], "door": 2}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(plain_model(), body=4096, rows=8) as client:
        yield client


def test_json(client: Client) -> None:
    status, answer, headers = client.ask("POST", "/predict", {"obs": OBS})
    assert (status, answer) == (200, {"action": 2})
    assert (headers["X-RLTrain-Model"], headers["X-RLTrain-Version"]) == ("plain-1", rltrain.__version__)
    several = [{**OBS, "door": door} for door in (3, 1, 2)]
    assert client.ask("POST", "/predict", {"observations": several})[1] == {"actions": [3, 1, 2]}


def test_a_bound_that_is_rounded() -> None:
    """The smallest number that is allowed, as it is written, is allowed: float32 knows it by another one."""
    tenth = spaces.Box(0.1, 0.7, (1,))
    signature = Signature((Array("obs", (1,), "float32"),), (), Array("action", (), "int64"))
    model = Served(lambda inputs: {"action": np.array([4])}, signature, tenth, spaces.Discrete(9), "tenth", "")
    with serving(model) as client:
        assert client.ask("POST", "/predict", {"obs": [0.1]})[1] == {"action": 4}
        assert client.ask("POST", "/predict", {"obs": [0.7]})[1] == {"action": 4}
        assert client.ask("POST", "/predict", {"obs": [0.0999999]})[0] == 422


def test_binary(client: Client) -> None:
    arrays = {"obs.door": np.array([1, 3]), "obs.place": np.zeros((2, 2), np.float32)}
    status, answer, headers = client.ask("POST", "/predict", save(arrays), content_type=BINARY)
    assert (status, headers["content-type"]) == (200, BINARY)
    assert load(answer)["action"].tolist() == [1, 3]
    arrays["obs.place"][1, 0] = 1.5
    status, answer, _ = client.ask("POST", "/predict", save(arrays), content_type=BINARY)
    assert (status, answer["error"]) == (422, "obs.place[0] of observation 1 = 1.5 is above 1.0.")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"obs": {**OBS, "door": 0}}, 422, "obs.door = 0 is below 1."),
        ({"obs": {**OBS, "door": 1.5}}, 422, "obs.door = 1.5 is no whole number."),
        ({"obs": {**OBS, "place": [0.5, 7]}}, 422, "obs.place[1] = 7.0 is above 1.0."),
        ({"obs": {**OBS, "place": [0.5]}}, 422, "obs.place has the shape (1,), expected (2,)."),
        ({"obs": {**OBS, "place": [0.5, "x"]}}, 422, "obs.place holds no numbers"),
        ({"obs": {**OBS, "place": [[0.5], [1, 2]]}}, 422, "obs.place is no array of numbers."),
        (b'{"obs": {"place": [NaN, 0], "door": 1}}', 422, "obs.place[0] is nan."),
        (b'{"obs": {"place": [1e300, 0], "door": 1}}', 422, "obs.place[0] is inf."),
        ({"obs": {"door": 1}}, 422, "'obs.place' is missing."),
        ({"obs": 3}, 422, "is missing."),
        ({"obs": OBS, "observations": [OBS]}, 422, "Give either 'obs', an observation, or 'observations'"),
        ({"observations": []}, 422, "a list of 1 to 8 observations"),
        ({"observations": [OBS] * 9}, 422, "a list of 1 to 8 observations"),
        ({"observation": OBS}, 422, "There is no 'observation' in a request."),
        ({"obs": OBS, "session": "x"}, 422, "no memory: leave 'session' out."),
        ({"obs": OBS, "episode_start": 1}, 422, "'episode_start' true or false."),
        (b"{", 400, "The body cannot be read: it is not JSON"),
        (b"[1]", 400, "it holds no JSON object"),
        (b'{"obs": ' + b"[" * 400 + b"]" * 400 + b"}", 400, "nested too deeply"),
        (b"x" * 5000, 413, "The body has more than 4,096 bytes."),
    ],
)
def test_nonsense_is_refused_with_the_reason(body: Any, status: int, said: str, client: Client) -> None:
    answered, answer, _ = client.ask("POST", "/predict", body)
    assert answered == status, answer
    assert said in answer["error"]
    assert client.ask("POST", "/predict", {"obs": OBS})[0] == 200  # and goes on


def test_other_bodies_and_paths(client: Client) -> None:
    assert client.ask("POST", "/predict", b"\x00" * 9, content_type=BINARY)[0] == 400
    assert client.ask("GET", "/predict")[0] == 405
    assert client.ask("GET", "/nothing")[0] == 404
    assert client.ask("POST", "/sessions")[0] == 422


def test_health_model_and_metrics(client: Client) -> None:
    assert client.ask("GET", "/health")[1] == {"status": "ok", "version": "plain-1"}
    model = client.ask("GET", "/model")[1]
    assert [array["name"] for array in model["inputs"]] == ["obs.door", "obs.place"]
    assert model["action_space"] == {"type": "Discrete", "n": 3, "start": 1}
    client.ask("POST", "/predict", {"obs": OBS})
    text = client.ask("GET", "/metrics")[1].decode()
    assert 'rltrain_requests_total{path="/predict",status="200"}' in text
    assert "rltrain_predict_seconds_count" in text


def test_a_token_is_asked_for() -> None:
    with serving(plain_model(), token="s" * 20) as client:
        assert client.ask("GET", "/health")[0] == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s" * 20}):
            assert client.ask("POST", "/predict", {"obs": OBS}, **headers)[0] == 401
            assert client.ask("GET", "/metrics", **headers)[0] == 401
        assert client.ask("POST", "/predict", {"obs": OBS}, authorization=f"Bearer {'s' * 20}")[0] == 200


def test_requests_that_wait_are_answered_together_and_no_more_than_there_is_room_for() -> None:
    begun, go, sizes = threading.Event(), threading.Event(), []

    def slow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        sizes.append(len(inputs["obs.door"]))
        begun.set()
        go.wait(20)
        return {"action": inputs["obs.door"]}

    with serving(plain_model(slow), waiting=6) as client, ThreadPoolExecutor(6) as threads:
        first = threads.submit(client.ask, "POST", "/predict", {"obs": {**OBS, "door": 3}})
        assert begun.wait(20)
        others = [
            threads.submit(client.ask, "POST", "/predict", {"obs": {**OBS, "door": door}}) for door in (1, 2, 3, 1, 2)
        ]
        while "rltrain_waiting_rows 6.0" not in client.ask("GET", "/metrics")[1].decode():
            time.sleep(0.005)
        status, answer, headers = client.ask("POST", "/predict", {"obs": OBS})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "Too many observations are waiting" in answer["error"]
        go.set()
        answers = [each.result()[1]["action"] for each in (first, *others)]
    assert answers == [3, 1, 2, 3, 1, 2]
    assert sizes == [1, 5]


def test_an_error_of_the_policy_is_no_end() -> None:
    def fail(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if inputs["obs.door"][0] == 1:
            raise RuntimeError("broken")
        return {"action": inputs["obs.door"]}

    with serving(plain_model(fail)) as client:
        assert client.ask("POST", "/predict", {"obs": {**OBS, "door": 1}})[0] == 500
        assert client.ask("POST", "/predict", {"obs": OBS})[0] == 200


def test_sessions_remember() -> None:
    with serving(counting_model(), sessions=2) as client:
        assert client.ask("POST", "/predict", {"obs": 0})[1]["error"].startswith(
            "This policy has memory: open a session"
        )
        (one, two) = (client.ask("POST", "/sessions")[1]["session"] for _ in range(2))
        assert client.ask("POST", "/sessions")[0] == 503

        def act(session: str, **more: Any) -> Any:
            return client.ask("POST", "/predict", {"obs": 0, "session": session, **more})[1]["action"]

        assert [act(one), act(one), act(two), act(one)] == [1, 2, 1, 3]
        assert [act(one, episode_start=True), act(one)] == [1, 2]
        assert client.ask("POST", "/predict", {"observations": [0, 1], "session": one})[0] == 422
        assert client.ask("DELETE", f"/sessions/{one}")[0] == 204
        assert client.ask("POST", "/predict", {"obs": 0, "session": one})[0] == 404
        assert client.ask("POST", "/sessions")[0] == 201


def test_sessions_expire() -> None:
    now = [0.0]
    signature: Signature = counting_model().signature
    sessions = Sessions(signature, most=2, seconds=10, clock=lambda: now[0])
    first, second = sessions.open(), sessions.open()
    now[0] = 6.0
    assert sessions.find(first) is not None
    with pytest.raises(NoRoom):
        sessions.open()
    now[0] = 12.0
    assert sessions.find(second) is None
    assert sessions.find(first) is not None
    assert len(sessions) == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {"total_timesteps": 64, "num_envs": 4, "n_eval_episodes": 0, "agent": {"n_steps": 16}}
    folder = str(tmp_path_factory.mktemp("runs"))
    return rltrain.train("ppo", "rltrain/CartPole-v1", progress=False, run_dir=folder, **options).run_dir


def test_a_run_is_served_until_a_signal(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rltrain", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("serving ppo-64 of rltrain/CartPole-v1 at http://127.0.0.1:"), server.communicate()
    client = Client(int(line.rpartition(":")[2]))
    while True:
        try:
            client.ask("GET", "/health")
            break
        except OSError:
            time.sleep(0.01)
    obs = [0.01, -0.02, 0.03, 0.04]
    assert client.ask("POST", "/predict", {"obs": obs})[1] == {"action": rltrain.load(run).predict(obs)[0]}
    server.send_signal(signal.SIGTERM)
    _, error = server.communicate(timeout=60)
    assert (server.returncode, error) == (0, "")
    assert os.listdir(tmp_path) == []  # nothing is written


def test_an_exported_file_acts_as_the_run(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    from rltrain.serving.model import open_model

    assert main(["export", str(run), "--to", "onnx", "--out", str(tmp_path / "policy.onnx")]) == 0
    rows = {"obs": np.random.default_rng(0).uniform(-0.2, 0.2, (50, 4)).astype(np.float32)}
    ours, theirs = (open_model(model).run(rows)["action"] for model in (run, tmp_path / "policy.onnx"))
    assert ours.tolist() == theirs.tolist()
    (tmp_path / "policy.onnx").write_bytes(b"other")
    with pytest.raises(rltrain.errors.CheckpointError, match="SHA-256"):
        open_model(tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "'--host 0.0.0.0' lets other machines in, and there is no token"),
        (["--host", "::"], "lets other machines in"),
        (["--host", "here"], "'here' is no address."),
        (["--token-file", "missing"], "'missing' cannot be read: No such file"),
        (["--max-rows", "0"], "'0' is not a whole number of at least 1"),
        (["--port", "70000"], "Port 70000 of 127.0.0.1 cannot be opened"),
    ],
)
def test_mistakes(arguments: list[str], said: str, run: Path, capfd: Any) -> None:
    assert main(["serve", str(run), *arguments]) == 2
    assert said in capfd.readouterr().err


def test_answers_are_not_held_back_for_fuller_packets() -> None:
    async def ask() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with open_port("127.0.0.1", 0) as port:
            async with await asyncio.start_server(answer, sock=port):
                _, writer = await asyncio.open_connection(*port.getsockname())
                try:
                    return await asyncio.wait_for(found, 10)
                finally:
                    writer.close()

    assert asyncio.run(ask())


def test_a_port_that_is_taken_and_a_token_that_is_none(run: Path, tmp_path: Path, capfd: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(run), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be opened: Address already in use." in capfd.readouterr().err
    (tmp_path / "token").write_text("short\n")
    assert main(["serve", str(run), "--token-file", str(tmp_path / "token")]) == 2
    assert "holds no token." in capfd.readouterr().err


def test_the_description_of_a_space_is_json(run: Path) -> None:
    """Infinite bounds too, for which JSON has no word."""
    from rltrain.serving.model import open_model

    with serving(open_model(run)) as client:
        model = client.ask("GET", "/model")[1]
    assert json.loads(json.dumps(model, allow_nan=False))["observation_space"]["low"][1] is None
