"""HEAD and OPTIONS for every address (RFC 9110, sections 9.3.2 and 9.3.7)."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        method = scope.get("method")
        if scope["type"] == "http" and method == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
        elif (
            scope["type"] == "http"
            and method == "HEAD"
            and not self._takes(scope, "HEAD")
            and self._takes(scope, "GET")
        ):
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
            scope.update({name: as_get[name] for name in ("route",) if name in as_get})  # requests are counted by it

    def _allowed(self, scope: Scope) -> list[str]:
        found = [method for method in METHODS if self._takes(scope, method)]
        if scope["path"].startswith(self._files):
            found = ["GET"]
        return list(dict.fromkeys([*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"])) if found else []

    def _takes(self, scope: Scope, method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in self._routes)
