"""What is indexed can be seen: camera formats, tapes and bare streams have pictures, and copies that browsers play."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from serving import serving, wait_until

from colbert_video import Indexer

FORMATS = {
    "camera.mts": ("libx264", "mpegts", 160, 120, 1.0),
    "camera.m2ts": ("libx264", "mpegts", 160, 90, 1.0),
    "tape.dv": ("dvvideo", "dv", 720, 576, 16 / 15),
    "bare.h264": ("libx264", "h264", 160, 120, 1.0),
    "bare.hevc": ("libx265", "hevc", 160, 120, 1.0),
    "bare.m2v": ("mpeg2video", "mpeg2video", 160, 120, 1.0),
    "bare.ivf": ("libvpx-vp9", "ivf", 160, 120, 1.0),
    "old.avi": ("mpeg4", "avi", 160, 120, 1.0),
    "wide.mkv": ("libx264", "matroska", 160, 120, 2.0),
}
"""Codec, container, width and height, and the pixels' own shape."""
FRAMES = 25


def write(path: Path, codec: str, container: str, width: int, height: int, aspect: float) -> None:
    """One second: the left half is red, the right half blue, and a green bar at the bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = (210, 30, 30), (30, 30, 210)
    pixels[3 * height // 4 :] = (30, 200, 30)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if aspect == 2.0:
            stream.codec_context.sample_aspect_ratio = 2
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "clips").mkdir()
    for name, made in FORMATS.items():
        if made[0] in av.codecs_available:
            write(folder / "clips" / name, *made)
    Indexer(folder / "i", model=tiny_trained_model, workers=2).index(folder / "clips")
    with serving(folder / "i", model=tiny_trained_model) as client:
        yield client


def check_picture(picture: Any, width: int, height: int, aspect: float) -> None:
    """The picture has the shape that players show, and the colours."""
    assert picture.shape[1] / picture.shape[0] == pytest.approx(width * aspect / height, rel=0.03)
    rows, columns = picture.shape[0], picture.shape[1]
    found = [picture[rows // 4, columns // 4], picture[rows // 4, 3 * columns // 4], picture[-rows // 8, columns // 2]]
    assert [int(colour.argmax()) for colour in found] == [0, 2, 1]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_indexed_has_a_picture_and_a_copy_that_plays(client: Any, name: str, tmp_path: Path) -> None:
    codec, _, width, height, aspect = FORMATS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    known = client.get("/api/video", params={"id": name}).json()
    assert known["playable"] is False
    assert known["reason"].startswith("browsers do not play")
    thumbnail = client.get("/" + known["thumbnail"])
    assert thumbnail.headers["content-type"] == "image/jpeg"
    check_picture(np.asarray(Image.open(io.BytesIO(thumbnail.content))), width, height, aspect)
    wait_until(lambda: client.head("/" + known["copy"]).status_code != 202)
    copy = client.get("/" + known["copy"])
    assert (copy.status_code, copy.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(copy.content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == FRAMES
    check_picture(frames[12], width, height, aspect)
    wait_until(lambda: client.get("/api/video/clip", params={"id": name, "start": 0.2, "end": 0.6}).status_code != 202)
    clip = client.get("/api/video/clip", params={"id": name, "start": 0.2, "end": 0.6})
    with av.open(io.BytesIO(clip.content)) as container:
        assert len(list(container.decode(video=0))) == 10
