"""What the service says of videos: results, moments, and whether and where they can be seen."""

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.search.explain import PADDING, Explanation
from colbert_video.search.hit import Hit
from colbert_video.search.moments import frame_relevance, item_moment
from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media.media_files import MediaFile, locate_media
from colbert_video.serve.service import Service

DIGITS = 4
"""Of similarities in explanations."""


def media_url(index: str, video_id: str, **more: str) -> str:
    """Address of a video file, relative to the service's root."""
    return "api/video/media?" + urlencode({"index": index, "id": video_id, **more})


def thumbnail_url(index: str, video_id: str, time: float | None) -> str:
    """Address of a picture of a moment."""
    at = {} if time is None else {"t": f"{time:.2f}"}
    return "api/video/thumbnail?" + urlencode({"index": index, "id": video_id, **at})


def found_media(service: Service, path: str | None) -> tuple[MediaFile | None, str | None]:
    """The file behind a path, and why it cannot be played, if so."""
    try:
        media = locate_media(path, service.settings.media_roots)
    except ServiceError as error:
        return None, error.message
    return media, media.kind.reason


def results(service: Service, index: str, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Hits as the service sends them: with ColBERT's fields, and without paths."""
    scores = [hit.score for hit in hits]
    return [_result(service, index, hit, prob) for hit, prob in zip(hits, softmax(scores), strict=True)]


def _result(service: Service, index: str, hit: Hit, prob: float) -> dict[str, Any]:
    media, reason = found_media(service, hit.path)
    text = hit.metadata.get("text")
    fields = hit.to_dict()
    del fields["path"]
    return {
        "pid": hit.id,
        **fields,
        "prob": prob,
        "text": text if isinstance(text, str) else hit.id,
        "playable": media is not None and media.kind.playable,
        "reason": reason,
        "media": None if media is None else media_url(index, hit.id),
        "thumbnail": None if media is None else thumbnail_url(index, hit.id, hit.middle),
    }


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares of the exponentials, as ColBERT's server gives them; best first."""
    if not scores:
        return []
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def video(service: Service, index: str, video_id: str, rows: Sequence[VideoEntry]) -> dict[str, Any]:
    """Everything that is known of a video, but where its file is."""
    first, whole = rows[0], rows[0].id == video_id
    media, reason = found_media(service, first.path)
    playable = media is not None and media.kind.playable
    copied = media is not None and not playable and service.copies.available
    return {
        "id": video_id,
        "index": index,
        "duration": first.duration,
        "frame_times": list(first.frame_times) if whole else [],
        "metadata": dict(first.metadata),
        "windows": [] if whole else [{"id": row.id, "start": row.start, "end": row.end} for row in rows],
        "playable": playable,
        "reason": reason,
        "content_type": media and media.kind.content_type,
        "bytes": media and media.size,
        "codec": media and media.kind.codec,
        "container": media and media.kind.container,
        "media": media and media_url(index, video_id),
        "thumbnail": media and thumbnail_url(index, video_id, None),
        "copy": media_url(index, video_id, copy="h264") if copied else None,
    }


def explanation(query: str, found: Explanation, entry: VideoEntry, *, shots: bool) -> dict[str, Any]:
    """An explanation with the relevance of each frame and the best moment.

    Args:
        query: The text.
        found: The explanation.
        entry: The explained video or window.
        shots: Whether windows are shots, each of which is one moment as it is.
    """
    relevance = frame_relevance(found.similarities.values(), len(found.times))
    start, end = item_moment(entry, lambda: relevance, shots=shots)
    plain = found.to_dict()
    return {
        **plain,
        "query": query,
        "tokens": [{**token, "padding": token["token"] == PADDING} for token in plain["tokens"]],
        "similarities": {bag: matrix.round(DIGITS).tolist() for bag, matrix in found.similarities.items()},
        "relevance": relevance.round(DIGITS).tolist(),
        "start": start,
        "end": end,
    }
