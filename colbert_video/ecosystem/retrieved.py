"""Hits as the documents of other frameworks: a text, and what is known beside it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits

TEXT_KEYS = ("caption", "text", "title")
"""Keys of the metadata whose first that is a text becomes that of a document; else its id does."""


@runtime_checkable
class Searches(Protocol):
    """A `Searcher`, or one of a sharded corpus or a cluster."""

    def search(self, query: str, k: int = 10, **settings: Any) -> Hits:
        """Return the best hits."""
        ...


def hit_text(hit: Hit, keys: Sequence[str] = TEXT_KEYS) -> str:
    """Return the text that stands for a hit."""
    found = (hit.metadata.get(key) for key in keys)
    return next((text for text in found if isinstance(text, str) and text), hit.id)


def hit_metadata(hit: Hit) -> dict[str, Any]:
    """Return the metadata of a hit's video, with id, path, moment (seconds) and score."""
    known = {"id": hit.id, "path": hit.path, "start": hit.start, "end": hit.end, "score": hit.score}
    return {**hit.metadata, **known}
