"""The decoding process: light, clean output, every failure reported."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from video_writer import read_numbers, write_clip

from colbert_video.errors import SettingsError
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers import worker
from colbert_video.video.workers.process import COMMAND, worker_environment
from colbert_video.video.workers.wire import read_message, unpack, write_message


def test_the_worker_imports_nothing_heavy() -> None:
    program = (
        "import sys, colbert_video.video.workers.worker, colbert_video.video.decode.read\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'faiss', 'decord', 'PIL', 'scipy', 'pandas', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=worker_environment(), timeout=60)


def test_what_native_code_prints_does_not_reach_the_replies(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 20)
    program = (
        "import os\n"
        "from colbert_video.video.workers import worker\n"
        "read = worker.read_frames\n"
        "worker.read_frames = lambda *given: (os.write(1, b'noise'), print('more'), read(*given))[2]\n"
        "worker.main()\n"
    )
    command = [sys.executable, "-u", "-c", program]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=worker_environment(), **pipes) as process:
        assert read_message(process.stdout) == ({"ready": True}, b"")
        write_message(process.stdin, {"path": str(clip), "settings": SamplingSettings(num_frames=2).to_dict()})
        frames = unpack(*read_message(process.stdout))
        assert isinstance(frames, SampledFrames)
        assert read_numbers(frames) == [5, 15]
        process.stdin.close()
        assert process.stdout.read() == b""
        assert b"noise" in process.stderr.read()
        assert process.wait(10) == 0


def test_the_worker_ends_with_its_input() -> None:
    done = subprocess.run(COMMAND, input=b"", capture_output=True, env=worker_environment(), timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == b""


def test_unexpected_errors_are_reported_as_the_files_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(worker, "read_frames", fail)
    monkeypatch.setattr(
        worker, "limit_memory", lambda size: None
    )  # it would stay in force for all tests after this one
    header, payload = worker._answer({"path": "a.mp4", "settings": SamplingSettings().to_dict()})
    assert header["refused"] == {
        "path": "a.mp4",
        "kind": "crashed",
        "detail": "ZeroDivisionError while decoding: by zero",
    }
    assert len(payload) == 0


def test_a_parent_that_vanishes_in_the_middle_of_a_request() -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(COMMAND, env=worker_environment(), **pipes) as process:
        read_message(process.stdout)
        os.write(process.stdin.fileno(), b"\x01\x02")
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")
def test_a_process_takes_no_more_memory_than_allowed() -> None:
    program = (
        "from colbert_video.video.workers.worker import limit_memory\n"
        "limit_memory(2**30)\n"
        "try:\n"
        "    bytearray(2**31)\n"
        "except MemoryError:\n"
        "    limit_memory(4 * 2**30)\n"
        "    print(len(bytearray(2**31)))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, env=worker_environment(), timeout=60, capture_output=True)
    assert int(done.stdout) == 2**31


def test_a_file_for_which_the_memory_does_not_suffice_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    monkeypatch.setattr(worker, "limit_memory", limits.append)

    def read(path: str, settings: SamplingSettings) -> SampledFrames:
        raise MemoryError

    monkeypatch.setattr(worker, "read_frames", read)
    header, _ = worker._answer({"path": "a.mp4", "settings": SamplingSettings(max_memory=2**31).to_dict()})
    assert header["refused"]["kind"] == "too_large"
    assert "max_memory" in header["refused"]["detail"]
    assert limits == [2**31]


def test_the_least_memory() -> None:
    with pytest.raises(SettingsError, match="max_memory is 1000; a decoding process needs 1073741824 bytes at least"):
        SamplingSettings(max_memory=1000)
