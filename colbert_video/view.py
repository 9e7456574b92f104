"""An index as searches see it: the segments of one commit, and the engine that scores them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from colbert_video.indexing.eligible import Masks
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.prepared import PreparedQuery
from colbert_video.indexing.reader import IndexReader
from colbert_video.indexing.scan import Scored, Segment, video_similarities
from colbert_video.moments import best_moment


@dataclass(frozen=True)
class Found:
    """A scored video."""

    score: float
    """Sum of its bags' scores."""
    bags: Mapping[str, float]
    """MeanMaxSim in each bag."""
    segment: Segment
    """Where its tokens are."""
    ordinal: int
    """Its place there."""


@dataclass(frozen=True)
class SearchView:
    """One commit of an index and what searches it."""

    reader: IndexReader
    """The index."""
    search_segment: Callable[..., Scored]
    """`scan.search_segment`, or an engine's method of the same form."""

    @property
    def version(self) -> int:
        """Number of the commit."""
        return self.reader.version

    def close(self) -> None:
        """Let go of the index's files."""
        self.reader.close()

    def best(
        self, query: PreparedQuery, k: int, *, allowed: Masks | None, exact: bool
    ) -> list[tuple[Found, VideoEntry]]:
        """The k best videos over all segments, best first, with their catalog rows.

        Args:
            query: What is looked for.
            k: Results wanted.
            allowed: Which videos may be found; segments that it leaves out cost nothing. None for all.
            exact: Score every allowed video on its decoded tokens.
        """
        found: list[Found] = []
        for segment in self.reader.segments:
            if allowed is not None and segment.name not in allowed:
                continue
            mask = None if allowed is None else allowed[segment.name]
            codecs = self.reader.codecs(segment)
            scored = self.search_segment(segment, codecs, query, k=k, allowed=mask, exact=exact)
            for position, ordinal in enumerate(scored.ordinals.tolist()):
                bags = {bag: float(scores[position]) for bag, scores in scored.bags.items()}
                found.append(Found(float(scored.total[position]), bags, segment, ordinal))
        best = sorted(found, key=lambda video: -video.score)[:k]
        places = [(video.segment.name, video.ordinal) for video in best]
        entries = self.reader.entries_of(places)
        return [(video, entries[place]) for video, place in zip(best, places, strict=True)]

    def moment(
        self, video: Found, entry: VideoEntry, query: PreparedQuery
    ) -> tuple[float | None, float | None]:
        """The frames that the query's tokens agree on, over both bags, as [start, end) in seconds."""
        frames = len(entry.frame_times)
        if not frames or entry.end is None:
            return entry.start, entry.end
        relevance = np.zeros(frames)
        for bag, codec in self.reader.codecs(video.segment).items():
            similarity = video_similarities(video.segment, codec, bag, query, video.ordinal)
            relevance += similarity[:, :frames].mean(dim=0).numpy()  # expansion tokens come after the frames
        return best_moment(relevance, np.asarray(entry.frame_times), entry.start or 0.0, entry.end)
