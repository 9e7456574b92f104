"""Late-interaction text-to-video search: words in, moments of video out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from colbert_video.errors import ColBERTVideoError as ColBERTVideoError

if TYPE_CHECKING:
    from colbert_video.indexing.indexer import Indexer as Indexer
    from colbert_video.model.config import ModelConfig as ModelConfig
    from colbert_video.model.video_colbert import VideoColBERT as VideoColBERT
    from colbert_video.search.hit import Hit as Hit
    from colbert_video.search.searcher import Searcher as Searcher

__version__ = "0.1.0"
_HOMES = {
    "Hit": "colbert_video.search.hit",
    "Indexer": "colbert_video.indexing.indexer",
    "ModelConfig": "colbert_video.model.config",
    "Searcher": "colbert_video.search.searcher",
    "VideoColBERT": "colbert_video.model.video_colbert",
}
__all__ = ["ColBERTVideoError", "Hit", "Indexer", "ModelConfig", "Searcher", "VideoColBERT", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that decoding workers and `--help` never wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'colbert_video' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, imported or not, so that completion offers them."""
    return sorted({*globals(), *__all__})
