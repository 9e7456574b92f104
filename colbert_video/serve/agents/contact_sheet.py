"""Several pictures of a video as one, each with its time."""

import io
from collections.abc import Sequence
from math import ceil, sqrt

from PIL import Image, ImageDraw, ImageFont

from colbert_video.search.hit import format_time

GAP, LABEL = 4, 16
"""Pixels between pictures, and for the time below each."""
BACKGROUND, INK = (24, 24, 24), (240, 240, 240)


def contact_sheet(pictures: Sequence[bytes], times: Sequence[float]) -> bytes:
    """Return pictures row by row with their times below, as one JPEG.

    Args:
        pictures: JPEG files, in order of time; at least one.
        times: The time of each, in seconds.
    """
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width, height = max(image.width for image in opened), max(image.height for image in opened)
    columns = ceil(sqrt(len(opened)))
    rows = ceil(len(opened) / columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + LABEL + GAP) + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for place, (image, time) in enumerate(zip(opened, times, strict=True)):
        row, column = divmod(place, columns)
        left, top = GAP + column * (width + GAP), GAP + row * (height + LABEL + GAP)
        sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        draw.text((left + 2, top + height + 2), format_time(time), fill=INK, font=font)
    written = io.BytesIO()
    sheet.save(written, "JPEG", quality=85)
    return written.getvalue()
