"""Sharding: an index split into several, with its tokens as they are stored.

Shards are successive stretches of the index, about equally long. A segment that goes into one shard whole is linked;
of one that is cut, codes and residuals are copied. Nothing is encoded again, so a video scores in its shard what it
scores in the index.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from colbert_video.base.access import os_problem, read_problem
from colbert_video.base.checks import whole_number
from colbert_video.base.torch_state import own_torch
from colbert_video.base.user_files import user_path
from colbert_video.durable import (
    RESTORE,
    check_files,
    check_link,
    fsync_folder,
    link_or_copy,
    new_name,
    sync_tree,
    write_bytes_durably,
)
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.build.commit import describe_files
from colbert_video.indexing.build.segment_builder import write_segment
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import IndexView, NewSegment, VideoEntry, check_name
from colbert_video.indexing.index.drift import DRIFT_KEY
from colbert_video.indexing.index.folder import CODECS, SEGMENTS, SETTINGS_KEY, files_below, is_index, load_settings
from colbert_video.indexing.upkeep.stored import VIDEOS_PER_CHUNK, StoredSegment, open_segments
from colbert_video.indexing.upkeep.workplace import workplace
from colbert_video.progress import Bar, progress_bar

CORPUS_NAME = "shards.json"
FORMAT = "colbert_video shards"
FORMAT_VERSION = 1
CORPUS = "corpus"
"""The unfinished corpus in its hidden folder."""
SHARED_SETTINGS = (SETTINGS_KEY, DRIFT_KEY)
"""What the catalog of an index knows of how it was made, which its shards take over."""
SegmentPart = tuple[StoredSegment, Int64[Tensor, "_"]]
"""Some rows of a segment."""


@dataclass(frozen=True)
class ShardedCorpus:
    """The folder of a corpus, and its shards."""

    path: Path
    names: tuple[str, ...]
    """Names of the shards' folders in it, in their order."""

    @property
    def folders(self) -> list[Path]:
        """The index folders, in the order of `names`."""
        return [self.path / name for name in self.names]

    @classmethod
    def open(cls, path: str | Path) -> "ShardedCorpus":
        """Read which shards there are.

        Raises:
            IndexFolderError: If there is no sharded corpus, it is damaged or of a newer version, or a shard is missing.
        """
        folder = user_path(path, "the corpus")
        if not is_corpus(folder):
            one = is_index(folder)
            what = "is one index, no sharded corpus" if one else "holds no sharded corpus"
            raise IndexFolderError(
                f"{folder} {what}; make one with `colbert-video shard {folder if one else 'INDEX'} --output FOLDER "
                "--shards N`."
            )
        check_link(folder / CORPUS_NAME)
        corpus = cls(folder, _parsed(folder / CORPUS_NAME))
        for shard in corpus.folders:
            check_link(shard)
            if not is_index(shard):
                raise IndexFolderError(f"{shard} is missing or not an index; restore it or shard the index again.")
        return corpus


def is_corpus(folder: Path) -> bool:
    """Return whether `folder` holds a sharded corpus."""
    return (folder / CORPUS_NAME).is_file()


def write_corpus(folder: Path, names: Sequence[str]) -> ShardedCorpus:
    """Make a folder of indexes a sharded corpus.

    Args:
        folder: The folder of all shards.
        names: The names of the index folders in it, in their order.

    Raises:
        SettingsError: If there are no names, or one is unsafe or comes twice.
    """
    _check_names(names)
    body = {"shards": list(names)}
    text = {"format": FORMAT, "version": FORMAT_VERSION, **body, "sha256": _digest(body)}
    write_bytes_durably(folder / CORPUS_NAME, (json.dumps(text, indent=2) + "\n").encode())
    return ShardedCorpus(folder, tuple(names))


