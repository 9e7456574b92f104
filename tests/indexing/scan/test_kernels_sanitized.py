"""The kernels under the sanitizers of addresses, undefined behaviour and threads."""

import shutil
import subprocess
from pathlib import Path

import pytest
from paths import PROGRAMS, ROOT
from thorough import thorough_only

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@thorough_only
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.skipif(not (ROOT / "indexing" / "scan" / "_kernels.cpp").exists(), reason="no source: an installed copy")
def test_the_kernels_stay_within_their_memory_and_do_not_race(tmp_path: Path, sanitizers: str) -> None:
    program = tmp_path / "driver"
    command = [
        str(COMPILER), "-std=c++17", "-pthread", "-O1", "-g", "-w", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all",
        str(PROGRAMS / "kernel_driver.cpp"), "-o", str(program),
    ]  # fmt: skip
    compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode and "sanitize" in compiled.stderr:
        pytest.skip(f"the compiler has no sanitizers: {compiled.stderr.splitlines()[-1]}")
    assert compiled.returncode == 0, compiled.stderr
    ran = subprocess.run([str(program)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "nothing found\n"
