"""Queries that bring tokens of their own for each bag, as clips do: frame tokens and video tokens.

The engines score one set of query tokens in all bags at once. So each bag is searched by itself; what any of them finds
gets its complete score in every bag, and the sums are ranked. With `exact` every eligible video is scored in every bag.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.opened import Scored, Segment
from colbert_video.indexing.prepared import PreparedQuery

LEAST_CANDIDATES = 100
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
) -> Scored:
    """Find the k best videos of a segment for a query that differs from bag to bag.

    Args:
        search_segment: `scan.search_segment`, or an engine's method of the same form.
        segment: Where to look.
        codecs: The codec of each bag.
        queries: The query tokens of each bag to score; MeanMaxSims of these bags are summed.
        k: Results wanted.
        allowed: True for videos that may be found; None for all live ones.
        exact: Score every allowed video on its decoded tokens.

    Returns:
        At most k videos, best first.
    """
    proposed = torch.zeros(len(segment), dtype=torch.bool)
    wanted = len(segment) if exact else max(LEAST_CANDIDATES, CANDIDATES_PER_RESULT * k)
    for bag, query in queries.items():
        found = search_segment(segment, {bag: codecs[bag]}, query, k=wanted, allowed=allowed, exact=exact)
        if len(queries) == 1:
            return found.best(k)
        proposed[found.ordinals] = True
    ordinals, scores = proposed.nonzero().flatten(), {}
    for bag, query in queries.items():
        found = search_segment(
            segment, {bag: codecs[bag]}, query, k=len(ordinals), allowed=proposed, exact=exact
        )
        scores[bag] = found.total[found.ordinals.argsort()]  # (videos,), in the order of `ordinals`
    return Scored(ordinals, scores, torch.stack(list(scores.values())).sum(dim=0)).best(k)
