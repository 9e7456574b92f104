"""A browser that watches the page: errors in its console and requests to other machines fail the test."""

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import uvicorn
from page_corpus import page_scenes
from serving import wait_until

from colbert_video.serve.app import create_app
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.launch import uvicorn_config
from colbert_video.serve.service_settings import ServeSettings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_SETTINGS = (
    "--no-sandbox",
    "--no-zygote",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PREFIX = "/videos"
PAGE_CLIPS = 4
"""Toy scenes in the index of the page's tests."""
PAGE_CAPTIONS = [scene.caption for scene in page_scenes(PAGE_CLIPS)]
ALL_RESULTS = 20  # more than there are videos


@contextmanager
def on_one_core() -> Iterator[None]:
    """Have the processes that the block starts stay on the first core.

    Threads that wait for ended processes on two cores have spun in the kernel (`shrink_dcache_parent` of Linux 6.18) without
    end, and nothing else on the machine went on.
    """
    if not hasattr(os, "sched_setaffinity"):  # macOS and Windows
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(indexes: Sequence[Path], *, prefix: str = "", model: Any = None, **settings: Any) -> Iterator[str]:
    """A service on a free port.

    Yields:
        Its address.
    """
    fillable = bool(settings.get("add_roots"))
    registry = IndexRegistry.open([str(index) for index in indexes], model=model, fillable=fillable)
    wanted = ServeSettings(**settings)
    config = uvicorn_config(under(prefix, create_app(registry, wanted)), wanted)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as port:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started and registry.ready)
            yield f"http://127.0.0.1:{port.getsockname()[1]}{prefix}/"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive(), "the service does not stop: a request never ends"


def under(prefix: str, app: Callable[..., Any]) -> Callable[..., Any]:
    """The service as a reverse proxy shows it that cuts a prefix off."""

    async def forward(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(prefix + "/"), f"the page left its prefix: {scope['path']}"
            path = scope["path"][len(prefix) :]
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return forward


@contextmanager
def watched(browser: Any, address: str, *, allowed: Sequence[str] = (), **context: Any) -> Iterator[Any]:
    """A new page, which is not loaded yet.

    Args:
        browser: Playwright's.
        address: The service's.
        allowed: Parts of texts that the console may show, such as the status of a refused request.
        context: Playwright's settings of a context, such as `color_scheme`.
    """
    problems: list[str] = []
    own = urlsplit(address).netloc
    page = browser.new_context(base_url=address, **{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
    page.set_default_timeout(20_000)

    def told(message: Any) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in allowed):
            problems.append(message.text)

    def asked(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != own:
            problems.append(f"asked another machine: {request.url}")

    page.on("console", told)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", asked)
    try:
        yield page
    finally:
        page.context.close()
    assert not problems


def expect(part: Any) -> Any:
    from playwright.sync_api import expect

    return expect(part)


def search(page: Any, text: str) -> None:
    page.locator("#query").fill(text)
    expect(page.locator("#status")).to_have_text(re.compile("result"))


def open_by_address(page: Any, video: str, query: str = PAGE_CAPTIONS[0], **more: Any) -> None:
    fields = {"q": query, "k": str(ALL_RESULTS), "open": video, **more}
    page.goto("?" + "&".join(f"{name}={quote_plus(str(value))}" for name, value in fields.items()))
    page.locator(".cell").first.wait_for()


def until(page: Any, condition: str) -> None:
    page.wait_for_function(f"() => {condition}")  # a function: the page's policy lets no text be evaluated later
