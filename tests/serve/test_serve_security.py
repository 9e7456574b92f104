"""Who gets in: host names, tokens, cookies, other sites; and what every answer tells browsers."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import TOKEN, build_index, error_of, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from colbert_video.errors import SettingsError
from colbert_video.serve.app import STATIC
from colbert_video.serve.guard import Gatekeeper, Guard
from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media.uploads import read_body
from colbert_video.serve.service_metrics import Metrics
from colbert_video.serve.service_settings import ServeSettings, is_local

CLOSED = ("/api/indexes", "/api/videos", "/api/search?query=x", "/api/video?id=blue", "/api/start", "/api/additions", "/api/relevance?query=x&id=blue", "/api/more_like?id=blue", "/api/occurrences?query=x&id=blue",
          "/api/video/clip?id=blue&start=0&end=1", "/api/video/media?id=blue", "/metrics",
          "/api/openapi.json", "/api/docs", "/api/nothing", "/nothing")  # fmt: skip
OPEN = ("/", "/static/docs.js", "/healthz", "/readyz", "/api/session")
LOGIN, INDEXES = "/api/login", "/api/indexes"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-security")
    return build_index(folder / "my.index", tiny_trained_model, folder / "clips")


@pytest.fixture
def client(guarded: Any) -> Any:
    guarded.cookies.clear()
    return guarded


@pytest.fixture(scope="module")
def guarded(index: Path, tiny_trained_model: Any) -> Iterator[Any]:
    with serving(index, model=tiny_trained_model, token=TOKEN, allowed_hosts=("videos.example",)) as client:
        yield client


@pytest.mark.parametrize("path", CLOSED)
def test_without_the_token_nothing_is_told(client: Any, path: str) -> None:
    answer = client.get(path)
    assert error_of(answer) == (401, "token_needed")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", OPEN)
def test_the_page_and_the_status_need_no_token(client: Any, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer é", 401),
    ],
)
def test_the_bearer_token(client: Any, header: str, status: int) -> None:
    answer = client.get(INDEXES, headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == status


def test_tokens_are_compared_in_constant_time(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def recorded(given: bytes, known: bytes) -> bool:
        compared.append((given, known))
        return given == known

    monkeypatch.setattr("colbert_video.serve.guard.hmac.compare_digest", recorded)
    client.get(INDEXES, headers={"authorization": "Bearer wrong"})
    client.post(LOGIN, json={"token": "wrong too"})
    assert (b"wrong", TOKEN.encode()) in compared
    assert (b"wrong too", TOKEN.encode()) in compared


def test_login_gives_a_cookie_that_scripts_cannot_read(client: Any) -> None:
    assert client.get("/api/session").json()["authenticated"] is False
    answer = client.post(LOGIN, json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("colbert_video_8000=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert client.get(INDEXES).status_code == 200
    assert client.get("/api/session").json()["authenticated"] is True
    assert client.get("/api/video/media?id=blue").status_code == 200
    assert client.post("/api/logout").status_code == 204
    assert client.get(INDEXES).status_code == 401


def test_over_https_the_cookie_stays_there(client: Any) -> None:
    answer = client.post("https://127.0.0.1" + LOGIN, json={"token": TOKEN})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("cookie", ["", "x", "0" * 64, TOKEN, '"', "é" * 10])
def test_invented_cookies_are_refused(client: Any, cookie: str) -> None:
    header = b"colbert_video_8000=" + cookie.encode()
    assert client.get(INDEXES, headers={"cookie": header}).status_code == 401


def test_cookies_of_another_run_are_refused() -> None:
    settings = ServeSettings(token=TOKEN)
    assert Gatekeeper(settings).login(TOKEN) != Gatekeeper(settings).login(TOKEN)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": b'{"token": "wrong"}'}, (401, "wrong_token")),
        ({"content": b'{"token": 3}'}, (401, "wrong_token")),
        ({"content": b'{"token": "\\ud800"}'}, (401, "wrong_token")),
        ({"content": b"{}"}, (422, "bad_parameter")),
        ({"content": b"[" * 4000}, (422, "bad_parameter")),
        ({"content": b""}, (422, "bad_parameter")),
        ({"content": b"x" * 5000}, (413, "body_too_large")),
    ],
)
def test_logins_that_fail(client: Any, body: dict[str, Any], expected: tuple[int, str]) -> None:
    assert error_of(client.post(LOGIN, **body)) == expected


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("10.0.0.7:8000", 200),  # a number: a name that leads here is what rebinding needs
        ("videos.example", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("videos.example.evil", 400),
        ("", 400),
        ("[", 400),
    ],
)
def test_only_names_of_the_service_are_answered(client: Any, host: str, status: int) -> None:
    answer = client.get("/healthz", headers={"host": host})
    assert answer.status_code == status
    if status == 400:
        assert error_of(answer) == (400, "wrong_host")


@pytest.mark.parametrize("prefix", ["/videos", "/static", "/api/login"])
def test_below_another_application_the_same_is_open_and_closed(client: Any, prefix: str) -> None:
    mounted = type(client)(Starlette(routes=[Mount(prefix, app=client.app)]), base_url=client.base_url)
    for path in OPEN:
        assert mounted.get(prefix + path).status_code == 200
    for path in CLOSED:
        assert error_of(mounted.get(prefix + path)) == (401, "token_needed")
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    assert error_of(mounted.get(f"{prefix}/api/session", headers=foreign)) == (403, "cross_site")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_can_only_link_here(client: Any, site: str) -> None:
    asked_by_script = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    assert error_of(client.get("/api/session", headers=asked_by_script)) == (403, "cross_site")
    link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    assert client.get("/api/session", headers=link).status_code == 200
    assert client.get("/", headers=link).status_code == 200
    assert error_of(client.post(LOGIN, headers=link, json={"token": TOKEN})) == (403, "cross_site")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://127.0.0.1", 200),
        ("HTTP://127.0.0.1", 200),
        ("http://evil.example", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://localhost", 403),
        ("https://127.0.0.1.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_browsers_that_name_only_the_origin(client: Any, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin}
    assert client.get("/api/session", headers=headers).status_code == status
    logged_in = client.post(LOGIN, headers=headers, json={"token": TOKEN}).status_code
    assert logged_in == (403 if status == 403 else 204)


def test_a_body_has_one_length(client: Any) -> None:
    headers = {"transfer-encoding": "chunked", "content-length": "3"}
    assert error_of(client.post(LOGIN, headers=headers, content=b"{}")) == (400, "bad_request")


@pytest.mark.parametrize("path", ["/", "/static/docs.js", "/healthz", "/api/session", "/api/indexes", "/nothing"])
def test_every_answer_tells_browsers_to_be_careful(client: Any, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_the_page_of_addresses_takes_nothing_from_elsewhere() -> None:
    page = (STATIC / "docs.html").read_text()
    assert "http" not in page.replace("https://", "http://").replace("http-equiv", "")
    assert "<script>" not in page
    assert " style=" not in page
    for name in ("docs.js", "docs.css"):
        assert f"../static/{name}" in page
        assert "//" not in (STATIC / name).read_text().replace("/*", "").replace("*/", "")


def test_other_machines_need_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "videos.example"):
        assert not is_local(host)
        with pytest.raises(SettingsError, match="reached from other machines; that needs a token"):
            ServeSettings(host=host)
        assert ServeSettings(host=host, token=TOKEN).host == host
    assert all(is_local(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    with pytest.raises(SettingsError, match="could be guessed; use at least 16"):
        ServeSettings(token="short")
    with pytest.raises(SettingsError, match="search_threads is 0"):
        ServeSettings(search_threads=0)
    with pytest.raises(SettingsError, match="port is 70000"):
        ServeSettings(port=70_000)


# --- the guard by itself ---------------------------------------------------------------------------------------------


def guard(app: Any, *, most_requests: int = 8, stall_seconds: float = 30.0) -> Guard:
    return Guard(
        app,
        gatekeeper=Gatekeeper(ServeSettings()),
        metrics=Metrics(),
        most_requests=most_requests,
        stall_seconds=stall_seconds,
    )


def scope(path: str = "/x") -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")]}


async def statuses(app: Guard, paths: list[str]) -> list[int]:
    """Statuses of requests that are made at once."""
    found: dict[int, int] = {}

    async def asked(number: int, path: str) -> None:
        async def send(message: Any) -> None:
            found.setdefault(number, message.get("status"))

        await app(scope(path), None, send)  # type: ignore[arg-type]

    await asyncio.gather(*(asked(number, path) for number, path in enumerate(paths)))
    return [found[number] for number in range(len(paths))]


async def slow_app(_: Any, __: Any, send: Any) -> None:
    await asyncio.sleep(0)  # all other requests of this moment arrive first
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_more_requests_than_allowed_are_sent_away_at_once() -> None:
    app = guard(slow_app, most_requests=2)
    assert sorted(asyncio.run(statuses(app, ["/x"] * 5))) == [200, 200, 503, 503, 503]
    assert asyncio.run(statuses(app, ["/x", "/x", "/healthz"])) == [200, 200, 200]


def test_a_failure_tells_nothing_of_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def broken(*_: Any) -> None:
        raise RuntimeError("/secret/path")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(broken)(scope(), None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert b"/secret/path" not in sent[1]["body"]
    assert "/secret/path" in caplog.text


def test_a_client_that_stops_reading_is_left() -> None:
    chunks = 0

    async def endless(_: Any, __: Any, send: Any) -> None:
        nonlocal chunks
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            chunks += 1

    async def stalled(message: Any) -> None:
        if message["type"] == "http.response.body" and chunks == 3:
            await asyncio.Event().wait()

    begun = time.monotonic()
    asyncio.run(guard(endless, stall_seconds=0.05)(scope(), None, stalled))  # type: ignore[arg-type]
    assert chunks == 3
    assert time.monotonic() - begun < 15


def posted(receive: Any) -> Request:
    return Request({**scope(), "method": "POST"}, receive)


def test_bodies_without_end_are_read_no_further_than_their_limit() -> None:
    parts = 0

    async def endless() -> dict[str, Any]:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    with pytest.raises(ServiceError, match=r"larger than 0\.005 MB") as refused:
        asyncio.run(read_body(posted(endless), most_bytes=5000, seconds=30))
    assert (refused.value.status, refused.value.headers, parts) == (413, {"Connection": "close"}, 6)


def test_bodies_that_come_too_slowly_are_not_waited_for() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ServiceError, match=r"longer than 0\.05 seconds") as refused:
        asyncio.run(read_body(posted(silent), most_bytes=5000, seconds=0.05))
    assert refused.value.status == 408


def test_the_machine_s_own_name_is_allowed() -> None:
    async def status(host: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        request = {**scope(), "headers": [(b"host", host.encode())]}
        await guard(slow_app)(request, None, send)  # type: ignore[arg-type]
        return sent[0]["status"]

    name = socket.gethostname()
    assert [asyncio.run(status(host)) for host in (name, f"{name}:8000", f"not-{name}")] == [200, 200, 400]
