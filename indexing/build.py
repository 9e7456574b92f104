"""Training the codecs of an index and writing one segment: two ColBERT folders side by side.

Each token is encoded by the model once, where ColBERT encodes its sample twice: the codec is trained on tokens that are
already there, then the same tokens are compressed chunk by chunk, so memory is bounded by a chunk and the sample.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.indexing.chunks import TokenSource
from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.kmeans import num_partitions
from colbert_video.indexing.segment import BagWriter
from colbert_video.progress import progress_bar

logger = logging.getLogger(__name__)

SAMPLE_PER_CENTROID = 64
"""Tokens that the codec's training sees for each centroid."""
LEAST_SAMPLE = 2**16
"""Tokens that the codec's training sees at least, if there are as many."""


def train_codecs(
    source: TokenSource, *, nbits: int, buckets: Literal["lloyd_max", "quantile"], rotate: bool, seed: int
) -> dict[str, ResidualCodec]:
    """Train one codec a bag on a random sample of its tokens.

    Args:
        source: All tokens of the first segment.
        nbits: Bits kept of each residual dimension.
        buckets: "lloyd_max" or ColBERT's "quantile".
        rotate: Whether tokens are rotated first.
        seed: Makes sample, rotation and centroids reproducible.
    """
    codecs = {}
    for bag, count in source.counts().items():
        centroids = num_partitions(count)
        size = min(count, max(LEAST_SAMPLE, SAMPLE_PER_CENTROID * centroids))
        sample = _sample(source, bag, size / count, seed)
        logger.info(
            "training the %s codec: %d centroids on %d of %d tokens", bag, centroids, len(sample), count
        )
        codecs[bag] = ResidualCodec.train(
            sample,
            nbits=nbits,
            seed=seed,
            centroids=min(centroids, len(sample)),
            buckets=buckets,
            rotate=rotate,
        )
    return codecs


def _sample(source: TokenSource, bag: str, share: float, seed: int) -> Float[Tensor, "tokens dim"]:
    """A random share of a bag's tokens, at least one, in random order."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for chunk in source:
        tokens = chunk.bags[bag].tokens
        kept.append(tokens[torch.rand(len(tokens), generator=generator) < share].float())
    sample = torch.cat(kept)
    if not len(sample):
        sample = next(iter(source)).bags[bag].tokens[:1].float()
    return sample[torch.randperm(len(sample), generator=generator)]


def write_segment(
    folder: Path, source: TokenSource, codecs: Mapping[str, ResidualCodec], *, codec_folder: Path
) -> list[VideoEntry]:
    """Compress all tokens into a new segment folder.

    Args:
        folder: The segment's folder; the bags become `folder/frame` and `folder/video`.
        source: The segment's tokens.
        codecs: The codec of each bag.
        codec_folder: Where the codecs are saved, `codec_folder/frame` and so on; segments link these files.

    Returns:
        The catalog entries in the order of the segment.
    """
    entries: list[VideoEntry] = []
    with ExitStack() as stack:
        writers = {
            bag: stack.enter_context(BagWriter(folder / bag, codec=codec, codec_folder=codec_folder / bag))
            for bag, codec in codecs.items()
        }
        bar = stack.enter_context(progress_bar("compressing videos", total=len(source)))
        for chunk in source:
            for bag, writer in writers.items():
                encoded = codecs[bag].encode(chunk.bags[bag].tokens.float())
                writer.append(encoded.codes, encoded.residuals, chunk.bags[bag].doclens)
            entries.extend(chunk.entries)
            bar.advance(len(chunk.entries))
        for writer in writers.values():
            writer.finish()
    return entries
