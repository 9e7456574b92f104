"""A hidden folder beside a new file or folder, in which it is made until it is complete."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from colbert_video.base.access import problem_of
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.writer_lock import LOCK_NAME, WriterLock

UNFINISHED = ".unfinished"
"""Ending of such a folder's name, which begins with a dot and what it becomes."""
EMPTY_SECONDS = 60.0
"""Age after which an empty one without a lock belongs to nobody."""


@contextmanager
def workplace(target: Path, *, parents: bool = False) -> Iterator[Path]:
    """Make a hidden folder beside a target that does not exist yet, and remove it afterwards.

    One process uses it at a time. What killed processes left in it, and in others beside it, is removed.

    Args:
        target: What will be made, an absolute path.
        parents: True to make the folders above it; they are removed again if the target is not made.

    Raises:
        IndexFolderError: If the target exists or cannot be written, or another process makes it now.
    """
    if os.path.lexists(target):
        raise IndexFolderError(f"{target} exists; choose another path, or remove it first.")
    parent = target.parent
    made: list[Path] = []
    try:
        if parents:
            made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
            parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(parent)
        with _locked(parent / f".{target.name}{UNFINISHED}") as work:
            yield work
    except OSError as error:
        problem = problem_of(error, target, write=True)
        raise IndexFolderError(f"{target} cannot be written ({error.strerror or error}): {problem}.") from error
    finally:
        if not os.path.lexists(target):
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()


@contextmanager
def _locked(work: Path) -> Iterator[Path]:
    work.mkdir(exist_ok=True)
    lock = WriterLock(work)
    try:
        for leftover in work.iterdir():
            if not leftover.name.startswith(LOCK_NAME):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield work
    finally:
        _remove(work, lock)


def _remove(work: Path, lock: WriterLock) -> None:
    """Remove a folder before another process can begin in it; Windows keeps the lock's file until it is released."""
    shutil.rmtree(work, ignore_errors=True)
    lock.release()
    if os.name == "nt":
        shutil.rmtree(work, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove hidden folders that killed processes left in `folder`: those whose lock nobody holds."""
    for path in folder.glob(f".*{UNFINISHED}"):
        if path.is_symlink() or not path.is_dir():
            continue
        with suppress(OSError, IndexFolderError):
            if (path / LOCK_NAME).is_file():
                _remove(path, WriterLock(path))  # raises if another process holds it
            elif time.time() - path.stat().st_mtime > EMPTY_SECONDS:
                path.rmdir()  # raises if it is not empty, and so not ours
