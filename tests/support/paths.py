"""Where the checkout, the tests and their helpers are."""

import os
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
PROGRAMS = SUPPORT / "programs"
"""What tests start in processes of their own."""
CORPORA = SUPPORT / "corpora"
"""What writes the videos, clips and tokens that tests work on."""
TESTS = SUPPORT.parent
ROOT = TESTS.parent
BENCHMARKS = ROOT / "benchmarks"
FROZEN = TESTS / "frozen"
"""What released versions wrote, each opened by a test for ever."""


def python_path(*folders: Path | str) -> str:
    """PYTHONPATH for a child process that finds what tests find, and what lies in further folders."""
    return os.pathsep.join(map(str, (ROOT, SUPPORT, PROGRAMS, CORPORA, *folders)))
