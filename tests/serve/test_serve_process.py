"""The service as a process: its address, its connections, its end."""

import asyncio
import builtins
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from serving import ODD_ID, TOKEN, build_index

from colbert_video.errors import SettingsError
from colbert_video.serve.launch import Server, open_port, uvicorn_config
from colbert_video.serve.service_settings import ServeSettings

PROGRAM = "from colbert_video.cli import main; main()"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-process")
    return build_index(folder / "my.index", tiny_trained_model, folder / "clips")


@pytest.fixture(scope="module")
def toy_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from colbert_video import VideoColBERT

    folder = tmp_path_factory.mktemp("serve-toy")
    return build_index(folder / "toy.index", VideoColBERT.from_pretrained("toy", device="cpu"), folder / "clips")


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[tuple[Any, str]]:
    """A running service and its address."""
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *arguments]
    home = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=home, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+/)\n", line)
            assert match is not None, line
            yield process, match[1]
        finally:
            if process.poll() is None:
                process.kill()


def get(address: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_service_answers_streams_and_stops_in_order(toy_index: Path) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    with started(str(toy_index), "--device", "cpu", COLBERT_VIDEO_TOKEN=TOKEN) as (process, address):
        assert get(address + "healthz")[0] == 200
        while get(address + "readyz")[0] != 200:
            assert process.poll() is None
        assert get(address + "api/indexes")[0] == 401
        status, body = get(address + "api/search?query=a+red+circle&k=2", **known)
        assert status == 200
        found = json.loads(body)["topk"]
        assert [one["rank"] for one in found] == [1, 2]
        media = address + "api/video/media?" + urllib.parse.urlencode({"id": ODD_ID})
        whole = get(media, **known)[1]
        assert get(media, Range="bytes=10-19", **known) == (206, whole[10:20])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with socket.socket() as port, pytest.raises(ConnectionRefusedError):
        port.connect(("127.0.0.1", urllib.parse.urlsplit(address).port or 0))


def test_an_open_address_gets_a_token_of_its_own(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def recorded(folders: Any, settings: ServeSettings, **options: Any) -> None:
        given.update(folders=folders, settings=settings)

    monkeypatch.delenv("COLBERT_VIDEO_TOKEN", raising=False)
    monkeypatch.setattr("colbert_video.serve.launch.serve", recorded)
    code, out, _ = run(["serve", str(index), "--host", "0.0.0.0"], capsys)
    assert code == 0
    assert given["settings"].token == out.removeprefix("token: ").strip()
    assert len(given["settings"].token) >= 40
    run(["serve", str(index)], capsys)
    assert given["settings"].token is None
    options = ["--allowed-host", "a", "--allowed-host", "b", "--media-root", str(index), "-k", "7", "--threads", "3"]
    run(["serve", str(index), "x=y", *options], capsys)
    settings = given["settings"]
    assert (given["folders"], settings.allowed_hosts, settings.media_roots) == (
        (str(index), "x=y"),
        ("a", "b"),
        (index,),
    )
    assert (settings.most_results, settings.search_threads) == (7, 3)


def test_the_verb_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["serve", "--help"], capsys)
    assert code == 0
    assert "COLBERT_VIDEO_TOKEN" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve"], "Missing argument"),
        (["serve", "{tmp}/nowhere", "--port", "0"], "holds no finished index"),
        (["serve", "{index}", "{index}", "--port", "0"], "two indexes are called"),
        (["serve", "{index}", "--token", "short"], "could be guessed"),
        (["serve", "{index}", "--host", "no.such.host.invalid"], "cannot listen on"),
        (["serve", "{index}", "--port", "70000"], "port is 70000"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run([argument.format(tmp=tmp_path, index=index) for argument in arguments], capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_without_its_packages_the_verb_says_what_to_install(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_fastapi(name: str, *rest: Any, **more: Any) -> Any:
        if name == "fastapi":
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_fastapi)
    code, _, err = run(["serve", str(index)], capsys)
    assert code == 2
    assert 'fastapi is not installed, which `serve` needs: pip install "colbert_video[serve]"' in err


def test_answers_are_not_held_back() -> None:
    with open_port("127.0.0.1", 0) as port:
        assert port.proto == socket.IPPROTO_TCP  # what asyncio looks at before it turns off Nagle's algorithm


def test_a_port_in_use_is_told_of() -> None:
    with (
        open_port("127.0.0.1", 0) as port,
        pytest.raises(SettingsError, match=r"Address already in use.*; choose others"),
        open_port("127.0.0.1", port.getsockname()[1]),
    ):
        pass


# --- connections -----------------------------------------------------------------------------------------------------


class TinyServer(Server):
    """Serves an application that answers when it may, and says when it has begun."""

    def __init__(self, settings: ServeSettings) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:  # a bound method is no ASGI 3 to uvicorn
            await self.answer(scope, receive, send)

        super().__init__(uvicorn_config(app, settings))
        self.up, self.asked, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self.go_on.set()

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.asked.set()
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


def with_server(scenario: Any, server_class: type[TinyServer] = TinyServer, **settings: Any) -> None:
    """Run a scenario against a server in this process; then stop it by SIGTERM, after which it answers."""

    async def whole(port: socket.socket) -> None:
        server = server_class(ServeSettings(**settings))
        running = asyncio.ensure_future(server.serve(sockets=[port]))
        await asyncio.wait_for(server.up.wait(), 30)
        await asyncio.wait_for(scenario(port.getsockname()[1], server), 30)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 30)

    handler = signal.getsignal(signal.SIGTERM)
    with open_port("127.0.0.1", 0) as port:
        asyncio.run(whole(port))
    assert signal.getsignal(signal.SIGTERM) is handler


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_head_that_comes_too_slowly_ends_the_connection() -> None:
    async def scenario(port: int, server: TinyServer) -> None:
        silent, _ = await asyncio.open_connection("127.0.0.1", port)
        slow, slow_writer = await asyncio.open_connection("127.0.0.1", port)
        slow_writer.write(REQUEST[:20])
        good, good_writer = await asyncio.open_connection("127.0.0.1", port)
        good_writer.write(REQUEST)
        assert await silent.read() == b""
        assert await slow.read() == b""
        server.go_on.set()
        assert b"done" in await good.readuntil(b"done")
        good_writer.write(REQUEST[:20])  # one good request buys no time for the next
        assert await good.read() == b""

    with_server(scenario, header_seconds=0.2, keep_alive_seconds=20)


def test_a_stop_lets_running_requests_finish() -> None:
    answers: list[bytes] = []
    kept: list[Any] = []  # a writer without an owner closes its connection

    async def scenario(port: int, server: TinyServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)

        async def read() -> None:
            answers.append(await reader.read())

        kept.extend((writer, asyncio.ensure_future(read())))
        await server.asked.wait()

    with_server(scenario)
    assert answers[0].endswith(b"done")


def test_connections_are_bounded() -> None:
    async def scenario(port: int, server: TinyServer) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        assert b" 503 " in await reader.readline()
        for _, open_writer in held:
            open_writer.close()
        writer.close()

    with_server(scenario, most_connections=4)


class VastServer(TinyServer):
    """Answers with more than any buffer holds."""

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await super().answer(scope, receive, send)
            return
        self.asked.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(2**18), "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})


def test_clients_that_do_not_read_are_cut_off_and_slow_ones_are_not() -> None:
    async def scenario(port: int, server: TinyServer) -> None:
        slow, slow_writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
        slow_writer.write(REQUEST)
        for _ in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(REQUEST)
            kept.append(writer)
        while len(server.server_state.connections) > 1:  # the test's time limit ends this if it never happens
            assert await slow.read(2**14)
            await asyncio.sleep(0.01)
        assert await slow.read(2**14)
        slow_writer.transport.abort()

    kept: list[Any] = []
    with_server(scenario, server_class=VastServer, stall_seconds=0.5)
