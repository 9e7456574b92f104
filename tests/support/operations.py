"""Small token indexes for tests of upkeep, and everything that a search of one gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from token_corpus import DIM, random_bags, unit_tokens

from colbert_video import Indexer, Searcher

QUERY = unit_tokens(4, DIM, seed=9)


def add_tokens(
    path: Path, ids: Sequence[str], *, seed: int, add: bool = True, overwrite: bool = False, **settings: Any
) -> Any:
    """Index random tokens, the same for the same ids and seed."""
    bags = [[random_bags(1, seed=1 + seed * 1000 + 10 * ord(name[0]) + kind)[0] for name in ids] for kind in (0, 1)]
    metadata = [{"name": name, "seed": seed} for name in ids]
    return Indexer(path, dim=DIM, **settings).index_tokens(
        list(ids), *bags, metadata=metadata, add=add, overwrite=overwrite
    )


def everything(path: Path) -> dict[str, tuple[float, float, float, Any]]:
    """Score, bag scores and metadata of every video, by id, for one query."""
    with Searcher(path) as searcher:
        hits = searcher.search_tokens(QUERY, k=1000, exact=True)
        assert len(hits) == len(searcher)
    return {hit.id: (hit.score, hit.frame_score, hit.video_score, dict(hit.metadata)) for hit in hits}
