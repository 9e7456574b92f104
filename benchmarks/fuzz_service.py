"""Random requests to a service over a socket, for `fuzz.py`."""

import asyncio
import io
import json
import logging
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import PIL.Image
import uvicorn
from fuzz_files import Lures, Tried, Videos, write_clips
from hostile import mutated, odd_json

from colbert_video import Indexer, VideoColBERT
from colbert_video.serve.app import create_app
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.launch import uvicorn_config
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.video.sources import VideoRecord

TOKEN = "a-long-secret-that-is-no-answer"
PATHS = (
    "/", "/api/search", "/api/search/image", "/api/explain", "/api/videos", "/api/video", "/api/video/thumbnail",
    "/api/video/media", "/api/indexes", "/api/indexes/i", "/api/session", "/api/login", "/api/logout", "/healthz", "/readyz",
    "/metrics", "/api/docs", "/api/openapi.json", "/static/docs.js", "/static/../app.py", "/static/%2e%2e/app.py", "//", "/%00", "*",
)  # fmt: skip
METHODS = (
    "GET", "GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "\0",
)  # fmt: skip
PARAMETERS = (
    "query", "query", "id", "id", "k", "where", "ids", "exact", "windows", "limit", "after", "t", "width", "copy", "index",
)  # fmt: skip
FILTER = {"channel": "news", "duration": {">": 1}, "or": [{"id": {"in": ["mp4", "avi"]}}, {"tags": {"contains": "x"}}]}
HEADERS = (
    "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Content-Type",
    "Content-Length", "Transfer-Encoding", "Expect", "Cookie", "Accept-Encoding", "Upgrade", "X-Forwarded-Proto", "Host",
    "Authorization", "Connection", "X-Long",
)  # fmt: skip
WAIT_SECONDS = 30.0
"""Longest time without an answer and without the end of the connection; the service's own limits are shorter."""
SETTINGS: dict[str, Any] = {
    "header_seconds": 1.0,
    "body_seconds": 1.0,
    "stall_seconds": 2.0,
    "keep_alive_seconds": 1,
    "thumbnail_seconds": 5.0,
}


class WrongAnswerError(Exception):
    """The service failed, kept silent, or said what it must not."""


