"""Staged videos: encoded and safe on disk, but not yet compressed into a segment.

The codec can only be trained once enough tokens exist, so an index run first stages every video's tokens in half
precision. A run that is interrupted finds them again: nothing is decoded or encoded twice.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from colbert_video.base.access import read_problem
from colbert_video.base.once import once_property
from colbert_video.durable import (
    check_link,
    delete_leftover,
    fsync_file,
    fsync_folder,
    make_folder_durably,
    naming,
    new_name,
)
from colbert_video.errors import IndexFolderError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index.chunks import TokenChunk

STAGING = "staging"
"""Folder of staged chunks inside an index."""
VIDEOS_PER_CHUNK = 256
"""Encoded videos and windows written at once, or more where one video has more."""
SECONDS_PER_CHUNK = 30.0
"""Work that a killed process can lose at most."""
CHUNKS_AT_HAND = 2
"""Chunks that are kept in memory while staged videos are read: at the border of two, videos got ready out of order."""
NOTES = "notes"
"""Key of the notes in a chunk's metadata."""


@dataclass(frozen=True)
class Note:
    """What is noted of one staged item, for the report of a run that goes on."""

    damage: tuple[str, ...] = ()
    """What was damaged in its file and how decoding handled it, in words."""
    failures: tuple[Failure, ...] = ()
    """Windows of the same video that could not be read; noted with the first that could."""
    texts: bool = False
    """True if a stream of the file may hold text, to be read before the commit."""


@dataclass(frozen=True)
class EncodedVideo:
    """One video, or one window of a video, after the model."""

    entry: VideoEntry
    bags: Mapping[str, Float[Tensor, "_ dim"]]
    """Its tokens by bag name, (tokens, dim) each."""
    note: Note = Note()


class StagingWriter:
    """Collects encoded videos and stages them chunk by chunk; leaving the block stages the rest, also on errors."""

    def __init__(self, catalog: Catalog) -> None:
        self._folder = catalog.folder / STAGING
        self._catalog = catalog
        self._waiting: list[EncodedVideo] = []
        self._since = time.monotonic()

    def __enter__(self) -> "StagingWriter":
        make_folder_durably(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, *videos: EncodedVideo) -> None:
        """Take one video, or all windows of one, which are staged together; it is safe after the next flush."""
        self._waiting += videos
        if len(self._waiting) >= VIDEOS_PER_CHUNK or time.monotonic() - self._since > SECONDS_PER_CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write the waiting videos durably, then list them in the catalog."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        name = new_name()
        write_chunk(chunk_file(self._folder, name), self._waiting)
        fsync_folder(self._folder)
        self._catalog.stage(name, [video.entry for video in self._waiting])
        self._waiting = []


def chunk_file(staging: Path, name: str) -> Path:
    """Return where a chunk lies in the folder of staged chunks."""
    return staging / f"{name}.safetensors"


def write_chunk(path: Path, videos: Sequence[EncodedVideo]) -> None:
    """Write the tokens of some videos, in order, and wait until they are on disk; the file's name is not synced."""
    chunk = TokenChunk.from_bags((), {bag: [video.bags[bag] for video in videos] for bag in videos[0].bags})
    tensors = {f"{bag}.tokens": tokens.half().cpu().contiguous() for bag, tokens in chunk.tokens.items()}
    tensors |= {f"{bag}.doclens": doclens for bag, doclens in chunk.doclens.items()}
    with naming(path):
        save_file(tensors, path, pack_notes({row: video.note for row, video in enumerate(videos)}))
    fsync_file(path)


class StagedSource:
    """Staged videos of an index as a `TokenSource`.

    They come in the order that is asked for, windows of a video by their start: in which order they got ready, and
    which of them an interrupted run had staged before, does not show in the index.

    Args:
        catalog: The index's catalog, which must not change while this is read.
        ids: Which videos, in order, with all their windows; an interrupted run may have staged others.
    """

    def __init__(self, catalog: Catalog, *, ids: Sequence[str]) -> None:
        self._folder = catalog.folder / STAGING
        self._catalog = catalog
        self._order = {identity: number for number, identity in enumerate(ids)}
        self._entries = lru_cache(CHUNKS_AT_HAND)(catalog.staged_entries)
        self._read = lru_cache(CHUNKS_AT_HAND)(read_chunk)

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._runs)

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in each bag."""
        counts: dict[str, int] = {}
        for name, rows in self._runs:
            for bag, doclens in _load(chunk_file(self._folder, name), ".doclens").items():
                counts[bag] = counts.get(bag, 0) + int(doclens[rows].sum())
        return counts

    def __iter__(self) -> Iterator[TokenChunk]:
        for path, entries in self.runs():
            yield select_rows(self._read(path), list(entries), list(entries.values()))

    def runs(self) -> Iterator[tuple[Path, dict[int, VideoEntry]]]:
        """Yield successive videos that lie in one chunk file, by row; all of a chunk, unless others' lie between."""
        for name, rows in self._runs:
            entries = self._entries(name)
            yield chunk_file(self._folder, name), {row: entries[row] for row in rows}

    @once_property
    def _runs(self) -> list[tuple[str, list[int]]]:
        """Chunk and rows of each run of successive videos."""
        names = self._catalog.staged_chunks()
        found = sorted(
            (self._order[entry.video], number, row)
            for number, name in enumerate(names)
            for row, entry in self._catalog.staged_entries(name).items()
            if entry.video in self._order
        )
        runs = groupby(found, key=lambda item: item[1])
        return [(names[number], [row for *_, row in run]) for number, run in runs]


