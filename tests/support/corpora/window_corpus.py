"""Indexes of windows with random tokens: no model, no video."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from token_corpus import DIM, random_bags

from colbert_video import Indexer
from colbert_video.indexing.build.commit import commit_segment
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.chunks import TokenChunk
from colbert_video.indexing.index.folder import load_settings, writing
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.video.windows import window_id

SECONDS = 10.0
"""Length of a window."""
FIRST = {"a": 3, "b": 0, "c": 5, "d": 0, "e": 2, "f": 0, "g": 1}
SECOND = {"h": 2, "i": 0, "b": 2, "j": 0, "k": 4}
REMOVED = ["d", "h"]
VIDEOS = sorted({*FIRST, *SECOND} - {*REMOVED})
"""What `commit_two_segments` leaves."""


class WindowSource:
    """Rows of a catalog with a bag of random tokens each, as a `TokenSource`."""

    def __init__(self, entries: Sequence[VideoEntry], bags: Mapping[str, Sequence[torch.Tensor]]) -> None:
        self.entries = list(entries)
        self.bags = dict(bags)

    def __len__(self) -> int:
        return len(self.entries)

    def counts(self) -> dict[str, int]:
        return {bag: sum(map(len, tokens)) for bag, tokens in self.bags.items()}

    def __iter__(self) -> Iterator[TokenChunk]:
        yield TokenChunk.from_bags(self.entries, self.bags)


def window_entries(videos: Mapping[str, int]) -> list[VideoEntry]:
    """The rows of videos by their number of windows; none is a video that stays whole."""
    rows = []
    for name, windows in videos.items():
        if not windows:
            rows.append(VideoEntry(name, start=0.0, end=SECONDS, metadata={"name": name}))
        for number in range(windows):
            span = (number * SECONDS, (number + 1) * SECONDS)
            rows.append(VideoEntry(window_id(name, span), None, name, *span, metadata={"name": name}))
    return rows


def commit_windows(path: Path, videos: Mapping[str, int], *, seed: int, add: bool) -> WindowSource:
    """Commit a segment of videos and windows with random tokens; return what was committed."""
    entries = window_entries(videos)
    bags = {bag: random_bags(len(entries), seed=2 * seed + kind) for kind, bag in enumerate(("frame", "video"))}
    source = WindowSource(entries, bags)
    with writing(path, create=not add) as catalog:
        settings = load_settings(catalog) if add else IndexSettings(DIM, tuple(bags), nbits=8)
        commit_segment(catalog, source, settings, replace_all=not add)
    return source


def commit_two_segments(path: Path) -> None:
    """Commit two segments with windows, a replaced video and removed ones."""
    commit_windows(path, FIRST, seed=1, add=False)
    commit_windows(path, SECOND, seed=2, add=True)
    Indexer(path).remove(REMOVED)
