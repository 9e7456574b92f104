"""Staged videos: encoded and safe on disk, but not yet compressed into a segment.

The codec can only be trained once enough tokens exist, so an index run first stages every video's tokens in half
precision. A run that is interrupted finds them again: nothing is decoded or encoded twice.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.chunks import BagTokens, TokenChunk
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.files import (
    delete_leftover,
    fsync_file,
    fsync_folder,
    make_folder_durably,
    naming,
    new_name,
    refuse_link,
)

STAGING = "staging"
"""Folder of staged chunks inside an index."""
VIDEOS_PER_CHUNK = 256
"""Encoded videos and windows written at once, or more where one video has more."""
SECONDS_PER_CHUNK = 30.0
"""Work that a killed process can lose at most."""


@dataclass(frozen=True)
class EncodedVideo:
    """One video after the model."""

    entry: VideoEntry
    """What the catalog keeps of it."""
    bags: Mapping[str, Float[Tensor, "_ dim"]]
    """Its tokens by bag name, (tokens, dim) each."""
    damage: tuple[str, ...] = ()
    """What was damaged in its file and how decoding handled it, in words."""


class StagingWriter:
    """Collects encoded videos and stages them chunk by chunk; leaving the block stages the rest, also on errors."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = folder / STAGING
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
        path = self._folder / f"{name}.safetensors"
        tensors = {}
        for bag in self._waiting[0].bags:
            joined = BagTokens.from_list([video.bags[bag] for video in self._waiting])
            tensors[f"{bag}.tokens"] = joined.tokens.half().cpu().contiguous()
            tensors[f"{bag}.doclens"] = joined.doclens
        with naming(path):
            save_file(tensors, path)
        fsync_file(path)
        fsync_folder(self._folder)
        self._catalog.stage(name, [video.entry for video in self._waiting])
        self._waiting = []


class StagedSource:
    """Staged videos of an index as a `TokenSource`.

    Args:
        folder: The index folder.
        catalog: Its catalog, which must not change while this is read.
        ids: Which videos, with all their windows; an interrupted run may have staged others.
    """

    def __init__(self, folder: Path, catalog: Catalog, *, ids: Collection[str]) -> None:
        self._folder = folder / STAGING
        self._catalog = catalog
        self._ids = set(ids)

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._chunks())

    def counts(self) -> dict[str, int]:
        """Tokens in each bag."""
        counts: dict[str, int] = {}
        for path, rows in self._chunks():
            for bag, doclens in _load(path, ".doclens").items():
                counts[bag] = counts.get(bag, 0) + int(doclens[list(rows)].sum())
        return counts

    def __iter__(self) -> Iterator[TokenChunk]:
        for path, rows in self._chunks():
            yield TokenChunk(list(rows.values()), _select(path, list(rows)))

    def _chunks(self) -> Iterator[tuple[Path, dict[int, VideoEntry]]]:
        """Each chunk file that holds wanted videos, with these by row."""
        for name in self._catalog.staged_chunks():
            entries = self._catalog.staged_entries(name)
            rows = {row: entry for row, entry in entries.items() if entry.video in self._ids}
            if rows:
                yield self._folder / f"{name}.safetensors", rows


def check_chunk(folder: Path, name: str, *, rows: Collection[int]) -> None:
    """Read a staged chunk of an index.

    Args:
        folder: The index folder.
        name: The chunk.
        rows: Rows that it must hold.

    Raises:
        IndexFolderError: If it is missing, damaged, or too short.
    """
    path = folder / STAGING / f"{name}.safetensors"
    tokens, doclens = _load(path, ".tokens"), _load(path, ".doclens")
    for bag, lengths in doclens.items():
        if (
            bag not in tokens
            or int(lengths.sum()) != len(tokens[bag])
            or len(lengths) <= max(rows, default=-1)
        ):
            raise IndexFolderError(f"{path} is damaged: it does not hold its videos; index again.")


def _load(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of a chunk whose names end in `part`, by bag."""
    refuse_link(path)
    try:
        with safe_open(path, framework="pt") as chunk:
            keys = [key for key in chunk.keys() if key.endswith(part)]  # noqa: SIM118 - chunk is no dict
            return {key.removesuffix(part): chunk.get_tensor(key) for key in keys}
    except (OSError, SafetensorError) as error:
        raise IndexFolderError(
            f"{path} is missing or damaged ({error}); index again with overwrite=True."
        ) from error


def _select(path: Path, rows: list[int]) -> dict[str, BagTokens]:
    """The bags of some rows of a chunk; a video that was staged again later leaves its older row unused."""
    doclens = _load(path, ".doclens")
    runs = {bag: tokens.split(doclens[bag].tolist()) for bag, tokens in _load(path, ".tokens").items()}
    return {bag: BagTokens.from_list([parts[row] for row in rows]) for bag, parts in runs.items()}


def remove_unlisted_chunks(folder: Path, catalog: Catalog) -> None:
    """Delete chunk files that the catalog does not list: leftovers of a crash, or chunks that became a segment."""
    listed = {f"{name}.safetensors" for name in catalog.staged_chunks()}
    for path in (folder / STAGING).glob("*"):
        if path.name not in listed:
            delete_leftover(path)
