"""Pictures that are searched by, so that such a search has an address that can be shared."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from colbert_video.serve.http_errors import JSON, ErrorAnswer
from colbert_video.serve.media.kept_pictures import KeptPicture
from colbert_video.serve.media.uploads import decode_picture, picture_type, read_body
from colbert_video.serve.routes.search_routes import PICTURE, TOO_LARGE
from colbert_video.serve.schemas import PictureAnswer
from colbert_video.serve.service import get_service

router = APIRouter(tags=["search"])


@router.post(
    "/api/pictures",
    status_code=201,
    response_model=PictureAnswer,
    openapi_extra=PICTURE,
    responses=TOO_LARGE,  # type: ignore[arg-type]
)
async def keep_picture(request: Request) -> JSON:
    """Keep a picture, which is the body, for a while; the same picture has the same name."""
    service = get_service(request)
    settings = service.settings
    data = await read_body(request, most_bytes=settings.most_upload_bytes, seconds=settings.body_seconds)

    def kept() -> KeptPicture:
        decode_picture(data, most_pixels=settings.most_pixels)
        return service.pictures.put(data, picture_type(data))

    return JSON(PictureAnswer(picture=(await service.searches.run(kept)).name), 201)


@router.get(
    "/api/pictures",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}, "description": "The picture's file."},
        404: {"model": ErrorAnswer, "description": "The picture is not kept, or no longer."},
    },
)
async def picture(request: Request, picture: Annotated[str, Query(description="Its name.")]) -> Response:
    """A picture that was kept."""
    found = get_service(request).pictures.get(picture)
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(found.content, media_type=found.content_type, headers=headers)
