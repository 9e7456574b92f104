"""How errors leave the service: one JSON form, no paths, no stack traces."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
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
SEE_LOG = "Look into the service's log."
CLIENT_GONE = 499
"""Status of requests whose client went away, as nginx counts them."""
CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
HANDLED = (SettingsError, VideoError, IndexFolderError, ModelError, ShardsUnavailableError, Exception)


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs.")
    message: str = Field(description="What came and which rule it breaks.")
    remedy: str = Field(description="What to do about it.")


class ErrorAnswer(BaseModel):
    """The form of every error."""

    error: ErrorBody


class ServiceError(Exception):
    """An error that is sent to the client as it is.

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
    """An answer as JSON in ASCII, so that any text that Python can hold can be sent, lone surrogates included."""

    media_type = "application/json"

    def render(self, content: BaseModel) -> bytes:
        """Return the bytes of an answer.

        Raises:
            ValueError: If it holds a number that is not finite.
        """
        plain = content.model_dump(by_alias=True)
        return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode("ascii")


def busy(what: str, *, seconds: int = 1) -> ServiceError:
    """Return the error for work that does not fit into a queue."""
    return ServiceError(
        503, "busy", f"too many {what} are waiting.", "Try again in a moment.", {"Retry-After": str(seconds)}
    )


def error_response(error: Exception) -> JSON:
    """Return the answer to a request that failed; paths and causes are logged, not sent."""
    known = error if isinstance(error, ServiceError) else _service_error(error)
    body = ErrorBody(code=known.code, message=known.message, remedy=known.remedy)
    return JSON(ErrorAnswer(error=body), known.status, headers=known.headers)


def _service_error(error: Exception) -> ServiceError:
    if isinstance(error, SettingsError):
        return ServiceError(422, "bad_parameter", str(error), SEE_DOCS)
    if isinstance(error, VideoError):
        return _video_error(error)
    if isinstance(error, (IndexFolderError, ModelError)):
        logger.error("%s", error)
        message, later = "the index or its model cannot be used just now.", {"Retry-After": "5"}
        return ServiceError(503, "index_unavailable", message, SEE_LOG, later)
    if isinstance(error, ShardsUnavailableError):
        logger.error("%s", error)
        message, later = "no part of the index answered in time.", {"Retry-After": "2"}
        return ServiceError(503, "shards_unavailable", message, "Try again in a moment.", later)
    logger.exception("a request failed", exc_info=error)
    return ServiceError(500, "internal", "the service failed to answer.", "Look into the service's log; try again.")


def _video_error(error: VideoError) -> ServiceError:
    logger.info("%s", error)
    if error.kind is FailureKind.MISSING:
        return ServiceError(404, "media_missing", "the video's file is missing.", "Restore it or index it again.")
    if error.kind is FailureKind.TIMEOUT:
        return ServiceError(504, "decoding_timeout", "the video took too long to decode.", "Try again later.")
    return ServiceError(
        422, "video_unreadable", f"the video cannot be decoded ({error.kind.value}).", "Check that it plays."
    )


def install_handlers(app: FastAPI) -> None:
    """Give every error of an app the one form."""
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    for kind in (ServiceError, *HANDLED):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, ClientDisconnect):  # starlette's complaint that an answer had begun
        return await _answer_nobody(request, error)
    return error_response(error)


async def _answer_nobody(request: Request, _: Exception) -> Response:
    """Give up a request whose client went away before the end; nobody reads this answer."""
    logger.info("a client went away: %s", request.url.path)
    return Response(status_code=CLIENT_GONE)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    found = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    name = ".".join(str(part) for part in found.get("loc", ())[1:]) or "the request"
    message = f"{name}: {found.get('msg', 'is invalid')}."
    return error_response(ServiceError(422, "bad_parameter", message, SEE_DOCS))


async def _answer_http(_: Request, error: Any) -> Response:
    """Answer for an address or a method that Starlette does not know."""
    status = error.status_code
    code, message = CODES.get(status, f"http_{status}"), f"{HTTPStatus(status).phrase.lower()}."
    return error_response(ServiceError(status, code, message, SEE_DOCS, error.headers))
