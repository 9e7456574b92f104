"""Messages come out as they went in, through shared memory as through a pipe, and nothing outlives the processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import PROGRAMS
from video_writer import write_clip

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers import process, wire
from colbert_video.video.workers.pool import FramePool, FrameRequest, FrameResult
from colbert_video.video.workers.process import worker_environment
from colbert_video.video.workers.wire import (
    SHARED,
    SharedMemory,
    create_shared_memory,
    open_shared_memory,
    pack_error,
    pack_frames,
    read_answer,
    read_message,
    unpack,
    write_answer,
    write_message,
)

FAKE = (sys.executable, str(PROGRAMS / "fake_worker.py"))
needs_memory = pytest.mark.skipif(not wire.HAS_SHARED_MEMORY, reason="this system has no nameless files in memory")


@pytest.fixture
def ends() -> Iterator[tuple[SharedMemory, SharedMemory]]:
    """The pool's end and the worker's."""
    mine = create_shared_memory()
    assert mine is not None
    theirs = open_shared_memory(os.dup(mine.descriptor))
    yield mine, theirs
    mine.close()
    theirs.close()


def frames_of(count: int, side: int = 4) -> SampledFrames:
    pixels = np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    times = np.arange(count, dtype=np.float64)
    return SampledFrames(pixels, times, float(count), 1.0, side, side, 0, "vp9", "pyav", ("a",))


def pool(workers: int = 1, **settings: Any) -> FramePool:
    return FramePool(SamplingSettings(timeout=5.0, **settings), workers=workers, grace=0.5, command=FAKE)


def read(pool: FramePool, *names: str, **request: Any) -> list[FrameResult]:
    return list(pool.read_many([FrameRequest(name, **request) for name in names]))


def test_frames_pass_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    sent = SampledFrames(
        pixels[:, :, ::-1], np.array([0.1, 0.2, 1 / 3]), 1.5, 29.97, 5, 4, 90, "vp9", "pyav", ("a", "b")
    )
    with (tmp_path / "pipe").open("w+b") as stream:
        write_message(stream, *pack_frames(sent))
        stream.seek(0)
        got = unpack(*read_message(stream))
    assert isinstance(got, SampledFrames)
    assert (got.pixels == sent.pixels).all()
    assert got.times.tolist() == sent.times.tolist()
    facts = ("duration", "fps", "width", "height", "rotation", "codec", "decoder", "warnings")
    assert [getattr(got, name) for name in facts] == [getattr(sent, name) for name in facts]
    got.pixels[0, 0, 0] = 7  # Receivers may write into what they got.


def test_errors_pass_unchanged() -> None:
    got = unpack(
        json.loads(json.dumps(pack_error(VideoError("a\udce9.mp4", FailureKind.NO_VIDEO, "sound")))), bytearray()
    )
    assert isinstance(got, VideoError)
    assert (got.path, got.kind, got.detail) == ("a\udce9.mp4", FailureKind.NO_VIDEO, "sound")


def test_a_message_that_breaks_off_is_an_eof(tmp_path: Path) -> None:
    file = tmp_path / "pipe"
    with file.open("wb") as stream:
        write_message(stream, {"a": 1}, b"payload")
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with file.open("rb") as stream, pytest.raises(EOFError, match="the stream ended after"):
            read_message(stream)


@needs_memory
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_what_was_written_last_is_read_whatever_was_there_before(lengths: list[int]) -> None:
    mine = create_shared_memory()
    assert mine is not None
    theirs = open_shared_memory(os.dup(mine.descriptor))
    for number, length in enumerate(lengths):
        data = bytes([number % 256]) * (length * 1000)
        assert theirs.write(memoryview(data))
        assert mine.read(len(data)).tobytes() == data
    assert os.fstat(mine.descriptor).st_size == 1000 * max(lengths)
    mine.close()
    theirs.close()


@needs_memory
def test_what_is_read_stays_when_the_memory_is_written_again(ends: tuple[SharedMemory, SharedMemory]) -> None:
    mine, theirs = ends
    theirs.write(memoryview(b"first"))
    first = mine.read(5)
    theirs.write(memoryview(b"other"))
    assert first.tobytes() == b"first"
    first[0] = 7  # Receivers may write into what they got.
    assert mine.read(5).tobytes() == b"other"


@needs_memory
def test_more_than_there_is_cannot_be_read(ends: tuple[SharedMemory, SharedMemory]) -> None:
    mine, theirs = ends
    theirs.write(memoryview(b"12345"))
    for length in (6, 10**15, 0, -1):
        with pytest.raises(EOFError, match=f"{length} bytes were said to be in shared memory of 5 bytes"):
            mine.read(length)


@needs_memory
def test_memory_cannot_be_taken_away_from_its_reader(ends: tuple[SharedMemory, SharedMemory]) -> None:
    mine, theirs = ends
    theirs.write(memoryview(b"12345"))
    with pytest.raises(PermissionError):
        os.ftruncate(theirs.descriptor, 0)
    assert mine.read(5).tobytes() == b"12345"


@needs_memory
def test_frames_are_those_of_the_pipe(ends: tuple[SharedMemory, SharedMemory], tmp_path: Path) -> None:
    mine, theirs = ends
    for count in (3, 5, 1):
        sent, got = frames_of(count), []
        for memories in ((None, None), (theirs, mine)):
            with (tmp_path / "pipe").open("w+b") as stream:
                write_answer(stream, *pack_frames(sent), memories[0])
                stream.seek(0)
                got.append(read_answer(stream, memories[1]))
                stream.seek(0)
                header, payload = read_message(stream)
        assert header[SHARED] == sent.pixels.nbytes
        assert payload == b""
        for frames in got:
            assert isinstance(frames, SampledFrames)
            np.testing.assert_array_equal(frames.pixels, sent.pixels)
            assert frames.pixels.flags.writeable
            assert repr(frames) == repr(sent)


@needs_memory
def test_without_room_pixels_take_the_pipe(
    ends: tuple[SharedMemory, SharedMemory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = ends

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(27, "File too large")  # as a limit on file sizes makes it

    monkeypatch.setattr(os, "ftruncate", refuse)
    sent = frames_of(2)
    with (tmp_path / "pipe").open("w+b") as stream:
        write_answer(stream, *pack_frames(sent), theirs)
        stream.seek(0)
        got = read_answer(stream, mine)
    assert isinstance(got, SampledFrames)
    np.testing.assert_array_equal(got.pixels, sent.pixels)


def test_pixels_in_memory_that_is_not_there(tmp_path: Path) -> None:
    with (tmp_path / "pipe").open("w+b") as stream:
        write_message(stream, {SHARED: 5})
        stream.seek(0)
        with pytest.raises(EOFError, match="and there is none"):
            read_answer(stream, None)


def test_systems_and_sandboxes_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*given: Any) -> int:
        raise PermissionError(1, "Operation not permitted")

    if wire.HAS_SHARED_MEMORY:
        monkeypatch.setattr(os, "memfd_create", forbidden)
        assert create_shared_memory() is None
    monkeypatch.setattr(wire, "HAS_SHARED_MEMORY", False)
    assert create_shared_memory() is None


@pytest.mark.parametrize("way", ["memory", "pipe"])
def test_a_pool_reads_the_same_either_way(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "a.mp4", 20)
    read_with: list[bool] = []
    unwatched = process.read_answer

    def watched(stream: Any, memory: SharedMemory | None) -> Any:
        read_with.append(memory is not None)
        return unwatched(stream, memory)

    monkeypatch.setattr(process, "read_answer", watched)
    if way == "pipe":
        monkeypatch.setattr(process, "create_shared_memory", lambda: None)
    with FramePool(SamplingSettings(num_frames=4), workers=1) as real:
        requests = [FrameRequest(str(clip)), FrameRequest(str(clip), window=(0.2, 0.6))]
        results = list(real.read_many(requests))
    assert read_with == [way == "memory" and wire.HAS_SHARED_MEMORY] * 2
    for result in results:
        here = read_frames(clip, SamplingSettings(num_frames=4, window=result.request.window))
        assert result.frames is not None
        np.testing.assert_array_equal(result.frames.pixels, here.pixels)


@needs_memory
def test_a_worker_killed_while_it_writes_spoils_nothing() -> None:
    with pool(height=8, width=8) as fake:
        (before,) = read(fake, "a", seed=3)
        (torn,) = read(fake, "torn-4000", seed=4)
        (after,) = read(fake, "b", seed=5)
    assert torn.error is not None
    assert torn.error.detail.startswith("the decoder was killed by SIGKILL")
    assert before.frames is not None
    assert after.frames is not None
    assert (before.frames.pixels == 3).all()
    assert (after.frames.pixels == 5).all()
    assert after.frames.pixels.shape == (1, 8, 8, 3)
    assert before.frames.codec != after.frames.codec  # The fake worker writes its process id there.


@needs_memory
def test_a_worker_that_announces_missing_pixels_costs_one_file() -> None:
    with pool() as fake:
        results = read(fake, "a", "boast-1000000000", "b")
    errors = {result.request.path: result.error for result in results}
    assert errors["a"] is None
    assert errors["b"] is None
    error = errors["boast-1000000000"]
    assert error is not None
    assert error.kind.value == "crashed"


@needs_memory
@pytest.mark.parametrize("end", ["close", "kill"])
def test_nothing_stays_behind(end: str, tmp_path: Path) -> None:
    """Also when the parent is killed: the memory has no name, and the worker ends with its input."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from colbert_video.video import FramePool, FrameRequest\n"
        f"with FramePool(workers=1, command={FAKE!r}) as pool:\n"
        "    (result,) = pool.read_many([FrameRequest('a')])\n"
        "    print(result.frames.codec, flush=True)\n"
        f"    time.sleep({60 if end == 'kill' else 0})\n"
    )
    before = named_memory()
    command = [sys.executable, str(script)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=worker_environment(), text=True, **pipes) as parent:  # type: ignore[call-overload]
        worker = int(parent.stdout.readline())
        if end == "kill":
            assert mapped(worker)
            parent.kill()
        words = parent.communicate(timeout=30)[1]
    assert "resource_tracker" not in words
    assert words == ""
    deadline = time.monotonic() + 10
    while mapped(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mapped(worker)
    assert named_memory() <= before


def named_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir() if "colbert" in path.name} if folder.is_dir() else set()


def mapped(pid: int) -> bool:
    """Whether a process holds frames in shared memory."""
    try:
        return "colbert-video-frames" in Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
