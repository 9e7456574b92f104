"""HEAD and OPTIONS for every address (RFC 9110, sections 9.3.2 and 9.3.7)."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colbert_video.serve.guard import path_within

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Methods:
    """Answers HEAD as GET without the body, and OPTIONS with the methods of an address; all else is the application's.

    Args:
        app: The application.
        routes: Its addresses.
        files: Path below which files lie, which can be read alone.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute], files: str) -> None:
        self._app = app
        self._routes = routes
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = scope["method"] if scope["type"] == "http" else None
        if method == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
        elif method == "HEAD" and self._takes(scope, "GET") and not self._takes(scope, "HEAD"):
            await self._without_body(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _without_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_head)
        finally:
            if "route" in as_get:
                scope["route"] = as_get["route"]  # requests are counted by it

    def _allowed(self, scope: Scope) -> list[str]:
        if path_within(scope).startswith(self._files):
            return ["GET", "HEAD", "OPTIONS"]
        found = {method for method in METHODS if self._takes(scope, method)}
        if "GET" in found:
            found.add("HEAD")
        return [*(method for method in METHODS if method in found), "OPTIONS"] if found else []

    def _takes(self, scope: Scope, method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in self._routes)
