"""Export: an index as one folder or one archive that is complete, minimal, and opens elsewhere, read-only too.

An archive holds plain files under plain names, so that any program unpacks it. `import_index` takes it, what others
made of it - unpacked, or packed again - and trusts nothing: it refuses links, names that lead out of the target,
duplicates, and files that the catalog does not name with size and SHA-256.
"""

import hashlib
import io
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from colbert_video.base.access import open_plain, os_problem
from colbert_video.base.user_files import user_path
from colbert_video.durable import (
    BLOCK,
    RESTORE,
    check_files,
    check_folders,
    check_link,
    fsync_file,
    fsync_folder,
    link_or_copy,
    sync_tree,
)
from colbert_video.errors import IndexFolderError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME, UNFINISHED_NAME
from colbert_video.indexing.catalog.entries import SAFE_NAME, IndexView
from colbert_video.indexing.catalog.writer_lock import LOCK_NAME
from colbert_video.indexing.index.folder import CODECS, PENDING_KEY, SEGMENTS, SETTINGS_KEY, is_index, load_settings
from colbert_video.indexing.index.staging import STAGING
from colbert_video.indexing.upkeep.archives import (
    Archive,
    Format,
    Member,
    Put,
    Readable,
    archive_format,
    reading_archive,
    root_name,
    writing_archive,
)
from colbert_video.indexing.upkeep.workplace import workplace
from colbert_video.progress import progress_bar

CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that systems put into archives and folders."""


@dataclass(frozen=True)
class ExportReport:
    """What `Indexer.export` or `import_index` wrote."""

    path: Path
    """The new folder or archive."""
    files: int
    bytes: int
    videos: int
    kind: Literal["folder"] | Format = "folder"
    """What was written."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


def export_index(
    folder: Path, target: Path, *, keep_paths: bool = True, link: bool = False, parents: bool = False
) -> ExportReport:
    """Copy what can be found in an index, as of one commit; staged videos and leftovers stay behind.

    Args:
        folder: The index folder. If a writer replaces its segments meanwhile, the newer commit is exported instead.
        target: A new folder, or an archive if its name ends in .tar, .tar.gz, .tar.bz2, .tar.xz or .zip; it appears
            only when it is complete.
        keep_paths: Keep the paths of the video files, and that of a model in a folder. Ids and metadata are always
            kept.
        link: Make the files of a folder hard links to those of the index where the file system has them.
        parents: True to make the folders above the target.

    Returns:
        What was written.

    Raises:
        IndexFolderError: If there is no finished index, a file of it is missing or damaged, or `target` exists or
            cannot be written.
    """
    folder, target = user_path(folder, "the index"), user_path(target, "target")
    archive_format(target)  # raises here, before anything is written
    with Catalog.open(folder) as catalog, workplace(target, parents=parents) as work:

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
    catalog, form = work / CATALOG_NAME, archive_format(target)
    size = sum(size for size, _ in files.values()) + catalog.stat().st_size
    if form is None:
        index = work / "index"
        index.mkdir()
        catalog.rename(index / CATALOG_NAME)
        _copy_files(folder, files, _into_links(folder, index) if link else _into_folder(index))
        sync_tree(index)
        index.rename(target)
    else:
        with writing_archive(work / "archive", form, root_name(target)) as put:
            _copy_files(folder, files, put)
            with catalog.open("rb") as file:
                put(CATALOG_NAME, file, catalog.stat().st_size)
        fsync_file(work / "archive")
        (work / "archive").rename(target)
    fsync_folder(target.parent)
    return ExportReport(target, len(files) + 1, size, videos, form or "folder")


