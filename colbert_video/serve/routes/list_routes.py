"""The videos of an index, page by page."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from colbert_video.indexing.upkeep.contents import list_videos
from colbert_video.serve.http_errors import JSON, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.routes.search_routes import Index, Where, checked_filter
from colbert_video.serve.schemas import ListedVideoAnswer, VideosAnswer
from colbert_video.serve.service import get_service

router = APIRouter(tags=["videos"])

PAGE = 100
"""Videos on a page for those who do not say."""


@router.get("/api/videos", response_model=VideosAnswer)
async def videos(
    request: Request,
    index: Index,
    limit: Annotated[int | None, Query(description=f"Most videos in the answer; {PAGE} without it.", ge=1)] = None,
    after: Annotated[str, Query(description="`next` of the page before; without it, the first page.")] = "",
    where: Where = None,
    windows: Annotated[bool, Query(description="List the windows of long videos, not these.")] = False,
) -> JSON:
    """The videos of an index in the order of their ids, page by page."""
    service = get_service(request)
    length = _length(limit, service.settings.most_listed)
    condition = checked_filter(service.settings, where)
    return await service.searches.run(_page, index, length, after=after, where=condition, windows=windows)


def _length(limit: int | None, most: int) -> int:
    if limit is not None and limit > most:
        remedy = f"Ask for at most {most} videos."
        raise ServiceError(422, "limit_too_large", f"limit is more than {most}.", remedy)
    return min(PAGE, most) if limit is None else limit


def _page(index: ServedIndex, length: int, **wanted: Any) -> JSON:
    """One page; one video more than it holds shows whether another follows."""
    version = index.version
    found = list_videos(index.path, limit=length + 1, **wanted)
    page = [ListedVideoAnswer(**vars(video)) for video in found[:length]]
    following = page[-1].id if len(found) > length else None
    return JSON(VideosAnswer(index=index.name, version=version, videos=page, next=following))
