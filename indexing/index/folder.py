"""The index folder: opening it for writing, what lies in it, sweeping what a crash left behind.

The catalog says what exists, and everything else is found through it; docs/index-format.md says what lies where.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from colbert_video.base.access import os_problem, problem_of
from colbert_video.durable import RESTORE, check_folder_writable, check_link, delete_leftover
from colbert_video.errors import IndexFolderError, SettingsError, is_callers
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME, UNFINISHED_NAME, has_catalog
from colbert_video.indexing.catalog.writer_lock import LOCK_NAME
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.drift import DRIFT_KEY, Drift
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.index.staging import STAGING, remove_unlisted_chunks

logger = logging.getLogger(__name__)

CODECS = "codec"
SEGMENTS = "segments"
SETTINGS_KEY = "index"
"""Catalog key of the settings that the live segments were made with."""
MAX_LISTED = 5
"""Names that a message lists."""
PENDING_KEY = "pending"
"""Catalog key of the settings that staged videos, if any, wait to be committed with."""


def is_index(folder: Path) -> bool:
    """Return whether `folder` holds an index, finished or not.

    Raises:
        IndexFolderError: As `has_catalog`.
    """
    return has_catalog(folder)


def _open_for_writing(folder: Path, *, create: bool) -> Catalog:
    if is_index(folder):
        for room in (SEGMENTS, CODECS, STAGING):
            check_link(folder / room)
        catalog = Catalog.open(folder, writable=True)
        try:
            sweep(catalog)
        except BaseException:
            catalog.close()  # the error may be kept, and the lock with it
            raise
        return catalog
    if not create:
        raise IndexFolderError(f"{folder} holds no index; make one with `colbert-video index` or Indexer(...).index.")
    try:
        _check_beginning(folder)
        return Catalog.create(folder)
    except OSError as error:
        problem = problem_of(error, folder / CATALOG_NAME, write=True)
        raise IndexFolderError(f"{folder} cannot be written: {problem}.") from error


def _check_beginning(folder: Path) -> None:
    """Check that a folder is missing, empty, or holds only what a process left that died while it began an index.

    Raises:
        IndexFolderError: If it holds anything else.
    """
    begun = (LOCK_NAME, UNFINISHED_NAME)
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(begun) for path in folder.iterdir())):
        raise IndexFolderError(f"{folder} exists and is not an index; choose another path for the index.")


@contextmanager
def writing(folder: Path, *, create: bool) -> Iterator[Catalog]:
    """Open an index as its only writer and sweep leftovers; one that was made here in vain is removed again.

    Args:
        folder: The index folder.
        create: Start an index where there is none.

    Raises:
        IndexFolderError: If the folder is something else, cannot be written, or another process writes to it.
    """
    new, existed = not is_index(folder), folder.exists()
    catalog = _open_for_writing(folder, create=create)
    try:
        yield catalog
    except BaseException as error:
        if new and not catalog.staged_ids() and not catalog.live_segments():
            _clear(catalog, keep_folder=existed)
        catalog.close()
        if isinstance(error, OSError) and not is_callers(error):
            raise IndexFolderError(f"{folder} cannot be written ({error}): {os_problem(error)}.") from error
        raise
    catalog.close()


def stored_settings(catalog: Catalog) -> IndexSettings | None:
    """Return the settings of the live segments; None before the first commit."""
    values = catalog.settings().get(SETTINGS_KEY)
    return None if values is None else catalog.parsed(IndexSettings.from_dict, values)


def load_settings(catalog: Catalog, *, name: str | None = None) -> IndexSettings:
    """Return the settings of the live segments.

    Args:
        catalog: The index's catalog.
        name: What errors call the index; None for its folder.

    Raises:
        IndexFolderError: Before the first commit.
    """
    settings = stored_settings(catalog)
    if settings is None:
        raise IndexFolderError(
            f"{name or catalog.folder} is not finished; repeat the index run that was interrupted first."
        )
    return settings


def is_finished(folder: Path) -> bool:
    """Return whether `folder` holds an index with at least one commit.

    Raises:
        IndexFolderError: If its catalog is damaged.
    """
    if not is_index(folder):
        return False
    with Catalog.open(folder) as catalog:
        return bool(catalog.live_segments())


def check_not_finished(folder: Path) -> None:
    """Check that there is no finished index where a new one is to be made.

    Raises:
        IndexFolderError: If there is one.
    """
    if is_finished(folder):
        raise IndexFolderError(
            f"{folder} is an index already; add to it with `colbert-video add` or Indexer.add, or replace it "
            "with overwrite=True."
        )


def check_can_begin(folder: Path) -> None:
    """Check before long work that an index can be begun or replaced here.

    Raises:
        IndexFolderError: If the folder is something else, or cannot be made or written.
    """
    if not is_index(folder):
        _check_beginning(folder)
    try:
        check_folder_writable(folder)
    except SettingsError as error:
        raise IndexFolderError(str(error)) from error


def load_codecs(folder: Path, name: str, settings: IndexSettings) -> dict[str, ResidualCodec]:
    """Load the codec of each bag.

    Raises:
        IndexFolderError: If a file is missing or damaged, or does not fit the settings.
    """
    codecs = {bag: ResidualCodec.load(folder / CODECS / name / bag) for bag in settings.bags}
    for bag, codec in codecs.items():
        if (codec.dim, codec.nbits) != (settings.dim, settings.nbits):
            raise IndexFolderError(
                f"{folder / CODECS / name / bag} has dim={codec.dim}, nbits={codec.nbits}, the index "
                f"dim={settings.dim}, nbits={settings.nbits}; {RESTORE}"
            )
    return codecs


def files_below(catalog: Catalog, folder: str) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of the files in a folder of the index, by path relative to the index."""
    return {name: known for name, known in catalog.files().items() if name.startswith(f"{folder}/")}


