"""Which videos a search may find: filters and ids become one mask a segment, before anything is scored."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from colbert_video.indexing.catalog_reader import CatalogReader
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.filters import Condition, compile_filter

Masks = Mapping[str, Bool[Tensor, "_"]]
"""True for videos that may be found, by segment; segments without any are left out."""
FILTERS_KEPT = 16
"""Filters whose masks are remembered: a filter reads the whole catalog, about a second for a million videos."""


class Eligibility:
    """Masks over the segments of one view.

    Args:
        catalog: Reads as of the view's commit.
        sizes: Videos of each segment, removed ones included.
    """

    def __init__(self, catalog: CatalogReader, sizes: Mapping[str, int]) -> None:
        self._catalog = catalog
        self._sizes = sizes
        self._matching = lru_cache(FILTERS_KEPT)(self._read)

    def masks(self, where: Mapping[str, Any] | None, chosen: Sequence[VideoEntry] | None) -> Masks | None:
        """The videos that pass both a filter and a choice.

        Args:
            where: A filter, see `colbert_video.indexing.filters`; None for no filter.
            chosen: The only videos that may be found; None for all.

        Returns:
            The masks; None if every video may be found.

        Raises:
            SettingsError: If `where` is no filter.
        """
        named = None if chosen is None else self._at((str(entry.segment), entry.ordinal) for entry in chosen)
        if where is None:
            return named
        passing = self._matching(compile_filter(where))
        if named is None:
            return passing
        both = {name: mask & passing[name] for name, mask in named.items() if name in passing}
        return {name: mask for name, mask in both.items() if bool(mask.any())}

    def _read(self, condition: Condition) -> Masks:
        return self._at(self._catalog.matching(condition))

    def _at(self, places: Any) -> dict[str, Bool[Tensor, "_"]]:
        ordinals: dict[str, list[int]] = {}
        for segment, ordinal in places:
            ordinals.setdefault(segment, []).append(ordinal)
        masks = {}
        for segment, found in ordinals.items():
            masks[segment] = torch.zeros(self._sizes[segment], dtype=torch.bool)
            masks[segment][torch.tensor(found)] = True
        return masks
