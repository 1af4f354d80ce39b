"""A server in a thread, and a client for it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.export.signature import Array, Signature
from rltrain.serving.app import Service
from rltrain.serving.decisions import Decisions
from rltrain.serving.limits import Bounds
from rltrain.serving.model import Served
from rltrain.serving.server import server_of

PLAIN = spaces.Dict({"place": spaces.Box(-1.0, 1.0, (2,)), "door": spaces.Discrete(3, start=1)})


def plain_model(run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None) -> Served:
    """A policy whose action is the door, or what ``run`` does."""

    def follow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"action": inputs["obs.door"]}

    observations = Array("obs.door", (), "int64"), Array("obs.place", (2,), "float32")
    signature = Signature(observations, (), Array("action", (), "int64"))
    return Served(run or follow, signature, PLAIN, spaces.Discrete(3, start=1), "plain-1", "test/Door-v0")


def counting_model() -> Served:
    """A policy with memory, whose action is the number of observations in the episode."""

    def count(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        state = np.where(inputs["episode_start"], 0.0, inputs["state"]).astype(np.float32) + 1
        return {"action": state.astype(np.int64), "next_state": state}

    signature = Signature((Array("obs", (), "int64"),), (Array("state", (), "float32"),), Array("action", (), "int64"))
    return Served(count, signature, spaces.Discrete(5), spaces.Discrete(100), "counting-1", "")


class Client:
    """Asks a server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (read as JSON where it is), and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, sent, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        content: Any = response.read()
        if response.headers.get("content-type", "").startswith("application/json"):
            content = json.loads(content)
        connection.close()
        return response.status, content, response.headers


@contextmanager
def serving(
    model: Served, token: str | None = None, decisions: Decisions | None = None, **bounds: Any
) -> Iterator[Client]:
    """A client of a server that runs in a thread."""
    server = server_of(Service(model, Bounds(**bounds), token, decisions))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield Client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
