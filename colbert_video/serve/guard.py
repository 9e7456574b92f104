"""Around every request: checks, limits, headers, measurements, and an answer whatever happens."""

import asyncio
import logging
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colbert_video.serve.errors import ServiceError, busy, error_response, translated
from colbert_video.serve.metrics import Metrics
from colbert_video.serve.paths import path_within
from colbert_video.serve.security import SAFE_HEADERS, Gatekeeper

logger = logging.getLogger(__name__)

STATUS_PATHS = ("/healthz", "/readyz")
"""Answered also when the service is full."""


class Guard:
    """The outermost layer of the service.

    Args:
        app: What answers.
        gatekeeper: Refuses requests.
        metrics: Counts them.
        most_requests: Requests answered at once.
        stall_seconds: Time a client may take without reading any of the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gatekeeper: Gatekeeper,
        metrics: Metrics,
        most_requests: int,
        stall_seconds: float,
    ) -> None:
        self.app = app
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._most = most_requests
        self._stall_seconds = stall_seconds
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, self._stall_seconds)
        begun = time.perf_counter()
        self._running += 1
        self._metrics.running.set(self._running)
        try:
            await self._answered(scope, receive, answer)
        finally:
            self._running -= 1
            self._metrics.running.set(self._running)
            self._metrics.count_request(scope, answer.status, time.perf_counter() - begun, answer.sent)

    async def _answered(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            if self._running > self._most and path_within(scope) not in STATUS_PATHS:
                raise busy("requests")
            self._gatekeeper.check(scope)
            await self.app(scope, receive, answer.send)
        except (_StalledError, ClientDisconnect):
            logger.info("a client stopped reading or went away")
        except ServiceError as error:
            await error_response(error)(scope, receive, answer.send)
        except Exception as error:
            if answer.complete:  # the application has told of it already
                return
            if answer.status is not None:  # too late to say anything: the connection is cut
                raise
            await error_response(translated(error))(scope, receive, answer.send)


class _StalledError(Exception):
    """A client does not read."""


class _Answer:
    """Sends an answer with the safe headers, and watches how it goes."""

    def __init__(self, send: Send, stall_seconds: float) -> None:
        self._send = send
        self._stall_seconds = stall_seconds
        self.status: int | None = None
        self.complete = False
        self.sent = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SAFE_HEADERS.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["cache-control"] = "no-cache" if "etag" in headers else "no-store"
        else:
            self.sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        try:
            await asyncio.wait_for(self._send(message), self._stall_seconds)
        except asyncio.TimeoutError as error:
            raise _StalledError from error
