"""The ffmpeg command for an H.264 copy that shows what frames and thumbnails of the video show."""

from pathlib import Path

from colbert_video.video.decode.colour import MATRICES
from colbert_video.video.decode.formats import FORMATS
from colbert_video.video.files import input_of
from colbert_video.video.frames import SamplingSettings, SourcePicture

MAX_SIDE = 1280
BT709_TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")


def ffmpeg_arguments(
    source: str, target: Path, most_bytes: int, picture: SourcePicture, *, tone_table: str | None = None
) -> list[str]:
    """Return arguments for an H.264 copy that starts to play before it is loaded.

    Args:
        source: The video file.
        target: The copy.
        most_bytes: Where it is cut off.
        picture: How the video is shown.
        tone_table: For HDR, the name of a .cube file of `tone_cube` in the folder where ffmpeg runs.
    """
    url, protocols = input_of(source)
    return [
        *("-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-filter_threads", "1"),
        *("-threads", "1", "-max_pixels", str(SamplingSettings.max_pixels)),  # of the decoders
        *("-protocol_whitelist", protocols, "-format_whitelist", FORMATS, "-i", url),
        *("-map", f"0:{picture.stream}", "-map", "0:a:0?", "-sn", "-dn", "-map_metadata", "-1", "-threads", "1"),
        *("-vf", ",".join(_filters(picture, tone_table))),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"),
        *(BT709_TAGS if tone_table else ()),
        *("-c:a", "aac", "-ac", "2", "-movflags", "+faststart", "-fs", str(most_bytes), "-f", "mp4"),
        f"file:{target}",
    ]


def _filters(picture: SourcePicture, tone_table: str | None) -> list[str]:
    """Return filters for pictures that ffmpeg has turned already, as it does by itself."""
    width, height = copy_size(picture)
    return [
        *_crop(picture),
        *([f"setparams=colorspace={MATRICES[picture.matrix]}"] if picture.matrix else []),
        f"scale={width}:{height}",
        *(_tone_map(tone_table) if tone_table else []),
        "setsar=1",
    ]


def copy_size(picture: SourcePicture) -> tuple[int, int]:
    """Return the even width and height of a copy, in the shape that players show."""
    width = picture.width * picture.pixel_aspect
    fits = min(1.0, MAX_SIDE / max(width, picture.height))
    return max(2, 2 * int(width * fits / 2 + 1e-6)), max(2, 2 * int(picture.height * fits / 2 + 1e-6))


def _crop(picture: SourcePicture) -> list[str]:
    """Cut off the container's borders, unless this ffmpeg has done so: releases before 7.1 do not know them."""
    if not any(picture.crop):
        return []
    left, top = (
        f"if(gt(i{side},{size}),{border},0)"
        for side, size, border in (("w", picture.width, picture.crop.left), ("h", picture.height, picture.crop.top))
    )
    return [f"crop=w={picture.width}:h={picture.height}:x='{left}':y='{top}':exact=1"]


def _tone_map(table: str) -> list[str]:
    return [
        "format=gbrp16le",
        f"lut3d=file={table}:interp=tetrahedral",
        "setparams=color_primaries=bt709:color_trc=bt709",
        "scale=out_color_matrix=bt709:out_range=tv",
        "format=yuv420p",
    ]
