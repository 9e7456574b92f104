"""The web application: its addresses, its errors and what surrounds them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

import colbert_video
from colbert_video.serve.guard import STATIC as STATIC_PATH
from colbert_video.serve.guard import Guard
from colbert_video.serve.http_errors import ErrorAnswer, install_handlers
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.methods import Methods
from colbert_video.serve.routes import (
    add_routes,
    index_routes,
    list_routes,
    media_routes,
    picture_routes,
    search_routes,
    session_routes,
    status_routes,
)
from colbert_video.serve.service import Service
from colbert_video.serve.service_settings import ServeSettings

STATIC = Path(__file__).parent / "static"
DESCRIPTION = """Late-interaction video search: words or a picture in, moments of video out.

Ids may hold any characters and travel as query parameters. Where the service has a token, send `Authorization: Bearer
TOKEN`. All errors have one form; when the service is busy, they say when to come back (`Retry-After`)."""
ERRORS = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in (
        (400, "The Host header names another service."),
        (401, "The token is missing."),
        (403, "Another web page asked."),
        (404, "There is no such thing."),
        (409, "Nothing is indexed yet."),
        (422, "A parameter is out of range, or cannot be used with this index."),
        (503, "Too much is waiting, or the index cannot be used just now."),
    )
}


def create_app(indexes: IndexRegistry, settings: ServeSettings | None = None, *, agents: bool = False) -> Guard:
    """Assemble the service.

    Args:
        indexes: What it searches; it closes them when it stops.
        settings: Its limits; None for the defaults.
        agents: True to answer the Model Context Protocol at /mcp too, with the same limits and token.

    Returns:
        An ASGI application.
    """
    settings = settings or ServeSettings()
    app, service = create_api(indexes, settings)
    if agents:
        from colbert_video.serve.agents.agent_endpoint import add_agents

        add_agents(app, service)
    return Guard(
        app,
        gatekeeper=service.gatekeeper,
        metrics=service.metrics,
        most_requests=settings.most_requests,
        stall_seconds=settings.stall_seconds,
    )


def create_api(indexes: IndexRegistry, settings: ServeSettings) -> tuple[FastAPI, Service]:
    """Assemble the addresses of a service, without what guards them from the network."""
    service = Service.from_settings(settings, indexes)
    app = FastAPI(
        title="colbert_video",
        description=DESCRIPTION,
        version=colbert_video.__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        responses=ERRORS,  # type: ignore[arg-type]
    )
    app.state.service = service
    install_handlers(app)
    for routes in (
        search_routes,
        picture_routes,
        list_routes,
        media_routes,
        index_routes,
        add_routes,
        session_routes,
        status_routes,
    ):
        app.include_router(routes.router)
    _add_pages(app)
    app.add_middleware(Methods, routes=app.router.routes, files=STATIC_PATH)
    return app, service


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.start()
    try:
        yield
    finally:
        await service.close()


def _add_pages(app: FastAPI) -> None:
    """Add the search page, the page of addresses, and their scripts, all from this package."""

    async def home() -> FileResponse:
        page = STATIC / "index.html"
        return FileResponse(page if page.is_file() else STATIC / "docs.html")

    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")

    app.add_api_route("/", home, include_in_schema=False)
    app.add_api_route("/api/docs", docs, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
