"""Late-interaction (ColBERT) text-to-video search after Video-ColBERT (Reddy et al., CVPR 2025)."""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.errors import ClosedError as ClosedError
    from colbert_video.errors import ClusterError as ClusterError
    from colbert_video.errors import ColBERTVideoError as ColBERTVideoError
    from colbert_video.errors import DependencyError as DependencyError
    from colbert_video.errors import FailureKind as FailureKind
    from colbert_video.errors import HubError as HubError
    from colbert_video.errors import IndexFolderError as IndexFolderError
    from colbert_video.errors import ModelError as ModelError
    from colbert_video.errors import NothingIndexedError as NothingIndexedError
    from colbert_video.errors import SettingsError as SettingsError
    from colbert_video.errors import ShardsUnavailableError as ShardsUnavailableError
    from colbert_video.errors import TrainingError as TrainingError
    from colbert_video.errors import VideoError as VideoError
    from colbert_video.indexing import Indexer as Indexer
    from colbert_video.indexing import IndexReport as IndexReport
    from colbert_video.model import ModelConfig as ModelConfig
    from colbert_video.model import QueryTokens as QueryTokens
    from colbert_video.model import TokenBags as TokenBags
    from colbert_video.model import VideoColBERT as VideoColBERT
    from colbert_video.model import VideoTokens as VideoTokens
    from colbert_video.model import fuse as fuse
    from colbert_video.model import mean_max_sim as mean_max_sim
    from colbert_video.model import reciprocal_rank_fusion as reciprocal_rank_fusion
    from colbert_video.progress import show_progress as show_progress
    from colbert_video.search import Explanation as Explanation
    from colbert_video.search import Hit as Hit
    from colbert_video.search import Hits as Hits
    from colbert_video.search import Question as Question
    from colbert_video.search import Ranking as Ranking
    from colbert_video.search import Searcher as Searcher

__version__ = "0.2.0"
__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.errors": [
            "ClosedError",
            "ClusterError",
            "ColBERTVideoError",
            "DependencyError",
            "FailureKind",
            "HubError",
            "IndexFolderError",
            "ModelError",
            "NothingIndexedError",
            "SettingsError",
            "ShardsUnavailableError",
            "TrainingError",
            "VideoError",
        ],
        "colbert_video.indexing": ["IndexReport", "Indexer"],
        "colbert_video.model": [
            "ModelConfig",
            "QueryTokens",
            "TokenBags",
            "VideoColBERT",
            "VideoTokens",
            "fuse",
            "mean_max_sim",
            "reciprocal_rank_fusion",
        ],
        "colbert_video.progress": ["show_progress"],
        "colbert_video.search": ["Explanation", "Hit", "Hits", "Question", "Ranking", "Searcher"],
    },
)
__all__ += ["__version__"]
