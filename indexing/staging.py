"""Staged videos: encoded and safe on disk, but not yet compressed into a segment.

The codec can only be trained once enough tokens exist, so an index run first stages every video's tokens in half
precision. A run that is interrupted finds them again: nothing is decoded or encoded twice.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.chunks import BagTokens, TokenChunk
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.files import fsync_file, fsync_folder

STAGING = "staging"
"""Folder of staged chunks inside an index."""
VIDEOS_PER_CHUNK = 256
"""Encoded videos written at once."""
SECONDS_PER_CHUNK = 30.0
"""Work that a killed process can lose at most."""


@dataclass(frozen=True)
class EncodedVideo:
    """One video after the model."""

    entry: VideoEntry
    """What the catalog keeps of it."""
    bags: Mapping[str, Float[Tensor, "_ dim"]]
    """Its tokens by bag name, (tokens, dim) each."""


class StagingWriter:
    """Collects encoded videos and stages them chunk by chunk; leaving the block stages the rest, also on errors."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = folder / STAGING
        self._catalog = catalog
        self._waiting: list[EncodedVideo] = []
        self._since = time.monotonic()

    def __enter__(self) -> "StagingWriter":
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, video: EncodedVideo) -> None:
        """Take one video; it is safe after the next flush."""
        self._waiting.append(video)
        if len(self._waiting) >= VIDEOS_PER_CHUNK or time.monotonic() - self._since > SECONDS_PER_CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write the waiting videos durably, then list them in the catalog."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        name = uuid.uuid4().hex
        path = self._folder / f"{name}.safetensors"
        tensors = {}
        for bag in self._waiting[0].bags:
            joined = BagTokens.from_list([video.bags[bag] for video in self._waiting])
            tensors[f"{bag}.tokens"] = joined.tokens.half().cpu().contiguous()
            tensors[f"{bag}.doclens"] = joined.doclens
        save_file(tensors, path)
        fsync_file(path)
        fsync_folder(self._folder)
        self._catalog.stage(name, [video.entry for video in self._waiting])
        self._waiting = []


class StagedSource:
    """All staged videos of an index as a `TokenSource`.

    Args:
        folder: The index folder.
        catalog: Its catalog, which must not change while this is read.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = folder / STAGING
        self._catalog = catalog

    def __len__(self) -> int:
        return len(self._catalog.staged_ids())

    def counts(self) -> dict[str, int]:
        """Tokens in each bag."""
        counts: dict[str, int] = {}
        for chunk in self:
            for bag, run in chunk.bags.items():
                counts[bag] = counts.get(bag, 0) + len(run.tokens)
        return counts

    def __iter__(self) -> Iterator[TokenChunk]:
        for name in self._catalog.staged_chunks():
            rows = self._catalog.staged_entries(name)
            tensors = _load(self._folder / f"{name}.safetensors")
            yield TokenChunk(list(rows.values()), _select(tensors, list(rows)))


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise IndexFolderError(
            f"{path} is missing or damaged ({error}); index again with overwrite=True."
        ) from error


def _select(tensors: Mapping[str, Tensor], rows: list[int]) -> dict[str, BagTokens]:
    """The bags of some rows of a chunk; a video that was staged again later leaves its older row unused."""
    bags = {}
    for key in tensors:
        bag, _, part = key.partition(".")
        if part == "tokens":
            runs = tensors[key].split(tensors[f"{bag}.doclens"].tolist())
            bags[bag] = BagTokens.from_list([runs[row] for row in rows])
    return bags


def remove_unlisted_chunks(folder: Path, catalog: Catalog) -> None:
    """Delete chunk files that the catalog does not list: leftovers of a crash, or chunks that became a segment."""
    listed = {f"{name}.safetensors" for name in catalog.staged_chunks()}
    for path in (folder / STAGING).glob("*"):
        if path.name not in listed:
            path.unlink(missing_ok=True)
