"""Listing what an index holds, page by page, in the order of ids by code points.

A page begins after an id, not at a number, so commits between two pages neither repeat a video nor pass one over.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from colbert_video.base.checks import whole_number
from colbert_video.base.user_files import user_path
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.fields import MetadataField, check_fields, list_fields
from colbert_video.indexing.catalog.filters import Condition, compile_filter
from colbert_video.indexing.index.folder import stored_drift, stored_settings
from colbert_video.indexing.scan.kernels import kernel_name
from colbert_video.indexing.upkeep.sharding import ShardedCorpus, is_corpus

MAX_FACETS = 8
MAX_FACET_VALUES = 30
MAX_FACET_LETTERS = 40
MAX_VALUES = 2000
"""Values of all keys together that are looked at."""
MAX_TEXT_LETTERS = 80


@dataclass(frozen=True)
class ListedVideo:
    """A video of an index, or a window of one."""

    id: str
    """Its id."""
    parent: str | None
    """Id of the video of which this is a window."""
    start: float | None
    """Start in seconds of what is searched of its file."""
    end: float | None
    """End in seconds, exclusive."""
    duration: float | None
    """Length of the file in seconds."""
    metadata: Mapping[str, Any] = field(hash=False)
    """What was given with it."""
    windows: int
    """How many windows of it are searched, those that pass the filter; 0 if it is whole."""


def list_videos(
    folder: Path, *, limit: int, after: str = "", where: Mapping[str, Any] | None = None, windows: bool = False
) -> list[ListedVideo]:
    """One page of the videos of an index, or of a sharded corpus; no more than the page is read into memory.

    Args:
        folder: The index or the corpus.
        limit: How many videos at most.
        after: The last id of the page before; empty for the first page.
        where: A filter on the catalog, as in a search; a video that was cut passes if one of its windows does.
        windows: List the windows of videos that were cut, instead of these.

    Returns:
        Videos by their ids, ascending; fewer than `limit` at the end.

    Raises:
        SettingsError: If the limit is not positive, or the filter is not valid.
        IndexFolderError: If there is no index, or it is damaged.
    """
    limit = whole_number("limit", limit, least=1)
    condition = _checked(folder, where)
    pages = [_page(each, condition, after=after, limit=limit, windows=windows) for each in _folders(folder)]
    return list(islice(merge(*pages, key=lambda video: video.id), limit))


def newest_videos(
    folder: Path, *, limit: int, before: tuple[float, int] | None = None, where: Mapping[str, Any] | None = None
) -> list[tuple[tuple[float, int], ListedVideo]]:
    """The videos of an index, or of a sharded corpus, that were indexed last, page by page.

    Args:
        folder: The index or the corpus.
        limit: How many videos at most.
        before: The key of the last video of the page before; None for the first page.
        where: A filter on the catalog, as in `list_videos`.

    Returns:
        Keys, which fall, with the videos; fewer than `limit` at the end.

    Raises:
        SettingsError: As `list_videos`.
        IndexFolderError: As `list_videos`.
    """
    limit = whole_number("limit", limit, least=1)
    condition = _checked(folder, where)
    found: list[tuple[tuple[float, int], ListedVideo]] = []
    for each in _folders(folder):
        with Catalog.open(each) as catalog:
            page = catalog.newest(condition, before=before, limit=limit)
        found += [(key, _listed(entry, count)) for key, entry, count in page]
    return sorted(found, key=lambda video: video[0], reverse=True)[:limit]


@dataclass(frozen=True)
class Facet:
    """A key of the metadata with the values that several videos share."""

    name: str
    """The key."""
    in_lists: bool
    """True if the values are elements of stored lists."""
    values: tuple[tuple[Any, int], ...] = field(hash=False)
    """Values with the number of their videos, the most frequent first."""


def list_metadata(folder: Path) -> list[MetadataField]:
    """List the keys of the metadata of an index, or of a sharded corpus, with the kinds of their values.

    Raises:
        IndexFolderError: As `list_videos`.
    """
    with _catalogs(folder) as catalogs:
        return list_fields(catalogs)


def _checked(folder: Path, where: Mapping[str, Any] | None) -> Condition:
    """Return a filter as a condition; raises if it is not valid, or compares keys that no video has."""
    condition = compile_filter(where or {})
    if where:
        with _catalogs(folder) as catalogs:
            check_fields(catalogs, where)
    return condition


@contextmanager
def _catalogs(folder: Path) -> Iterator[list[Catalog]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Catalog.open(each)) for each in _folders(folder)]


def list_facets(folder: Path, *, where: Mapping[str, Any] | None = None) -> list[Facet]:
    """List the keys of the metadata by whose values the videos of an index, or of a sharded corpus, fall into groups.

    Args:
        folder: The index or the corpus.
        where: Count only videos that pass this filter.

    Returns:
        At most `MAX_FACETS` keys, those of most videos first, each with at most `MAX_FACET_VALUES` values.

    Raises:
        SettingsError: If the filter is not valid.
        IndexFolderError: As `list_videos`.
    """
    condition = _checked(folder, where)
    counts: Counter[tuple[str, bool, str, Any]] = Counter()
    for each in _folders(folder):
        with Catalog.open(each) as catalog:
            for name, kind, value, videos in catalog.facets(condition, longest=MAX_FACET_LETTERS, limit=MAX_VALUES):
                real = bool(value) if kind.endswith(("true", "false")) else value
                counts[name, kind.startswith("element"), kind, real] += videos
    facets: dict[tuple[str, bool], list[tuple[Any, int]]] = {}
    for (name, in_lists, _, value), videos in counts.most_common():
        facets.setdefault((name, in_lists), []).append((value, videos))
    found = [Facet(name, in_lists, tuple(own[:MAX_FACET_VALUES])) for (name, in_lists), own in facets.items()]
    return sorted(found, key=lambda facet: -sum(videos for _, videos in facet.values))[:MAX_FACETS]


def list_texts(folder: Path, *, limit: int) -> list[str]:
    """List short texts of the metadata's key "text", each once, of videos all over an index or a corpus."""
    found: list[str] = []
    for each in _folders(folder):
        with Catalog.open(each) as catalog:
            found += catalog.texts(longest=MAX_TEXT_LETTERS, limit=limit)
    return list(dict.fromkeys(found))[:limit]


