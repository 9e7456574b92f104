"""Work with the tools around: evaluation suites, datasets, notebooks, and the rankings of other retrievers.

Each module imports its tool when it is used - `token_module` and the two retrievers when they are imported - and an error
names the extra to install.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.ecosystem.captions import CaptionedVideos as CaptionedVideos
    from colbert_video.ecosystem.captions import captioned_videos as captioned_videos
    from colbert_video.ecosystem.captions import write_captions as write_captions
    from colbert_video.ecosystem.databases.token_export import export_tokens as export_tokens
    from colbert_video.ecosystem.databases.token_import import import_tokens as import_tokens
    from colbert_video.ecosystem.huggingface import dataset_videos as dataset_videos
    from colbert_video.ecosystem.langchain_retriever import LangChainRetriever as LangChainRetriever
    from colbert_video.ecosystem.llama_index_retriever import LlamaIndexRetriever as LlamaIndexRetriever
    from colbert_video.ecosystem.mteb import VideoColBERTEncoder as VideoColBERTEncoder
    from colbert_video.ecosystem.multi_vector import SentenceTransformersEncoder as SentenceTransformersEncoder
    from colbert_video.ecosystem.token_module import VideoColBERTModule as VideoColBERTModule
    from colbert_video.search.fusion import fuse as fuse

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.ecosystem.captions": ["CaptionedVideos", "captioned_videos", "write_captions"],
        "colbert_video.ecosystem.databases.token_export": ["export_tokens"],
        "colbert_video.ecosystem.databases.token_import": ["import_tokens"],
        "colbert_video.search.fusion": ["fuse"],
        "colbert_video.ecosystem.huggingface": ["dataset_videos"],
        "colbert_video.ecosystem.langchain_retriever": ["LangChainRetriever"],
        "colbert_video.ecosystem.llama_index_retriever": ["LlamaIndexRetriever"],
        "colbert_video.ecosystem.mteb": ["VideoColBERTEncoder"],
        "colbert_video.ecosystem.multi_vector": ["SentenceTransformersEncoder"],
        "colbert_video.ecosystem.token_module": ["VideoColBERTModule"],
    },
)
