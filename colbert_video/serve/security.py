"""Who may ask what: host names, tokens, requests from other sites; and the headers that tell browsers to be careful."""

import hashlib
import hmac
import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from colbert_video.serve.errors import ServiceError
from colbert_video.serve.paths import path_within
from colbert_video.serve.settings import ServeSettings

OPEN_PATHS = ("/", "/healthz", "/readyz", "/api/session", "/api/login", "/api/logout")
"""What everybody may ask for; and the page's files, which hold no data."""
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
    """Refuses requests before anything looks at them.

    Args:
        settings: The token, the address and the names of the service.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._token = None if settings.token is None else settings.token.encode()
        self._hosts = {"localhost", socket.gethostname().lower(), settings.host.lower()}
        self._hosts |= {host.lower() for host in settings.allowed_hosts}
        # A cookie proves that its owner knew the token, to this process only, and does not hold the token itself.
        self._session = hmac.new(secrets.token_bytes(32), b"session", hashlib.sha256).hexdigest()
        self.cookie = f"colbert_video_{settings.port}"

    @property
    def token_required(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def check(self, scope: Scope) -> None:
        """Look at the head of a request.

        Raises:
            ServiceError: 400, 401 or 403, if it is refused.
        """
        headers = Headers(scope=scope)
        self._check_host(headers.get("host", ""))
        path = path_within(scope)
        if path.startswith("/api/"):
            _check_site(scope["method"], headers)
        if path in OPEN_PATHS or path.startswith(STATIC):
            return
        if not self.is_known(headers):
            raise ServiceError(
                401,
                "token_needed",
                "this needs the service's token.",
                "Send `Authorization: Bearer TOKEN`, or log in at the page.",
                {"WWW-Authenticate": "Bearer"},
            )

    def is_known(self, headers: Headers) -> bool:
        """Whether a client has shown the token, or needs none."""
        if self._token is None:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._matches(token.strip()):
            return True
        return hmac.compare_digest(_cookie(headers, self.cookie).encode(), self._session.encode())

    def login(self, token: str) -> str:
        """The value of the cookie for a client that knows the token.

        Raises:
            ServiceError: 401, if it does not.
        """
        if not self._matches(token, encoding="utf-8"):
            raise ServiceError(
                401,
                "wrong_token",
                "this is not the service's token.",
                "The service printed it when it started.",
            )
        return self._session

    def _matches(self, token: str, *, encoding: str = "latin-1") -> bool:
        """Compare in a time that does not depend on how much is right; headers were read as Latin-1."""
        given = token.encode(encoding, "replace")
        return self._token is None or hmac.compare_digest(given, self._token)

    def _check_host(self, host: str) -> None:
        """Only names of this service: a foreign name that leads here is how a web page gets around its own origin."""
        name = _host_name(host)
        if name in self._hosts or _is_address(name):
            return
        raise ServiceError(
            400,
            "wrong_host",
            f"the service is not called {name[:200]!r}.",
            "Use its address, or start it with --allowed-host.",
        )


def _check_site(method: str, headers: Headers) -> None:
    """Other web pages may lead people here, and nothing else; browsers say who asks."""
    site = headers.get("sec-fetch-site", "none")
    follows_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("none", "same-origin") and not follows_link:
        raise ServiceError(
            403,
            "cross_site",
            "another web page asked for this.",
            "Ask from the service's own page or a program.",
        )


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    """Numbers cannot be rebound to another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookie[name].value if name in cookie else ""