def _parsed(path: Path) -> tuple[str, ...]:
    """Return the names of the shards, checked: a crafted file must not lead out of its folder."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"its format is not {shown(FORMAT)}")
        version = values.get("version")
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"its version is {shown(version)}")
    except OSError as error:
        raise IndexFolderError(f"{path} cannot be read: {read_problem(path) or os_problem(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise IndexFolderError(f"{path} is damaged: {error}; restore it or shard the index again.") from error
    if version > FORMAT_VERSION:
        raise IndexFolderError(
            f"{path} has format version {version}, this release reads up to {FORMAT_VERSION}; upgrade colbert_video."
        )
    body = {"shards": values.get("shards")}
    if values.get("sha256") != _digest(body):
        raise IndexFolderError(
            f"{path} is damaged: its checksum (SHA-256) is wrong; restore it or shard the index again."
        )
    try:
        return _check_names(body["shards"])
    except SettingsError as error:
        raise IndexFolderError(
            f"{path} is damaged or was tampered with: {error} Restore it or shard the index again."
        ) from error


def _check_names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise SettingsError(f"shards {shown(names)} must be a list of at least one name.")
    checked = tuple(check_name(name) for name in names)
    if len(set(checked)) < len(checked):
        raise SettingsError(f"shards {shown(list(checked))} come twice; each needs its own folder.")
    return checked


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ShardReport:
    """What `shard_index` wrote."""

    path: Path
    videos: tuple[int, ...]
    """Videos in each shard, all windows of one counted once."""
    rows: tuple[int, ...]
    """Videos in each shard, each window counted."""
    linked: int
    """Segments that were linked, or copied file by file to another file system."""
    bytes: int
    """Size of all shards' files; linked ones take no space of their own."""
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


@own_torch()
def shard_index(
    path: str | Path, output: str | Path, *, shards: int | None = None, videos_per_shard: int | None = None
) -> ShardReport:
    """Split an index into shards; the index stays as it is.

    The corpus appears when it is complete. A call that was killed leaves a hidden folder beside `output`, which the
    next call for that output removes. Removed videos, staged ones and records of failures stay behind.

    Args:
        path: The index folder. If a writer replaces its segments meanwhile, the newer commit is sharded instead.
        output: The new folder of the shards.
        shards: How many shards; or
        videos_per_shard: how many videos a shard holds, roughly, at most.

    Raises:
        SettingsError: Unless one of the two is given, and leaves each shard a video.
        IndexFolderError: If there is no finished index, a file of it is missing or damaged, or `output` exists, cannot
            be written, or is written by another process now.
    """
    started = time.monotonic()
    target = user_path(output, "output")
    with Catalog.open(user_path(path, "the index")) as catalog, workplace(target) as work:
        unfinished = work / CORPUS

        def write(view: IndexView) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
            load_settings(catalog)
            shutil.rmtree(unfinished, ignore_errors=True)
            count = _number_of_shards(view.videos, shards, videos_per_shard)
            return _write(catalog, unfinished, count, view.count)

        report = catalog.read_commit(write)
        sync_tree(unfinished)
        unfinished.rename(target)
        fsync_folder(target.parent)
    return ShardReport(target, *report, seconds=time.monotonic() - started)


