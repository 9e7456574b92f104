"""The indexes of the service."""

from typing import Any

from fastapi import APIRouter, Request

from colbert_video.serve.http_errors import JSON
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.schemas import IndexAnswer, IndexDetailAnswer, IndexesAnswer, LimitsAnswer
from colbert_video.serve.service import get_service

router = APIRouter(tags=["indexes"])


@router.get("/api/indexes", response_model=IndexesAnswer)
async def indexes(request: Request) -> JSON:
    """All indexes, the default first."""
    every = [IndexAnswer(**_facts(index)) for index in get_service(request).indexes]
    return JSON(IndexesAnswer(indexes=every))


@router.get("/api/indexes/{name}", response_model=IndexDetailAnswer)
async def index(request: Request, name: str) -> JSON:
    """One index, and what a request may ask for."""
    service = get_service(request)
    facts = _facts(service.indexes.get(name))
    facts["failures"] = len(facts["failures"])
    return JSON(IndexDetailAnswer(**facts, limits=LimitsAnswer.from_settings(service.settings)))


def _facts(index: ServedIndex) -> dict[str, Any]:
    """Everything known of an index; an answer takes from it what it has fields for."""
    return {
        "model": None,
        "num_frames": None,
        "lines": 0,
        **index.description,
        "bag_weights": index.bag_weights,
        "name": index.name,
        "version": index.version,
        "text_queries": index.takes_text,
        "state": index.state,
        "note": index.note,
    }
