"""Training the codecs of an index and writing one segment: two ColBERT folders side by side.

Each token is encoded by the model once, where ColBERT encodes its sample twice: the codec is trained on tokens that are
already there, then the same tokens are compressed chunk by chunk, so memory is bounded by a chunk and the sample.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import EncodedTokens, ResidualCodec
from colbert_video.indexing.codec.fit import FittedCodec, Sample, fit_codec
from colbert_video.indexing.codec.kmeans import num_partitions
from colbert_video.indexing.index.chunks import TokenChunk, TokenSource
from colbert_video.indexing.segments.segment import BagWriter
from colbert_video.progress import Bar

logger = logging.getLogger(__name__)

SAMPLE_PER_CENTROID = 32
"""Tokens that the codec's training sees for each centroid."""
MIN_SAMPLE = 2**16
"""Tokens that the codec's training sees at least, if there are as many."""


def train_codecs(
    source: TokenSource,
    *,
    nbits: int,
    buckets: Literal["lloyd_max", "quantile"],
    rotate: bool,
    seed: int,
    sample_bytes: int,
    query_direction: Float[Tensor, "dim"] | None = None,
) -> dict[str, FittedCodec]:
    """Train one codec per bag on a random sample of its tokens.

    Args:
        source: All tokens of the first segment.
        nbits: Bits kept of each residual dimension.
        buckets: "lloyd_max" or ColBERT's "quantile".
        rotate: Rotate tokens first.
        seed: Makes sample, rotation and centroids reproducible.
        sample_bytes: Memory that one bag's sample may take, in float32.
        query_direction: Unit vector along which rounding errors cancel; None for plain rounding.
    """
    counts = source.counts()
    centroids = {bag: num_partitions(count) for bag, count in counts.items()}
    samples = _samples(source, counts, centroids, seed, sample_bytes)
    codecs = {}
    for bag, count in counts.items():
        sample = samples.pop(bag)
        size = len(sample.tokens)
        logger.info("training the %s codec: %d centroids on %d of %d tokens", bag, centroids[bag], size, count)
        codecs[bag] = fit_codec(
            sample,
            centroids=min(centroids[bag], size),
            nbits=nbits,
            buckets=buckets,
            rotate=rotate,
            seed=seed,
            query_direction=query_direction,
        )
    return codecs


def _samples(
    source: TokenSource, counts: Mapping[str, int], centroids: Mapping[str, int], seed: int, sample_bytes: int
) -> dict[str, Sample]:
    """Draw random tokens of each bag, in random order, while the source is read once."""
    samples: dict[str, Sample] = {}
    passed, numbers = dict.fromkeys(counts, 0), torch.tensor([-1], device="cpu")
    draws: dict[str, tuple[Tensor, Tensor]] = {}
    for chunk in source:
        numbers = _numbers(chunk.entries, int(numbers[-1]) + 1)
        for bag, count in counts.items():
            tokens, doclens = chunk.tokens[bag], chunk.doclens[bag]
            if bag not in samples:
                size = _sample_size(count, centroids[bag], tokens.shape[1], sample_bytes)
                owners = torch.empty(size, dtype=torch.int64, device="cpu")
                samples[bag] = Sample(torch.empty(size, tokens.shape[1], dtype=torch.float32, device="cpu"), owners)
                draws[bag] = _draw(count, size, seed)
            wanted, sample_rows = draws[bag]
            bounds = torch.tensor([passed[bag], passed[bag] + len(tokens)], device="cpu")
            first, last = torch.searchsorted(wanted, bounds).tolist()
            rows = wanted[first:last] - passed[bag]
            samples[bag].tokens[sample_rows[first:last]] = tokens[rows].float()
            samples[bag].owners[sample_rows[first:last]] = numbers.repeat_interleave(doclens)[rows]
            passed[bag] += len(tokens)
    return samples


def _numbers(entries: Sequence[VideoEntry], first: int) -> Int64[Tensor, "entries"]:
    """Number the videos of a chunk from `first` on; consecutive windows of one video share its number."""
    videos = [entry.video for entry in entries]
    begins = [one != other for one, other in zip(videos, [None, *videos], strict=False)]
    return torch.tensor(begins, device="cpu").cumsum(0) - 1 + first


def _sample_size(count: int, centroids: int, dim: int, sample_bytes: int) -> int:
    """Return how many of `count` tokens the training sees."""
    return min(count, max(MIN_SAMPLE, SAMPLE_PER_CENTROID * centroids), max(1, sample_bytes // (4 * dim)))


def _draw(count: int, size: int, seed: int) -> tuple[Int64[Tensor, "size"], Int64[Tensor, "size"]]:
    """Draw `size` of `count` token numbers; return them ascending, and the row of each in the sample."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed), device="cpu")[:size]
    ascending = drawn.sort()
    return ascending.values, ascending.indices


@dataclass(frozen=True)
class CompressedChunk:
    """Some videos with their tokens as they are stored, those of one bag end to end."""

    entries: Sequence[VideoEntry]
    """What the catalog keeps of each video; empty where tokens alone matter, as on a cluster's workers."""
    tokens: Mapping[str, EncodedTokens]
    """Codes and residuals by bag name."""
    doclens: Mapping[str, Int[Tensor, "videos"]]
    """Tokens of each video, by bag name."""


Compress = Callable[[TokenSource, Mapping[str, ResidualCodec]], Iterable[CompressedChunk]]
"""Compresses all tokens: in this process, or elsewhere."""


def compress_chunk(chunk: TokenChunk, codecs: Mapping[str, ResidualCodec]) -> CompressedChunk:
    """Compress the tokens of some videos, each bag with its codec."""
    tokens = {bag: codec.encode(chunk.tokens[bag].float()) for bag, codec in codecs.items()}
    return CompressedChunk(chunk.entries, tokens, chunk.doclens)


def compress(source: TokenSource, codecs: Mapping[str, ResidualCodec]) -> Iterator[CompressedChunk]:
    """Compress all tokens in this process, chunk by chunk."""
    for chunk in source:
        yield compress_chunk(chunk, codecs)


def write_segment(
    folder: Path,
    chunks: Iterable[CompressedChunk],
    codecs: Mapping[str, ResidualCodec],
    *,
    codec_folder: Path,
    bar: Bar,
) -> list[VideoEntry]:
    """Write compressed tokens into a new segment folder.

    Args:
        folder: The segment's folder; the bags become `folder/frame` and `folder/video`.
        chunks: The segment's tokens.
        codecs: The codec of each bag, which compressed them.
        codec_folder: Where the codecs are saved, `codec_folder/frame` and so on; segments link these files.
        bar: Advances by the videos that are written.

    Returns:
        The entries of all chunks, in order.
    """
    entries: list[VideoEntry] = []
    with ExitStack() as stack:
        writers = {
            bag: stack.enter_context(BagWriter(folder / bag, codec=codec, codec_folder=codec_folder / bag))
            for bag, codec in codecs.items()
        }
        for chunk in chunks:
            for bag, writer in writers.items():
                tokens, doclens = chunk.tokens[bag], chunk.doclens[bag]
                writer.append(tokens.codes, tokens.residuals, doclens)
            entries.extend(chunk.entries)
            bar.advance(len(doclens))
        for writer in writers.values():
            writer.finish()
    return entries
