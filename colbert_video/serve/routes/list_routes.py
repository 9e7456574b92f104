"""The videos of an index, page by page."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Query, Request

from colbert_video.errors import shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.upkeep.contents import ListedVideo, list_facets, list_videos, newest_videos
from colbert_video.serve.examples import example_queries
from colbert_video.serve.http_errors import JSON, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.routes.search_routes import Index, Where, checked_filter
from colbert_video.serve.schemas import (
    FacetAnswer,
    FacetValueAnswer,
    ListedVideoAnswer,
    StartAnswer,
    VideosAnswer,
    media_url,
    thumbnail_url,
)
from colbert_video.serve.service import Service, get_service

router = APIRouter(tags=["videos"])

Page: TypeAlias = tuple[list[ListedVideo], str | None]
"""Videos, and `next` if others follow."""
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
    order: Annotated[
        Literal["id", "newest"], Query(description="By id, or those first that were indexed last.")
    ] = "id",
    media: Annotated[bool, Query(description="Say of each video whether its file is there.")] = False,
) -> JSON:
    """The videos of an index, page by page."""
    service = get_service(request)
    length = _length(limit, service.settings.most_listed)
    condition = checked_filter(service.settings, where)
    if order == "id":
        page = partial(_page, index, length, after=after, where=condition, windows=windows)
    elif windows:
        raise ServiceError(422, "no_such_order", "windows can only be listed by id.", "Leave out order or windows.")
    else:
        page = partial(_newest, index, length, after=after, where=condition)
    return await service.searches.run(_listing, service, index, page, media)


@router.get("/api/start", response_model=StartAnswer)
async def start(request: Request, index: Index) -> JSON:
    """Queries that an index can answer, and the values of its metadata, for a page on which nothing is asked yet."""
    return await get_service(request).searches.run(_start, index)


def _start(index: ServedIndex) -> JSON:
    if index.is_empty:
        return JSON(StartAnswer(index=index.name, examples=[], facets=[]))
    facets = [
        FacetAnswer(
            field=facet.name,
            in_lists=facet.in_lists,
            values=[FacetValueAnswer(value=value, videos=videos) for value, videos in facet.values],
        )
        for facet in index.once_per_commit("facets", lambda: list_facets(index.path))
    ]
    return JSON(StartAnswer(index=index.name, examples=example_queries(index), facets=facets))


def _length(limit: int | None, most: int) -> int:
    if limit is not None and limit > most:
        remedy = f"Ask for at most {most} videos."
        raise ServiceError(422, "limit_too_large", f"limit is more than {most}.", remedy)
    return min(PAGE, most) if limit is None else limit


def _listing(service: Service, index: ServedIndex, page: Callable[[], Page], with_media: bool) -> JSON:
    version = index.version
    videos, following = ([], None) if index.is_empty else page()
    answers = [ListedVideoAnswer(**vars(video)) for video in videos]
    if with_media:
        rows = index.rows_of([answer.id for answer in answers])
        answers = [_with_media(service, index, answer, rows.get(answer.id, ())) for answer in answers]
    return JSON(VideosAnswer(index=index.name, version=version, videos=answers, next=following))


def _page(index: ServedIndex, length: int, **wanted: Any) -> Page:
    """One page; one video more than it holds shows whether another follows."""
    found = list_videos(index.path, limit=length + 1, **wanted)
    return found[:length], found[length - 1].id if len(found) > length else None


def _newest(index: ServedIndex, length: int, *, after: str, where: dict[str, Any] | None) -> Page:
    found = newest_videos(index.path, limit=length + 1, before=_read_key(after), where=where)
    following = found[length - 1][0] if len(found) > length else None
    return [video for _, video in found[:length]], None if following is None else f"{following[0]}/{following[1]}"


def _read_key(after: str) -> tuple[float, int] | None:
    """Read `next` of a page of the newest videos.

    Raises:
        ServiceError: 422, if it is none.
    """
    if not after:
        return None
    created, _, row = after.partition("/")
    try:
        return float(created), int(row)
    except ValueError as error:
        message = f"after={shown(after)} is not `next` of a page in this order."
        raise ServiceError(422, "bad_page", message, "Begin without it.") from error


def _with_media(
    service: Service, index: ServedIndex, video: ListedVideoAnswer, rows: Sequence[VideoEntry]
) -> ListedVideoAnswer:
    if not rows:  # removed meanwhile
        return video
    media, reason = service.media.find(rows[0].path, index.video_stream)
    if media is None:
        return video
    start, end = video.start or 0.0, video.end or video.duration
    middle = None if end is None else (start + end) / 2
    addresses = {"media": media_url(index.name, video.id), "thumbnail": thumbnail_url(index.name, video.id, middle)}
    return video.model_copy(update={**addresses, "playable": reason is None})
