"""Whether an address answers: within seconds, through what a download will use, and slow networks count as networks."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub import utils as hub_utils

from colbert_video.base import network
from colbert_video.base.network import address_problem, hub_problem

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
ASK = pytest.mark.parametrize("ask", [hub_problem, address_problem])


@pytest.fixture(autouse=True)
def fresh_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clients of huggingface_hub and urllib remember the proxies of the environment in which they were made."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    forget_clients()
    yield
    forget_clients()


def forget_clients() -> None:
    forget: Any = getattr(hub_utils, "close_session", None) or getattr(hub_utils, "reset_sessions", None)
    forget()
    urllib.request.install_opener(None)  # type: ignore[arg-type]


@contextmanager
def answering(status: int = 200, *, after: float = 0) -> Iterator[tuple[str, list[str]]]:
    """A server, and the request lines that it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.requestline)
            time.sleep(after)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def refusing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@ASK
@pytest.mark.parametrize("status", [200, 307, 404, 401, 501, 503])
def test_any_answer_is_an_answer(ask: Any, status: int) -> None:
    with answering(status) as (address, asked):
        assert ask(address) is None
    assert asked


@ASK
def test_what_refuses_is_said_at_once(ask: Any, refusing: str) -> None:
    assert "127.0.0.1 cannot be reached" in ask(refusing)
    assert "refused" in ask(refusing)


@ASK
def test_what_never_answers_is_given_up(ask: Any, silent: str) -> None:
    begin = time.monotonic()
    assert "127.0.0.1 cannot be reached" in ask(silent, patience=0.3)
    assert time.monotonic() - begin < 3


@ASK
def test_a_name_that_does_not_exist(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "hub.invalid cannot be reached (" in ask("https://hub.invalid/")
    assert "Name or service not known" in ask("https://hub.invalid/")


@ASK
def test_a_name_that_is_looked_up_for_long(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit of a request holds for it."""
    ended = threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        ended.wait(60)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    begin = time.monotonic()
    assert ask("https://hub.invalid/", patience=0.3) == "hub.invalid cannot be reached (no answer in 0.3 seconds)"
    assert time.monotonic() - begin < 3
    ended.set()


@ASK
def test_a_slow_network_is_a_network(ask: Any) -> None:
    with answering(after=0.6) as (address, _):
        assert ask(address) is None
        assert ask(address, patience=0.1) is not None


def test_four_seconds_are_slow_and_five_are_too_many() -> None:
    assert 4 < network.PATIENCE_SECONDS < 4.8
    assert network.CACHED_PATIENCE_SECONDS < network.PATIENCE_SECONDS


@ASK
def test_a_proxy_is_asked_instead(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        assert ask("http://hub.invalid/mirror") is None
    assert asked == ["HEAD http://hub.invalid/mirror HTTP/1.1"]


@ASK
def test_a_proxy_that_is_away_is_no_network(ask: Any, monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", refusing)
    monkeypatch.setenv("http_proxy", refusing)
    with answering() as (address, asked):
        assert "cannot be reached" in ask(address)
        forget_clients()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert ask(address) is None
    assert len(asked) == 1


def test_the_mirror_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as (mirror, asked):
        monkeypatch.setattr(constants, "ENDPOINT", mirror)  # which huggingface_hub reads from HF_ENDPOINT
        assert hub_problem() is None
    assert asked


def test_whoever_wants_no_network_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as (mirror, asked):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert hub_problem(mirror) == "HF_HUB_OFFLINE forbids to fetch it"
    assert asked == []


def test_secrets_of_an_address_are_not_shown(refusing: str) -> None:
    host = refusing.removeprefix("http://")
    problem = hub_problem(f"http://me:hunter2@{host}") or ""
    assert problem
    assert "hunter2" not in problem
