"""Logging in: the page shows the token once and gets a cookie that scripts cannot read."""

from fastapi import APIRouter, Request
from starlette.responses import Response

import colbert_video
from colbert_video.base.json_values import parse_json
from colbert_video.serve.http_errors import JSON, ErrorAnswer, ServiceError
from colbert_video.serve.media.uploads import read_body
from colbert_video.serve.schemas import SessionAnswer
from colbert_video.serve.service import get_service

router = APIRouter(tags=["session"])

MAX_BYTES = 4096
SECONDS = 10.0
TOKEN = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}
            }
        },
    }
}
REFUSED = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in ((408, "The body was sent too slowly."), (413, "The body is too large."))
}


@router.get("/api/session", response_model=SessionAnswer)
async def session(request: Request) -> JSON:
    """Whether a token is needed, and whether this client has shown it."""
    gatekeeper = get_service(request).gatekeeper
    return JSON(
        SessionAnswer(
            token_required=gatekeeper.token_required,
            authenticated=gatekeeper.is_known(request),
            version=colbert_video.__version__,
        )
    )


@router.post(
    "/api/login",
    status_code=204,
    openapi_extra=TOKEN,
    responses=REFUSED,  # type: ignore[arg-type]
)
async def login(request: Request) -> Response:
    """Exchange the token for a cookie."""
    gatekeeper = get_service(request).gatekeeper
    value = gatekeeper.login(_token(await read_body(request, most_bytes=MAX_BYTES, seconds=SECONDS)))
    answer = Response(status_code=204)
    secure = request.url.scheme == "https"
    answer.set_cookie(gatekeeper.cookie, value, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/api/logout", status_code=204)
async def logout(request: Request) -> Response:
    """Forget the cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(get_service(request).gatekeeper.cookie, httponly=True, samesite="strict")
    return answer


def _token(body: bytes) -> str:
    try:
        return str(parse_json(body)["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(422, "bad_parameter", "the body names no token.", 'Send JSON: {"token": "..."}.') from error
