"""The direction that a model's queries share, along which rounding errors of stored tokens are made to cancel.

It is the mean of typical queries. A few dozen sentences are enough: what they share comes from the text tower, not from
what they say. For queries that do not share it, errors of scores grow a little: by what making up for it costs.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from colbert_video.errors import SettingsError, callers_code
from colbert_video.indexing.build.arrays import Tokens
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.tokens import float_tokens

TYPICAL_QUERIES = (
    "a man is cooking in a kitchen",
    "a dog runs after a ball on the beach",
    "two women talk on a talk show",
    "a girl plays the piano",
    "how to change the tire of a car",
    "people dancing at a wedding",
    "a cat sleeps on the sofa",
    "the goalkeeper saves a penalty",
    "a train crosses a bridge in the snow",
    "someone is typing on a keyboard",
    "a chef cuts vegetables and puts them into a pan",
    "children play in a park",
    "a news anchor speaks in front of a map",
    "close-up of a bee on a yellow flower",
    "an airplane takes off at sunset",
    "a man rides a bicycle down a mountain",
    "a cartoon character jumps over a wall",
    "a person paints a picture of a tree",
    "a crowd cheers at a concert",
    "drone shot over a city at night",
    "a baby laughs",
    "a woman applies makeup to her face",
    "a surfer falls off his board",
    "explaining a math problem on a blackboard",
    "red car",
    "fish swimming in an aquarium",
    "a soldier walks through the desert",
    "a player of a video game opens a chest",
    "rain falls on a window",
    "a band performs a song on stage",
    "a woman folds a paper into a bird",
    "waves breaking on rocks",
    "a man in a suit gives a speech",
    "horses run across a field",
    "a doctor examines a patient",
    "the first goal of the match",
    "a tutorial about editing photos",
    "an old black and white movie scene",
    "a couple argues in a restaurant",
    "a boy opens a birthday present",
    "a worker welds a metal pipe",
    "a basketball player dunks",
    "a street market with fruit and spices",
    "fireworks over a river",
    "a woman does yoga on the floor of her living room",
    "a rocket launch seen from far away",
    "a man tells a joke and the audience laughs",
    "a snake moves through the grass",
)


def typical_direction(model: VideoEncoder) -> Float[Tensor, "dim"] | None:
    """Return the direction that a model's queries share; None if they share none."""
    with callers_code():
        queries = model.encode_queries(TYPICAL_QUERIES).to("cpu").unpadded()
    return shared_direction(queries)


def direction_of_tokens(queries: Tokens | None, dim: int) -> Float[Tensor, "dim"] | None:
    """Return the direction that precomputed queries share; None without any, or if they share none.

    Args:
        queries: One bag per query: (queries, query_tokens, dim), or a list of (query_tokens, dim).
        dim: Dimensions that the tokens must have.

    Raises:
        SettingsError: If there is no query, or its tokens have another shape, or are not finite.
    """
    if queries is None:
        return None
    with callers_code():
        bags = [float_tokens(queries[number], "query_tokens") for number in range(len(queries))]
    if not bags:
        raise SettingsError("query_tokens holds no query; give a few dozen, or None.")
    for number, bag in enumerate(bags):
        if bag.ndim != 2 or bag.shape[1] != dim or not len(bag):
            raise SettingsError(
                f"query {number} has tokens of shape {tuple(bag.shape)}; it must be (query_tokens, {dim})."
            )
        if not bool(bag.isfinite().all()):
            raise SettingsError(f"the tokens of query {number} hold NaN or infinity.")
    return shared_direction(bags)


def shared_direction(queries: Sequence[Float[Tensor, "_ dim"]]) -> Float[Tensor, "dim"] | None:
    """Return the unit vector along the mean of queries, each the mean of its tokens; None if it is 0."""
    mean = torch.stack([query.float().cpu().mean(0) for query in queries]).mean(0)
    return functional.normalize(mean, dim=0) if bool(mean.any()) else None