def _folders(folder: Path) -> tuple[Path, ...]:
    folder = user_path(folder, "the index")
    return tuple(ShardedCorpus.open(folder).folders) if is_corpus(folder) else (folder,)


def _page(folder: Path, condition: Condition, *, after: str, limit: int, windows: bool) -> Iterator[ListedVideo]:
    with Catalog.open(folder) as catalog:
        page = catalog.page(condition, after=after, limit=limit, windows=windows)
    return (_listed(entry, count) for entry, count in page)


def _listed(entry: VideoEntry, windows: int) -> ListedVideo:
    return ListedVideo(entry.id, entry.parent, entry.start, entry.end, entry.duration, entry.metadata, windows)


def describe_index(path: Path) -> dict[str, Any]:
    """Describe an index, finished or not, as plain values.

    Raises:
        IndexFolderError: If there is no index or its catalog is damaged.
    """
    with Catalog.open(user_path(path, "the index")) as catalog:
        view, settings = catalog.hold(), stored_settings(catalog)
        size = sum(size for size, _ in catalog.files().values())
        description: dict[str, Any] = {
            "path": str(path),
            "finished": settings is not None,
            "videos": view.videos,
            "windows": view.windows,
            "lines": catalog.count_lines(),
            "removed": sum(len(rows) for rows in view.removed.values()),
            "staged": len(catalog.staged_ids()),
            "segments": len(view.segments),
            "bytes": size,
            "bytes_per_video": round(size / view.videos) if view.videos else None,
            "kernels": kernel_name(),
        }
        if settings is not None:
            description |= settings.to_dict()
        drift = stored_drift(catalog)
        if drift is not None:
            description["codec_errors"] = drift.to_dict()
            description["codec_drift"] = drift.advice() if drift.drifted else None
        description["failures"] = [asdict(failure) for failure in catalog.failures()]
        return description
