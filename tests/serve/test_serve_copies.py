"""Copies for browsers: the stream that was indexed, as it is shown, by an ffmpeg that is held within limits."""

import asyncio
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from container_bytes import add_clean_aperture, set_display_matrix
from PIL import Image
from serving import stand_in, wait_until
from tagged_files import filtered
from video_writer import read_numbers, write_clip, write_two_films

from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media import copies
from colbert_video.serve.media.copies import CopyMaker
from colbert_video.serve.media.copies_folder import PREFIX, CopiesFolder, sweep
from colbert_video.serve.media.ffmpeg_command import copy_size, ffmpeg_arguments
from colbert_video.serve.media.media_files import MediaFile, MediaKind
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import Cropping, SamplingSettings, SourcePicture
from colbert_video.video.workers.environment import plain_environment
from colbert_video.video.workers.pictures import picture_of, picture_settings
from colbert_video.video.workers.pool import FramePool
from colbert_video.video.workers.process import worker_environment

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these limits")
SECRET = "COLBERT_VIDEO_TOKEN"


def media_of(path: Path) -> MediaFile:
    """What a copy maker is asked for."""
    return MediaFile(str(path), 1, 1, MediaKind("mp4", "video/mp4", "h264", None))


def maker_in(folder: Path, program: str | None = None, *, own: bool = False, **limits: Any) -> CopyMaker:
    usual = {"at_once": 1, "waiting": 1, "seconds": 60.0, "most_bytes": 10**6, "cached_bytes": 10**7}
    maker = CopyMaker(**(usual | limits), folder=folder)
    maker._program = None if own else program or maker._program
    return maker


def made(folder: Path, source: Path, **options: Any) -> tuple[str, bytes]:
    """State and content of one copy."""

    async def scenario() -> tuple[str, bytes]:
        maker = maker_in(folder, **options)
        copy = maker.wanted(media_of(source))
        await asyncio.gather(*maker._tasks)
        content = copy.path.read_bytes() if copy.path.exists() else b""
        await maker.close()
        return copy.state, content

    return asyncio.run(scenario())


# --- the command -----------------------------------------------------------------------------------------------------


def value_of(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_indexed_stream_is_copied() -> None:
    picture = SourcePicture(320, 180, 0, stream=3)
    assert value_of(ffmpeg_arguments("a.mp4", Path("b.mp4"), 100, picture), "-map") == "0:3"


def test_the_decoder_is_limited_before_the_input_is_opened() -> None:
    arguments = ffmpeg_arguments("a.mp4", Path("b.mp4"), 100, SourcePicture(320, 180, 0))
    opened = arguments.index("-i")
    assert arguments.index("-max_pixels") < opened
    assert arguments.index("-threads") < opened
    assert value_of(arguments, "-max_pixels") == str(2**26)
    assert value_of(arguments, "-threads") == "1"


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((640, 360), 1.0, (640, 360)),
        ((640, 360), 2.0, (1280, 360)),
        ((1080, 1080), 0.5625, (606, 1080)),
        ((720, 576), 64 / 45, (1024, 576)),
        ((1920, 1080), 1.0, (1280, 720)),
        ((1080, 1920), 1.0, (720, 1280)),
        ((4000, 100), 4.0, (1280, 8)),
        ((3, 1), 1.0, (2, 2)),
        ((1, 8000), 1.0, (2, 1280)),
    ],
)
def test_the_size_has_the_shape_that_is_shown(size: tuple[int, int], aspect: float, expected: tuple[int, int]) -> None:
    assert copy_size(SourcePicture(*size, 0, pixel_aspect=aspect)) == expected


def test_filters_say_what_the_frames_show() -> None:
    picture = SourcePicture(300, 140, 0, crop=Cropping(20, 10, 0, 30), matrix=9, transfer="pq")
    filters = value_of(ffmpeg_arguments("a.mp4", Path("b.mp4"), 100, picture, tone_table="pq-9.cube"), "-vf")
    order = [
        "crop=w=300:h=140:",
        "setparams=colorspace=bt2020nc,",
        "scale=300:140,",
        "lut3d=file=pq-9.cube:",
        "setsar=1",
    ]
    assert sorted(order, key=filters.index) == order


# --- what it shows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [pytest.param("ffmpeg", marks=needs_ffmpeg), "own"])
@pytest.mark.parametrize("case", ["plain", "mirrored", "cropped", "matrix", "pq"])
def test_copies_show_what_frames_show(tmp_path: Path, case: str, maker: str) -> None:
    source = write_clip(tmp_path / "a.mp4", 20)
    if case == "mirrored":
        set_display_matrix(source, -1, 0, 0, 1)
    elif case == "cropped":
        add_clean_aperture(source, 50, 54, -2, 6)
    elif case != "plain":
        tag = "matrix_coefficients=14" if case == "matrix" else "transfer_characteristics=16:colour_primaries=9"
        source = filtered(source, tmp_path / "b.mp4", f"h264_metadata={tag}")
    state, content = made(tmp_path, source, own=maker == "own")
    assert state == "ready"
    (tmp_path / "copy.mp4").write_bytes(content)
    settings = SamplingSettings(num_frames=4, width=64, height=64)
    frames, shown = read_frames(source, settings), read_frames(tmp_path / "copy.mp4", settings)
    assert np.abs(frames.pixels.astype(int) - shown.pixels).mean() < 4
    assert (shown.mirrored, shown.rotation, shown.pixel_aspect, shown.warnings) == (False, 0, 1.0, ())
    if case == "plain":
        assert read_numbers(shown) == [2, 7, 12, 17]


