"""Bodies of requests and pictures in them, both limited while they are read."""

import asyncio
import io
from typing import TYPE_CHECKING

from fastapi import Request

from colbert_video.search.queries import BAD_PICTURE, MAX_PICTURE_SIDE, upright
from colbert_video.serve.http_errors import ServiceError

if TYPE_CHECKING:
    import PIL.Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
CLOSE = {"Connection": "close"}


async def read_body(request: Request, *, most_bytes: int, seconds: float) -> bytes:
    """Read a body within limits.

    Args:
        request: The request.
        most_bytes: Limit of its size.
        seconds: Limit of the time it takes.

    Raises:
        ServiceError: 413 if it is larger, 408 if it takes longer.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > most_bytes):
        raise too_large(most_bytes)
    try:
        return await asyncio.wait_for(_collected(request, most_bytes), seconds)
    except asyncio.TimeoutError as error:
        message = f"the file took longer than {seconds:g} seconds to arrive."
        raise ServiceError(
            408, "too_slow", message, "Send a smaller one, or use a faster connection.", CLOSE
        ) from error


async def _collected(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise too_large(most_bytes)
    return bytes(body)


def too_large(most_bytes: int) -> ServiceError:
    """Return the error for a body that is too large."""
    message = f"this file is larger than {most_bytes / 1e6:.3g} MB."
    return ServiceError(413, "body_too_large", message, "Use a smaller one.", CLOSE)


def _too_many_pixels(message: str) -> ServiceError:
    return ServiceError(413, "picture_too_large", message, "Use a smaller one.")


def picture_type(data: bytes) -> str:
    """Return the media type of a picture's file, which was decoded before."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        return f"image/{str(opened.format).lower()}"


def decode_picture(data: bytes, *, most_pixels: int) -> "PIL.Image.Image":
    """Decode an uploaded picture in RGB, upright; of an animation the first picture.

    Args:
        data: The file.
        most_pixels: Limit of width times height, checked before anything is unpacked, as are its sides.

    Raises:
        ServiceError: 413 if it is larger, 415 if it is no picture.
    """
    from PIL import Image

    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = opened.size
        if width * height > most_pixels:
            raise _too_many_pixels(f"the picture has {width}×{height} pixels, more than {most_pixels}.")
        if max(width, height) > MAX_PICTURE_SIDE:
            raise _too_many_pixels(f"the picture has {width}×{height} pixels, a side of more than {MAX_PICTURE_SIDE}.")
        return upright(opened)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("the picture is too large to be unpacked.") from error
    except BAD_PICTURE as error:
        message = "this file is not a picture we can read."
        raise ServiceError(415, "not_a_picture", message, "Use JPEG, PNG or WebP.") from error
