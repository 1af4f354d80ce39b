"""Opens the port and serves until a signal asks for the end. Imports uvicorn, as ``patience.py`` does."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rltrain.errors import ConfigError, RunError
from rltrain.naming import installed
from rltrain.serving.decisions import Decisions
from rltrain.serving.limits import Bounds
from rltrain.serving.model import Served
from rltrain.storage.files import Damaged, read_text, reason

if TYPE_CHECKING:
    import uvicorn

    from rltrain.serving.app import Service

SHORTEST_TOKEN = 16
GRACE = 10  # seconds that requests under way have after a signal


def need() -> None:
    """Checks that the libraries are installed.

    Raises:
        ConfigError: One is not.
    """
    installed.need("starlette", "uvicorn", "prometheus_client", install="rltrain[serve]")


def read_token(path: str | None) -> str | None:
    """The token in a file.

    Raises:
        ConfigError: It cannot be read, or is too short.
    """
    if path is None:
        return None
    try:
        token = read_text(Path(path), 4096).strip()
    except (OSError, Damaged) as error:
        raise ConfigError(f"'{path}' cannot be read: {reason(error)}.", "Name a file with a token in it.") from error
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        fix = f"Write at least {SHORTEST_TOKEN} letters and digits into it: openssl rand -hex 32 > FILE"
        raise ConfigError(f"'{path}' holds no token.", fix)
    return token


def check_host(host: str, token: str | None) -> None:
    """Refuses to be reached from other machines without a token.

    Raises:
        ConfigError: The host is not this machine alone, and there is no token.
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"'{host}' is no address.", "Give --host 127.0.0.1, or 0.0.0.0 with a token.") from None
    if not local and token is None:
        raise ConfigError(
            f"'--host {host}' lets other machines in, and there is no token to keep strangers out.",
            "Give --token-file FILE, or leave --host out.",
        )


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: The port is taken, or may not be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio turn off Nagle's algorithm, which would hold back answers by 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"Port {port} of {host} cannot be opened: {reason(error)}.", "Give another --port."
        ) from error
    return listening


def server_of(service: Service) -> uvicorn.Server:
    """The server of a service, which is not started yet."""
    import uvicorn

    from rltrain.serving.app import make_app
    from rltrain.serving.patience import impatient

    bounds = service.bounds
    config = uvicorn.Config(
        make_app(service),
        port=0,
        http=impatient(bounds.request_seconds),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=bounds.waiting + 64,
        h11_max_incomplete_event_size=65536,
    )
    return uvicorn.Server(config)


def serve(
    model: Served,
    listening: socket.socket,
    bounds: Bounds,
    token: str | None,
    decisions: Decisions | None = None,
    *,
    tell: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        model: The policy.
        listening: From :func:`open_port`.
        bounds: What is taken.
        token: What requests must bear; None for nothing.
        decisions: Keeps what was decided; None to keep nothing.
        tell: Called with the address once it is served.

    Raises:
        RunError: The server did not start.
    """
    from rltrain.serving.app import Service

    service = Service(model, bounds, token, decisions)
    service.model.run({array.name: array.zeros(1) for array in model.signature.inputs})  # the first call is the slowest
    server = server_of(service)
    host, port, *_ = listening.getsockname()
    tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    # uvicorn stops by these signals, and then sends them again to whoever handled them before.
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listening])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        listening.close()
    if not server.started:
        raise RunError("The server did not start.", "Run the same command with --debug.")
