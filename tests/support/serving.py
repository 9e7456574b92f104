"""Services over tiny indexes, for tests: rendered clips, a model with random weights, a client in the same process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from starlette.testclient import TestClient

from colbert_video import Indexer
from colbert_video.serve.app import create_app
from colbert_video.serve.indexes import IndexRegistry, Opener, ServedIndex
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.video.sources import VideoRecord

ODD_ID = "news/clip #1?&%2e …é.mp4"
TOKEN = "a-long-secret-of-the-tests"


def write_colour(path: Path, colour: tuple[int, int, int], *, codec: str = "libx264", frames: int = 30) -> Path:
    """A clip of three seconds in one colour, 64 × 48."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((48, 64, 3), colour, dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_corpus(folder: Path) -> list[VideoRecord]:
    """Three clips: one of an awkward id, one that browsers do not play, one plain."""
    red = write_colour(folder / "red.mp4", (220, 20, 20))
    green = write_colour(folder / "green.avi", (20, 200, 20), codec="mpeg4")
    blue = write_colour(folder / "blue.mp4", (20, 20, 220))
    return [
        VideoRecord(ODD_ID, str(red), {"channel": "news", "text": "a red picture"}),
        VideoRecord("green", str(green), {"channel": "sport"}),
        VideoRecord("blue", str(blue), {"channel": "news", "odd": "\ud800"}),
    ]


def build_index(path: Path, model: Any, folder: Path) -> Path:
    """Index the corpus."""
    Indexer(path, model=model, workers=1).index(write_corpus(folder))
    return path


@contextmanager
def serving(
    *indexes: Path | str, model: Any, refresh: float = 0.05, opened: Opener = ServedIndex, **settings: Any
) -> Iterator[TestClient]:
    """A client of a service that is ready."""
    registry = IndexRegistry.open(
        [str(index) for index in indexes],
        model=model,
        refresh_seconds=refresh,
        opened=opened,
        fillable=bool(settings.get("add_roots")),
    )
    app = create_app(registry, ServeSettings(**settings))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def wait_until(holds: Any, seconds: float = 60.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def stand_in(folder: Path, script: str) -> str:
    """Write a program to run in ffmpeg's place; its last argument is file:TARGET."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\nfor last; do :; done\ntarget=${{last#file:}}\n{script}\n")
    program.chmod(0o755)
    return str(program)


def error_of(answer: Any) -> tuple[int, str]:
    """Status and code of an error, whose form is checked."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "remedy"}
    assert all(isinstance(value, str) and value for value in body["error"].values())
    return answer.status_code, body["error"]["code"]
