"""Stored tokens as a query: what looks like this video, or like this moment of it."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.base.checks import real_number
from colbert_video.errors import SettingsError, shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.model.bags import FRAME_BAGS

MAX_TOKENS = 256
"""Tokens of a bag that a query has at most; of a long video, tokens are taken at even steps."""
Time = float | tuple[float, float]
"""A moment of a video: a time in seconds, or [start, end)."""


def checked_time(time: object) -> Time | None:
    """Return a time or a moment [start, end) in seconds.

    Raises:
        SettingsError: If it is neither or negative, or the moment ends before it starts.
    """
    if time is None or not isinstance(time, tuple | list):
        return None if time is None else real_number("time", time, least=0)
    if len(time) != 2:
        raise SettingsError(f"time={shown(time)} must be seconds, or a moment (start, end).")
    start, end = (real_number("time", second, least=0) for second in time)
    if end <= start:
        raise SettingsError(f"time={shown(time)} ends before it starts: give (start, end) in seconds.")
    return start, end


def middle_of(time: Time) -> float:
    """Return the time in the middle of a moment."""
    return (time[0] + time[1]) / 2 if isinstance(time, tuple) else time


def tokens_at(
    bag: str, tokens: Float[Tensor, "tokens dim"], item: VideoEntry, time: Time | None
) -> Float[Tensor, "_ dim"]:
    """Return the tokens of a bag that show a moment: those of its frames.

    Around a time, these are the frame next to it and its two neighbours. Without a time, of an item whose frames have no
    times, and in bags of other names, all tokens are returned.
    """
    count = max(item.frame_tokens, default=len(item.frame_times) - 1) + 1
    if time is None or bag not in FRAME_BAGS or not item.frame_times or count > len(tokens):
        return tokens
    columns = item.frame_tokens or range(len(item.frame_times))
    return tokens[sorted({columns[frame] for frame in _frames_at(item.frame_times, time)})]


def _frames_at(times: Sequence[float], time: Time) -> list[int]:
    middle = middle_of(time)
    nearest = min(range(len(times)), key=lambda frame: abs(times[frame] - middle))
    if isinstance(time, tuple):
        return [frame for frame, at in enumerate(times) if time[0] <= at < time[1]] or [nearest]
    return [frame for frame in (nearest - 1, nearest, nearest + 1) if 0 <= frame < len(times)]


def bounded(bags: Mapping[str, Sequence[Float[Tensor, "_ dim"]]]) -> dict[str, Float[Tensor, "_ dim"]]:
    """Return the tokens of several windows as one bag each, at most `MAX_TOKENS` at even steps."""
    joint = {bag: torch.cat(list(tokens)) for bag, tokens in bags.items()}
    return {bag: tokens[:: math.ceil(len(tokens) / MAX_TOKENS)] for bag, tokens in joint.items()}
