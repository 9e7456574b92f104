"""Hits as a notebook shows them: a card per hit, with a picture of its moment inside the page itself.

Everything that comes out of an index is escaped, and the page refers to nothing outside of it.
"""

import base64
import time
from collections.abc import Iterator, Sequence
from html import escape

from colbert_video.errors import VideoError
from colbert_video.search.hit import Hit, format_moment
from colbert_video.video.workers.pictures import picture_of, picture_settings
from colbert_video.video.workers.pool import FramePool

MAX_PICTURES = 12
"""Hits shown with a picture; the others are listed without."""
SIDE_PIXELS = 192
"""Side of the square that a picture fits in."""
TIMEOUT_SECONDS = 10.0
"""Time limit for one picture, after which no other is started either."""
MAX_METADATA_CHARACTERS = 200

STYLE = {
    "all": "display:flex;flex-wrap:wrap;gap:12px;font-family:sans-serif;font-size:13px;line-height:1.4",
    "card": f"width:{SIDE_PIXELS}px;margin:0;overflow-wrap:anywhere",
    "frame": f"width:{SIDE_PIXELS}px;height:{SIDE_PIXELS * 3 // 4}px;display:flex;align-items:center;justify-content:center;"
    "background:#8882;border-radius:6px;overflow:hidden;text-align:center",
    "picture": "max-width:100%;max-height:100%",
    "dim": "opacity:.7",
}


def hits_html(hits: Sequence[Hit], *, stream: int | None = None) -> str:
    """Return hits, best first, as HTML.

    Args:
        hits: The hits.
        stream: Which video stream pictures show, counted from 0; None for the one that players choose.

    Returns:
        Cards with rank, id, moment, score and metadata; the first ones with a picture (a data: URI) of the middle of
        their moment, or the reason why there is none.
    """
    if not hits:
        return "<p>no video is eligible</p>"
    pictures = [*_pictures(hits[:MAX_PICTURES], stream), *[None] * len(hits[MAX_PICTURES:])]
    cards = "".join(_card(hit, picture) for hit, picture in zip(hits, pictures, strict=True))
    return f'<div style="{STYLE["all"]}">{cards}</div>'


def _pictures(hits: Sequence[Hit], stream: int | None) -> Iterator[str]:
    end = time.monotonic() + TIMEOUT_SECONDS
    with FramePool(picture_settings(SIDE_PIXELS, seconds=TIMEOUT_SECONDS), workers=1, grace=2.0) as pool:
        for hit in hits:
            yield _picture(pool, hit, stream) if time.monotonic() < end else _note("no picture: out of time")


def _picture(pool: FramePool, hit: Hit, stream: int | None) -> str:
    if hit.path is None:
        return _note("no file")
    if hit.middle is None:
        return _note("no moment known")
    try:
        jpeg = picture_of(pool, hit.path, hit.middle, SIDE_PIXELS, stream)
    except VideoError as error:
        return _note(f"no picture: {error.kind.value}")
    data = base64.b64encode(jpeg).decode("ascii")
    caption = f"{hit.id} at {format_moment(hit.start, hit.end)}"
    return f'<img style="{STYLE["picture"]}" alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">'


def _note(text: str) -> str:
    return f'<span style="{STYLE["dim"]}">{escape(text)}</span>'


def _card(hit: Hit, picture: str | None) -> str:
    shown = "" if picture is None else f'<div style="{STYLE["frame"]}">{picture}</div>'
    also = ", ".join(format_moment(other.start, other.end) for other in hit.moments[:3])
    lines = [
        f"<b>{hit.rank}. {escape(hit.id)}</b>",
        f"{format_moment(hit.start, hit.end)} · {hit.score:.3f}{_sure(hit)}",
        f"“{escape(_cut(hit.line.text))}”" if hit.line else "",
        _note(f"also at {also}") if also else "",
        _note(_cut(", ".join(f"{key}: {value}" for key, value in hit.metadata.items()))),
    ]
    return (
        f'<figure style="{STYLE["card"]}">{shown}<figcaption>{"<br>".join(filter(None, lines))}</figcaption></figure>'
    )


def _sure(hit: Hit) -> str:
    return "" if hit.confidence is None else f" · confidence {hit.confidence:.2f}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_METADATA_CHARACTERS else text[:MAX_METADATA_CHARACTERS] + "…"