def _number_of_shards(videos: int, shards: int | None, videos_per_shard: int | None) -> int:
    if (shards is None) == (videos_per_shard is None):
        raise SettingsError("say how many shards, or how many videos each holds: one of the two.")
    if videos_per_shard is not None:
        videos_per_shard = whole_number("videos_per_shard", videos_per_shard, least=1)
    shards = None if shards is None else whole_number("shards", shards)
    count = shards if shards is not None else -(-videos // (videos_per_shard or 1))
    if not 1 <= count <= videos:
        raise SettingsError(f"{videos} videos cannot be split into {count} shards; choose from 1 to {videos}.")
    return count


def _write(catalog: Catalog, corpus: Path, count: int, rows: int) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """Write all shards; return the videos and rows of each, the number of linked segments, and the size."""
    check_files(catalog.folder, catalog.files())
    parts, videos = _parts(catalog, count)
    names = [f"shard-{number:04d}" for number in range(count)]
    linked = size = 0
    with progress_bar("copying videos", total=rows) as bar:
        for name, own in zip(names, parts, strict=True):
            shard = _Shard(catalog, corpus / name, bar)
            for segment, chosen in own:
                shard.take(segment, chosen)
            size += shard.commit()
            linked += shard.linked
    write_corpus(corpus, names)
    return videos, tuple(sum(len(chosen) for _, chosen in own) for own in parts), linked, size


def _parts(catalog: Catalog, count: int) -> tuple[list[list[SegmentPart]], tuple[int, ...]]:
    """Return what each shard takes of each segment, and how many videos that are."""
    items = catalog.live_rows()
    rows = Counter(video for _, _, video in items)
    shard_of = dict(zip(rows, cut(list(rows.values()), count), strict=True))
    taken: list[dict[str, list[int]]] = [{} for _ in range(count)]
    for segment, row, video in items:
        taken[shard_of[video]].setdefault(segment, []).append(row)
    segments = {segment.row.name: segment for segment in open_segments(catalog, load_settings(catalog))}
    parts = [[(segments[name], torch.tensor(chosen, device="cpu")) for name, chosen in own.items()] for own in taken]
    videos = Counter(shard_of.values())
    return parts, tuple(videos[number] for number in range(count))


def cut(rows: Sequence[int], shards: int) -> list[int]:
    """Return the shard of each video: successive videos, so that shards have about as many rows, and each has a video.

    Args:
        rows: How many rows each video has, in order.
        shards: How many shards, at most as many as videos.
    """
    chosen: list[int] = []
    shard, taken, left = 0, 0, sum(rows)
    for number, count in enumerate(rows):
        further = shards - 1 - shard
        full = taken > 0 and further > 0 and (taken + count / 2) * (further + 1) > left
        if taken > 0 and (full or len(rows) - number == further):
            shard, left, taken = shard + 1, left - taken, 0
        taken += count
        chosen.append(shard)
    return chosen


class _Shard:
    """An index in the making, in `folder`, that takes over parts of the index of `catalog`."""

    def __init__(self, catalog: Catalog, folder: Path, bar: Bar) -> None:
        self.linked = 0
        self._catalog, self._folder, self._bar = catalog, folder, bar
        self._segments: list[NewSegment] = []
        self._runs: list[tuple[str, list[int]]] = []

    def take(self, segment: StoredSegment, rows: Int64[Tensor, "videos"]) -> None:
        """Link a segment that comes whole, otherwise copy what comes of it."""
        files = self._link(f"{CODECS}/{segment.row.codec}")
        if len(rows) == segment.row.count:
            name = segment.row.name
            files |= self._link(f"{SEGMENTS}/{name}")
            self.linked += 1
            self._bar.advance(len(rows))
        else:
            name = new_name()
            self._copy(segment, rows, self._folder / SEGMENTS / name)
            files |= describe_files(self._folder, self._folder / SEGMENTS / name)
        runs = [(segment.row.name, run.tolist()) for run in rows.split(VIDEOS_PER_CHUNK)]
        entries = (entry for run in runs for entry in self._entries(*run))
        self._segments.append(NewSegment(name, segment.row.codec, entries, files))
        self._runs += runs

    def commit(self) -> int:
        """Write the catalog; return the size of the index's files."""
        settings = {key: value for key, value in self._catalog.settings().items() if key in SHARED_SETTINGS}
        with Catalog.create(self._folder) as catalog:
            catalog.replace_everything(self._segments, settings=settings)
            for run in self._runs:
                videos = {entry.video for entry in self._entries(*run)}
                catalog.set_checksums(self._catalog.checksums(sorted(videos)))
                catalog.set_lines(self._catalog.lines_of(sorted(videos)))
            return sum(size for size, _ in catalog.files().values())

    def _entries(self, segment: str, rows: list[int]) -> list[VideoEntry]:
        found = self._catalog.entries_at(segment, rows)
        return [found[row] for row in rows]

    def _link(self, room: str) -> dict[str, tuple[int, str]]:
        """Take over a codec or a whole segment; return size and SHA-256 of its files, which were checked."""
        files = files_below(self._catalog, room)
        for name in files:
            source, target = self._catalog.folder / name, self._folder / name
            if target.exists():  # several segments of one codec
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                link_or_copy(source, target)
            except FileNotFoundError as error:
                raise IndexFolderError(f"{source} is missing; {RESTORE}") from error
        return files

    def _copy(self, segment: StoredSegment, rows: Int64[Tensor, "videos"], target: Path) -> None:
        write_segment(
            target,
            (segment.stored(run) for run in rows.split(VIDEOS_PER_CHUNK)),
            segment.codecs,
            codec_folder=self._folder / CODECS / segment.row.codec,
            bar=self._bar,
        )
