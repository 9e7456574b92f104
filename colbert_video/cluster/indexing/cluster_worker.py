"""A worker of an index run on a cluster: it encodes videos into staged chunks, and compresses such chunks.

Each piece of work ends as one file in the index folder, named by its content and renamed to that name when it is on disk:
done twice, by a retry or by a machine that was given up too early, it is the same file. A receipt says what it holds;
only the process that runs the index writes to the catalog.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from colbert_video.durable import checksum, fsync_folder, naming, new_name
from colbert_video.errors import ModelError
from colbert_video.indexing.build.encoding import Gathering, Stopwatch, encode_items
from colbert_video.indexing.build.index_run import Staged, Work
from colbert_video.indexing.build.ingest import cut_into_items
from colbert_video.indexing.build.segment_builder import CompressedChunk, compress_chunk
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import EncodedTokens, ResidualCodec
from colbert_video.indexing.index.staging import STAGING, EncodedVideo, chunk_file, read_chunk, select_rows, write_chunk
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.encoders.first_dims import whole_encoder, with_first_dims
from colbert_video.model.loading import load_encoder
from colbert_video.video.sources import VideoRecord
from colbert_video.video.workers.pool import FramePool

DIGITS = 24
"""Hexadecimal digits of a chunk's name, which is a digest of what it holds."""


@dataclass(frozen=True)
class Receipt:
    """What was staged of some videos, and what failed."""

    chunk: str | None
    """Name of the staged chunk that holds those with tokens; None if none has any."""
    size: int
    """Bytes of its file."""
    entries: tuple[VideoEntry, ...]
    """Its videos and windows, in order."""
    staged: Staged


@dataclass(frozen=True)
class ChunkRows:
    """Rows of a staged chunk, in order, that are to be compressed."""

    chunk: str
    """Name of the chunk."""
    rows: tuple[int, ...]


class Encoder:
    """One worker: a model and its decoding processes, which stay until it ends.

    Args:
        work: What all workers share.
        model: The model, or the name by which it is loaded here.
        device: Where it runs.
    """

    def __init__(self, work: Work, model: VideoEncoder | str, device: str) -> None:
        self._work = work
        self._model = _loaded(model, device, work)
        self._sampling = work.sampling(self._model)
        self._processes = FramePool(self._sampling, workers=work.decoding.workers)
        self._done = 0
        self._codecs: dict[str, Mapping[str, ResidualCodec]] = {}

    def ready(self) -> None:
        """Return once the model is loaded."""

    def progress(self) -> int:
        """Return the number of items encoded so far; asked in another thread, to know slow workers from stuck ones."""
        return self._done

    def encode(self, records: Sequence[VideoRecord]) -> Receipt:
        """Decode and encode some videos, and stage those of which all windows were read as one chunk."""
        items, failures = cut_into_items(records, self._work.settings, self._sampling, self._processes.workers)
        encoded: list[EncodedVideo] = []
        watch, gathering = Stopwatch(), Gathering(items, failures)
        results = encode_items(items, self._model, self._processes, watch=watch, pooling=self._work.settings.pooling)
        for result in results:
            encoded += gathering.add(result)
            self._done += 1
        staged = gathering.staged(watch.waiting)
        order = {record.id: number for number, record in enumerate(records)}
        encoded.sort(key=lambda video: order[video.entry.video])  # stable: windows stay in order
        name, size = stage_by_content(self._work.folder / STAGING, encoded) if encoded else (None, 0)
        entries = tuple(video.entry for video in encoded)
        return Receipt(name, size, entries, staged)

    def compress(self, parts: Sequence[ChunkRows], codecs: Mapping[str, ResidualCodec], codec: str) -> tuple[str, int]:
        """Compress staged tokens into a file beside them.

        Args:
            parts: What to compress, in order.
            codecs: The codec of each bag.
            codec: A name for these; while it stays the same, what was prepared for the last call is used again.

        Returns:
            Name and size of the file.
        """
        if codec not in self._codecs:
            self._codecs = {codec: codecs}
        staging, tensors = self._work.folder / STAGING, {}
        for number, part in enumerate(parts):
            chunk = select_rows(read_chunk(chunk_file(staging, part.chunk)), part.rows)
            compressed = compress_chunk(chunk, self._codecs[codec])
            for bag, tokens in compressed.tokens.items():
                tensors[f"{number}.{bag}.codes"] = tokens.codes
                tensors[f"{number}.{bag}.residuals"] = tokens.residuals
                tensors[f"{number}.{bag}.doclens"] = compressed.doclens[bag]
            self._done += 1
        temporary = staging / f"{new_name()}.tmp"
        with naming(temporary):
            save_file(tensors, temporary)
        size, digest = checksum(temporary)
        path = staging / f"{digest[:DIGITS]}.compressed"
        temporary.replace(path)  # not synced: what is lost is compressed again
        return path.name, size


def read_compressed(path: Path, number: int, bags: Sequence[str], entries: Sequence[VideoEntry]) -> CompressedChunk:
    """Read one of the parts that were compressed into a file; it holds the tokens of `entries`."""
    stored = load_file(path)
    tokens = {bag: EncodedTokens(stored[f"{number}.{bag}.codes"], stored[f"{number}.{bag}.residuals"]) for bag in bags}
    return CompressedChunk(entries, tokens, {bag: stored[f"{number}.{bag}.doclens"] for bag in bags})


def stage_by_content(staging: Path, videos: Sequence[EncodedVideo]) -> tuple[str, int]:
    """Write a chunk under a digest of its ids and its file, as copies of a video have the same tokens.

    Returns:
        Name and size of the file.
    """
    temporary = staging / f"{new_name()}.tmp"
    write_chunk(temporary, videos)
    size, digest = checksum(temporary)
    ids = json.dumps([video.entry.id for video in videos])
    name = hashlib.sha256(f"{digest} {ids}".encode()).hexdigest()[:DIGITS]
    temporary.replace(chunk_file(staging, name))
    fsync_folder(staging)
    return name, size


def _loaded(model: VideoEncoder | str, device: str, work: Work) -> VideoEncoder:
    """Return the model on its device; one that is loaded by name must be that of the index."""
    if not isinstance(model, str):
        other: Any = whole_encoder(model)
        whole: Any = other.to(torch.device(device)).eval() if isinstance(other, nn.Module) else other
        return whole if whole is model else with_first_dims(whole, model.dim)
    found = load_encoder(model, device=device, precision=work.precision, compile=work.compile)
    if found.fingerprint() != work.settings.model_fingerprint:
        raise ModelError(
            f"{model} is another model on this machine than on the one that runs the index; give all machines the same "
            "files, or pass the model itself."
        )
    return with_first_dims(found, work.settings.dim)
