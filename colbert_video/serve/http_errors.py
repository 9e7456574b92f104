"""How errors leave the service: one JSON form, no paths, no stack traces."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from colbert_video.errors import (
    FailureKind,
    IndexFolderError,
    ModelError,
    SettingsError,
    ShardsUnavailableError,
    VideoError,
)

logger = logging.getLogger(__name__)

SEE_DOCS = "See api/docs for the addresses and their parameters."
STATUSES = {
    400: ("bad_request", SEE_DOCS),
    404: ("not_found", SEE_DOCS),
    405: ("method_not_allowed", SEE_DOCS),
}


class ServiceError(Exception):
    """A refusal, ready to be sent.

    Args:
        status: HTTP status.
        code: For programs.
        message: What came and which rule it breaks.
        remedy: What to do about it.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, remedy: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.remedy = remedy
        self.headers = dict(headers or {})


class JSON(Response):
    """JSON in ASCII, so that any text that Python can hold can be sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of `content`."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def busy(what: str, *, seconds: int = 1) -> ServiceError:
    """The refusal of work that does not fit into a queue."""
    return ServiceError(
        503, "busy", f"too many {what} are waiting.", "Try again in a moment.", {"Retry-After": str(seconds)}
    )


def error_response(error: ServiceError) -> JSON:
    """The answer that tells a client of an error."""
    body = {"code": error.code, "message": error.message, "remedy": error.remedy}
    return JSON({"error": body}, error.status, headers=error.headers)


def translated(error: Exception) -> ServiceError:
    """What clients are told of an error; paths and causes of failures stay in the log."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, SettingsError):
        return ServiceError(422, "bad_parameter", str(error), SEE_DOCS)
    if isinstance(error, VideoError):
        return _video_error(error)
    if isinstance(error, (IndexFolderError, ModelError)):
        logger.error("%s", error)
        return ServiceError(
            503,
            "index_unavailable",
            "the index or its model cannot be used just now.",
            "Look into the service's log.",
            {"Retry-After": "5"},
        )
    if isinstance(error, ShardsUnavailableError):
        logger.error("%s", error)
        return ServiceError(
            503,
            "shards_unavailable",
            "no part of the index answered in time.",
            "Try again in a moment.",
            {"Retry-After": "2"},
        )
    logger.exception("a request failed", exc_info=error)
    return ServiceError(
        500, "internal", "the service failed to answer.", "Look into the service's log; try again."
    )


def _video_error(error: VideoError) -> ServiceError:
    logger.info("%s", error)
    if error.kind is FailureKind.MISSING:
        return ServiceError(
            404, "media_missing", "the video's file is gone.", "Bring it back or index it again."
        )
    if error.kind is FailureKind.TIMEOUT:
        return ServiceError(504, "decoding_timeout", "the video took too long to decode.", "Try again later.")
    return ServiceError(
        422, "video_unreadable", f"the video cannot be decoded ({error.kind.value}).", "Check that it plays."
    )


def install_handlers(app: FastAPI) -> None:
    """Give every error of an app the one form."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in (
        ServiceError,
        SettingsError,
        VideoError,
        IndexFolderError,
        ModelError,
        ShardsUnavailableError,
        Exception,
    ):
        app.add_exception_handler(kind, _own)


async def _own(_: Request, error: Exception) -> Response:
    return error_response(translated(error))


async def _invalid(_: Request, error: Exception) -> Response:
    found = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    name = ".".join(str(part) for part in found.get("loc", ())[1:]) or "the request"
    return error_response(
        ServiceError(422, "bad_parameter", f"{name}: {found.get('msg', 'is invalid')}.", SEE_DOCS)
    )


async def _http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, remedy = STATUSES.get(status, (f"http_{status}", SEE_DOCS))
    headers = error.headers if isinstance(error, HTTPException) else None
    return error_response(
        ServiceError(status, code, f"{HTTPStatus(status).phrase.lower()}.", remedy, headers)
    )
