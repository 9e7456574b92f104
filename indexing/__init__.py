"""Building and keeping a PLAID index (Santhanam et al., CIKM 2022): one index for frame tokens, one for video tokens.

Tokens are rotated, assigned to centroids and residual-compressed (`codec`), stored in ColBERT 0.2.22's files
(`segment`), and listed with their ids, times and metadata in one SQLite catalog (`catalog`).
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.indexing.build.report import IndexReport as IndexReport
    from colbert_video.indexing.catalog.entries import Failure as Failure
    from colbert_video.indexing.catalog.filters import parse_filter as parse_filter
    from colbert_video.indexing.index.drift import Drift as Drift
    from colbert_video.indexing.indexer import Indexer as Indexer
    from colbert_video.indexing.scan.stock import PlaidSettings as PlaidSettings
    from colbert_video.indexing.upkeep.compact import CompactReport as CompactReport
    from colbert_video.indexing.upkeep.contents import ListedVideo as ListedVideo
    from colbert_video.indexing.upkeep.contents import list_videos as list_videos
    from colbert_video.indexing.upkeep.export import ExportReport as ExportReport
    from colbert_video.indexing.upkeep.sharding import shard_index as shard_index
    from colbert_video.indexing.upkeep.verify import VerifyReport as VerifyReport

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.indexing.build.report": ["IndexReport"],
        "colbert_video.indexing.catalog.entries": ["Failure"],
        "colbert_video.indexing.catalog.filters": ["parse_filter"],
        "colbert_video.indexing.index.drift": ["Drift"],
        "colbert_video.indexing.indexer": ["Indexer"],
        "colbert_video.indexing.scan.stock": ["PlaidSettings"],
        "colbert_video.indexing.upkeep.compact": ["CompactReport"],
        "colbert_video.indexing.upkeep.contents": ["ListedVideo", "list_videos"],
        "colbert_video.indexing.upkeep.export": ["ExportReport"],
        "colbert_video.indexing.upkeep.sharding": ["shard_index"],
        "colbert_video.indexing.upkeep.verify": ["VerifyReport"],
    },
)
