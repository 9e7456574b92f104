"""All hits of one search, as lists, notebooks and pandas take them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, SupportsIndex, overload

from colbert_video.errors import DependencyError, printable
from colbert_video.search.hit import Hit, format_moment

SPREAD = ("metadata", "bag_scores")
"""Fields of a hit whose keys are columns of a table."""


MAX_LINES = 20
"""Hits that are listed where hits are printed."""


class Hits(list[Hit]):
    """Hits of one search, best first; a list with table and notebook views.

    Args:
        hits: The hits.
        shards_failed: Names of the shards of a corpus that did not answer, whose videos are missing; empty for a complete
            answer, and always for one index.
        video_stream: Which video stream of each file was indexed, counted from 0; None for the one that players choose.
        bag_weights: How much each bag counts in a score, of those that were looked at.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        shards_failed: Sequence[str] = (),
        *,
        video_stream: int | None = None,
        bag_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(hits)
        self.shards_failed = tuple(shards_failed)
        self.video_stream = video_stream
        self.bag_weights = dict(bag_weights or {})

    @overload
    def __getitem__(self, key: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, key: slice) -> "Hits": ...

    def __getitem__(self, key: SupportsIndex | slice) -> "Hit | Hits":
        """Return one hit, or those of a slice as Hits, which are as complete as all."""
        if isinstance(key, slice):
            return self.keeping(super().__getitem__(key))
        return super().__getitem__(key)

    def keeping(self, hits: Iterable[Hit]) -> "Hits":
        """Return some of the hits of the same search."""
        return Hits(hits, self.shards_failed, video_stream=self.video_stream, bag_weights=self.bag_weights)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one row per hit.

        Returns:
            A column for each field of `Hit`, without `metadata` and `bag_scores`, whose keys are columns of their own,
            called "metadata.KEY" and "bag_scores.BAG"; missing values are NaN or None. `moments` holds tuples of dicts.

        Raises:
            DependencyError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise DependencyError(
                'to_pandas needs pandas; install it with: pip install "colbert_video[pandas]".'
            ) from error
        names = [field.name for field in fields(Hit) if field.name not in SPREAD]
        keys = dict.fromkeys(f"{name}.{key}" for name in SPREAD for hit in self for key in getattr(hit, name))
        return pandas.DataFrame.from_records([_record(hit) for hit in self], columns=[*names, *keys])

    def __repr__(self) -> str:
        """Return a line for each of the first hits: rank, id, moment, score and confidence."""
        shown = [_line(hit) for hit in self[:MAX_LINES]]
        more = [f"  … {len(self) - MAX_LINES} more"] if len(self) > MAX_LINES else []
        failed = [f"  {', '.join(self.shards_failed)} did not answer"] if self.shards_failed else []
        return "\n".join([f"{len(self)} hit{'' if len(self) == 1 else 's'}", *shown, *more, *failed])

    def _repr_html_(self) -> str:
        """Return what notebooks show: a card per hit, with a picture of its moment if its file can be read."""
        from colbert_video.search.notebook import hits_html  # decodes video: only where it is shown

        return hits_html(self, stream=self.video_stream)


def _line(hit: Hit) -> str:
    sure = "" if hit.confidence is None else f"  confidence {hit.confidence:.2f}"
    said = "" if hit.line is None else f"  “{printable(hit.line.text)}”"
    return f"{hit.rank:3}. {printable(hit.id)}  {format_moment(hit.start, hit.end)}  {hit.score:.3f}{sure}{said}"


def _record(hit: Hit) -> dict[str, Any]:
    values = hit.to_dict()
    spread = {f"{name}.{key}": value for name in SPREAD for key, value in values.pop(name).items()}
    return {**values, **spread}