def check_chunk(catalog: Catalog, name: str) -> None:
    """Read a staged chunk of an index.

    Raises:
        IndexFolderError: If it is missing, damaged, or lacks a row that the catalog lists.
    """
    path, rows = chunk_file(catalog.folder / STAGING, name), catalog.staged_entries(name)
    read_notes(path)
    tokens, doclens = _load(path, ".tokens"), _load(path, ".doclens")
    for bag, lengths in doclens.items():
        if bag not in tokens or int(lengths.sum()) != len(tokens[bag]) or len(lengths) <= max(rows, default=-1):
            raise IndexFolderError(f"{path} is damaged: it does not hold its videos; index again.")


def _load(path: Path, part: str) -> dict[str, Tensor]:
    """Return the tensors of a chunk whose names end in `part`, by bag."""
    with _opened(path) as chunk:
        keys = [key for key in chunk.keys() if key.endswith(part)]  # noqa: SIM118 - chunk is no dict
        return {key.removesuffix(part): chunk.get_tensor(key) for key in keys}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a chunk for reading."""
    check_link(path)
    try:
        with safe_open(path, framework="pt") as chunk:
            yield chunk
    except (OSError, SafetensorError, IndexFolderError) as error:
        if path.exists() and (problem := read_problem(path)) is not None:
            raise IndexFolderError(f"{path} cannot be read: {problem}") from error
        raise IndexFolderError(f"{path} is missing or damaged ({error}); repeat the index run.") from error


def read_notes(path: Path) -> dict[int, Note]:
    """Return what is noted in a chunk, by row.

    Raises:
        IndexFolderError: If the chunk is missing or damaged.
    """
    with _opened(path) as chunk:
        return unpack_notes(chunk.metadata())


def staged_notes(catalog: Catalog, ids: Collection[str]) -> dict[str, Note]:
    """Return what is noted of some staged videos of an index, by id; that of all windows of one together.

    Raises:
        IndexFolderError: If a chunk is missing or damaged.
    """
    notes: dict[str, Note] = {}
    for name in catalog.staged_chunks():
        stored = read_notes(chunk_file(catalog.folder / STAGING, name))
        for row, entry in catalog.staged_entries(name).items():
            if row in stored and entry.video in ids:
                before = notes.get(entry.video, Note())
                damage = tuple(dict.fromkeys([*before.damage, *stored[row].damage]))
                texts = before.texts or stored[row].texts
                notes[entry.video] = Note(damage, (*before.failures, *stored[row].failures), texts)
    return notes


def read_chunk(path: Path) -> dict[str, tuple[Tensor, ...]]:
    """Return the bags of all rows of a chunk, (tokens, dim) each, by bag name.

    Raises:
        IndexFolderError: If the chunk is missing or damaged.
    """
    doclens = _load(path, ".doclens")
    return {bag: tokens.split(doclens[bag].tolist()) for bag, tokens in _load(path, ".tokens").items()}


def select_rows(
    chunk: Mapping[str, Sequence[Tensor]], rows: Sequence[int], entries: Sequence[VideoEntry] = ()
) -> TokenChunk:
    """Return some rows of a chunk; a video that was staged again later leaves its older row unused."""
    bags = {bag: [videos[row] for row in rows] for bag, videos in chunk.items()}
    return TokenChunk.from_bags(entries, bags)


def remove_unlisted_chunks(catalog: Catalog) -> None:
    """Delete chunk files that the catalog does not list: leftovers of a crash, or chunks that became a segment."""
    listed = {f"{name}.safetensors" for name in catalog.staged_chunks()}
    for path in (catalog.folder / STAGING).glob("*"):
        if path.name not in listed:
            delete_leftover(path)


def pack_notes(notes: Mapping[int, Note]) -> dict[str, str] | None:
    """Return text of the notes on some rows, by row; None if there is nothing to note."""
    noted = {
        row: {
            "damage": note.damage,
            "failures": [(failure.id, failure.path, failure.kind, failure.detail) for failure in note.failures],
            "texts": note.texts,
        }
        for row, note in notes.items()
        if note != Note()
    }
    return {NOTES: json.dumps(noted)} if noted else None


def unpack_notes(metadata: Mapping[str, str] | None) -> dict[int, Note]:
    """Undo `pack_notes`.

    Raises:
        IndexFolderError: If the text is something else.
    """
    text = (metadata or {}).get(NOTES, "{}")
    try:
        return {int(row): _note(values) for row, values in json.loads(text).items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise IndexFolderError(f"its notes are damaged ({shown(error)})") from error


def _note(values: Any) -> Note:
    failures = []
    for failure in values["failures"]:
        identity, path, kind, detail = map(str, failure)
        failures.append(Failure(identity, path, kind, detail))
    return Note(tuple(map(str, values["damage"])), tuple(failures), bool(values.get("texts", True)))
