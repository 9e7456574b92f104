"""Everything that the addresses of a service share."""

from dataclasses import dataclass

from fastapi import Request

from colbert_video.serve.guard import Gatekeeper
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.media.copies import CopyMaker
from colbert_video.serve.media.thumbnails import Thumbnailer
from colbert_video.serve.service_metrics import Metrics
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.serve.work import QueryEncoder, WorkPool


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    settings: ServeSettings
    """What it may do."""
    indexes: IndexRegistry
    """What it searches."""
    gatekeeper: Gatekeeper
    """Who may ask."""
    metrics: Metrics
    """What it counts."""
    encoder: QueryEncoder
    """Encodes texts."""
    searches: WorkPool
    """Scores queries."""
    thumbnails: Thumbnailer
    """Decodes pictures."""
    copies: CopyMaker
    """Makes files that browsers play."""

    @classmethod
    def build(cls, indexes: IndexRegistry, settings: ServeSettings) -> "Service":
        """Make the parts as the settings say."""
        metrics = Metrics()
        return cls(
            settings,
            indexes,
            Gatekeeper(settings),
            metrics,
            QueryEncoder(
                batch=settings.batch_queries,
                wait=settings.batch_seconds,
                waiting=settings.waiting_queries,
                cached=settings.cached_queries,
                observe=metrics.batches.observe,
            ),
            WorkPool("searches", threads=settings.search_threads, waiting=settings.waiting_searches),
            Thumbnailer(
                workers=settings.thumbnail_workers,
                waiting=settings.waiting_thumbnails,
                seconds=settings.thumbnail_seconds,
                most_bytes=settings.cached_thumbnail_bytes,
            ),
            CopyMaker(
                at_once=settings.copies_at_once,
                waiting=settings.waiting_copies,
                seconds=settings.copy_seconds,
                most_bytes=settings.most_copy_bytes,
                cached_bytes=settings.cached_copy_bytes,
                folder=settings.copies_folder,
            ),
        )

    def start(self) -> None:
        """Begin to work; within a running event loop."""
        self.encoder.start()
        self.indexes.start(self.encoder.forget)

    async def close(self) -> None:
        """Stop, part by part, and close the indexes last."""
        await self.copies.close()
        await self.encoder.close()
        self.thumbnails.close()
        self.searches.close()
        await self.indexes.close()


def service_of(request: Request) -> Service:
    """The service that a request has reached."""
    return request.app.state.service
