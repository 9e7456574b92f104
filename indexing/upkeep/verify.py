"""Verification: every byte of an index against its catalog, and the catalog against itself."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colbert_video.base.user_files import user_path
from colbert_video.durable import check_folders, file_problem
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME, has_catalog
from colbert_video.indexing.catalog.entries import IndexView, SegmentRow
from colbert_video.indexing.catalog.writer_lock import LOCK_NAME
from colbert_video.indexing.index.folder import CODECS, SEGMENTS, load_codecs, stored_drift, stored_settings
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.index.staging import STAGING, check_chunk
from colbert_video.indexing.segments.segment import open_bag
from colbert_video.progress import progress_bar

OWN_FILES = (
    *(f"{CATALOG_NAME}{end}" for end in ("", "-wal", "-shm", "-journal")),
    *(f"{LOCK_NAME}{end}" for end in ("", "-journal")),
)
"""Files at the top of an index that no catalog row names. SQLite makes its journals and deletes them; a power cut may
bring back an empty one, which it passes over."""
ROWS_PER_READ = 10_000
"""Catalog rows in memory at once."""


@dataclass(frozen=True)
class Problem:
    """A damaged part of an index."""

    path: str
    """The file, relative to the index folder."""
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """What `Indexer.verify` found."""

    path: Path
    files: int
    """Number of files that were read."""
    bytes: int
    videos: int
    problems: tuple[Problem, ...]
    leftovers: tuple[str, ...]
    """Files that belong to nothing, relative to the index folder: a crash left them, and the next writer deletes those
    among segments, codecs and staged videos, and of a catalog in the making."""

    @property
    def intact(self) -> bool:
        """True if nothing is damaged."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "intact": self.intact}


def verify_index(folder: Path) -> VerifyReport:
    """Read every file of an index and compare it with the catalog; nothing is changed.

    Checked are the database itself, the size and SHA-256 of each file, that codes name centroids, that inverted lists
    and lengths fit, that every row of a segment is either a video or a removed one, and that metadata is readable.
    An index that a writer changes meanwhile is read again.

    Args:
        folder: The index folder, finished or not.

    Raises:
        IndexFolderError: If there is no index.
    """
    folder = user_path(folder, "the index")
    if not has_catalog(folder):
        raise IndexFolderError(f"there is no index in {folder}; make one with `colbert-video index`.")
    while True:
        try:
            with Catalog.open(folder) as catalog, Catalog.open(folder) as newest:
                report = _verify(folder, catalog)
                if report.intact or newest.version == catalog.version:
                    return report
        except IndexFolderError as error:
            problem = Problem(CATALOG_NAME, str(error))
            return VerifyReport(folder, 0, 0, 0, (problem,), ())


def _verify(folder: Path, catalog: Catalog) -> VerifyReport:
    catalog.check_integrity()  # first: rows of a damaged database may have no end
    view = catalog.hold()
    files = catalog.files()
    leftovers = tuple(_leftovers(folder, catalog))
    problems = [Problem(CATALOG_NAME, f"it does not name {name}, which it needs") for name in catalog.unnamed()]
    problems += [*_damaged_files(folder, files), *_damaged_staging(catalog), *_unnamed_files(leftovers, catalog)]
    damaged = {problem.path for problem in problems}
    settings = stored_settings(catalog)
    if settings is None and view.segments:
        problems.append(Problem(CATALOG_NAME, "its settings are missing"))
    stray = catalog.stray_lines()
    if stray:
        problems.append(Problem(CATALOG_NAME, f"{stray} lines of text belong to no video"))
    stored_drift(catalog)
    catalog.failures()
    if settings is not None:
        for row in view.segments:
            problems += _damaged_rows(catalog, row, view)
            if not any(path.startswith((f"{SEGMENTS}/{row.name}/", f"{CODECS}/{row.codec}/")) for path in damaged):
                problems += _contradictions(folder, row, settings)
    size = sum(size for size, _ in files.values())
    return VerifyReport(folder, len(files), size, view.videos, tuple(problems), leftovers)


def _damaged_files(folder: Path, files: dict[str, tuple[int, str]]) -> Iterator[Problem]:
    with progress_bar("verifying files", total=len(files)) as bar:
        for name, (size, sha256) in files.items():
            problem = _link_above(folder, name) or file_problem(folder / name, size, sha256)
            if problem is not None:
                yield Problem(name, problem)
            bar.advance()


def _unnamed_files(leftovers: Iterable[str], catalog: Catalog) -> Iterator[Problem]:
    """Find leftovers in live segments and codecs: a commit names all files there."""
    live = [f"{SEGMENTS}/{segment.name}" for segment in catalog.live_segments()]
    live += [f"{CODECS}/{name}" for name in catalog.codecs()]
    rooms = tuple(f"{room}/" for room in live)
    for name in leftovers:
        if name.startswith(rooms) and name.endswith((".pt", ".json")):
            yield Problem(name, "the catalog does not name it")


def _link_above(folder: Path, name: str) -> str | None:
    """Return what is wrong with a file that lies in a folder which is a link."""
    try:
        check_folders(folder, [name])
    except IndexFolderError as error:
        return str(error)
    return None


def _damaged_staging(catalog: Catalog) -> Iterator[Problem]:
    """Find damaged chunks, which an interrupted run would need to go on."""
    for name in catalog.staged_chunks():
        try:
            check_chunk(catalog, name)
        except IndexFolderError as error:
            yield Problem(f"{STAGING}/{name}.safetensors", str(error))


def _damaged_rows(catalog: Catalog, row: SegmentRow, view: IndexView) -> Iterator[Problem]:
    """Find rows of a segment without a video, or with two, and rows that cannot be read."""
    rows = list(view.removed.get(row.name, []))
    try:
        for start in range(0, row.count, ROWS_PER_READ):
            part = range(start, min(start + ROWS_PER_READ, row.count))
            rows += catalog.entries_at(row.name, part)
    except IndexFolderError as error:
        yield Problem(CATALOG_NAME, str(error))
        return
    if sorted(rows) != list(range(row.count)):
        yield Problem(CATALOG_NAME, f"its videos and removed videos do not fill segment {row.name} exactly")


def _contradictions(folder: Path, row: SegmentRow, settings: IndexSettings) -> Iterator[Problem]:
    """Find files that are what was written, but do not fit each other."""
    try:
        codecs = load_codecs(folder, row.codec, settings)
    except IndexFolderError as error:
        yield Problem(f"{CODECS}/{row.codec}", str(error))
        return
    for bag, codec in codecs.items():
        path = f"{SEGMENTS}/{row.name}/{bag}"
        try:
            stored = open_bag(folder / path)
            _ = stored.ivf  # checked when it is read
        except IndexFolderError as error:
            yield Problem(path, str(error))
            continue
        if stored.codec_fingerprint != codec.fingerprint:
            yield Problem(path, f"it was encoded by another codec than {row.codec}")
        if len(stored.doclens) != row.count:
            yield Problem(path, f"it holds {len(stored.doclens)} videos, the catalog says {row.count}")


def _leftovers(folder: Path, catalog: Catalog) -> Iterator[str]:
    chunks = {f"{STAGING}/{name}.safetensors" for name in catalog.staged_chunks()}
    known = {*catalog.files(), *chunks, *OWN_FILES}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in known:
            yield name
