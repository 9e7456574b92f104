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
from colbert_video.search.asking.spoken import SearchedText
from colbert_video.search.asking.word_weights import MAX_WEIGHT
from colbert_video.search.hits import Hits
from colbert_video.search.match_levels import PICTURE_LEVELS, MatchLevels
from colbert_video.search.queries import ReadText, is_cut
from colbert_video.search.question import Question
from colbert_video.serve.http_errors import JSON, ErrorAnswer, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.media.uploads import FORMATS, decode_picture, read_body
from colbert_video.serve.schemas import (
    DIGITS,
    ExplainAnswer,
    MomentAnswer,
    OccurrencesAnswer,
    RelevanceAnswer,
    ResultAnswer,
    SearchAnswer,
    softmax,
)
from colbert_video.serve.service import Service, get_service
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.video.windows import SHOTS

router = APIRouter(tags=["search"])

MAX_CURVE_WINDOWS = 2000
"""Windows of one video that its curve of relevance is made of."""

Text = Annotated[str, Query(description="Words that describe the video; `dog^2` counts a word twice.")]
OptionalText = Annotated[str | None, Query(description="Words that describe the video; `dog^2` counts a word twice.")]
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
class _Parts:
    """What a question asks for besides its words, as it was sent."""

    fields: Mapping[str, list[str] | None]

    def texts(self, query: str | None, settings: ServeSettings) -> list[str]:
        """Return all texts, the words first.

        Raises:
            ServiceError: 422, if one is empty, or they are too long.
        """
        texts = [*([] if query is None else [query]), *(text for texts in self.given.values() for text in texts)]
        for text in [*texts, " ".join(texts)] if texts else []:
            _check_query(text, settings)
        return texts

    @property
    def given(self) -> dict[str, list[str]]:
        """The fields that were sent."""
        return {name: value for name, value in self.fields.items() if value}


async def _parts(
    without: Annotated[list[str] | None, Query(description="What must not be shown; repeat it for several.")] = None,
    all_of: Annotated[
        list[str] | None, Query(description="What must be shown in the same video too; repeat it for several.")
    ] = None,
    then: Annotated[
        list[str] | None,
        Query(description="What must be shown after `query` in the same video; repeat it for several, in order."),
    ] = None,
) -> _Parts:
    return _Parts({"without": without, "all_of": all_of, "then": then})


Parts = Annotated[_Parts, Depends(_parts)]


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
    index.check_holds_videos()
    settings = get_service(request).settings
    if k > settings.most_results:
        most = settings.most_results
        message = f"{k} results are more than this service gives."
        raise ServiceError(422, "k_too_large", message, f"Ask for at most {most} results.")
    if ids is not None and len(ids) > settings.most_ids:
        message = f"there are {len(ids)} ids, more than {settings.most_ids}."
        raise ServiceError(422, "too_many_ids", message, "Use a filter.")
    condition = checked_filter(settings, where)
    weights = checked_weights(bag_weights)
    options = {"k": k, "where": condition, "ids": ids, "exact": exact, "group": not windows, "bag_weights": weights}
    return _Asked(index, options | {"min_confidence": min_confidence}, labels)


Asked = Annotated[_Asked, Depends(_asked)]


@dataclass(frozen=True)
class _Lines:
    """Whether lines of text are searched."""

    searched: SearchedText
    weight: float

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for `Searcher.search`."""
        return {"text": self.searched, "speech_weight": self.weight}


async def _lines(
    text: Annotated[
        SearchedText,
        Query(description="What is searched: the picture, the lines of subtitles, or both, whose ranks are fused."),
    ] = "picture",
    speech_weight: Annotated[
        float,
        Query(
            description="How much the rank by lines counts for `text=both`, beside the picture's 1.",
            ge=0,
            le=MAX_WEIGHT,
        ),
    ] = 1.0,
) -> _Lines:
    return _Lines(text, speech_weight)


Lines = Annotated[_Lines, Depends(_lines)]


@router.get("/api/search", response_model=SearchAnswer)
async def search(request: Request, asked: Asked, parts: Parts, lines: Lines, query: OptionalText = None) -> JSON:
    """Find the videos that a text describes, or that answer a question of several parts, each with its best moment."""
    service = get_service(request)
    begun = time.perf_counter()
    if not parts.texts(query, service.settings):
        _check_query("", service.settings)
    question = Question.from_query(query, **parts.given)
    if lines.searched == "speech":  # which needs no model
        found = partial(asked.index.searcher.search, question, **lines.options, **asked.options)
        return await service.searches.run(
            _search_answer, service, asked.index, found, _without_levels, _without_text, query, begun
        )
    made_by, model = asked.index.made_by, asked.index.query_model()
    if lines.searched == "both":
        found = partial(asked.index.searcher.search, question, **lines.options, **asked.options)
        too_long = partial(is_cut, model, question)
        return await service.searches.run(
            _search_answer, service, asked.index, found, _without_levels, too_long, query, begun
        )
    if isinstance(question, str):
        tokens = await service.encoder.encode(model, question)
        read = ReadText(model, question)
        found, cut = partial(asked.index.search_tokens, tokens, made_by, read, **asked.options), read.is_cut
    else:
        found, cut = partial(asked.index.searcher.search, question, **asked.options), partial(is_cut, model, question)
    return await service.searches.run(_search_answer, service, asked.index, found, asked.text_levels, cut, query, begun)


@router.post(
    "/api/search/image",
    response_model=SearchAnswer,
    openapi_extra=PICTURE,
    responses=TOO_LARGE,  # type: ignore[arg-type]
)
async def search_image(
    request: Request,
    asked: Asked,
    parts: Parts,
    lines: Lines,
    query: OptionalText = None,
    image_weight: Annotated[
        float, Query(description="How much the picture counts beside `query`, which counts 1.", ge=0, le=MAX_WEIGHT)
    ] = 1.0,
) -> JSON:
    """Find the videos that show what a picture shows, and what words say beside it; the body is the picture's file."""
    service = get_service(request)
    settings = service.settings
    words = parts.texts(query, settings)
    model = asked.index.query_model()
    data = await read_body(request, most_bytes=settings.most_upload_bytes, seconds=settings.body_seconds)
    begun = time.perf_counter()

    def found() -> Hits:
        picture = decode_picture(data, most_pixels=settings.most_pixels)
        if not words and lines.searched == "picture":
            return asked.index.searcher.search_image(picture, **asked.options)
        question = Question(() if query is None else query, image=picture, image_weight=image_weight, **parts.given)
        return asked.index.searcher.search(question, **lines.options, **asked.options)

    def cut() -> bool:
        return any(is_cut(model, Question.from_query(text)) for text in words)

    levels = asked.picture_levels if query is None else asked.text_levels
    levels = levels if lines.searched == "picture" else _without_levels
    return await service.searches.run(_search_answer, service, asked.index, found, levels, cut, query, begun)


