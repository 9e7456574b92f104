"""Reading videos needs no torch: neither the room nor its tests import it."""

import subprocess
import sys

import pytest
from paths import ROOT

PROGRAM = """
import sys

sys.modules["torch"] = None  # importing it raises ModuleNotFoundError
import pytest

class Chosen:
    def pytest_collection_modifyitems(self, items):
        for path in sorted({item.nodeid.partition("::")[0] for item in items}):
            print("COLLECTED", path)
        items[:] = [item for item in items if item.path.name in sys.argv[1].split()]

sys.exit(pytest.main(sys.argv[2:], plugins=[Chosen()]))
"""
RUN = ("test_frames.py", "test_timeline.py", "test_usage.py")


@pytest.mark.slow
def test_all_tests_of_the_room_are_collected_and_some_run() -> None:
    command = [sys.executable, "-c", PROGRAM, " ".join(RUN), "-p", "no:cacheprovider", "-p", "no:xdist", "-rA", "-s"]
    done = subprocess.run(
        [*command, "tests/video", "tests/cli/test_usage.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for path in (ROOT / "tests" / "video").rglob("test_*.py"):
        assert f"COLLECTED {path.relative_to(ROOT).as_posix()}\n" in done.stdout
    assert "PASSED tests/video/test_frames.py::" in done.stdout
    assert "PASSED tests/video/decode/test_timeline.py::" in done.stdout
    assert "PASSED tests/cli/test_usage.py::test_the_program_lists_its_verbs" in done.stdout
