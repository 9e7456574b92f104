"""Searching, and explaining why a video was found."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from colbert_video.errors import shown
from colbert_video.indexing.catalog.filters import parse_filter
from colbert_video.search.hits import Hits
from colbert_video.search.match_levels import PICTURE_LEVELS, MatchLevels
from colbert_video.search.queries import is_cut
from colbert_video.serve.http_errors import JSON, ErrorAnswer, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.media.uploads import FORMATS, decode_picture, read_body
from colbert_video.serve.schemas import DIGITS, ExplainAnswer, RelevanceAnswer, ResultAnswer, SearchAnswer, softmax
from colbert_video.serve.service import Service, get_service
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.video.windows import SHOTS

router = APIRouter(tags=["search"])

MAX_CURVE_WINDOWS = 2000
"""Windows of one video that its curve of relevance is made of."""

Text = Annotated[str, Query(description="Words that describe the video.")]
Id = Annotated[str, Query(description="The video, or one of its windows.")]
ExplainedTime = Annotated[
    float | None,
    Query(description="Of a video in windows, explain the best one that holds this time, in seconds.", ge=0),
]
Where = Annotated[str | None, Query(description='A filter on metadata as JSON: {"channel": "news"}.')]
Weights = Annotated[
    str | None,
    Query(description='How much each bag counts in a score, as JSON: {"frame": 1, "video": 0.5}. 0 leaves a bag out.'),
]
PICTURE = {
    "requestBody": {
        "required": True,
        "content": {f"image/{kind.lower()}": {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS},
    }
}
TOO_LARGE = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in (
        (408, "The picture was sent too slowly."),
        (413, "The picture is too large."),
        (415, "The file is not a picture that can be read."),
    )
}


async def _named_index(
    request: Request,
    index: Annotated[str | None, Query(description="Name of the index; the first without one.")] = None,
) -> ServedIndex:
    return get_service(request).indexes.get(index)


Index = Annotated[ServedIndex, Depends(_named_index)]


@dataclass(frozen=True)
class _Asked:
    """The index that a request searches, and arguments for its searcher, within the limits of the service."""

    index: ServedIndex
    options: Mapping[str, Any]
    labels: bool
    """True to say in a word how well each result matches."""

    def text_levels(self) -> MatchLevels | None:
        """Return from which confidence on a text's match is fair or strong; None if no words are asked for."""
        weights = self.options["bag_weights"]
        return self.index.searcher.match_levels(bag_weights=weights) if self.labels else None

    def picture_levels(self) -> MatchLevels | None:
        """Return the same for pictures."""
        return PICTURE_LEVELS if self.labels else None


async def _asked(
    request: Request,
    index: Index,
    k: Annotated[int, Query(description="Most results.", ge=1)] = 10,
    where: Where = None,
    ids: Annotated[list[str] | None, Query(description="Search only these videos; repeat it for several.")] = None,
    exact: Annotated[bool, Query(description="Score every eligible video on its decoded tokens.")] = False,
    windows: Annotated[bool, Query(description="One result a window of a long video, not one a video.")] = False,
    bag_weights: Weights = None,
    min_confidence: Annotated[
        float | None, Query(description="Leave out results whose confidence is lower.", ge=0, le=1)
    ] = None,
    labels: Annotated[bool, Query(description="Say in a word how well each result matches: `match`.")] = False,
) -> _Asked:
    settings = get_service(request).settings
    if k > settings.most_results:
        most = settings.most_results
        raise ServiceError(422, "k_too_large", f"k is more than {most}.", f"Ask for at most {most} results.")
    if ids is not None and len(ids) > settings.most_ids:
        message = f"there are {len(ids)} ids, more than {settings.most_ids}."
        raise ServiceError(422, "too_many_ids", message, "Use a filter.")
    condition = checked_filter(settings, where)
    weights = checked_weights(bag_weights)
    options = {"k": k, "where": condition, "ids": ids, "exact": exact, "group": not windows, "bag_weights": weights}
    return _Asked(index, options | {"min_confidence": min_confidence}, labels)


Asked = Annotated[_Asked, Depends(_asked)]


@router.get("/api/search", response_model=SearchAnswer)
async def search(request: Request, query: Text, asked: Asked) -> JSON:
    """Find the videos that a text describes, each with its best moment."""
    service = get_service(request)
    begun = time.perf_counter()
    _check_query(query, service.settings)
    made_by, model = asked.index.fingerprint, asked.index.query_model()
    tokens = await service.encoder.encode(model, query)
    found = partial(asked.index.search_tokens, tokens, made_by, query, **asked.options)
    return await service.searches.run(_search_answer, service, asked.index, found, asked.text_levels, query, begun)


@router.post(
    "/api/search/image",
    response_model=SearchAnswer,
    openapi_extra=PICTURE,
    responses=TOO_LARGE,  # type: ignore[arg-type]
)
async def search_image(request: Request, asked: Asked) -> JSON:
    """Find the videos that show what a picture shows; the body is the picture's file."""
    service = get_service(request)
    settings = service.settings
    asked.index.query_model()
    data = await read_body(request, most_bytes=settings.most_upload_bytes, seconds=settings.body_seconds)
    begun = time.perf_counter()

    def found() -> Hits:
        picture = decode_picture(data, most_pixels=settings.most_pixels)
        return asked.index.searcher.search_image(picture, **asked.options)

    return await service.searches.run(_search_answer, service, asked.index, found, asked.picture_levels, None, begun)


