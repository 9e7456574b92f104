"""The videos of an index, page by page."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request

from colbert_video.indexing.upkeep.contents import list_videos
from colbert_video.serve.http_errors import JSON, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.routes.search_routes import Index, Where, checked_filter
from colbert_video.serve.schemas import VideosAnswer
from colbert_video.serve.service import service_of

router = APIRouter(tags=["videos"])

PAGE = 100
"""Videos on a page for those who do not say."""

Limit = Annotated[int | None, Query(description=f"Most videos in the answer; {PAGE} without it.", ge=1)]
After = Annotated[str, Query(description="`next` of the page before; without it, the first page.")]
Windows = Annotated[bool, Query(description="List the windows of long videos, not these.")]


@router.get("/api/videos", response_model=VideosAnswer)
async def videos(
    request: Request,
    index: Index = None,
    limit: Limit = None,
    after: After = "",
    where: Where = None,
    windows: Windows = False,
) -> JSON:
    """The videos of an index in the order of their ids, page by page."""
    service = service_of(request)
    length = _length(limit, service.settings.most_listed)
    condition, served = checked_filter(service.settings, where), service.indexes.get(index)

    def work() -> JSON:
        version = served.version
        page = list_videos(served.path, limit=length + 1, after=after, where=condition, windows=windows)
        return _answer(served, version, [asdict(video) for video in page], length)

    return await service.searches.run(work)


def _length(limit: int | None, most: int) -> int:
    """How many videos a page may hold.

    Raises:
        ServiceError: 422, if that is too much.
    """
    if limit is not None and limit > most:
        raise ServiceError(
            422, "limit_too_large", f"limit is more than {most}.", f"Ask for at most {most} videos."
        )
    return min(PAGE, most) if limit is None else limit


def _answer(served: ServedIndex, version: int, found: list[dict[str, object]], limit: int) -> JSON:
    """A page, and where the next one begins if there is one."""
    page = found[:limit]
    following = page[-1]["id"] if len(found) > limit else None
    return JSON({"index": served.name, "version": version, "videos": page, "next": following})
