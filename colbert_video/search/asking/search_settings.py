"""What a search is wanted to find, besides its query."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from colbert_video.base.checks import id_list, real_number, truth_value, whole_number


@dataclass(frozen=True)
class SearchSettings:
    """How many videos are wanted, and among which; see `Searcher.search`."""

    k: int
    where: Mapping[str, Any] | None = None
    ids: Iterable[str] | None = None
    exact: bool = False
    group: bool = True
    weights: Mapping[str, float] | None = None
    """How much each bag counts that is looked at, as `IndexSettings.weights` gives it; None for the index's own."""
    threads: int = 1
    """Cores that may work on it."""
    min_confidence: float | None = None
    """Leave out hits whose `Hit.confidence` is lower."""
    any_field: bool = False
    """True if the filter may name keys of the metadata that no video here has: those of other shards."""
    excluded: str | None = None
    """Id of a video that is not wanted, nor its windows."""

    def __post_init__(self) -> None:
        values: dict[str, Any] = {"k": whole_number("k", self.k, least=1)}
        values |= {name: truth_value(name, getattr(self, name)) for name in ("exact", "group")}
        if self.ids is not None:
            values["ids"] = id_list("ids", self.ids)
        if self.min_confidence is not None:
            values["min_confidence"] = real_number("min_confidence", self.min_confidence, least=0, most=1)
        for name, value in values.items():
            object.__setattr__(self, name, value)
