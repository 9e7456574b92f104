"""Bags: the kinds of tokens that a video has, by their names, and how much each counts in a score."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from colbert_video.base.checks import real_number, text_list
from colbert_video.errors import ModelError, SettingsError, shown
from colbert_video.model.tokens import TokenBags, VideoTokens

FRAME_BAGS = ("frame", "video")
"""Bags that begin with a token for each sampled frame, in the order of the frames."""
MAX_BAGS = 4
MAX_WEIGHT = 1e6
"""Far below what single precision holds."""
BAG_NAME = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)$)[a-z][a-z0-9_]{0,31}")
"""A bag's name is that of a folder on every system, Windows' names of devices left out."""


def check_bags(names: Any) -> tuple[str, ...]:
    """Return the names of an index's bags.

    Raises:
        SettingsError: If there are none, more than `MAX_BAGS`, one is there twice, or not of `BAG_NAME`.
    """
    bags = text_list("bags", names, ordered=True)
    for bag in bags:
        if not BAG_NAME.fullmatch(bag):
            raise SettingsError(
                f"{shown(bag)} cannot name a bag: give a lower-case letter, then at most 31 letters, digits or '_', such "
                "as 'frame' or 'speech'; names of devices, such as 'aux', are no folders on Windows."
            )
    if not 1 <= len(bags) <= MAX_BAGS or len(set(bags)) < len(bags):
        raise SettingsError(f"bags {shown(tuple(bags))} must be 1 to {MAX_BAGS} different names, such as ('frame',).")
    return tuple(bags)


def check_weights(given: Any, bags: Collection[str]) -> dict[str, float]:
    """Return weights by bag as plain numbers.

    Args:
        given: How much bags count, by name; some of them or all.
        bags: Bags that there are.

    Raises:
        SettingsError: If a bag is not among these, or its weight is no number from 0 to `MAX_WEIGHT`.
    """
    if not isinstance(given, Mapping):
        raise SettingsError(
            f"bag_weights={shown(given)} must be weights by bag, such as {{'frame': 1.0, 'video': 0.5}}."
        )
    for bag in given:
        if bag not in bags:
            raise SettingsError(f"bag_weights names {shown(bag)}, and the bags of the index are {', '.join(bags)}.")
    return {
        bag: float(real_number(f"the weight of bag {shown(bag)}", weight, least=0, most=MAX_WEIGHT))
        for bag, weight in given.items()
    }


def holds_frames(bag: str, tokens: int, frames: int) -> bool:
    """Return True if the first tokens of a bag stand for the sampled frames, so that each has a time."""
    return bag in FRAME_BAGS and 0 < frames <= tokens


def bags_by_name(encoded: VideoTokens | Mapping[str, TokenBags], wanted: Collection[str]) -> dict[str, TokenBags]:
    """Return some of the bags that `VideoEncoder.encode_videos` returned, in the order wanted.

    Raises:
        ModelError: If one is not there.
    """
    named = encoded if isinstance(encoded, Mapping) else encoded._asdict()
    made = {bag: tokens for bag, tokens in named.items() if tokens is not None}
    missing = [bag for bag in wanted if bag not in made]
    if missing:
        raise ModelError(
            f"encode_videos of the model returned no bag {shown(missing[0])}, only {shown(tuple(made))}: it must return "
            "all that the model's `bags` names."
        )
    return {bag: made[bag] for bag in wanted}


def tokens_of_frames(bags: Mapping[str, Float[Tensor, "_ dim"]], frames: int) -> dict[str, Float[Tensor, "_ dim"]]:
    """Return the bags of one video whose first tokens stand for its frames."""
    return {bag: tokens for bag, tokens in bags.items() if holds_frames(bag, len(tokens), frames)}
