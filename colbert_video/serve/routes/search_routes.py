"""Searching, and telling why something was found."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from colbert_video.indexing.catalog.filters import parse_filter
from colbert_video.search.hits import Hits
from colbert_video.serve import answers
from colbert_video.serve.http_errors import JSON, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.media.uploads import FORMATS, decode_picture, read_body
from colbert_video.serve.schemas import ErrorAnswer, ExplainAnswer, SearchAnswer
from colbert_video.serve.service import Service, service_of
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.video.windows import SHOTS

router = APIRouter(tags=["search"])

Text = Annotated[str, Query(description="Words that describe the video.")]
Index = Annotated[str | None, Query(description="Name of the index; the first without one.")]
Most = Annotated[int, Query(description="Most results.", ge=1)]
Where = Annotated[str | None, Query(description='A filter on metadata as JSON: {"channel": "news"}.')]
Ids = Annotated[list[str] | None, Query(description="Search only these videos; repeat it for several.")]
Exact = Annotated[bool, Query(description="Score every eligible video on its decoded tokens.")]
Windows = Annotated[bool, Query(description="One result a window of a long video, not one a video.")]
PICTURE = {
    "requestBody": {
        "required": True,
        "content": {
            f"image/{kind.lower()}": {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS
        },
    }
}
TOO_LARGE = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in (
        (408, "The picture was sent too slowly."),
        (413, "The picture is too large."),
        (415, "The body is no picture."),
    )
}


@router.get("/api/search", response_model=SearchAnswer)
async def search(
    request: Request,
    query: Text,
    k: Most = 10,
    index: Index = None,
    where: Where = None,
    ids: Ids = None,
    exact: Exact = False,
    windows: Windows = False,
) -> JSON:
    """Find the videos that a text describes, each with its best moment."""
    service = service_of(request)
    begun = time.perf_counter()
    check_query(query, service.settings)
    options = search_options(service.settings, k=k, where=where, ids=ids, exact=exact, windows=windows)
    served = service.indexes.get(index)
    made_by, model = served.fingerprint, served.query_model()
    found = partial(served.search_tokens, await service.encoder.encode(model, query), made_by, **options)
    return await _answer(service, served, found, query, begun)


@router.post(
    "/api/search/image",
    response_model=SearchAnswer,
    openapi_extra=PICTURE,
    responses=TOO_LARGE,  # type: ignore[arg-type]
)
async def search_image(
    request: Request,
    k: Most = 10,
    index: Index = None,
    where: Where = None,
    ids: Ids = None,
    exact: Exact = False,
    windows: Windows = False,
) -> JSON:
    """Find the videos that show what a picture shows; the body is the picture's file."""
    service = service_of(request)
    settings = service.settings
    options = search_options(settings, k=k, where=where, ids=ids, exact=exact, windows=windows)
    served = service.indexes.get(index)
    served.query_model()
    data = await read_body(request, most_bytes=settings.most_upload_bytes, seconds=settings.body_seconds)
    begun = time.perf_counter()

    def found() -> Hits:
        return served.searcher.search_image(decode_picture(data, most_pixels=settings.most_pixels), **options)

    return await _answer(service, served, found, None, begun)


@router.get("/api/explain", response_model=ExplainAnswer)
async def explain(
    request: Request,
    query: Text,
    id: Annotated[str, Query(description="The video, or one of its windows.")],  # noqa: A002
    index: Index = None,
) -> JSON:
    """Show how well each query token fits each frame of a video, in both bags."""
    service = service_of(request)
    check_query(query, service.settings)
    served = service.indexes.get(index)
    served.query_model()
    return await service.searches.run(_explained, served, query, id)


def check_query(query: str, settings: ServeSettings) -> None:
    """Refuse a text that is empty or too long.

    Raises:
        ServiceError: 422.
    """
    if not query.strip():
        raise ServiceError(422, "empty_query", "the query is empty.", "Write at least one word.")
    if len(query) > settings.most_query_characters:
        raise ServiceError(
            422,
            "query_too_long",
            f"the query has {len(query)} characters, more than {settings.most_query_characters}.",
            "Shorten it.",
        )


def search_options(
    settings: ServeSettings, *, k: int, where: str | None, ids: list[str] | None, exact: bool, windows: bool
) -> dict[str, Any]:
    """Arguments for the searcher, within the limits of the service.

    Raises:
        ServiceError: 422, if one is beyond them.
        SettingsError: If the filter is not valid.
    """
    if k > settings.most_results:
        most = settings.most_results
        raise ServiceError(422, "k_too_large", f"k is more than {most}.", f"Ask for at most {most} results.")
    if ids is not None and len(ids) > settings.most_ids:
        raise ServiceError(
            422, "too_many_ids", f"there are {len(ids)} ids, more than {settings.most_ids}.", "Use a filter."
        )
    return {
        "k": k,
        "where": checked_filter(settings, where),
        "ids": ids,
        "exact": exact,
        "group": not windows,
    }


def checked_filter(settings: ServeSettings, where: str | None) -> dict[str, Any] | None:
    """A filter as it was sent, read.

    Raises:
        ServiceError: 422, if it is too long or asks for paths.
        SettingsError: If it is none.
    """
    if where is None:
        return None
    if len(where) > settings.most_filter_characters:
        raise ServiceError(
            422, "filter_too_long", f"the filter has {len(where)} characters.", "Write a shorter one."
        )
    condition = parse_filter(where)
    _check_paths(condition)
    return condition


def _check_paths(condition: Any) -> None:
    """Where files are is nobody's business: comparisons would tell it letter by letter."""
    for part in condition if isinstance(condition, list) else [condition]:
        if isinstance(part, Mapping):
            if "path" in part:
                raise ServiceError(
                    422,
                    "no_paths",
                    "the filter names `path`, which is not served.",
                    "Use ids, or `metadata.path` for a key of the metadata.",
                )
            for name in ("and", "or", "not"):
                _check_paths(part.get(name))


async def _answer(
    service: Service, served: ServedIndex, found: Callable[[], Hits], query: str | None, begun: float
) -> JSON:
    version = served.version

    def work() -> JSON:
        """All of it, writing the JSON too: long answers would hold up the event loop."""
        hits = found()
        topk = answers.results(service, served.name, hits)
        milliseconds = round((time.perf_counter() - begun) * 1000, 2)
        head = {"query": query, "index": served.name, "version": version, "milliseconds": milliseconds}
        return JSON({**head, "topk": topk, "shards_failed": list(hits.shards_failed)})

    return await service.searches.run(work)


def _explained(served: ServedIndex, query: str, video_id: str) -> JSON:
    served.rows(video_id)
    found = served.searcher.explain(query, video_id)
    shots = served.description.get("window") == SHOTS
    return JSON(answers.explanation(query, found, served.rows(found.id)[0], shots=shots))