class _Failures(logging.Handler):
    """Tracebacks in the service's log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record)[-4000:])


class Requests:
    """A service over an index whose files change, asked at random."""

    def __init__(self, room: Path, lures: Lures) -> None:
        self.lures, self.failures = lures, _Failures()
        logging.getLogger().addHandler(self.failures)
        self.clips = write_clips(room / "clips")
        self.forger, self.media = Videos(room / "clips", lures), room / "clips"
        self.index = self._write_index(room)
        self.secrets = [str(room), str(lures.folder), "Traceback"]
        settings = ServeSettings(token=TOKEN, media_roots=(self.media,), copies_folder=None, **SETTINGS)
        registry = IndexRegistry.open([f"i={self.index}"], model=None)
        self._server = uvicorn.Server(uvicorn_config(create_app(registry, settings), settings))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.ports = {self.port}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        while b" 200 " not in self._asked(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[:20]:
            time.sleep(0.1)
        self.known = self._asked(self._head("GET", "/api/videos", {}) + b"\r\n")

    def _write_index(self, room: Path) -> Path:
        names = ("mp4", "avi", "mkv", "gif")
        records = [
            VideoRecord(name, str(self.media / f"a.{name}"), {"channel": "news", "tags": ["x"]}) for name in names
        ]
        records.append(VideoRecord("secret", str(self.lures.folder / "secret.mp4"), {}))
        Indexer(room / "i", model=VideoColBERT.from_pretrained("toy", device="cpu"), workers=1).index(records)
        return room / "i"

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def close(self) -> None:
        """Stop the service, and with it its processes."""
        self._server.should_exit = True
        self._thread.join(30)

    def run(self, generator: random.Random, work: Path, tried: Tried) -> None:
        """Send one request, and look at the answer, the log and the health of the service."""
        if generator.random() < 0.1:
            suffix = generator.choice(["mp4", "avi", "mkv", "gif"])
            content = self.clips[suffix]
            (self.media / f"a.{suffix}").write_bytes(
                self.forger.forged(content, generator) if generator.random() < 0.7 else content
            )
        request = self._request(generator)
        (work / "request").write_bytes(request)
        answer = self._asked(request)
        (work / "answer").write_bytes(answer)
        tried.refusals += self._checked(request, answer)
        health = self._asked(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        if not health.startswith(b"HTTP/1.1 200"):
            raise WrongAnswerError(f"the service is not well: {health[:200]!r}")

    def _checked(self, request: bytes, answer: bytes) -> list[str]:
        """The status of an answer that refuses; nothing for one that does not."""
        if self.failures.texts:
            texts, self.failures.texts = self.failures.texts, []
            raise WrongAnswerError("the log has an error: " + "\n".join(texts))
        if not answer:
            return ["closed"]
        status = answer[9:12]
        if not answer.startswith(b"HTTP/1.1 ") or not status.isdigit():
            raise WrongAnswerError(f"that is no answer: {answer[:200]!r}")
        if status in (b"500", b"502"):
            raise WrongAnswerError(f"status {status.decode()}: {answer[-500:]!r}")
        head = answer.partition(b"\r\n\r\n")[0]
        text = head if b"application/octet" in head or b"video/" in head or b"image/" in head else answer
        for secret in (*self.secrets, TOKEN):
            if secret.encode() in text and secret.encode() not in request:
                raise WrongAnswerError(f"the answer names {secret}")
        return [] if status < b"400" else [status.decode()]

    def _asked(self, request: bytes) -> bytes:
        """Send bytes and read until the connection ends."""
        answer = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS) as connection:
            try:
                connection.sendall(request)
                while data := connection.recv(2**16):
                    answer += data
            except ConnectionError:
                pass  # turned away while it was still sending
            except TimeoutError as error:
                raise WrongAnswerError(f"no answer in {WAIT_SECONDS} seconds: {bytes(answer[:200])!r}") from error
        return bytes(answer)

    def _request(self, generator: random.Random) -> bytes:
        path = generator.choice(PATHS) if generator.random() < 0.95 else self._text(generator)
        method = "POST" if path in ("/api/search/image", "/api/login") else "GET"
        method = method if generator.random() < 0.8 else generator.choice(METHODS)
        query = "&".join(self._parameter(generator) for _ in range(generator.randrange(6)))
        body = self._body(path, generator)
        head = self._head(method, f"{path}?{query}" if query else path, self._headers(body, generator), generator)
        request = head + b"\r\n" + body
        if generator.random() < 0.1:
            request = mutated(request, generator)
        return request

    def _head(self, method: str, path: str, headers: dict[str, str], generator: random.Random | None = None) -> bytes:
        known = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}", "Connection": "close"}
        every = {**known, **headers}
        if generator is not None and generator.random() < 0.05:
            every.pop(generator.choice(list(known)), None)
            every.setdefault("Connection", "close")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items())]
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogatepass")

    def _headers(self, body: bytes, generator: random.Random) -> dict[str, str]:
        headers = {"Content-Length": str(len(body))} if body else {}
        for _ in range(generator.choice([0, 0, 1, 1, 2, 3])):
            name = generator.choice(HEADERS)
            headers[name] = self._header(name, generator)
        return headers

    def _header(self, name: str, generator: random.Random) -> str:
        numbers = [generator.choice(["", "0", "1", "5", "999", "-1", "9" * 30, "x", "٣"]) for _ in range(4)]
        known = {
            "Range": [
                f"bytes={numbers[0]}-{numbers[1]}",
                f"bytes={numbers[0]}-{numbers[1]},{numbers[2]}-{numbers[3]}",
                "bytes=" + "0-," * 3000,
                "x",
            ],
            "Content-Length": [*numbers, "5, 5", "+5"],
            "Transfer-Encoding": ["chunked", "gzip", "chunked, chunked", "x"],
            "Origin": ["null", "http://evil.example", "http://127.0.0.1", "http://[", "x"],
            "Sec-Fetch-Site": ["same-origin", "cross-site", "none", "x"],
            "Authorization": ["Bearer x", "Bearer", "Basic eDp5", f"Bearer {TOKEN}é", "Bearer " + "x" * 5000],
            "Cookie": ["colbert_video_8000=x", ";" * 500, "a=b; " * 500, '"'],
            "Host": ["evil.example", "[", "", "127.0.0.1:x", "localhost@evil"],
            "Expect": ["100-continue", "x"],
            "X-Long": ["x" * 70_000],
        }
        return generator.choice(known.get(name, [*numbers, self._text(generator).replace("\r", "").replace("\n", "")]))

    def _text(self, generator: random.Random) -> str:
        values = [value for value in self.lures.values if isinstance(value, str)]
        return generator.choice([*values, "a red circle", "x" * generator.choice([1, 999, 1001, 30_000]), "9" * 4000])

    def _parameter(self, generator: random.Random) -> str:
        name = generator.choice(PARAMETERS)
        usual = {
            "query": ["a red circle"], "id": ["mp4", "avi", "mkv", "gif", "secret"], "k": ["3", "1000"], "ids": ["mp4"],
            "exact": ["true"], "windows": ["1"], "limit": ["2"], "after": ["a"], "t": ["0.5", "1"], "width": ["160", "320"],
            "copy": ["h264"] if generator.random() < 0.02 else [""], "index": ["i"], "where": [json.dumps(FILTER)],
        }  # fmt: skip
        value = generator.choice(usual[name])
        if generator.random() < 0.35:
            odd = odd_json(FILTER, generator, self.lures.values)
            value = json.dumps(odd) if name == "where" else self._number(generator)
        if generator.random() < 0.03:
            return f"{name}={value}"
        return f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}"

    def _number(self, generator: random.Random) -> str:
        numbers = ["", "0", "-1", "1e400", "nan", "inf", "9" * 5000, "1.5", "٣", "1_0", " 1", "0x10", "true", "+1"]
        return generator.choice(numbers) if generator.random() < 0.5 else self._text(generator)

    def _body(self, path: str, generator: random.Random) -> bytes:
        if path == "/api/login":
            body = json.dumps(odd_json({"token": TOKEN}, generator, self.lures.values)).encode()
        elif path == "/api/search/image" or generator.random() < 0.1:
            body = self._picture(generator)
        else:
            return b""
        return mutated(body, generator) if generator.random() < 0.5 else body

    def _picture(self, generator: random.Random) -> bytes:
        made = io.BytesIO()
        size = generator.choice([(1, 1), (16, 12), (300, 2), (640, 480)])
        pixels = np.random.default_rng(generator.randrange(99)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(made, generator.choice(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]))
        return made.getvalue()
