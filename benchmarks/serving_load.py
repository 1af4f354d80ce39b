"""Loads `rltrain serve` and reports requests per second and how long answers take.

    python -m benchmarks.serving_load runs/rltrain-CartPole-v1/ppo_1                  # 1, 8 and 32 clients
    python -m benchmarks.serving_load policy.onnx --clients 64 --seconds 20 --rows 16

The server is a process of its own on this machine, started for each row and warmed up by a second of load. A client is
a coroutine with one connection that it keeps: it sends an observation (with --rows a batch), waits for the action, and
sends the next. So the load is a closed one, and the times include the client's own work on the same processors.
Observations are samples of the space. Everything is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from rltrain.spaces import from_json


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, path: str = "/predict") -> Any:
    """One request over an open connection; returns what was answered."""
    method = "POST" if body else "GET"
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    answer = json.loads(await reader.readexactly(size))
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the server refused: {answer}")
    return answer


async def client(port: int, bodies: list[bytes], end: float, times: list[float]) -> None:
    """Asks until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        await ask(reader, writer, bodies[number % len(bodies)])
        times.append(time.perf_counter() - start)
        number += 1
    writer.close()


def plain(value: Any) -> Any:
    """A sample of a space as JSON has it."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, tuple) else np.asarray(value).tolist()


def with_bounds(space: Any) -> Any:
    """The space as GET /model tells it, with numbers in place of the infinities that JSON lacks."""
    if isinstance(space, dict):
        changed = {name: with_bounds(part) for name, part in space.items()}
        for name, bound in (("low", -1.0), ("high", 1.0)):
            if name in changed:
                changed[name] = _filled(changed[name], bound)
        return changed
    return [with_bounds(part) for part in space] if isinstance(space, list) else space


def _filled(bounds: Any, value: float) -> Any:
    return (
        [_filled(each, value) for each in bounds] if isinstance(bounds, list) else value if bounds is None else bounds
    )


async def measure(port: int, clients: int, rows: int, seconds: float) -> list[float]:
    """The seconds of every answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    model = await ask(reader, writer, b"", "/model")
    writer.close()
    if model["memory"]:
        raise SystemExit("a policy with memory needs sessions, which this does not open")
    space = from_json(with_bounds(model["observation_space"]))
    space.seed(0)
    samples = [plain(space.sample()) for _ in range(64)]
    if rows == 1:
        bodies = [json.dumps({"obs": sample}).encode() for sample in samples]
    else:
        bodies = [json.dumps({"observations": (samples * rows)[i : i + rows]}).encode() for i in range(64)]
    for length in (1.0, seconds):  # the first does not count
        times: list[float] = []
        end = time.perf_counter() + length
        await asyncio.gather(*(client(port, bodies, end, times) for _ in range(clients)))
    return times


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="what `rltrain serve` takes")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="[1 8 32]")
    parser.add_argument("--rows", type=int, default=1, help="observations in a request [1]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row [10]")
    parsed = parser.parse_args()
    print("| clients | requests per second | observations per second | p50, ms | p99, ms |")
    print("| --- | --- | --- | --- | --- |")
    for clients in parsed.clients:
        command = [sys.executable, "-m", "rltrain", "serve", parsed.model, "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().rpartition(":")[2])
            times = asyncio.run(measure(port, clients, parsed.rows, parsed.seconds))
        finally:
            server.terminate()
            server.wait(30)
        rate = len(times) / parsed.seconds
        middle, tail = np.percentile(times, [50, 99]) * 1e3
        print(f"| {clients} | {rate:,.0f} | {rate * parsed.rows:,.0f} | {middle:.2f} | {tail:.2f} |", flush=True)


if __name__ == "__main__":
    main()
