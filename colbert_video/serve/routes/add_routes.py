"""Adding videos to an index, where the service was started for that."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request

from colbert_video.base.json_values import parse_json
from colbert_video.serve.additions import Addition, check_takes_videos
from colbert_video.serve.http_errors import JSON, ErrorAnswer, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.media.uploads import read_body
from colbert_video.serve.routes.search_routes import Index
from colbert_video.serve.schemas import AdditionAnswer, AdditionsAnswer
from colbert_video.serve.service import Service, get_service

router = APIRouter(tags=["adding"])

MAX_BYTES = 2**14
SECONDS = 10.0
MAX_LISTED = 500
"""Additions in one answer."""
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
FOLDER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
            }
        },
    }
}
REFUSED = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in (
        (403, "The service takes no videos, or not from there; or another web page asked."),
        (404, "There is no such folder, or it has no videos."),
        (408, "The body was sent too slowly."),
        (413, "The file is too large."),
        (415, "The file is not a video by its name."),
        (507, "There is no room for the file."),
    )
}


@router.get("/api/additions", response_model=AdditionsAnswer)
async def additions(request: Request, index: Index) -> JSON:
    """What was added to an index since the service was started, the last first, and how far it is."""
    return _answer(get_service(request), index)


@router.post(
    "/api/additions/file",
    status_code=202,
    response_model=AdditionsAnswer,
    openapi_extra=FILE_BODY,
    responses=REFUSED,  # type: ignore[arg-type]
)
async def add_file(
    request: Request, index: Index, name: Annotated[str, Query(description="Name of the file, such as holiday.mp4.")]
) -> JSON:
    """Store a video file, which is the body, and index it."""
    service = get_service(request)
    service.added_files.check_allowed()
    check_takes_videos(index)
    if service.uploads.locked():
        raise ServiceError(503, "busy", "other files are being sent.", "Try again in a moment.", {"Retry-After": "5"})
    async with service.uploads:
        record = await service.added_files.keep(request, name)
    try:
        added = await asyncio.to_thread(service.additions.put, index, [record], uploaded=True)
    except ServiceError:  # too many wait: a file that is not queued would be kept for nothing
        Path(record.path).unlink(missing_ok=True)
        raise
    return _answer(service, index, added)


@router.post(
    "/api/additions/folder",
    status_code=202,
    response_model=AdditionsAnswer,
    openapi_extra=FOLDER_BODY,
    responses=REFUSED,  # type: ignore[arg-type]
)
async def add_folder(request: Request, index: Index) -> JSON:
    """Index the videos of a folder beneath those that the service may add from."""
    service = get_service(request)
    service.added_files.check_allowed()
    check_takes_videos(index)
    path = _path(await read_body(request, most_bytes=MAX_BYTES, seconds=SECONDS))
    records, elsewhere = await asyncio.to_thread(service.added_files.found, path)
    refused = service.additions.refuse(index, elsewhere)
    added = await asyncio.to_thread(service.additions.put, index, records)
    return _answer(service, index, [*added, *refused])


def _path(body: bytes) -> str:
    try:
        path = parse_json(body)["path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(422, "bad_parameter", "the body names no path.", 'Send JSON: {"path": "..."}.') from error
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ServiceError(422, "bad_parameter", "the path is not a text.", 'Send JSON: {"path": "holiday/2024"}.')
    return path.strip()


def _answer(service: Service, index: ServedIndex, chosen: list[Addition] | None = None) -> JSON:
    listed = service.additions.of(index) if chosen is None else chosen
    states = [one.state for one in service.additions.of(index)]
    answers = [
        AdditionAnswer(number=one.number, id=one.record.id, state=one.state, reason=one.reason)
        for one in listed[:MAX_LISTED]
    ]
    counts = {name: states.count(name) for name in ("waiting", "indexing", "done", "failed")}  # type: ignore[arg-type]
    allowed, names = service.added_files.allowed, service.added_files.names
    body = AdditionsAnswer(index=index.name, allowed=allowed, folders=names, additions=answers, **counts)
    return JSON(body, 200 if chosen is None else 202)
