"""Export: an index as one folder or one tar archive that is complete, minimal, and opens elsewhere, read-only too.

An archive holds plain files under plain names, so `tar -xf` unpacks it. `import_index` trusts nothing: it refuses links,
names that lead out of the target, duplicates, and files that the archived catalog does not name with size and SHA-256.
"""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from colbert_video.durable import BLOCK, check_files, fsync_file, fsync_folder, link_or_copy, sync_tree, user_path
from colbert_video.errors import IndexFolderError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME
from colbert_video.indexing.catalog.entries import SAFE_NAME, IndexView
from colbert_video.indexing.index.folder import CODECS, PENDING_KEY, SEGMENTS, SETTINGS_KEY, load_settings
from colbert_video.progress import progress_bar

ARCHIVE = ".tar"
"""Ending of a target that becomes an archive."""


@runtime_checkable
class Readable(Protocol):
    """A file's content."""

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""
        ...


Put = Callable[[str, Readable, int], None]
"""Takes a file's name in the index, its content and its size in bytes."""


@dataclass(frozen=True)
class ExportReport:
    """What `Indexer.export` or `import_index` wrote."""

    path: Path
    """The new folder or archive."""
    files: int
    bytes: int
    videos: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


def export_index(folder: Path, target: Path, *, keep_paths: bool = True, link: bool = False) -> ExportReport:
    """Copy what can be found in an index, as of one commit; staged videos and leftovers stay behind.

    Args:
        folder: The index folder. If a writer replaces its segments meanwhile, the newer commit is exported instead.
        target: A new folder, or an archive if its name ends in ".tar"; it appears only when it is complete.
        keep_paths: Keep the paths of the video files, and that of a model in a folder. Ids and metadata are always kept.
        link: Make the files of a folder hard links to those of the index where the file system has them.

    Returns:
        What was written.

    Raises:
        IndexFolderError: If there is no finished index, a file of it is missing or damaged, or `target` exists or
            cannot be written.
    """
    folder, target = user_path(folder, "the index"), user_path(target, "target")
    with Catalog.open(folder) as catalog, workplace(target) as work:

        def export(view: IndexView) -> ExportReport:
            load_settings(catalog)
            attempt = work / "attempt"
            shutil.rmtree(attempt, ignore_errors=True)
            attempt.mkdir()
            catalog.copy_to(attempt / CATALOG_NAME, _trimming(catalog, keep_paths=keep_paths))
            return _export(folder, catalog.files(), attempt, target, view.videos, link=link)

        return catalog.read_commit(export)


def _export(
    folder: Path, files: dict[str, tuple[int, str]], work: Path, target: Path, videos: int, *, link: bool
) -> ExportReport:
    """Write the files of one commit, and the catalog that lies in `work` already, and move them to the target."""
    catalog = work / CATALOG_NAME
    size = sum(size for size, _ in files.values()) + catalog.stat().st_size
    if target.suffix == ARCHIVE:
        with tarfile.open(work / "archive", "x", format=tarfile.GNU_FORMAT) as tar:
            put = _into_archive(tar, target.stem)
            _copy_files(folder, files, put)
            with catalog.open("rb") as file:
                put(CATALOG_NAME, file, catalog.stat().st_size)
        fsync_file(work / "archive")
        (work / "archive").rename(target)
    else:
        index = work / "index"
        index.mkdir()
        catalog.rename(index / CATALOG_NAME)
        _copy_files(folder, files, _into_links(folder, index) if link else _into_folder(index))
        sync_tree(index)
        index.rename(target)
    fsync_folder(target.absolute().parent)
    return ExportReport(target, len(files) + 1, size, videos)


def import_index(archive: Path, target: Path) -> ExportReport:
    """Unpack an archive that `export_index` wrote.

    Args:
        archive: The archive.
        target: The new index folder; it appears only when all of it has been checked.

    Returns:
        What was unpacked.

    Raises:
        IndexFolderError: If the archive is damaged, is not an index, or holds anything that does not belong to one; or
            `target` exists or cannot be written.
    """
    archive, target = user_path(archive, "the archive"), user_path(target, "the index")
    with workplace(target) as work:
        folder = work / "index"
        try:
            with tarfile.open(archive, "r:") as tar:
                names = {_unpack(tar, member, folder, archive) for member in tar}
        except (OSError, tarfile.TarError) as error:
            raise IndexFolderError(f"{archive} cannot be unpacked ({error}); copy it again.") from error
        return settle(folder, names, target, source=str(archive))


@contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside the target, and remove it afterwards."""
    if target.exists():
        raise IndexFolderError(f"{target} exists; choose another path.")
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
    except OSError as error:
        raise IndexFolderError(f"{target} cannot be written: {error.strerror or error}.") from error
    try:
        yield work
    except OSError as error:
        raise IndexFolderError(f"{target} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(work)


def _trimming(catalog: Catalog, *, keep_paths: bool) -> list[tuple[str, tuple[Any, ...]]]:
    """Return statements that remove from a copy of the catalog what is not exported."""
    statements: list[tuple[str, tuple[Any, ...]]] = [
        ("DELETE FROM staged", ()),
        ("DELETE FROM chunks", ()),
        ("DELETE FROM settings WHERE key = ?", (PENDING_KEY,)),
    ]
    if keep_paths:
        return statements
    model = catalog.settings()[SETTINGS_KEY].get("model")
    if model is not None and (Path(model).is_absolute() or Path(model).exists()):
        statements.append(
            ("UPDATE settings SET value = json_set(value, '$.model', NULL) WHERE key = ?", (SETTINGS_KEY,))
        )
    return [
        *statements,
        ("UPDATE videos SET path = NULL, source_size = NULL, source_mtime_ns = NULL", ()),
        ("DELETE FROM failures", ()),  # they name paths
        ("DELETE FROM checksums", ()),
    ]


def _copy_files(folder: Path, files: dict[str, tuple[int, str]], put: Put) -> None:
    """Hand over every file of an index, and check it on the way."""
    with progress_bar("exporting files", total=len(files)) as bar:
        for name, (size, sha256) in files.items():
            try:
                with (folder / name).open("rb") as file:
                    content = _Hashed(file)
                    put(name, content, size)
            except FileNotFoundError as error:
                raise IndexFolderError(f"{folder / name} is missing; restore it or rebuild the index") from error
            if (content.size, content.digest.hexdigest()) != (size, sha256):
                raise IndexFolderError(f"{folder / name} is damaged; restore it or rebuild the index")
            bar.advance()


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest, self.size = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        self.size += len(block)
        return block


def _into_folder(folder: Path) -> Put:
    def put(name: str, content: Readable, size: int) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file)

    return put


def _into_links(source: Path, folder: Path) -> Put:
    def put(name: str, content: Readable, size: int) -> None:
        while content.read(BLOCK):  # it is hashed while it is read
            pass
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(source / name, path)

    return put


def _into_archive(tar: tarfile.TarFile, root: str) -> Put:
    def put(name: str, content: Readable, size: int) -> None:
        info = tarfile.TarInfo(f"{root}/{name}")  # owner, time and mode are the same on every machine
        info.size, info.mode = size, 0o644
        tar.addfile(info, content)

    return put


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> str:
    """Write one file of an archive; return its name in the index."""
    _, _, name = member.name.partition("/")
    if not is_index_file(name):
        raise IndexFolderError(f"{archive} holds {shown(member.name)}, which is not part of an index; it is refused.")
    if not member.isreg() or member.issparse():
        raise IndexFolderError(f"{archive} holds {shown(member.name)}, which is not a plain file; it is refused.")
    content = tar.extractfile(member)
    path = folder / name
    if content is None or path.exists():
        raise IndexFolderError(f"{archive} holds {shown(member.name)} twice; it is refused.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        shutil.copyfileobj(content, file)
    return name


def is_index_file(name: str) -> bool:
    """Return whether an index may hold a file of this name: its catalog, or one below codecs and segments."""
    parts = name.split("/")
    wanted = name == CATALOG_NAME or (len(parts) > 1 and parts[0] in (CODECS, SEGMENTS))
    return wanted and all(SAFE_NAME.fullmatch(part) for part in parts)


def settle(folder: Path, names: set[str], target: Path, *, source: str) -> ExportReport:
    """Check an index that came from elsewhere and move it to its target.

    Args:
        folder: What came, in a folder of its own beside the target.
        names: The files that came.
        target: The new index folder.
        source: Where from, for errors.

    Raises:
        IndexFolderError: If a file is damaged, missing, or not named in the catalog.
    """
    report = _checked(folder, names, target, source)
    sync_tree(folder)
    folder.rename(target)
    fsync_folder(target.absolute().parent)
    return report


def _checked(folder: Path, names: set[str], target: Path, source: str) -> ExportReport:
    """Compare what came with its catalog."""
    with Catalog.open(folder) as catalog:
        catalog.check_integrity()
        view, files = catalog.snapshot(), catalog.files()
        load_settings(catalog, name=source)
        odd = names ^ {*files, CATALOG_NAME}
        if odd:
            raise IndexFolderError(f"{source} and its catalog disagree about {shown(min(odd))}; export it again.")
        check_files(folder, files)
    for side in ("-wal", "-shm"):  # a reader of the database leaves these, empty
        (folder / f"{CATALOG_NAME}{side}").unlink(missing_ok=True)
    size = sum(size for size, _ in files.values()) + (folder / CATALOG_NAME).stat().st_size
    return ExportReport(target, len(files) + 1, size, view.videos)
