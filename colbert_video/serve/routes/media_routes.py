"""Videos: what the index knows, pictures of their moments, and their files."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from io import BufferedIOBase
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from colbert_video.serve.http_errors import JSON, ErrorAnswer, ServiceError
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.media.copies import Part
from colbert_video.serve.media.media_files import MediaFile
from colbert_video.serve.media.ranges import ByteRange, asked_range, still_valid
from colbert_video.serve.routes.search_routes import Id, Index
from colbert_video.serve.schemas import CopyAnswer, VideoAnswer
from colbert_video.serve.service import Service, get_service
from colbert_video.serve.service_settings import THUMBNAIL_WIDTHS

router = APIRouter(tags=["videos"])

CHUNK = 2**18
"""Bytes of a file that are in memory for one client."""
TIME_STEPS = 10
"""Different thumbnails of a second."""
LATEST = 1e6
"""Seconds; no video is longer."""

FILE: dict[str, Any] = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
FILE_ANSWERS = {
    200: {**FILE, "description": "The whole file."},
    202: {"model": CopyAnswer, "description": "The copy or clip is being made; ask again."},
    206: {**FILE, "description": "The part that the Range header asks for."},
    304: {"description": "The file has not changed."},
    416: {"model": ErrorAnswer, "description": "The range lies beyond the file, or there are several."},
}
PICTURE_ANSWERS = {
    200: {"content": {"image/jpeg": {}}, "description": "The picture."},
    304: {"description": "The picture has not changed."},
    504: {"model": ErrorAnswer, "description": "Decoding took too long."},
}


@router.get("/api/video", response_model=VideoAnswer)
async def video(request: Request, id: Id, index: Index) -> JSON:  # noqa: A002
    """What is known of a video, and whether browsers play it."""
    return await asyncio.to_thread(_described, get_service(request), index, id)


def _described(service: Service, index: ServedIndex, video_id: str) -> JSON:
    rows = index.rows(video_id)
    media, reason = service.media.find(rows[0].path, index.video_stream)
    answer = VideoAnswer.from_rows(video_id, index.name, rows, media, reason)
    return JSON(answer)


@router.get(
    "/api/video/thumbnail",
    response_class=Response,
    responses=PICTURE_ANSWERS,  # type: ignore[arg-type]
)
async def thumbnail(
    request: Request,
    id: Id,  # noqa: A002
    index: Index,
    t: Annotated[float, Query(description="The moment, in seconds.", ge=0, le=LATEST)] = 0.0,
    width: Annotated[
        int, Query(description="Pixels of its longer side.", json_schema_extra={"enum": list(THUMBNAIL_WIDTHS)})
    ] = 320,
) -> Response:
    """A picture of a moment of a video, as JPEG."""
    service = get_service(request)
    if width not in THUMBNAIL_WIDTHS:
        remedy = f"Use one of {', '.join(map(str, THUMBNAIL_WIDTHS))}."
        raise ServiceError(422, "bad_width", f"width={width} is not offered.", remedy)
    entry = (await asyncio.to_thread(index.rows, id))[0]
    media = await asyncio.to_thread(service.media.locate, entry.path, index.video_stream)
    latest = LATEST if entry.duration is None else max(entry.duration - 0.1, 0.0)
    time = int(min(t, latest) * TIME_STEPS) / TIME_STEPS
    name = hashlib.sha256(media.identity + f"\0{time}\0{width}".encode())
    headers = {"ETag": f'"{name.hexdigest()[:32]}"', "Cache-Control": "private, max-age=3600"}
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    jpeg = await service.thumbnails.picture(media, time, width)
    return Response(jpeg, headers=headers, media_type="image/jpeg")


@router.head("/api/video/media", include_in_schema=False)
@router.get(
    "/api/video/media",
    response_class=Response,
    responses=FILE_ANSWERS,  # type: ignore[arg-type]
)
async def media(
    request: Request,
    id: Id,  # noqa: A002
    index: Index,
    copy: Annotated[
        Literal["h264"] | None, Query(description="A copy that browsers play, made when first asked for.")
    ] = None,
) -> Response:
    """The file of a video, or one part of it."""
    path, stream = (await asyncio.to_thread(index.rows, id))[0].path, index.video_stream
    if copy is not None:
        return await _made(request, path, stream)
    return await _opened(request, path, stream)


@router.head("/api/video/clip", include_in_schema=False)
@router.get(
    "/api/video/clip",
    response_class=Response,
    responses=FILE_ANSWERS,  # type: ignore[arg-type]
)
async def clip(
    request: Request,
    id: Id,  # noqa: A002
    index: Index,
    start: Annotated[float, Query(description="Seconds.", ge=0, le=LATEST)],
    end: Annotated[float, Query(description="Seconds, exclusive.", gt=0, le=LATEST)],
) -> Response:
    """A part of a video as an MP4 file of its own, made when first asked for.

    Pictures are copied where a keyframe begins the part, else encoded again.
    """
    most = get_service(request).settings.most_clip_seconds
    if not start < end <= start + most:
        message = f"{start:g} to {end:g} seconds is no part of a video, or longer than {most:g} seconds."
        raise ServiceError(422, "bad_part", message, "Write the start, then a later end.")
    path = (await asyncio.to_thread(index.rows, id))[0].path
    return await _made(request, path, index.video_stream, (round(start, 3), round(end, 3)), name=id)


async def _made(
    request: Request, path: str | None, stream: int | None, part: Part | None = None, *, name: str | None = None
) -> Response:
    """Answer with a copy or a clip once it is made, until then with 202.

    Args:
        request: The request.
        path: The file that the catalog names.
        stream: Which of its video streams was indexed.
        part: The clip's part of the video; None for a copy of all.
        name: What the video is called, to save a file of it; None to play it.
    """
    service = get_service(request)
    made = service.copies.wanted(await asyncio.to_thread(service.media.locate, path, stream), part)
    if made.state in ("queued", "running"):
        waiting = CopyAnswer(state=made.state, seconds=round(made.seconds, 1))
        return JSON(waiting, 202, headers={"Retry-After": "1" if part else "2"})
    answer = await _opened(request, str(made.path), None, anywhere=True)
    if name is not None and part is not None:
        answer.headers["Content-Disposition"] = _attachment(name, part)
    return answer


def _attachment(name: str, part: Part) -> str:
    """Return the header that has a clip saved under the name of its video (RFC 6266)."""
    stem = re.sub(r"[^\w .-]", "_", PurePosixPath(name.replace("\\", "/")).stem).strip(". ") or "clip"
    file = f"{stem[:100]} {part[0]:g}-{part[1]:g}s.mp4"
    plain = file.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file, errors='replace')}"


async def _opened(request: Request, path: str | None, stream: int | None, *, anywhere: bool = False) -> Response:
    media = get_service(request).media
    found, file = await asyncio.to_thread(media.open, path, stream, anywhere=anywhere)
    try:
        return _file_answer(request, found, file)
    except BaseException:
        file.close()
        raise


def _file_answer(request: Request, found: MediaFile, file: BufferedIOBase) -> Response:
    """Answer as RFC 9110 says: 304, 206, 200, or 416 by way of an error.

    Starlette's FileResponse does not do: it opens a path again, which may lead elsewhere by now, and knows no archives.
    """
    modified = formatdate(found.modified_ns // 10**9, usegmt=True)
    headers = {
        "ETag": found.etag,
        "Last-Modified": modified,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": "inline",
    }
    if _unchanged(request, found.etag):
        file.close()
        return Response(status_code=304, headers=headers)
    part = None
    # A range is defined for GET alone (section 14.2).
    if request.method == "GET" and still_valid(request.headers.get("if-range"), etag=found.etag, modified=modified):
        part = asked_range(request.headers.get("range"), found.size)
    whole = ByteRange(0, found.size, found.size)
    if part is not None:
        headers["Content-Range"] = part.header
    headers["Content-Length"] = str((part or whole).length)
    status = 200 if part is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers, media_type=found.kind.content_type)
    return FilePart(file, part or whole, status, headers, found.kind.content_type)


def _unchanged(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return any(name.strip().removeprefix("W/") in (etag, "*") for name in known.split(",") if name.strip())


class FilePart(StreamingResponse):
    """Sends part of an open file chunk by chunk, and closes it whatever happens."""

    def __init__(
        self, file: BufferedIOBase, part: ByteRange, status: int, headers: Mapping[str, str], content_type: str
    ) -> None:
        super().__init__(_chunks(file, part), status, headers, content_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the part."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _chunks(file: BufferedIOBase, part: ByteRange) -> AsyncIterator[bytes]:
    offset = part.start
    await asyncio.to_thread(file.seek, offset)
    while offset < part.end:
        data = await asyncio.to_thread(file.read, min(CHUNK, part.end - offset))
        if not data:
            return  # the file became shorter; the client knows the length, and notices
        offset += len(data)
        yield data
