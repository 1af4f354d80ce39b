"""A page on which a person answers questions, served to this machine alone.

Other sites that are open in the same browser can send requests here, and may be reached under another name (DNS
rebinding). So the host must be this machine's address and port, and everything but the empty page asks for a token in
a header, which no other site knows or may send. The token is behind the ``#`` of the address, which browsers do not
send to servers.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from rltrain.errors import ConfigError, RLTrainError
from rltrain.preferences.answers import CHOICES, UNDO, check_labeller
from rltrain.preferences.films import SIDES, film_of
from rltrain.preferences.folder import Preferences
from rltrain.storage.files import MIB, Damaged, read_bytes, reason
from rltrain.storage.records import parse_json

HOST = "127.0.0.1"
LARGEST_BODY = 4096
LARGEST_FILM = 64 * MIB
QUESTION = "Which clip is better?"


class Labelling:
    """The questions that a labeller has to answer, in order.

    Args:
        prefs: The preferences.
        pairs: The questions, by name.
        labeller: Who answers.
        question: What is asked.

    Raises:
        ConfigError: The labeller has no usable name.
    """

    def __init__(self, prefs: Preferences, pairs: Sequence[str], labeller: str, question: str = QUESTION) -> None:
        check_labeller(labeller)
        self.prefs, self.pairs, self.labeller, self.question = prefs, list(pairs), labeller, question
        self._lock = threading.Lock()
        known = set(self.pairs)
        self._given = [
            answer.pair for answer in prefs.answers.current() if answer.labeller == labeller and answer.pair in known
        ]

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        done = set(self._given)
        left = [pair for pair in self.pairs if pair not in done]
        following = [*left[:2], None, None]
        return {
            "question": self.question,
            "labeller": self.labeller,
            "total": len(self.pairs),
            "answered": len(done),
            "next": following[0],
            "then": following[1],
            "can_undo": bool(self._given),
        }

    def answer(self, pair: str, choice: str, seconds: float | None) -> dict[str, Any]:
        """Keeps an answer and returns what the page shows next; one to a question that is not asked is left out.

        Raises:
            ConfigError: There is no such choice.
            RunError: It cannot be written.
        """
        if choice not in CHOICES:
            raise ConfigError(f"There is no answer '{choice}'.", f"It is one of: {', '.join(CHOICES)}.")
        with self._lock:
            if pair == self.state()["next"]:  # a key that was pressed twice answers one question
                self.prefs.answers.add(pair, choice, self.labeller, seconds)
                self._given.append(pair)
            return self.state()

    def undo(self) -> dict[str, Any]:
        """Takes the last answer back."""
        with self._lock:
            if self._given:
                self.prefs.answers.add(self._given[-1], UNDO, self.labeller)
                self._given.pop()
            return self.state()


class Page(ThreadingHTTPServer):
    """The server of the page.

    Args:
        labelling: The questions.
        port: The port; 0 for any that is free.

    Raises:
        ConfigError: The port cannot be opened.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, labelling: Labelling, port: int = 0) -> None:
        self.labelling = labelling
        self.token = secrets.token_urlsafe(24)
        self.html = files("rltrain.preferences").joinpath("page.html").read_text(encoding="utf-8")
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"Port {port} of {HOST} cannot be opened: {reason(error)}.", "Give another --port."
            ) from error

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return f"http://{HOST}:{self.server_port}/#{self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Page
    timeout = 30
    server_version, sys_version = "rltrain", ""

    def do_GET(self) -> None:
        """The page, the state, or a film."""
        if not self._is_ours():
            return
        parts = self.path.strip("/").split("/")
        if self.path == "/":
            self._send_page()
        elif not self._has_token():
            return
        elif parts == ["api", "state"]:
            self._send_json(self.server.labelling.state())
        elif len(parts) == 4 and parts[:2] == ["api", "film"]:
            self._send_film(parts[2], parts[3])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        """An answer, or one taken back."""
        if not self._is_ours() or not self._has_token():
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "its length is missing")
        if not 0 <= length <= LARGEST_BODY:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "it is too long")
        try:
            given = parse_json(self.rfile.read(length))
            if self.path == "/api/undo":
                return self._send_json(self.server.labelling.undo())
            if self.path != "/api/answer":
                return self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            seconds = given.get("seconds")
            taken = seconds if isinstance(seconds, int | float) and 0 <= seconds < 1e7 else None
            self._send_json(self.server.labelling.answer(str(given.get("pair")), str(given.get("choice")), taken))
        except Damaged as error:
            self._refuse(HTTPStatus.BAD_REQUEST, reason(error))
        except ConfigError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, error.cause)
        except RLTrainError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _is_ours(self) -> bool:
        """Whether it was sent to this address by a page of this server, or by no page."""
        mine = [f"{name}:{self.server.server_port}" for name in (HOST, "localhost")]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in mine and (origin is None or origin in [f"http://{each}" for each in mine]):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "it comes from another site")
        return False

    def _has_token(self) -> bool:
        given = self.headers.get("X-Token", "")
        if hmac.compare_digest(given.encode(), self.server.token.encode()):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "it lacks the token; open the address that the terminal shows")
        return False

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        html = self.server.html.replace('nonce="NONCE"', f'nonce="{nonce}"')
        self._send(html.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def _send_film(self, pair: str, side: str) -> None:
        labelling = self.server.labelling
        if pair not in labelling.pairs or side not in SIDES:
            return self._refuse(HTTPStatus.NOT_FOUND, "there is no such film")
        try:
            content = read_bytes(film_of(labelling.prefs, pair, side), LARGEST_FILM)
        except (OSError, Damaged) as error:
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the film cannot be read: {reason(error)}")
        self._send(content, "image/gif")

    def _send_json(self, data: dict[str, Any]) -> None:
        self._send(json.dumps(data).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        self._send(f"{why}\n".encode(), "text/plain; charset=utf-8", status=status)

    def _send(
        self, content: bytes, kind: str, headers: dict[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**always, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the address alone."""
