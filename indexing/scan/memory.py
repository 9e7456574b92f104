"""How much memory this process can still have: of the machine's, and within the limits that its container sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MEMORY_INFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


class _Files(NamedTuple):
    """What a version of control groups calls its files, and the pages of files in its statistics."""

    limit: str
    used: str
    pages: tuple[str, str]


_VERSION_1 = _Files(
    "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")
)
_VERSION_2 = _Files("memory.max", "memory.current", ("active_file", "inactive_file"))


def available_memory() -> int | None:
    """Bytes that can be had without swapping, pages of files included: the system drops them when it needs room.

    The least of what the machine has (Linux's MemAvailable) and of what the control groups of this process leave it.
    None where the system does not say.
    """
    return min((room for room in (_of_machine(), *_within_groups()) if room is not None), default=None)


def _of_machine() -> int | None:
    kilobytes = [line.split()[1] for line in _lines(MEMORY_INFO) if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _within_groups() -> Iterator[int | None]:
    """What each group leaves, from this process's own up to the topmost, which alone is seen inside a container."""
    for line in _lines(OWN_GROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, files = GROUPS, _VERSION_2
        elif "memory" in controllers.split(","):
            top, files = GROUPS / "memory", _VERSION_1
        else:
            continue
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top):
                yield _left(group, files)


def _left(group: Path, files: _Files) -> int | None:
    """Bytes below a group's limit; None if it sets none or is not seen."""
    limit, used = _lines(group / files.limit), _lines(group / files.used)
    if not limit or not used or limit == ["max"]:
        return None
    statistics = dict(line.split() for line in _lines(group / "memory.stat"))
    pages = sum(int(statistics.get(name, 0)) for name in files.pages)
    return max(0, int(limit[0]) - int(used[0]) + pages)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
