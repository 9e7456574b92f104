"""Segments of random tokens, and their codecs."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.indexing.segments.segment import open_bag, write_bag

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
        encoded = codecs[bag].encode(tokens)
        write_bag(
            folder / bag,
            codec=codecs[bag],
            codes=encoded.codes,
            residuals=encoded.residuals,
            doclens=torch.tensor(doclens),
        )
        bags[bag] = open_bag(folder / bag)
    videos = len(next(iter(lengths.values())))
    return Segment("s", bags, torch.ones(videos, dtype=torch.bool)), codecs
