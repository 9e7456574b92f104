"""A query whose tokens differ from bag to bag, such as a picture, which has tokens for the frame bag alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.segments.opened_segment import Scored, Segment

MIN_CANDIDATES = 100
"""Videos that each bag proposes at least, if there are as many."""
CANDIDATES_PER_RESULT = 10
"""Videos that each bag proposes for each wanted result."""


def search_bagwise(
    search_segment: Callable[..., Scored],
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    queries: Mapping[str, PreparedQuery],
    *,
    k: int,
    allowed: Bool[Tensor, "videos"] | None,
    exact: bool,
    threads: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Scored:
    """Return the k best videos of a segment, best first, for a query that differs from bag to bag.

    Each bag proposes videos, and all of them are scored in every bag.

    Args:
        search_segment: `scan.search_segment`, or an engine's method of the same form.
        segment: Where to look.
        codecs: The codec of each bag.
        queries: The query tokens of each bag to score; weighted MeanMaxSims of these bags are summed.
        k: Results wanted.
        allowed: True for videos that may be found; None for all live ones.
        exact: True to score every allowed video on its decoded tokens.
        threads: Cores that may work on it.
        weights: How much each bag counts; None if all count once.
    """
    settings: dict[str, Any] = {"exact": exact, "threads": threads}
    proposed = torch.zeros(len(segment), dtype=torch.bool, device="cpu")
    wanted = len(segment) if exact else max(MIN_CANDIDATES, CANDIDATES_PER_RESULT * k)
    for bag, query in queries.items():
        found = search_segment(segment, {bag: codecs[bag]}, query, k=wanted, allowed=allowed, **settings)
        if len(queries) == 1:
            return Scored.from_bags(found.rows, found.bags, weights).best(k)
        proposed[found.rows] = True
    rows, scores = proposed.nonzero().flatten(), {}  # (candidates,), by bag
    for bag, query in queries.items():
        found = search_segment(segment, {bag: codecs[bag]}, query, k=len(rows), allowed=proposed, **settings)
        scores[bag] = found.total[found.rows.argsort()]  # (candidates,), in the order of `rows`
    return Scored.from_bags(rows, scores, weights).best(k)
