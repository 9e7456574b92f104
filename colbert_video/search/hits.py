"""What a search gives back: videos with their moments."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, SupportsIndex, overload

from colbert_video.errors import DependencyError


@dataclass(frozen=True)
class Moment:
    """A part of a found video."""

    start: float
    """Begin of the moment [start, end), in seconds."""
    end: float
    """End of the moment, in seconds."""
    score: float
    """Score of the window in which it was found."""


@dataclass(frozen=True)
class Hit:
    """One found video and its best moment."""

    rank: int
    """1 for the best."""
    id: str
    """The video's id; that of the window where hits are not grouped by video."""
    score: float
    """MMS_F + MMS_V, the sum of the two below; of a video that was cut into windows, that of the best one."""
    frame_score: float | None
    """MeanMaxSim over frame tokens; None if the index stores none, or the query has none for them."""
    video_score: float | None
    """MeanMaxSim over video tokens; None if the index stores none, or the query has none for them."""
    start: float | None
    """Begin of the best moment [start, end), in seconds; None if the index knows no times."""
    end: float | None
    """End of the best moment, in seconds."""
    path: str | None
    """The video file; None for precomputed tokens."""
    metadata: Mapping[str, Any]
    """What was stored with the video."""
    parent: str | None = None
    """Id of the video whose window was found; None for a video that was indexed whole."""
    moments: tuple[Moment, ...] = ()
    """Further moments of the same video, best first, none overlapping a better one: those of other windows that were
    among the best of the search."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Hits(list[Hit]):
    """The hits of one search, best first: a list that notebooks show with pictures and pandas takes as a frame."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> "Hits": ...

    def __getitem__(self, place: SupportsIndex | slice) -> "Hit | Hits":
        """One hit, or those of a slice, which are Hits again."""
        if isinstance(place, slice):
            return Hits(super().__getitem__(place))
        return super().__getitem__(place)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with one row a hit.

        Returns:
            A column for each field of `Hit`, without `metadata`, whose keys are columns of their own, called
            "metadata.KEY"; missing values are NaN or None. `moments` holds tuples of dicts.

        Raises:
            DependencyError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise DependencyError(
                'to_pandas needs pandas; install it with: pip install "colbert_video[pandas]".'
            ) from error
        names = [field.name for field in fields(Hit) if field.name != "metadata"]
        keys = dict.fromkeys(f"metadata.{key}" for hit in self for key in hit.metadata)
        return pandas.DataFrame.from_records([_row(hit) for hit in self], columns=[*names, *keys])

    def _repr_html_(self) -> str:
        """What notebooks show: a picture of each hit's moment, as far as its file can be read."""
        from colbert_video.search.notebook import hits_html

        return hits_html(self)


def _row(hit: Hit) -> dict[str, Any]:
    values = hit.to_dict()
    metadata = values.pop("metadata")
    return {**values, **{f"metadata.{key}": value for key, value in metadata.items()}}