def import_index(archive: Path, target: Path) -> ExportReport:
    """Make an index folder of what `export_index` wrote, also if it was unpacked or packed again meanwhile.

    Args:
        archive: An archive, of any kind that is written; or a folder: an index, or one that holds an index's folder.
        target: The new index folder, made with the folders above it; it appears only when all of it has been checked.

    Returns:
        What was imported.

    Raises:
        IndexFolderError: If the source is damaged, is not an index, or holds anything that does not belong to one; or
            `target` exists or cannot be written.
    """
    source, target = user_path(archive, "the archive"), user_path(target, "the index")
    if source.is_dir():
        return _import_folder(source, target)
    with workplace(target, parents=True) as work:
        folder = work / "index"
        with reading_archive(source) as opened:
            names = _unpack(opened, folder, source)
        return settle(folder, names, target, source=str(source))


def _import_folder(source: Path, target: Path) -> ExportReport:
    folder = _find_index(source)
    check_link(folder / CATALOG_NAME)
    with Catalog.open(folder) as catalog:
        catalog.check_integrity()
        check_folders(folder, catalog.files())
    if archive_format(target) is not None:
        raise IndexFolderError(f"{target} is the name of an archive; give the new index folder another name.")
    return export_index(folder, target, parents=True)


def _find_index(source: Path) -> Path:
    """Return the index folder that a folder is, or holds as the only one.

    Raises:
        IndexFolderError: If there is none, or several.
    """
    if is_index(source):
        return source
    found = [path.parent for path in sorted(source.glob(f"*/{CATALOG_NAME}"))]
    if len(found) == 1:
        return found[0]
    what = f"holds several indexes ({found[0].name}, {found[1].name})" if found else "holds no index"
    raise IndexFolderError(f"{source} {what}: give one folder with a {CATALOG_NAME}, or an archive that export wrote.")


def _trimming(catalog: Catalog, *, keep_paths: bool) -> list[tuple[str, tuple[Any, ...]]]:
    """Return statements that remove from a copy of the catalog what is not exported."""
    statements: list[tuple[str, tuple[Any, ...]]] = [
        ("DELETE FROM staged", ()),
        ("DELETE FROM chunks", ()),
        ("DELETE FROM staged_lines", ()),
        ("DELETE FROM settings WHERE key = ?", (PENDING_KEY,)),
    ]
    if keep_paths:
        return statements
    model = catalog.settings()[SETTINGS_KEY].get("model")
    if model is not None and names_a_path(model):
        statements.append(
            ("UPDATE settings SET value = json_set(value, '$.model', NULL) WHERE key = ?", (SETTINGS_KEY,))
        )
    return [
        *statements,
        ("UPDATE videos SET path = NULL, source_size = NULL, source_mtime_ns = NULL", ()),
        ("DELETE FROM failures", ()),  # they name paths
        ("DELETE FROM checksums", ()),
        ("UPDATE line_sources SET stamp = ''", ()),  # made of the names of subtitle files
    ]


def names_a_path(model: str) -> bool:
    """Return whether the name of a model tells a path: a folder, or BACKBONE:FILE with its weights."""
    names = (Path(model), Path(model.partition(":")[2] or model))
    return any(name.is_absolute() or name.exists() for name in names)


def _copy_files(folder: Path, files: dict[str, tuple[int, str]], put: Put) -> None:
    """Hand over every file of an index, and check it on the way."""
    check_folders(folder, files)
    with progress_bar("exporting files", total=len(files)) as bar:
        for name, (size, sha256) in files.items():
            with _opened(folder / name) as file:
                content = _Hashed(file, folder / name)
                put(name, content, size)
            if (content.size, content.digest.hexdigest()) != (size, sha256):
                raise IndexFolderError(f"{folder / name} is damaged; {RESTORE}")
            bar.advance()


def _opened(path: Path) -> io.BufferedReader:
    """Open a file of an index; a link is not followed."""
    check_link(path)
    try:
        return open_plain(path)
    except FileNotFoundError as error:
        raise IndexFolderError(f"{path} is missing; {RESTORE}") from error
    except OSError as error:
        raise IndexFolderError(f"{path} cannot be read: {os_problem(error)}") from error


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        self._file, self._path = file, path
        self.digest, self.size = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        try:
            block = self._file.read(size)
        except OSError as error:
            raise IndexFolderError(f"{self._path} cannot be read: {os_problem(error)}") from error
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


