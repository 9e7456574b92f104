"""Where agents reach the tools: an address of the service, or stdin and stdout."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colbert_video.serve.agents.agent_tools import agent_server
from colbert_video.serve.agents.service_client import ServiceClient
from colbert_video.serve.guard import AGENTS
from colbert_video.serve.media.uploads import read_body
from colbert_video.serve.service import Service

MOST_BYTES = 2**20
"""Largest message of an agent."""


def add_agents(app: FastAPI, service: Service) -> None:
    """Answer the Model Context Protocol at /mcp: each message by itself, as JSON, so that no sessions are kept.

    Args:
        app: The addresses of the service, which the tools ask. The guard around it has checked names and token.
        service: Its parts and limits.
    """
    server = agent_server(ServiceClient(app))
    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard has looked at both headers
    web = server.streamable_http_app(
        streamable_http_path=AGENTS,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MOST_BYTES,
        transport_security=unguarded,
    )
    app.router.routes.append(Route(AGENTS, endpoint=_WholeBodies(web, seconds=service.settings.body_seconds)))
    _run_with(app, server)


def _run_with(app: FastAPI, server: MCPServer) -> None:
    """Have the server answer while the application runs; what is mounted is not started by it."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[Any]:
        async with inner(started) as state, server.session_manager.run():
            yield state

    app.router.lifespan_context = lifespan


async def talk_over_stdio(app: FastAPI) -> None:
    """Answer an agent over stdin and stdout until it closes them.

    Args:
        app: The addresses of the service, which the tools ask.
    """
    async with app.router.lifespan_context(app):
        await agent_server(ServiceClient(app)).run_stdio_async()


class _WholeBodies:
    """Reads each message whole before it is looked at, as pictures are read: within a size and a time."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(Request(scope, receive), most_bytes=MOST_BYTES, seconds=self._seconds)
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)
