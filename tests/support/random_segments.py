"""Segments of random tokens, and their codecs."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.indexing.segments.segment import StoredBag, open_bag, write_bag

DIM = 64


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Random unit vectors on the CPU."""
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), device="cpu"), dim=-1)


def random_segment(
    folder: Path, lengths: dict[str, list[int]], seed: int = 0, nbits: int = 4
) -> tuple[Segment, dict[str, ResidualCodec]]:
    """A segment of random tokens; `lengths` gives the tokens of each video in each bag."""
    bags, codecs = {}, {}
    for number, (bag, doclens) in enumerate(lengths.items()):
        tokens = unit(sum(doclens), DIM, seed=seed + number)
        codecs[bag] = ResidualCodec.train(tokens, nbits=nbits, seed=number)
        bags[bag] = stored_bag(folder / bag, codecs[bag], tokens, doclens)
    videos = len(next(iter(lengths.values())))
    return Segment("s", bags, torch.ones(videos, dtype=torch.bool)), codecs


def stored_bag(folder: Path, codec: ResidualCodec, tokens: Tensor, doclens: list[int]) -> StoredBag:
    """Write tokens as a bag, and open it; `doclens` gives the tokens of each video."""
    encoded, lengths = codec.encode(tokens), torch.tensor(doclens)
    write_bag(folder, codec=codec, codes=encoded.codes, residuals=encoded.residuals, doclens=lengths)
    return open_bag(folder)
