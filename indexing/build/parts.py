"""Parts of videos: what becomes one row of the catalog, a whole video or a window of one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.index.staging import EncodedVideo
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import CutVideo, Span, window_id


@dataclass(frozen=True)
class Part:
    """A whole video, or a window of one."""

    id: str
    """Its id in the index."""
    record: VideoRecord
    """The video."""
    span: Span | None
    """What is read of the file, [start, end) in seconds; None for all of it."""
    parent: str | None
    """Id of the video of which this is a window; None for a whole video."""


@dataclass
class WholeVideo:
    """All parts of a video, once they have been read."""

    encoded: list[EncodedVideo] = field(default_factory=list)
    """Those with tokens."""
    failures: list[Failure] = field(default_factory=list)
    """Those without, and why."""


def parts_of(video: CutVideo) -> list[Part]:
    """The windows of a video, or the video itself where it stays whole."""
    record = video.record
    if not video.spans:
        return [Part(record.id, record, record.window, None)]
    return [Part(window_id(record.id, span), record, span, record.id) for span in video.spans]


class Gathering:
    """Keeps what becomes of parts until all those of a video are there.

    Args:
        parts: All parts that will come.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._records = {part.id: part.record for part in parts}
        self._missing = Counter(record.id for record in self._records.values())
        self._videos: dict[str, WholeVideo] = {}

    def add(self, result: EncodedVideo | Failure) -> WholeVideo | None:
        """Take one part; return the whole video if that was its last.

        If no part of a video could be read, its failures become one, that of the video. Else the first part that could
        takes them along into staging.
        """
        record = self._records[result.id if isinstance(result, Failure) else result.entry.id]
        video = self._videos.setdefault(record.id, WholeVideo())
        if isinstance(result, Failure):
            video.failures.append(result)
        else:
            video.encoded.append(result)
        self._missing[record.id] -= 1
        if self._missing[record.id]:
            return None
        del self._videos[record.id]
        if not video.encoded:
            video.failures = [replace(video.failures[0], id=record.id)]
        video.encoded.sort(key=lambda part: part.entry.start or 0.0)
        if video.encoded and video.failures:
            video.encoded[0] = replace(video.encoded[0], lost=tuple(video.failures))
        return video
