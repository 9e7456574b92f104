"""How much memory there is: the least of what the machine and the control groups of the process leave."""

from pathlib import Path

import pytest

from colbert_video.indexing.scan import memory
from colbert_video.indexing.scan.memory import available_memory

ROOM = 12 * 1024


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 12 KiB, and no control groups yet."""
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemFree: 7 kB\nMemAvailable:     12 kB\n")
    for name, file in (("MEMORY_INFO", "meminfo"), ("OWN_GROUPS", "own"), ("GROUPS", "groups")):
        monkeypatch.setattr(memory, name, tmp_path / file)
    return tmp_path


def group(folder: Path, limit: object, used: int, pages: int, *, version: int = 2) -> None:
    """Write a control group as Linux shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    total, names = (
        ("", ("memory.max", "memory.current"))
        if version == 2
        else ("total_", ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    )
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{total}inactive_file {pages}\n{total}active_file 1\n")


def test_it_is_what_the_machine_says(system: Path) -> None:
    assert available_memory() == ROOM
    (system / "meminfo").write_text("MemFree: 7 kB\n")
    assert available_memory() is None
    (system / "meminfo").unlink()
    assert available_memory() is None


@pytest.mark.parametrize(("version", "line"), [(2, "0::/job/step"), (1, "4:cpu,memory:/job/step")])
def test_it_is_at_most_what_the_own_group_and_those_above_leave(
    system: Path, version: int, line: str
) -> None:
    (system / "own").write_text(f"9:name=systemd:/\n{line}\n")
    top = system / "groups" / ("" if version == 2 else "memory")
    group(top / "job" / "step", 9000, 5000, 2000, version=version)
    assert available_memory() == 9000 - 5000 + 2001
    group(top / "job", 8000, 6000, 1000, version=version)
    assert available_memory() == 8000 - 6000 + 1001
    group(top, 100, 200, 0, version=version)
    assert available_memory() == 0


@pytest.mark.parametrize("limit", ["max", 2**63 - 4096])
def test_a_group_without_a_limit_leaves_what_the_machine_has(system: Path, limit: object) -> None:
    (system / "own").write_text("0::/\n")
    group(system / "groups", limit, 5000, 0)
    assert available_memory() == ROOM


def test_a_group_that_is_not_seen_says_nothing_and_the_topmost_counts(system: Path) -> None:
    (system / "own").write_text("0::/kubepods/pod7/c1\n")
    assert available_memory() == ROOM
    group(system / "groups", 4096, 96, 0)
    assert available_memory() == 4001


def test_this_system_says_something_sensible() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("a system that does not say")
    available = available_memory()
    assert available is not None
    assert 0 <= available < 2**50
