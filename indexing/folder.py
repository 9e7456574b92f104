"""The index folder: opening it for writing, committing a segment, sweeping what a crash left behind.

my.index/
catalog.sqlite                 what exists; everything else is found through it
codec/<name>/{frame,video}/    a codec that segments share
segments/<name>/{frame,video}/ complete ColBERT indexes, never changed once committed
staging/                       encoded videos that wait for their segment
"""

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.build import train_codecs, write_segment
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.chunks import TokenSource
from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.database import CATALOG_NAME
from colbert_video.indexing.entries import NewSegment
from colbert_video.indexing.files import checksum, fsync_folder, sync_tree
from colbert_video.indexing.settings import IndexSettings
from colbert_video.indexing.staging import remove_unlisted_chunks

CODECS = "codec"
SEGMENTS = "segments"
SETTINGS_KEY = "index"
"""Catalog key of the settings that the live segments were made with."""
PENDING_KEY = "pending"
"""Catalog key of the settings that staged videos, if any, wait to be committed with."""


def is_index(folder: Path) -> bool:
    """Whether `folder` holds an index, finished or not."""
    return (folder / CATALOG_NAME).is_file()


def open_for_writing(folder: Path, *, create: bool) -> Catalog:
    """Open an index as its only writer and sweep leftovers.

    Args:
        folder: The index folder.
        create: Whether to start an index where there is none.

    Raises:
        IndexFolderError: If the folder is something else, cannot be written, or another process writes to it.
    """
    if is_index(folder):
        catalog = Catalog.open(folder, writable=True)
        sweep(folder, catalog)
        return catalog
    if not create:
        raise IndexFolderError(
            f"{folder} holds no index; make one with `colbert-video index` or Indexer(...).index."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise IndexFolderError(f"{folder} exists and is not an index; choose another path for the index.")
    try:
        return Catalog.create(folder)
    except OSError as error:
        raise IndexFolderError(
            f"{folder} cannot be written: {error.strerror or error}; choose another path."
        ) from error


@contextmanager
def writing(folder: Path, *, create: bool) -> Iterator[Catalog]:
    """Hold an index open for writing; one that was made here in vain is removed again.

    Args:
        folder: The index folder.
        create: Whether to start an index where there is none.

    Raises:
        IndexFolderError: As `open_for_writing`.
    """
    fresh, existed = not is_index(folder), folder.exists()
    catalog = open_for_writing(folder, create=create)
    try:
        yield catalog
    except BaseException:
        in_vain = fresh and not catalog.staged_ids() and not catalog.live_segments()
        catalog.close()
        if in_vain:
            _clear(folder, keep_folder=existed)
        raise
    catalog.close()


def stored_settings(catalog: Catalog) -> IndexSettings | None:
    """The settings of the live segments; None before the first commit."""
    values = catalog.settings().get(SETTINGS_KEY)
    return None if values is None else IndexSettings.from_dict(values)


def load_codecs(folder: Path, name: str, settings: IndexSettings) -> dict[str, ResidualCodec]:
    """Load the codec of each bag."""
    return {bag: ResidualCodec.load(folder / CODECS / name / bag) for bag in settings.bags}


def commit_segment(
    folder: Path, catalog: Catalog, source: TokenSource, settings: IndexSettings, *, replace_all: bool
) -> int:
    """Compress a source into a new segment and make it visible in one transaction.

    Files are written and synced first, so that a crash at any moment leaves the index as it was or as it will be.

    Args:
        folder: The index folder.
        catalog: Its catalog, open for writing.
        source: The videos with their tokens.
        settings: The index's settings.
        replace_all: Whether a new codec is trained and the new segment replaces all others; otherwise it is added,
            and replaces only videos of the same id.

    Returns:
        Videos committed.
    """
    name = uuid.uuid4().hex
    if replace_all:
        codec_name = uuid.uuid4().hex
        codecs = train_codecs(
            source, nbits=settings.nbits, buckets=settings.buckets, rotate=settings.rotate, seed=settings.seed
        )
        for bag, codec in codecs.items():
            codec.save(folder / CODECS / codec_name / bag)
    else:
        codec_name = catalog.codecs()[-1]
        codecs = load_codecs(folder, codec_name, settings)
    entries = write_segment(
        folder / SEGMENTS / name, source, codecs, codec_folder=folder / CODECS / codec_name
    )
    files = _sync_and_describe(folder, [folder / CODECS / codec_name, folder / SEGMENTS / name])
    if replace_all:
        segment = NewSegment(name, codec_name, entries, files)
        catalog.replace_everything(
            [segment], settings={SETTINGS_KEY: settings.to_dict()}, forget_failures=True
        )
    else:
        catalog.commit_segment(name, codec_name, entries, files, replace=True)
    sweep(folder, catalog)
    return len(entries)


def _sync_and_describe(folder: Path, written: list[Path]) -> dict[str, tuple[int, str]]:
    """Make files durable, then their folders up to the index folder; return size and SHA-256 of each file."""
    files: dict[str, tuple[int, str]] = {}
    for tree in written:
        sync_tree(tree)
        fsync_folder(tree.parent)
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                files[path.relative_to(folder).as_posix()] = checksum(path)
    fsync_folder(folder)
    return files


def sweep(folder: Path, catalog: Catalog) -> None:
    """Delete segments, codecs and staged chunks that the catalog does not name: what a crash or a commit left behind."""
    named: Mapping[str, set[str]] = {
        SEGMENTS: {segment.name for segment in catalog.live_segments()},
        CODECS: set(catalog.codecs()),
    }
    for room, names in named.items():
        for path in (folder / room).glob("*"):
            if path.name not in names:
                shutil.rmtree(path)
    remove_unlisted_chunks(folder, catalog)


def _clear(folder: Path, *, keep_folder: bool) -> None:
    """Remove what was written into a fresh index folder."""
    if not keep_folder:
        shutil.rmtree(folder)
        return
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
