"""HEAD and OPTIONS of every address, and clients that go away."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import ODD_ID, TOKEN, build_index, error_of, serving, wait_until

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A GIF of one pixel."""
PICTURE = f"/api/pictures?picture={hashlib.sha256(PIXEL).hexdigest()[:32]}"
GET = [
    "/", "/healthz", "/readyz", "/metrics", "/api/docs", "/api/openapi.json", "/static/page.css", "/api/indexes",
    "/api/indexes/my.index", "/api/videos?limit=2", "/api/session", "/api/start", "/api/additions", PICTURE,
    "/api/relevance?query=x&id=blue", "/api/more_like?id=blue", "/api/occurrences?query=x&id=blue", "/api/video/clip?id=blue&start=0.2&end=1", "/api/video?id=blue", "/api/video/media?id=blue",
    "/api/video/thumbnail?id=blue&t=1", "/api/search?query=a+red+circle", "/api/explain?query=red&id=blue",
]  # fmt: skip
REFUSED = ["/api/search", "/api/video?id=none", "/api/nothing", "/api/videos?limit=0", "/api/indexes/none"]
CHANGING = ("date", "content-length")
"""Headers that differ between two requests: answers of searches say how long they took."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("serve-methods")
    index = build_index(folder / "my.index", tiny_trained_model, folder / "clips")
    with serving(index, model=tiny_trained_model) as client:
        assert client.post("/api/pictures", content=PIXEL).status_code == 201
        wait_until(lambda: client.get("/api/video/clip?id=blue&start=0.2&end=1").status_code == 200)
        yield client


@pytest.mark.parametrize("address", [*GET, *REFUSED])
def test_head_is_get_without_the_body(client: Any, address: str) -> None:
    whole, head = client.get(address), client.head(address)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    fixed = [
        {name: value for name, value in answer.headers.items() if name not in CHANGING} for answer in (head, whole)
    ]
    assert fixed[0] == fixed[1]
    if "milliseconds" not in whole.text and address != "/metrics":
        assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))


def test_every_address_is_tried(client: Any) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    known = {path.replace("{name}", "my.index") for path, methods in paths.items() if "get" in methods}
    assert known <= {address.partition("?")[0] for address in GET}


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        *(
            (address, "GET, HEAD, OPTIONS")
            for address in GET
            if not address.startswith(("/api/search?", "/api/pictures?"))
        ),
        ("/api/search", "GET, HEAD, OPTIONS"),
        ("/api/pictures", "GET, HEAD, POST, OPTIONS"),
        ("/api/search/image", "POST, OPTIONS"),
        ("/api/login", "POST, OPTIONS"),
    ],
)
def test_options_names_the_methods(client: Any, address: str, allowed: str) -> None:
    answer = client.options(address)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (204, b"", allowed)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_heads_are_refused_and_counted_as_such(client: Any, tmp_path: Path) -> None:
    assert client.head("/api/search/image").status_code == 405
    assert error_of(client.options("/nothing")) == (404, "not_found")
    assert client.head("/api/search", params={"query": ""}).status_code == 422
    client.head("/healthz")
    assert 'requests_total{method="HEAD",route="/healthz",status="200"}' in client.get("/metrics").text


def test_a_token_is_needed_for_heads_too(tmp_path: Path, tiny_trained_model: Any) -> None:
    index = build_index(tmp_path / "my.index", tiny_trained_model, tmp_path / "clips")
    with serving(index, model=tiny_trained_model, token=TOKEN) as client:
        assert client.head("/api/indexes").status_code == client.options("/api/indexes").status_code == 401
        assert client.head("/api/indexes", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.head("/healthz").status_code == 200


def asked(client: Any, method: str, path: str, received: list[dict[str, Any]], *, query: str = "") -> list[Any]:
    """What the service sends to a client of which it receives these messages, and then that it is gone."""
    sent: list[Any] = []
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"2000")]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": headers, "scheme": "http", "root_path": "", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
        "http_version": "1.1", "asgi": {"spec_version": "2.4", "version": "3.0"},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if method == "GET":
            raise OSError("the client is gone")

    asyncio.run(client.app(scope, receive, send))
    return sent


PART = {"type": "http.request", "body": b"part", "more_body": True}


@pytest.mark.parametrize(
    ("method", "path", "query", "received"),
    [
        ("POST", "/api/search/image", "", [PART]),
        ("POST", "/api/search/image", "", []),
        ("POST", "/api/login", "", [PART]),
        ("GET", "/api/video/media", "id=blue", []),
        ("GET", "/api/indexes", "", []),
        ("GET", "/static/page.css", "", []),
    ],
)
def test_a_client_that_goes_away_leaves_no_trace_of_calls(
    client: Any, method: str, path: str, query: str, received: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        asked(client, method, path, [*received], query=query)
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING] == []
    assert "went away" in caplog.text
    assert client.get("/api/video/media", params={"id": ODD_ID}).status_code == 200


def test_a_request_that_the_stopping_service_gives_up_is_answered(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []

    async def given_up() -> None:
        async def never() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/api/login", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1")], "scheme": "http", "client": ("127.0.0.1", 9), "http_version": "1.1",
        }  # fmt: skip
        task = asyncio.create_task(client.app(scope, never, send))
        await asyncio.sleep(0.1)
        task.cancel()
        await task

    with caplog.at_level(logging.INFO):
        asyncio.run(given_up())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 503
    assert b"the service stops" in sent[1]["body"]
    assert [record for record in caplog.records if record.exc_info] == []