@router.get("/api/explain", response_model=ExplainAnswer)
async def explain(
    request: Request,
    query: Text,
    id: Id,  # noqa: A002
    index: Index,
    t: ExplainedTime = None,
    bag_weights: Weights = None,
) -> JSON:
    """Show how well each query token fits each frame of a video, in each bag that counts."""
    service = get_service(request)
    _check_query(query, service.settings)
    weights = checked_weights(bag_weights)
    index.query_model()
    return await service.searches.run(_explanation, index, query, id, t, weights)


@router.get("/api/relevance", response_model=RelevanceAnswer)
async def relevance(
    request: Request,
    query: Text,
    id: Id,  # noqa: A002
    index: Index,
    bag_weights: Weights = None,
) -> JSON:
    """How well a text fits each sampled frame of a whole video, for a curve over its length."""
    service = get_service(request)
    _check_query(query, service.settings)
    weights = checked_weights(bag_weights)
    index.query_model()
    return await service.searches.run(_relevance, index, query, id, weights)


def checked_weights(text: str | None) -> dict[str, Any] | None:
    """Read weights of bags as they were sent.

    Raises:
        ServiceError: 422, if they are no JSON object.
    """
    if text is None:
        return None
    try:
        weights = json.loads(text)
    except (ValueError, RecursionError):
        weights = None
    if not isinstance(weights, dict):
        message, remedy = f"bag_weights is {shown(text)}.", 'Send JSON, such as {"frame": 1, "video": 0.5}.'
        raise ServiceError(422, "bad_bag_weights", message, remedy)
    return weights


def _check_query(query: str, settings: ServeSettings) -> None:
    """Check that a text is neither empty nor too long.

    Raises:
        ServiceError: 422.
    """
    if not query.strip():
        raise ServiceError(422, "empty_query", "the query is empty.", "Write at least one word.")
    if len(query) > settings.most_query_characters:
        message = f"the query has {len(query)} characters, more than {settings.most_query_characters}."
        raise ServiceError(422, "query_too_long", message, "Shorten it.")


def checked_filter(settings: ServeSettings, where: str | None) -> dict[str, Any] | None:
    """Read a filter as it was sent.

    Raises:
        ServiceError: 422, if it is too long or asks for paths.
        SettingsError: If it is not a valid filter.
    """
    if where is None:
        return None
    if len(where) > settings.most_filter_characters:
        message = f"the filter has {len(where)} characters."
        raise ServiceError(422, "filter_too_long", message, "Write a shorter one.")
    condition = parse_filter(where)
    _check_paths(condition)
    return condition


def _check_paths(condition: Any) -> None:
    """Check that a filter asks for no paths: comparisons would reveal letter by letter where files are."""
    for part in condition if isinstance(condition, list) else [condition]:
        if isinstance(part, Mapping):
            if "path" in part:
                message = "the filter names `path`, which is not served."
                remedy = "Use ids, or `metadata.path` for a key of the metadata."
                raise ServiceError(422, "no_paths", message, remedy)
            for name in ("and", "or", "not"):
                _check_paths(part.get(name))


def _search_answer(
    service: Service,
    index: ServedIndex,
    found: Callable[[], Hits],
    levels: Callable[[], MatchLevels | None],
    query: str | None,
    begun: float,
) -> JSON:
    """Search and write the answer, all in a thread: writing long answers would hold up the event loop."""
    version, hits = index.version, found()
    words = levels() if hits else None
    shares = softmax([hit.score for hit in hits])
    results = [
        ResultAnswer.from_hit(hit, share, index.name, *service.media.find(hit.path, index.video_stream), words)
        for hit, share in zip(hits, shares, strict=True)
    ]
    answer = SearchAnswer(
        query=query,
        index=index.name,
        version=version,
        milliseconds=round((time.perf_counter() - begun) * 1000, 2),
        topk=results,
        bag_weights=hits.bag_weights,
        shards_failed=list(hits.shards_failed),
        query_cut=query is not None and index.model is not None and is_cut(index.model, query),
    )
    return JSON(answer)


def _explanation(
    index: ServedIndex, query: str, video_id: str, time: float | None, weights: dict[str, Any] | None
) -> JSON:
    index.rows(video_id)
    found = index.searcher.explain(query, video_id, time=time, bag_weights=weights)
    shots = index.description.get("window") == SHOTS
    return JSON(ExplainAnswer.from_explanation(query, found, index.rows(found.id)[0], shots=shots))


def _relevance(index: ServedIndex, query: str, video_id: str, weights: dict[str, Any] | None) -> JSON:
    items = [row.id for row in index.rows(video_id)]
    every = -(-len(items) // MAX_CURVE_WINDOWS)  # of more windows, some spread evenly
    found = index.searcher.relevance(query, items[::every], bag_weights=weights)
    times, values = list(found.times), [round(value, DIGITS) for value in found.values]
    return JSON(RelevanceAnswer(id=video_id, query=query, times=times, relevance=values))
