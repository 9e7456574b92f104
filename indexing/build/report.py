"""The report of an index run, for people and for machines."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.index.drift import Drift


@dataclass(frozen=True)
class IndexReport:
    """The outcome of `Indexer.index`, `add`, `sync` or `index_tokens`."""

    path: Path
    indexed: int
    """Videos that became searchable in this run."""
    resumed: int
    """Of these, videos that an interrupted run had encoded already."""
    unchanged: int
    """Videos that were in the index already and whose files have not changed."""
    failures: tuple[Failure, ...]
    """Videos that could not be indexed, each with its reason."""
    ignored: int
    """Files of the given folders that are not videos by their extension."""
    videos: int
    """Videos in the index after the run."""
    seconds: float
    windows: int = 0
    """Windows in the index after the run, into which long ones of these videos are cut."""
    vanished: tuple[str, ...] = ()
    """Videos of the index whose files are missing from the given folders."""
    removed: tuple[str, ...] = ()
    """Of these, videos that were removed from the index."""
    drift: Drift | None = None
    """How well the codec stores the added videos, compared to those it was trained on; None if none were added."""
    damaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Videos of which something could not be read in this run, with what that is: damage of their files, texts and subtitles
    beside them. They are in the index all the same."""
    waited: float = 0.0
    """Seconds in which the model waited for frames: much of the whole means that decoding sets the pace."""

    @property
    def complete(self) -> bool:
        """True if every video was indexed."""
        return not self.failures

    @property
    def failures_by_kind(self) -> dict[str, int]:
        """Number of failed videos of each kind, the most frequent first."""
        counts = Counter(failure.kind for failure in self.failures)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **asdict(self),
            "path": str(self.path),
            "failures": [asdict(failure) for failure in self.failures],
            "failures_by_kind": self.failures_by_kind,
            "drift": None if self.drift is None else self.drift.to_dict(),
        }