@router.get("/api/more_like", response_model=SearchAnswer)
async def more_like(
    request: Request,
    id: Id,  # noqa: A002
    asked: Asked,
    t: Annotated[
        float | None, Query(description="What is shown at this time of it, in seconds; all of it without one.", ge=0)
    ] = None,
    end: Annotated[float | None, Query(description="With `t`: what is shown from there to here.", ge=0)] = None,
) -> JSON:
    """Find the videos that look like one of the index, or like a moment of it; that one itself is left out."""
    begun = time.perf_counter()
    if end is not None and (t is None or end <= t):
        raise ServiceError(
            422, "bad_part", f"{end:g} seconds is not the end of a moment.", "Send `t`, and a later `end`."
        )
    moment = t if t is None or end is None else (t, end)

    def found() -> Hits:
        asked.index.rows(id)
        return asked.index.searcher.more_like(id, time=moment, **asked.options)

    service = get_service(request)
    return await service.searches.run(
        _search_answer, service, asked.index, found, asked.picture_levels, _without_text, None, begun
    )


@dataclass(frozen=True)
class _LookedInto:
    """A video to look into for a text, whose index has a model to encode it."""

    index: ServedIndex
    query: str
    id: str
    weights: dict[str, Any] | None


async def _looked_into(
    request: Request,
    query: Text,
    id: Id,  # noqa: A002
    index: Index,
    bag_weights: Weights = None,
) -> _LookedInto:
    index.check_holds_videos()
    _check_query(query, get_service(request).settings)
    weights = checked_weights(bag_weights)
    index.query_model()
    return _LookedInto(index, query, id, weights)


LookedInto = Annotated[_LookedInto, Depends(_looked_into)]


@router.get("/api/occurrences", response_model=OccurrencesAnswer)
async def occurrences(request: Request, asked: LookedInto) -> JSON:
    """Find every part of one video where a text is met, in the order of time."""
    return await get_service(request).searches.run(_occurrences, asked)


@router.get("/api/explain", response_model=ExplainAnswer)
async def explain(request: Request, asked: LookedInto, t: ExplainedTime = None) -> JSON:
    """Show how well each query token fits each frame of a video, in each bag that counts."""
    return await get_service(request).searches.run(_explanation, asked, t)


@router.get("/api/relevance", response_model=RelevanceAnswer)
async def relevance(request: Request, asked: LookedInto) -> JSON:
    """How well a text fits each sampled frame of a whole video, for a curve over its length."""
    return await get_service(request).searches.run(_relevance, asked)


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


def _without_text() -> bool:
    """Return that nothing was cut, as there is no text."""
    return False


def _without_levels() -> None:
    """Return no levels: hits by lines have no confidence."""


def _search_answer(
    service: Service,
    index: ServedIndex,
    found: Callable[[], Hits],
    levels: Callable[[], MatchLevels | None],
    cut: Callable[[], bool],
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
        query_cut=cut(),
    )
    return JSON(answer)


def _explanation(asked: _LookedInto, time: float | None) -> JSON:
    index = asked.index
    index.rows(asked.id)
    found = index.searcher.explain(asked.query, asked.id, time=time, bag_weights=asked.weights)
    shots = index.description.get("window") == SHOTS
    return JSON(ExplainAnswer.from_explanation(asked.query, found, index.rows(found.id)[0], shots=shots))


def _relevance(asked: _LookedInto) -> JSON:
    items = [row.id for row in asked.index.rows(asked.id)]
    every = -(-len(items) // MAX_CURVE_WINDOWS)  # of more windows, some spread evenly
    found = asked.index.searcher.relevance(asked.query, items[::every], bag_weights=asked.weights)
    times, values = list(found.times), [round(value, DIGITS) for value in found.values]
    return JSON(RelevanceAnswer(id=asked.id, query=asked.query, times=times, relevance=values))


def _occurrences(asked: _LookedInto) -> JSON:
    asked.index.rows(asked.id)
    found = asked.index.searcher.occurrences(asked.query, asked.id, bag_weights=asked.weights)
    parts = [MomentAnswer(start=one.start, end=one.end, score=one.score, window=one.window) for one in found]
    return JSON(OccurrencesAnswer(id=asked.id, query=asked.query, occurrences=parts))
