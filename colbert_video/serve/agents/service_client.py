"""Asking the service from within its process, as agents' tools do."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
from mcp.server.mcpserver.exceptions import ToolError
from starlette.types import ASGIApp

WAIT_SECONDS = 120.0
"""How long a tool waits for what passes."""
PASSING = ("not_ready", "busy")
"""Codes of errors that pass by themselves: a model is being loaded, or a queue is full."""


class ServiceClient:
    """Asks the addresses of a service without a network; refusals become errors that an agent can read.

    Args:
        app: The application, without what guards it from the network: whoever reaches the tools has passed that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://localhost",
            timeout=None,
        )

    async def json(self, path: str, **parameters: Any) -> Any:
        """Return an answer as plain values; parameters of None are left out.

        Raises:
            ToolError: If the service refuses; it says why and what to do.
        """
        return (await self._answer(path, parameters)).json()

    async def content(self, path: str, **parameters: Any) -> bytes:
        """Return the bytes of an answer, such as a picture; raises as `json`."""
        return (await self._answer(path, parameters)).content

    async def _answer(self, path: str, parameters: Mapping[str, Any]) -> httpx2.Response:
        given = {name: value for name, value in parameters.items() if value is not None}
        waited = 0.0
        while True:
            answer = await self._client.get(path, params=given)
            pause = float(answer.headers.get("Retry-After", 0))
            if _error(answer).get("code") not in PASSING or waited + pause > WAIT_SECONDS:
                break
            await asyncio.sleep(pause)
            waited += pause
        if answer.is_success:
            return answer
        error = _error(answer)
        raise ToolError(f"{error['message']} {error['remedy']}")


def _error(answer: httpx2.Response) -> Mapping[str, str]:
    """Return the error in an answer, in the form that all errors of the service have; empty if there is none."""
    if answer.is_success:
        return {}
    try:
        found = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {"message": f"the service answered with status {answer.status_code}.", "remedy": "Try again later."}
    return found
