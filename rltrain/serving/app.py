"""The HTTP service: routes, limits and errors. The only file that imports Starlette."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rltrain import __version__
from rltrain.errors import InputError
from rltrain.export.signature import ACTION, START, next_name
from rltrain.serving.batching import Batcher, Busy
from rltrain.serving.decisions import Decisions
from rltrain.serving.limits import Bounds, Refused
from rltrain.serving.model import Served
from rltrain.serving.monitor import Monitor
from rltrain.serving.observations import Observations
from rltrain.serving.sessions import NoRoom, Session, Sessions
from rltrain.spaces import to_json
from rltrain.storage.files import Damaged
from rltrain.storage.records import parse_json

BINARY = "application/vnd.safetensors"
LONGEST_NAME = 128
"""Letters of the name of an episode."""


class Service:
    """A policy and everything around it.

    Args:
        model: The policy.
        bounds: What it takes.
        token: What requests must bear, except for ``/health``; None for nothing.
        decisions: Keeps what was decided; None to keep nothing.
    """

    def __init__(
        self, model: Served, bounds: Bounds, token: str | None = None, decisions: Decisions | None = None
    ) -> None:
        self.model, self.bounds, self.token, self.decisions = model, bounds, token, decisions
        self.monitor = Monitor()
        self.observations = Observations(model.observation_space)
        self.batcher = Batcher(model.run, most_rows=bounds.rows, room=bounds.waiting, monitor=self.monitor)
        self.sessions = Sessions(model.signature, most=bounds.sessions, seconds=bounds.session_seconds)
        self.monitor.waiting.set_function(lambda: self.batcher.rows)
        self.monitor.sessions.set_function(lambda: len(self.sessions))
        if decisions is not None:
            self.monitor.count_lost(lambda: decisions.log.lost)

    async def predict(self, request: Request) -> Response:
        """Actions for observations, in JSON or safetensors, as the request is."""
        start = time.perf_counter()
        body = await self._body(request)
        binary = request.headers.get("content-type", "").partition(";")[0].strip() == BINARY
        try:
            given = {} if binary else parse_json(body)
            inputs, single, name = self._rows(body) if binary else self._from_json(given)
            episode = None if binary else self._episode(given, single)
        except (Damaged, SafetensorError) as error:
            raise Refused(400, f"The body cannot be read: {error}.") from error
        except InputError as error:
            raise Refused(422, f"{error.cause}.") from error
        outputs = await self._answers(inputs, name, bool(given.get("episode_start", False)))
        actions = self._of_space(outputs[ACTION])
        ids: list[str] = []
        if self.decisions is not None:
            session = None if name is None else self.sessions.find(name)
            ids = self.decisions.log.add(inputs, actions, episode if session is None else session.episode)
        self.monitor.seconds.observe(time.perf_counter() - start)
        if binary:
            facts = {"decisions": " ".join(ids)} if ids else None
            return Response(save_tensors({ACTION: np.ascontiguousarray(actions)}, facts), media_type=BINARY)
        if single:
            return JSONResponse({"action": actions[0].tolist(), **({"decision": ids[0]} if ids else {})})
        return JSONResponse({"actions": actions.tolist(), **({"decisions": ids} if ids else {})})

    def _episode(self, given: Mapping[str, Any], single: bool) -> str | None:
        """The episode that an observation belongs to, where that is logged and the policy has no memory."""
        if (episode := given.get("episode")) is None:
            return None
        if self.decisions is None:
            raise InputError("'episode' is for a server that logs decisions, and this one does not", "")
        if not (isinstance(episode, str) and 0 < len(episode) <= LONGEST_NAME):
            raise InputError(f"'episode' is a text of 1 to {LONGEST_NAME} letters", "")
        if self.model.signature.state or not single:
            what = "of 'obs', a single observation" if not single else "of policies without memory: 'session' tells it"
            raise InputError(f"'episode' is {what}", "")
        return episode

    async def feedback(self, request: Request) -> Response:
        """What came of a decision: its reward, and whether the episode is over."""
        if self.decisions is None:
            raise Refused(404, "Decisions are not logged here.")
        try:
            self.decisions.feedback(parse_json(await self._body(request)), self.observations)
        except Damaged as error:
            raise Refused(400, f"The body cannot be read: {error}.") from error
        except InputError as error:
            raise Refused(422, f"{error.cause}.") from error
        return Response(status_code=204)

    def _from_json(self, given: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], bool, str | None]:
        """The observations of a request, whether there is a single one, and the name of the session."""
        known = {"obs", "observations", "session", "episode_start", "episode"}
        if unknown := sorted(set(given) - known):
            raise InputError(f"There is no '{unknown[0]}' in a request", "")
        if ("obs" in given) == ("observations" in given):
            raise InputError("Give either 'obs', an observation, or 'observations', a list of them", "")
        name, start = given.get("session"), given.get("episode_start", False)
        if not isinstance(name, str | None) or not isinstance(start, bool):
            raise InputError("'session' is a text, and 'episode_start' true or false", "")
        if start and name is None:
            raise InputError("'episode_start' is of a session", "")
        if "obs" in given:
            return self.observations.of_rows([given["obs"]]), True, name
        rows = given["observations"]
        if not isinstance(rows, list) or not 1 <= len(rows) <= self.bounds.rows:
            raise InputError(f"'observations' is a list of 1 to {self.bounds.rows} observations", "")
        return self.observations.of_rows(rows), False, name

    def _rows(self, body: bytes) -> tuple[dict[str, np.ndarray], bool, None]:
        """The same for a binary request, which has no session."""
        inputs = self.observations.of_arrays(load_tensors(body))
        if not 1 <= (rows := len(next(iter(inputs.values())))) <= self.bounds.rows:
            raise InputError(f"There are {rows} observations, and 1 to {self.bounds.rows} are taken", "")
        return inputs, False, None

    async def _answers(self, inputs: dict[str, np.ndarray], name: str | None, start: bool) -> dict[str, np.ndarray]:
        """Outputs for observations; a session has its state before and after them."""
        signature = self.model.signature
        if not signature.state:
            if name is not None:
                raise Refused(422, "This policy has no memory: leave 'session' out.")
            return await self._ask(inputs)
        if name is None:
            raise Refused(422, "This policy has memory: open a session by POST /sessions, and name it as 'session'.")
        if len(next(iter(inputs.values()))) != 1:
            raise Refused(422, "A session takes one observation at a time: give 'obs'.")
        session = self.sessions.find(name)
        if session is None:
            raise Refused(404, "There is no such session, or it was closed because nobody used it.")
        if session.busy:
            raise Refused(409, "The session has not answered its last request yet.")
        session.busy = True
        try:
            return await self._step(inputs, session, start)
        finally:
            session.busy = False

    async def _step(self, inputs: dict[str, np.ndarray], session: Session, start: bool) -> dict[str, np.ndarray]:
        first = np.array([session.start or start])
        if self.decisions is not None and first[0]:
            session.episode = self.decisions.next_episode(session.episode)
        outputs = await self._ask({**inputs, **session.state, START: first})
        session.state = {array.name: outputs[next_name(array.name)] for array in self.model.signature.state}
        session.start = False
        return outputs

    async def _ask(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return await self.batcher.ask(inputs)
        except Busy:
            raise Refused(503, "Too many observations are waiting. Try again.") from None

    async def _body(self, request: Request) -> bytes:
        """The body, of which no more is read than is taken."""
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.bounds.body:
                raise Refused(413, f"The body has more than {self.bounds.body:,} bytes.")
            parts.append(part)
        return b"".join(parts)

    def _of_space(self, actions: np.ndarray) -> np.ndarray:
        """Actions in the type of the environment's space."""
        dtype = np.dtype(self.model.action_space.dtype or np.int64)
        return actions.astype(dtype, copy=False)

    async def open_session(self, _: Request) -> Response:
        """A new session, for policies with memory."""
        if not self.model.signature.state:
            raise Refused(422, "This policy has no memory: it needs no sessions.")
        try:
            name = self.sessions.open()
        except NoRoom:
            raise Refused(503, f"{self.bounds.sessions} sessions are open, and no more can be.") from None
        return JSONResponse({"session": name, "expires_after_seconds": self.bounds.session_seconds}, 201)

    async def close_session(self, request: Request) -> Response:
        """The end of a session."""
        if (session := self.sessions.close(request.path_params["name"])) is None:
            raise Refused(404, "There is no such session, or it was closed because nobody used it.")
        if self.decisions is not None and session.episode is not None:
            self.decisions.log.end(session.episode)
        return Response(status_code=204)

    async def describe(self, _: Request) -> Response:
        """What is served: spaces, inputs and outputs."""
        model = self.model
        return JSONResponse(
            {
                "version": model.version,
                "env": model.env,
                "memory": bool(model.signature.state),
                **model.signature.to_json(),
                "observation_space": _finite(to_json(model.observation_space)),
                "action_space": _finite(to_json(model.action_space)),
                "largest_batch": self.bounds.rows,
            }
        )

    async def health(self, _: Request) -> Response:
        """Whether it answers."""
        return JSONResponse({"status": "ok", "version": self.model.version})

    async def metrics(self, _: Request) -> Response:
        """The counters, as text for Prometheus."""
        return Response(self.monitor.text(), media_type="text/plain; version=0.0.4")

    def guarded(self, path: str, answer: Callable[[Request], Awaitable[Response]], *, free: bool = False) -> Any:
        """A route's function that checks the token, turns errors into answers, and counts."""

        async def guard(request: Request) -> Response:
            try:
                if not (free or self._may(request)):
                    raise Refused(401, "The header 'Authorization: Bearer TOKEN' is missing or wrong.")
                response = await answer(request)
            except ClientDisconnect:  # in the middle of a request: nobody reads the answer
                response = Response(status_code=400)
            except Refused as refusal:
                response = JSONResponse({"error": str(refusal)}, refusal.status)
                if refusal.status == 503:
                    response.headers["Retry-After"] = "1"
            response.headers["X-RLTrain-Version"] = __version__
            response.headers["X-RLTrain-Model"] = self.model.version
            self.monitor.requests.labels(path, str(response.status_code)).inc()
            return response

        return guard

    def _may(self, request: Request) -> bool:
        if self.token is None:
            return True
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(token.encode(), self.token.encode())


def make_app(service: Service) -> Starlette:
    """The routes of a service."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.batcher.close()
        if service.decisions is not None:
            service.decisions.log.close()

    table: list[tuple[str, str, Any]] = [
        ("POST", "/predict", service.predict),
        ("POST", "/feedback", service.feedback),
        ("POST", "/sessions", service.open_session),
        ("DELETE", "/sessions/{name}", service.close_session),
        ("GET", "/model", service.describe),
        ("GET", "/metrics", service.metrics),
        ("GET", "/health", service.health),
    ]
    routes = [
        Route(path, service.guarded(path, answer, free=path == "/health"), methods=[method])
        for method, path, answer in table
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _finite(space: dict[str, Any]) -> Any:
    """A space without infinities, which JSON has no word for: they become null."""
    return json.loads(json.dumps(space), parse_constant=lambda _: None)
