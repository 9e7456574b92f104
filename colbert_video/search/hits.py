"""All hits of one search, as lists, notebooks and pandas take them."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, SupportsIndex, overload

from colbert_video.errors import DependencyError
from colbert_video.search.hit import Hit


class Hits(list[Hit]):
    """Hits of one search, best first; a list with table and notebook views.

    Args:
        hits: The hits.
        shards_failed: Names of the shards of a corpus that did not answer, whose videos are missing; empty for a complete
            answer, and always for one index.
        video_stream: Which video stream of each file was indexed, counted from 0; None for the one that players choose.
    """

    def __init__(
        self, hits: Iterable[Hit] = (), shards_failed: Sequence[str] = (), *, video_stream: int | None = None
    ) -> None:
        super().__init__(hits)
        self.shards_failed = tuple(shards_failed)
        self.video_stream = video_stream

    @overload
    def __getitem__(self, key: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, key: slice) -> "Hits": ...

    def __getitem__(self, key: SupportsIndex | slice) -> "Hit | Hits":
        """Return one hit, or those of a slice as Hits, which are as complete as all."""
        if isinstance(key, slice):
            return Hits(super().__getitem__(key), self.shards_failed, video_stream=self.video_stream)
        return super().__getitem__(key)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one row per hit.

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
        return pandas.DataFrame.from_records([_record(hit) for hit in self], columns=[*names, *keys])

    def _repr_html_(self) -> str:
        """Return what notebooks show: a card per hit, with a picture of its moment if its file can be read."""
        from colbert_video.search.notebook import hits_html  # decodes video: only where it is shown

        return hits_html(self, stream=self.video_stream)


def _record(hit: Hit) -> dict[str, Any]:
    values = hit.to_dict()
    metadata = values.pop("metadata")
    return {**values, **{f"metadata.{key}": value for key, value in metadata.items()}}
