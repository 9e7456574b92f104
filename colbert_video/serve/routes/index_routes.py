"""The indexes of the service."""

from typing import Any

from fastapi import APIRouter, Request

from colbert_video.serve.http_errors import JSON
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.schemas import IndexDetailAnswer, IndexesAnswer
from colbert_video.serve.service import service_of
from colbert_video.serve.service_settings import THUMBNAIL_WIDTHS, ServeSettings

router = APIRouter(tags=["indexes"])

DETAILS = ("dim", "nbits", "bags", "bytes", "segments", "removed", "num_frames")
LIMITS = (
    "most_results",
    "most_listed",
    "most_query_characters",
    "most_ids",
    "most_filter_characters",
    "most_upload_bytes",
)


@router.get("/api/indexes", response_model=IndexesAnswer)
async def indexes(request: Request) -> JSON:
    """All indexes, the default first."""
    return JSON({"indexes": [_short(index) for index in service_of(request).indexes]})


@router.get("/api/indexes/{name}", response_model=IndexDetailAnswer)
async def index(request: Request, name: str) -> JSON:
    """One index, and what a request may ask for."""
    service = service_of(request)
    served = service.indexes.get(name)
    details = {key: served.description.get(key) for key in DETAILS}
    failures = len(served.description["failures"])
    return JSON({**_short(served), **details, "failures": failures, "limits": _limits(service.settings)})


def _short(index: ServedIndex) -> dict[str, Any]:
    return {
        "name": index.name,
        "videos": index.description["videos"],
        "windows": index.description["windows"],
        "version": index.version,
        "model": index.description.get("model"),
        "text_queries": index.takes_text,
        "state": index.state,
        "note": index.note,
    }


def _limits(settings: ServeSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in LIMITS} | {"thumbnail_widths": list(THUMBNAIL_WIDTHS)}
