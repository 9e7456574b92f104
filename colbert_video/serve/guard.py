"""What surrounds every request: checks, limits, headers, measurements, and an answer whatever happens."""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import secrets
import socket
import time
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colbert_video.errors import shown
from colbert_video.serve.http_errors import ServiceError, busy, error_response
from colbert_video.serve.service_metrics import Metrics
from colbert_video.serve.service_settings import ServeSettings

logger = logging.getLogger(__name__)
STATUS_PATHS = ("/healthz", "/readyz")
"""Answered also when the service is full."""
OPEN_PATHS = ("/", "/healthz", "/readyz", "/api/session", "/api/login", "/api/logout")
"""What everybody may ask for; and the page's files, which hold no data."""
AGENTS = "/mcp"
"""Where agents ask, if the service answers them."""
STATIC = "/static/"
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Gatekeeper:
    """Decides who may ask, from the head of a request alone.

    Starlette's TrustedHostMiddleware does not do: every address in numbers is answered here, as only names can be rebound
    to another machine, and refusals are JSON with a remedy.

    Args:
        settings: The token, the address and the names of the service.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._token = None if settings.token is None else settings.token.encode()
        self._hosts = {"localhost", socket.gethostname().lower(), settings.host.lower()}
        self._allowed = {host.lower() for host in settings.allowed_hosts}
        self._hosts |= self._allowed
        # A cookie proves that its owner knew the token, to this process only, and does not hold the token itself.
        self._session = hmac.new(secrets.token_bytes(32), b"session", hashlib.sha256).hexdigest()
        self.cookie = f"colbert_video_{settings.port}"

    @property
    def token_required(self) -> bool:
        """True if clients must show a token."""
        return self._token is not None

    def check(self, scope: Scope) -> None:
        """Check the head of a request.

        Raises:
            ServiceError: 400 for a foreign host name or a body of two lengths, 403 if another web page asks, 401 without
                the token.
        """
        client = HTTPConnection(scope)
        self._check_host(client.headers.get("host", ""))
        _check_framing(client.headers)
        path = path_within(scope)
        if path.startswith(("/api/", AGENTS)):
            self._check_site(scope["method"], client.headers)
        if path in OPEN_PATHS or path.startswith(STATIC):
            return
        if not self.is_known(client):
            remedy = "Send `Authorization: Bearer TOKEN`, or log in at the page."
            challenge = {"WWW-Authenticate": "Bearer"}
            raise ServiceError(401, "token_needed", "this needs the service's token.", remedy, challenge)

    def is_known(self, client: HTTPConnection) -> bool:
        """Return whether a client has shown the token, or needs none."""
        if self._token is None:
            return True
        kind, _, token = client.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._matches(token.strip()):
            return True
        return hmac.compare_digest(client.cookies.get(self.cookie, "").encode(), self._session.encode())

    def login(self, token: str) -> str:
        """Return the value of the cookie for a client that knows the token.

        Raises:
            ServiceError: 401, if this is another token.
        """
        if not self._matches(token, encoding="utf-8"):
            remedy = "The service printed it when it started."
            raise ServiceError(401, "wrong_token", "this is not the service's token.", remedy)
        return self._session

    def _matches(self, token: str, *, encoding: str = "latin-1") -> bool:
        """Compare in a time that does not depend on how much is right; headers were read as Latin-1."""
        given = token.encode(encoding, "replace")
        return self._token is None or hmac.compare_digest(given, self._token)

    def _check_site(self, method: str, headers: Headers) -> None:
        """Let other web pages link here, and nothing else; browsers say who asks, older ones only by the origin."""
        site = headers.get("sec-fetch-site")
        if site is None:
            origin = headers.get("origin")
            own = origin is None or self._is_own(origin, headers.get("host", ""))
            site = "same-origin" if own else "cross-site"
        follows_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not follows_link:
            remedy = "Ask from the service's own page or a program."
            raise ServiceError(403, "cross_site", "another web page asked for this.", remedy)

    def _is_own(self, origin: str, host: str) -> bool:
        """Return True if an origin is the address that was asked, or an allowed name, as a proxy may hide the address."""
        address = origin.lower().partition("://")[2]
        return address == host.lower() or _host_name(address) in self._allowed

    def _check_host(self, host: str) -> None:
        """Take only names of this service: by a foreign name that leads here, a web page gets around its origin."""
        name = _host_name(host)
        if name in self._hosts or _is_address(name):
            return
        message = f"the service is not called {shown(name)}."
        raise ServiceError(400, "wrong_host", message, "Use its address, or start it with --allowed-host.")


class Guard:
    """The outermost layer of the service: it admits, counts and limits requests, and answers whatever happens.

    Args:
        app: What answers.
        gatekeeper: Decides who may ask.
        metrics: Counts requests.
        most_requests: Requests answered at once.
        stall_seconds: Time a client may take without reading any of the answer.
    """

    def __init__(
        self, app: ASGIApp, *, gatekeeper: Gatekeeper, metrics: Metrics, most_requests: int, stall_seconds: float
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
        except ClientDisconnect:
            logger.info("a client stopped reading or went away")
        except asyncio.CancelledError:  # by the server, which stops; it would log a trace of it
            logger.info("a request was given up, as the service stops")
            if answer.status is None:
                await error_response(_stopping())(scope, receive, answer.send)
        except Exception as error:
            if answer.lost:
                logger.info("a client stopped reading or went away")
                return
            if answer.complete:  # the application has reported it already
                return
            if answer.status is not None:  # too late to say anything: the connection is cut
                raise
            await error_response(error)(scope, receive, answer.send)


def _stopping() -> ServiceError:
    headers = {"Retry-After": "2", "Connection": "close"}
    return ServiceError(503, "stopping", "the service stops.", "Try again in a moment.", headers)


class _Answer:
    """An answer on its way: gets the safe headers, is measured, and given up if the client does not read."""

    def __init__(self, send: Send, stall_seconds: float) -> None:
        self._send = send
        self._stall_seconds = stall_seconds
        self.status: int | None = None
        self.complete = False
        self.lost = False
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
        except (asyncio.TimeoutError, OSError) as error:  # it has not read for too long, or is gone
            self.lost = True
            raise ClientDisconnect from error
        except h11.LocalProtocolError as error:
            if message["type"] != "http.response.start":  # a fault of ours
                raise
            self.lost = True  # bytes behind the request were no second one, and the connection was ended for them
            raise ClientDisconnect from error


def _check_framing(headers: Headers) -> None:
    """Refuse a body of two lengths: a proxy may take the other, and see one request where this service sees two."""
    if "content-length" in headers and "transfer-encoding" in headers:
        message = "the request has both Content-Length and Transfer-Encoding."
        raise ServiceError(400, "bad_request", message, "Send one of the two.")


def _host_name(address: str) -> str:
    """Return the name in HOST:PORT, in lower case; "" if there is none."""
    try:
        return (urlsplit(f"//{address}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    """Whether a host is an address in numbers, which cannot be rebound to another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def path_within(scope: Scope) -> str:
    """Return the path below the prefix at which the service is mounted, as its routes know it.

    Another application that mounts the service, and a proxy that strips nothing, leave their prefix in the path and say
    so in `root_path` (ASGI specification, HTTP connection scope); a proxy that strips it says so too, but the path is
    without it.
    """
    path, root = scope["path"], scope.get("root_path", "")
    if root and path.startswith(f"{root}/"):
        return path[len(root) :]
    return path
