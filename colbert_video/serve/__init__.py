"""The service: search, explanations, thumbnails and the videos themselves over HTTP, for browsers and programs.

`colbert-video serve my.index` starts it. One process, one event loop: requests wait in bounded queues, text is encoded
in batches by one thread, scored by a few others, and pictures are decoded in processes of their own.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.serve.app import create_app as create_app
    from colbert_video.serve.indexes import IndexRegistry as IndexRegistry
    from colbert_video.serve.service_settings import ServeSettings as ServeSettings

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.serve.app": ["create_app"],
        "colbert_video.serve.indexes": ["IndexRegistry"],
        "colbert_video.serve.service_settings": ["ServeSettings"],
    },
)
