"""Reading videos needs no torch: neither the room nor its tests import it."""

import subprocess
import sys

import pytest
from paths import ROOT

PROGRAM = """
import sys

sys.modules["torch"] = None  # importing it raises ModuleNotFoundError
import pytest

sys.exit(pytest.main(sys.argv[1:]))
"""


def run_without_torch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM, "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_all_tests_of_the_room_are_collected() -> None:
    done = run_without_torch("--collect-only", "tests/video")
    assert done.returncode == 0, done.stdout
    for path in (ROOT / "tests" / "video").rglob("test_*.py"):
        assert f"{path.relative_to(ROOT).as_posix()}::" in done.stdout


@pytest.mark.slow
def test_tests_of_frames_and_of_usage_run() -> None:
    done = run_without_torch(
        "tests/video/test_frames.py", "tests/video/decode/test_timeline.py", "tests/cli/test_usage.py", "-rA"
    )
    assert done.returncode == 0, done.stdout
    assert "PASSED tests/video/decode/test_timeline.py::" in done.stdout
    assert "PASSED tests/cli/test_usage.py::test_the_program_lists_its_verbs" in done.stdout
