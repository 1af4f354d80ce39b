"""Clients that are slow, gone, or mad: others are answered all the while, and the log stays silent."""

from __future__ import annotations

import json
import random
import socket
import string
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from served import counting_model, plain_model, serving

OBS = {"place": [0.5, -0.5], "door": 2}
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


def ended(connection: socket.socket, seconds: float) -> bool:
    """Whether the server ends a connection within so many seconds."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /pre", HEAD[:-2], HEAD, HEAD + b'{"obs"', b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea"],
    ids=["nothing", "line", "headers", "no body", "half a body", "second request"],
)
def test_a_request_that_does_not_come_whole_is_cut_off(begun: bytes, capfd: Any) -> None:
    with serving(plain_model(), request_seconds=0.3) as client:
        with socket.create_connection(("127.0.0.1", client.port)) as slow:
            slow.sendall(begun)
            for _ in range(8):  # a byte now and then does not help
                time.sleep(0.05)
                try:
                    slow.sendall(b"x" if begun else b"")
                except OSError:
                    break
            assert ended(slow, 5)
        assert client.ask("POST", "/predict", {"obs": OBS})[0] == 200
    assert capfd.readouterr().err == ""


def test_slow_clients_keep_nobody_out_for_long() -> None:
    """As many as the server takes connections, which are 64 more than observations may wait."""
    with serving(plain_model(), request_seconds=1.0, waiting=1) as client:
        slow = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(80)]
        for each in slow:
            each.sendall(HEAD)
        end = time.monotonic() + 20
        while client.ask("POST", "/predict", {"obs": OBS})[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        for each in slow:
            each.close()


def test_a_client_that_takes_no_answers_is_cut_off() -> None:
    ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with serving(plain_model(), request_seconds=0.5) as client, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", client.port))
        deaf.settimeout(0.2)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                deaf.sendall(ask)
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < end


def test_a_patient_client_is_answered_for_as_long_as_it_asks() -> None:
    """The seconds are those of a request, not of a connection."""
    with serving(plain_model(), request_seconds=0.3) as client:
        one = HTTPConnection("127.0.0.1", client.port, timeout=10)
        one.connect()
        connected = one.sock
        for _ in range(8):
            one.request("GET", "/health")
            assert one.getresponse().read()
            time.sleep(0.1)
        assert one.sock is connected
        one.close()


@pytest.mark.parametrize("sent", [HEAD, HEAD + b'{"obs"', b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_client_that_goes_leaves_no_traceback(sent: bytes, capfd: Any) -> None:
    with serving(plain_model()) as client:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", client.port)) as gone:
                gone.sendall(sent)
                time.sleep(0.01)
        assert client.ask("POST", "/predict", {"obs": OBS})[0] == 200
    assert capfd.readouterr().err == ""


def values(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON."""
    simple: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.choice([True, False]),
        lambda: rng.choice([0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, -0.0, 1e-320]),
        lambda: rng.choice([float("nan"), float("inf"), -float("inf")]),
        lambda: "".join(rng.choices(string.printable + "\ud800\u0000\u202e", k=rng.randrange(8))),
    ]
    nested: list[Callable[[], Any]] = [
        lambda: [values(rng, depth - 1) for _ in range(rng.randrange(4))],
        lambda: {name: values(rng, depth - 1) for name in rng.choices(NAMES, k=rng.randrange(4))},
    ]
    return rng.choice(simple + nested if depth else simple)()


NAMES = ["obs", "observations", "session", "episode", "episode_start", "place", "door", "", "reward", "decision"]


@pytest.mark.parametrize("memory", [False, True])
def test_any_json_gets_an_answer_and_never_an_error_of_the_server(memory: bool, capfd: Any) -> None:
    rng = random.Random(21)
    bodies = [json.dumps({name: values(rng) for name in rng.choices(NAMES, k=2)}).encode() for _ in range(300)]
    bodies += [rng.randbytes(rng.randrange(60)) for _ in range(50)]
    with (
        serving(counting_model() if memory else plain_model(), body=10_000) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        for status, answer, _ in threads.map(lambda body: client.ask("POST", "/predict", body), bodies):
            assert status in (200, 400, 413, 422), answer
    assert capfd.readouterr().err == ""


def test_many_sessions_at_once_remember_their_own(capfd: Any) -> None:
    def play(number: int) -> list[int]:
        name = client.ask("POST", "/sessions")[1]["session"]
        told = [client.ask("POST", "/predict", {"obs": 0, "session": name})[1]["action"] for _ in range(5)]
        assert client.ask("DELETE", f"/sessions/{name}")[0] == 204
        return told

    with serving(counting_model(), sessions=16) as client, ThreadPoolExecutor(16) as threads:
        assert list(threads.map(play, range(64))) == [[1, 2, 3, 4, 5]] * 64
    assert capfd.readouterr().err == ""


def test_bodies_larger_than_are_taken_cost_little(capfd: Any) -> None:
    """However much is sent, or promised, or sent in parts without a word about how much."""
    with serving(plain_model(), body=1000) as client:
        for head in (b"Content-Length: 9999999999", b"Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", client.port)) as big:
                big.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
                chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
                try:
                    for _ in range(20):
                        big.sendall(chunk)
                except OSError:
                    pass
                big.settimeout(10)
                assert b"413" in big.recv(100)
        assert client.ask("POST", "/predict", {"obs": OBS})[0] == 200
    assert capfd.readouterr().err == ""


def test_a_header_without_end_is_refused() -> None:
    with serving(plain_model()) as client, socket.create_connection(("127.0.0.1", client.port)) as long:
        long.settimeout(10)
        try:
            for _ in range(100):
                long.sendall(b"X-A: " + b"x" * 10_000)
        except OSError:
            pass
        assert ended(long, 10)
        assert client.ask("GET", "/health")[0] == 200
