"""Ids of clips that are cut from YouTube videos: the video's id, start and end in seconds."""

import re

CLIP = re.compile(r".+_(\d+)_(\d+)")
"""Read from the right: YouTube's own ids may hold "_" and "-"."""


def clip_duration(identifier: str) -> dict[str, float]:
    """The clip's length in seconds as metadata; nothing for an id of another form."""
    match = CLIP.fullmatch(identifier)
    return {"duration": float(int(match[2]) - int(match[1]))} if match else {}
