"""``rltrain tensorboard``: starts TensorBoard for runs, on this machine alone."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError
from rltrain.storage.files import reason

PORT = 6006
SHOWN = "images=200,text=200,histograms=200,scalars=10000"
"""How many points of a kind TensorBoard keeps; its own default is ten pictures, of all that a run made."""


def main(arguments: list[str]) -> int:
    """Serves until Ctrl-C."""
    parser = Parser("tensorboard", "Start TensorBoard for runs. It is seen from this machine alone.")
    what = "folders of runs, or run folders [runs]"
    parser.add_argument("runs", nargs="*", metavar="RUNS", default=["runs"], help=what)
    parser.add_argument("--port", type=whole(0), default=PORT, metavar="INT", help=f"0 for any free one [{PORT}]")
    what = "address to listen at; 0.0.0.0 shows the runs to everybody who can reach this machine [127.0.0.1]"
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help=what)
    parsed = parser.parse(arguments)
    return serve(parsed.runs, parsed.host, parsed.port)


def serve(runs: Sequence[str], host: str, port: int) -> int:
    """Serves runs.

    Raises:
        ConfigError: There is nothing to serve, no TensorBoard, or the port is taken.
    """
    for run in runs:
        if not Path(run).is_dir():
            raise ConfigError(f"There is no folder '{run}'.", "Name a folder of runs, such as 'runs'.")
        if next(Path(run).rglob("events.out.tfevents.*"), None) is None:
            raise ConfigError(
                f"There is nothing of TensorBoard in '{run}'.",
                "Train something there, with tensorboard among the trackers.",
            )
    try:
        from tensorboard import program
    except ImportError as error:
        raise ConfigError(f"TensorBoard cannot be imported: {error}.", "pip install tensorboard") from error
    _check_address(host, port)
    server = program.TensorBoard()
    server.configure(
        argv=[
            *("tensorboard", "--host", host, "--port", str(port), "--samples_per_plugin", SHOWN),
            *(["--logdir", runs[0]] if len(runs) == 1 else ["--logdir_spec", _named(runs)]),
        ]
    )
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):  # notes of TensorBoard on how it reads files
            url = server.launch()
    except (program.TensorBoardServerException, SystemExit) as error:
        raise ConfigError(f"TensorBoard does not start: {error}.", "'tensorboard --logdir' says more.") from error
    say(f"TensorBoard shows {', '.join(runs)} at {url}  (Ctrl-C to end)")
    return until_a_signal()


def until_a_signal() -> int:
    """Waits for Ctrl-C or SIGTERM, also where whoever started the process has it ignore them; the exit code."""
    came: list[int] = []
    ended = threading.Event()

    def note(number: int, frame: object) -> None:
        came.append(number)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    ended.wait()
    return 128 + came[0]


def _check_address(host: str, port: int) -> None:
    """Checks that a server can listen there.

    Raises:
        ConfigError: The port is taken, or there is no such address.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fix = f"Choose another: --port {port + 1}, or 0 for any."
            raise ConfigError(f"The port {port} of {host} is taken.", fix) from error
        raise ConfigError(f"Nobody can listen at {host}, port {port}: {reason(error)}.", "Choose others.") from error
    except OverflowError as error:
        raise ConfigError(f"There is no port {port}.", "Give one from 1 to 65535, or 0 for any.") from error


def _named(runs: Sequence[str]) -> str:
    """Several folders as TensorBoard takes them, each with a name.

    Raises:
        ConfigError: One of them cannot be written so.
    """
    for run in runs:
        if "," in run or ":" in run:
            raise ConfigError(f"'{run}' has a comma or a colon in its name.", "Name the folder above it.")
    return ",".join(f"{Path(run).resolve().parent.name}/{Path(run).resolve().name}:{run}" for run in runs)