# --- its limits ------------------------------------------------------------------------------------------------------


@on_linux
def test_ffmpeg_gets_no_secrets_and_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "do-not-pass-this-on")
    program = stand_in(tmp_path, '(env; echo "memory $(ulimit -v)"; pwd) > "$target"')
    state, content = made(tmp_path, write_clip(tmp_path / "a.mp4", 3), program=program, memory_bytes=2**31)
    assert state == "ready"
    lines = content.decode().splitlines()
    assert not any("do-not-pass-this-on" in line for line in lines)
    assert f"memory {2**21}" in lines  # in kB
    assert any(line.startswith("PATH=") for line in lines)
    assert Path(lines[-1]).name.startswith(PREFIX)


def test_children_get_where_things_are_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "do-not-pass-this-on")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nor-this")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for environment in (plain_environment(), worker_environment()):
        assert environment["LC_ALL"] == "C.UTF-8"
        assert environment["PATH"] == os.environ["PATH"]
        assert SECRET not in environment
        assert "AWS_SECRET_ACCESS_KEY" not in environment


KILLED = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_serve_copies import maker_in, media_of

async def scenario():
    maker = maker_in(Path({folder!r}), {program!r})
    maker.wanted(media_of(Path({source!r})))
    await asyncio.gather(*maker._tasks)

asyncio.run(scenario())
"""


@on_linux
def test_a_killed_service_leaves_no_ffmpeg_and_the_next_one_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    pid = tmp_path / "pid"
    program = stand_in(tmp_path, f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600")
    source = write_clip(tmp_path / "a.mp4", 3)
    script = KILLED.format(path=sys.path, folder=str(folder), program=program, source=str(source))
    service = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(pid.exists, seconds=60)
        running = int(pid.read_text())
        sweep(folder)
        assert len(list(folder.iterdir())) == 1  # in use
    finally:
        service.kill()
        service.wait()
    wait_until(lambda: not Path(f"/proc/{running}").exists() or " Z " in Path(f"/proc/{running}/stat").read_text())
    maker = maker_in(folder)
    maker.start()
    assert list(folder.iterdir()) == []
    asyncio.run(maker.close())


@on_linux
def test_only_left_overs_are_swept(tmp_path: Path) -> None:
    mine = CopiesFolder(tmp_path)
    (mine.path / "a.mp4").write_bytes(b"1")
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "a.mp4").write_bytes(b"1")
    (tmp_path / "films").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "films")
    (tmp_path / f"{PREFIX}file").write_bytes(b"1")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine.path.name, "films", f"{PREFIX}link", f"{PREFIX}file"}
    mine.close()
    mine.close()
    assert not mine.path.exists()
    sweep(tmp_path / "no such folder")


def test_a_failed_copy_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = media_of(write_clip(tmp_path / "a.mp4", 3))
    program = stand_in(tmp_path, f'test -e {tmp_path}/space && echo 1 > "$target"')

    async def scenario() -> None:
        maker = maker_in(tmp_path, program)
        maker.wanted(source)
        await asyncio.gather(*maker._tasks)
        (tmp_path / "space").touch()
        with pytest.raises(ServiceError, match="could not be copied"):
            maker.wanted(source)
        monkeypatch.setattr(copies, "RETRY_SECONDS", 0.0)
        time.sleep(0.001)
        copy = maker.wanted(source)
        await asyncio.gather(*maker._tasks)
        assert copy.state == "ready"
        await maker.close()

    asyncio.run(scenario())


def test_a_file_that_shows_nothing_is_not_given_to_ffmpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"no video")
    program = stand_in(tmp_path, f"touch {tmp_path}/was-started")
    assert made(tmp_path, source, program=program) == ("failed", b"")
    assert not (tmp_path / "was-started").exists()
    assert "not a readable video container" in caplog.text


@needs_ffmpeg
@on_linux
def test_ffmpeg_within_its_memory(tmp_path: Path) -> None:
    assert made(tmp_path, write_clip(tmp_path / "a.mp4", 3), memory_bytes=2**20)[0] == "failed"


def test_frames_thumbnails_and_copies_show_one_stream(tmp_path: Path, media_files: Any) -> None:
    path = write_two_films(tmp_path / "two.mp4")
    settings = SamplingSettings(num_frames=1, width=32, height=32)
    shown = read_frames(path, settings).pixels.mean(axis=(0, 1, 2))
    state, content = made(tmp_path, path)
    assert state == "ready"
    (tmp_path / "copy.mp4").write_bytes(content)
    copied = read_frames(tmp_path / "copy.mp4", settings).pixels.mean(axis=(0, 1, 2))
    assert np.abs(copied - shown).max() < 12
    with FramePool(picture_settings(64, seconds=30.0), workers=1) as pool:
        stream = pool.read_source(str(path)).stream
        thumbnail = np.asarray(Image.open(io.BytesIO(picture_of(pool, str(path), 0.5, 64)))).mean(axis=(0, 1))
    assert np.abs(thumbnail - shown).max() < 12
    reason = media_files().locate(str(path)).kind.reason
    assert reason == (None if stream == 0 else "browsers play another of its video streams")
