"""What all addresses of a service share."""

import asyncio
from dataclasses import dataclass

from fastapi import Request

from colbert_video.serve.additions import Additions
from colbert_video.serve.guard import Gatekeeper
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.media.added_files import AddedFiles
from colbert_video.serve.media.copies import CopyMaker
from colbert_video.serve.media.kept_pictures import KeptPictures
from colbert_video.serve.media.media_files import MediaFiles
from colbert_video.serve.media.thumbnails import Thumbnailer
from colbert_video.serve.service_metrics import Metrics
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.serve.work import QueryEncoder, WorkPool


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    settings: ServeSettings
    indexes: IndexRegistry
    gatekeeper: Gatekeeper
    metrics: Metrics
    encoder: QueryEncoder
    searches: WorkPool
    media: MediaFiles
    thumbnails: Thumbnailer
    copies: CopyMaker
    added_files: AddedFiles
    additions: Additions
    pictures: KeptPictures
    uploads: asyncio.Semaphore
    """Held by each file that is being sent."""

    @classmethod
    def from_settings(cls, settings: ServeSettings, indexes: IndexRegistry) -> "Service":
        """Make the parts with the limits of the settings."""
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
            MediaFiles(settings.media_roots),
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
                memory_bytes=settings.copy_memory_bytes,
                folder=settings.copies_folder,
            ),
            AddedFiles(
                settings.add_roots,
                most_bytes=settings.most_added_bytes,
                most_files=settings.waiting_additions,
                stall_seconds=settings.stall_seconds,
            ),
            Additions(most_waiting=settings.waiting_additions),
            KeptPictures(settings.kept_picture_bytes),
            asyncio.Semaphore(settings.uploads_at_once),
        )

    def start(self) -> None:
        """Start the encoder, the decoding process, and the watch on the indexes; within a running event loop."""
        self.encoder.start()
        self.indexes.start(self.encoder.forget)
        if self.added_files.allowed:
            for index in self.indexes:
                self.additions.resume(index, self.added_files.holds)
        asyncio.get_running_loop().run_in_executor(None, self.media.start)
        asyncio.get_running_loop().run_in_executor(None, self.copies.start)

    async def close(self) -> None:
        """Stop every part; the indexes last, as running searches use them."""
        await asyncio.to_thread(self.additions.close, self.settings.stop_seconds)
        await self.copies.close()
        await self.encoder.close()
        self.thumbnails.close()
        self.media.close()
        self.searches.close()
        await self.indexes.close()


def get_service(request: Request) -> Service:
    """Return the service that a request has reached."""
    return request.app.state.service
