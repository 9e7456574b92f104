"""The folder of a service's copies, locked while the service lives: the next one removes what a killed one left."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "colbert-video-copies-"
LOCK = "lock"
HAS_OWNERS = hasattr(os, "getuid")
"""False on Windows, where nothing is swept: a folder with an open file cannot be renamed there."""


class CopiesFolder:
    """A new temporary folder, removed when closed.

    Args:
        parent: Where it is made; None for the system's temporary folder.
    """

    def __init__(self, parent: Path | None) -> None:
        # Under its final name a folder without a held lock is nobody's, so it gets that name once it is locked.
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        self._lock = os.open(made / LOCK, os.O_RDWR | os.O_CREAT, 0o600) if HAS_OWNERS else None
        self.path = made
        if self._lock is not None and is_free(self._lock):
            self.path = made.rename(made.with_name(made.name.removeprefix(".")))

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep(parent: Path | None) -> None:
    """Remove the folders of services that were killed; those of other users and of running services stay."""
    with suppress(OSError):
        for folder in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
            if _is_left_over(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left_over(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir() or not HAS_OWNERS:
        return False
    with suppress(OSError):
        if folder.lstat().st_uid != os.getuid():
            return False
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        try:
            return is_free(descriptor)
        finally:
            os.close(descriptor)
    return False


def is_free(descriptor: int) -> bool:
    """Lock an open file until it is closed; return False if another process holds it, or locks are unknown."""
    try:
        import fcntl  # Windows has none.

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