def stored_drift(catalog: Catalog) -> Drift | None:
    """Return what is known of the live codec's errors; None before the first commit, and in early indexes."""
    values = catalog.settings().get(DRIFT_KEY)
    return None if values is None else catalog.parsed(Drift.from_dict, values)


def sweep(catalog: Catalog) -> None:
    """Delete segments, codecs and staged chunks that the catalog does not name: what a crash or a commit left behind.

    So is the journal of a catalog in the making, whose deletion a power cut may have undone. What cannot be deleted
    now, such as files that Windows sees in use, waits for the next writer. Nothing is deleted if the catalog
    contradicts itself: a row that was lost or changed would take a live segment or codec with it.
    """
    if unnamed := catalog.unnamed():
        logger.error(
            "%s does not name %s, which it needs: nothing is deleted; restore the catalog from a copy",
            catalog.folder / CATALOG_NAME,
            ", ".join(unnamed[:MAX_LISTED]),
        )
        return
    named: Mapping[str, set[str]] = {
        SEGMENTS: {segment.name for segment in catalog.live_segments()},
        CODECS: set(catalog.codecs()),
    }
    for room, names in named.items():
        for path in (catalog.folder / room).glob("*"):
            if path.name not in names:
                delete_leftover(path)
    for path in catalog.folder.glob(f"{UNFINISHED_NAME}*"):
        delete_leftover(path)
    remove_unlisted_chunks(catalog)


def _clear(catalog: Catalog, *, keep_folder: bool) -> None:
    """Remove what was written into a new index folder, while no other writer can begin there.

    The lock goes last, and the catalog before it: if something cannot be removed, as open files on Windows, the folder
    is still one in which an index can be begun. Who opened the lock's file before it went cannot lock it any more.
    """
    folder = catalog.folder
    catalog.close_database()  # the lock is held until the folder is clear
    try:
        while waste := [path for path in folder.iterdir() if not path.name.startswith(LOCK_NAME)]:
            for path in sorted(waste, key=lambda path: path.name.startswith(CATALOG_NAME)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in list(folder.iterdir()):
            path.unlink()
        if not keep_folder:
            folder.rmdir()
    except OSError as error:
        logger.warning("%s cannot be removed now: %s", folder, error)
