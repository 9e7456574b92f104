"""Inverted lists: for each centroid the videos that hold a token of it (ColBERT's ivf.pid.pt)."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

TOKENS_AT_ONCE = 2**20


def inverted_lists(
    codes: Int32[Tensor, "tokens"],
    doclens: Int64[Tensor, "videos"],
    centroids: int,
    *,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> tuple[Int32[Tensor, "entries"], Int64[Tensor, "centroids"]]:
    """List the videos of each centroid, as ColBERT's `optimize_ivf` does, without padding at the end.

    Counts first, then fills: memory beyond the result is bounded by `tokens_at_once`.

    Args:
        codes: Centroid of each token, in [0, centroids).
        doclens: Tokens of each video, in order.
        centroids: How many centroids there are.
        tokens_at_once: Tokens sorted in one go, rounded to whole videos.

    Returns:
        Video numbers (pids), the lists one after the other, unique and ascending in each; and each list's length.
    """
    lengths = torch.zeros(centroids, dtype=torch.int64)
    for pairs, _ in _centroid_video_pairs(codes, doclens, tokens_at_once):
        lengths += torch.bincount(pairs[:, 0], minlength=centroids)
    videos = torch.empty(int(lengths.sum()), dtype=torch.int32)
    free = lengths.cumsum(0) - lengths  # next free place of each list
    for pairs, first_video in _centroid_video_pairs(codes, doclens, tokens_at_once):
        counts = torch.bincount(pairs[:, 0], minlength=centroids)
        rank = torch.arange(len(pairs)) - (counts.cumsum(0) - counts)[pairs[:, 0]]
        videos[free[pairs[:, 0]] + rank] = (pairs[:, 1] + first_video).int()
        free += counts
    return videos, lengths


def _centroid_video_pairs(
    codes: Int32[Tensor, "tokens"], doclens: Int64[Tensor, "videos"], tokens_at_once: int
) -> Iterator[tuple[Int64[Tensor, "pairs 2"], int]]:
    """Yield unique (centroid, video) pairs in ascending order, chunk by chunk, with the chunk's first video."""
    ends = doclens.cumsum(0).numpy()
    first = start = 0
    while first < len(doclens):
        stop = max(first + 1, int(np.searchsorted(ends, start + tokens_at_once, side="right")))
        lengths = doclens[first:stop]
        video = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        keys = (codes[start : int(ends[stop - 1])].long() * len(lengths) + video).unique()
        yield torch.stack([keys // len(lengths), keys % len(lengths)], dim=1), first
        first, start = stop, int(ends[stop - 1])