def _unpack(archive: Archive, folder: Path, source: Path) -> set[str]:
    """Write the files of an index that an archive holds; return their names in the index."""
    files = _index_files(archive.members, source)
    for name, member in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as content, path.open("xb") as file:
            shutil.copyfileobj(content, file, BLOCK)
        if path.stat().st_size != member.size:
            raise IndexFolderError(
                f"{source} is damaged: {shown(member.name)} is not as long as it says; copy it again."
            )
    return set(files)


def _index_files(members: list[Member], source: Path) -> dict[str, Member]:
    """Return the files of the index in an archive, by their names in the index.

    The index may lie in a folder of the archive, or in several, one in the other. Folders are left out, they are made
    as files need them; so are locks, staged videos and clutter, which an index that was packed by hand has.

    Raises:
        IndexFolderError: If there is no index, or anything that does not belong to one.
    """
    root = _root([member.name.removeprefix("./") for member in members if member.kind != "folder"], source)
    files: dict[str, Member] = {}
    for member in members:
        path = member.name.removeprefix("./")
        name = path.removeprefix(root)
        if (
            member.kind == "folder"
            or _is_clutter(path)
            or (path.startswith(root) and _is_passing(name, member, source))
        ):
            continue
        if not path.startswith(root) or not is_index_file(name):
            raise IndexFolderError(
                f"{source} holds {shown(member.name)}, which is not part of an index; it is refused."
            )
        if member.kind != "file":
            raise IndexFolderError(f"{source} holds {shown(member.name)}, which is not a plain file; it is refused.")
        if name in files:
            raise IndexFolderError(f"{source} holds {shown(member.name)} twice; it is refused.")
        files[name] = member
    return files


def _root(names: list[str], source: Path) -> str:
    """Return the folder of the index in an archive, "" or with a slash at its end."""
    roots = {name.removesuffix(CATALOG_NAME) for name in names if name.rpartition("/")[2] == CATALOG_NAME}
    outer = sorted({root for root in roots if not any(root != other and root.startswith(other) for other in roots)})
    if len(outer) == 1:
        return outer[0]
    what = (
        f"holds several indexes ({shown(outer[0])}, {shown(outer[1])}); pack one"
        if outer
        else f"holds no index, no {CATALOG_NAME}"
    )
    raise IndexFolderError(f"{source} {what}. Give what `colbert-video export` wrote, or the folder of an index.")


def _is_clutter(path: str) -> bool:
    parts = path.split("/")
    return parts[0] in CLUTTER or parts[-1] in CLUTTER or parts[-1].startswith("._")


def _is_passing(name: str, member: Member, source: Path) -> bool:
    """Return whether a file is one that an index has only while it is used, such as a lock.

    Raises:
        IndexFolderError: If it holds a commit that is not in the catalog's file yet.
    """
    if name == f"{CATALOG_NAME}-wal" and member.size:
        raise IndexFolderError(
            f"{source} was packed while the index was open, and its last commits are in {shown(member.name)}: pack "
            "what `colbert-video export` writes."
        )
    sides = tuple(f"{CATALOG_NAME}{end}" for end in ("-wal", "-shm", "-journal"))
    return member.kind == "file" and (name in sides or name.startswith((LOCK_NAME, UNFINISHED_NAME, f"{STAGING}/")))


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
    _forget_staged(folder)
    sync_tree(folder)
    folder.rename(target)
    fsync_folder(target.parent)
    return report


def _forget_staged(folder: Path) -> None:
    """Forget the staged videos of an index that was packed by hand: their tokens were left out."""
    with Catalog.open(folder) as catalog:
        staged = catalog.staged_chunks()
    if staged:
        with Catalog.open(folder, writable=True) as catalog:
            catalog.drop_staged()
    for path in folder.iterdir():
        if path.name.startswith((f"{CATALOG_NAME}-", LOCK_NAME)):
            path.unlink()


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
    size = sum(size for size, _ in files.values()) + (folder / CATALOG_NAME).stat().st_size
    return ExportReport(target, len(files) + 1, size, view.videos)
