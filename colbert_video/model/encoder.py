"""What index, search, evaluation and service need of a model, whichever it is.

`VideoColBERT` is one such encoder; `FunctionEncoder` makes one of two functions, and
`colbert_video.ecosystem.SentenceTransformersEncoder` one of a model of sentence-transformers.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from colbert_video.base.checks import text_list
from colbert_video.errors import SettingsError, shown
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.video.frames import SamplingSettings

FrameStack = UInt8[np.ndarray, "_ _ _ 3"] | UInt8[Tensor, "_ _ _ 3"]
"""RGB frames of one video (frames, height, width, 3), values 0 to 255."""


@runtime_checkable
class VideoEncoder(Protocol):
    """A model that turns queries and videos into bags of unit token vectors.

    Queries and videos may be encoded in several threads at the same time.
    """

    @property
    def name(self) -> str | None:
        """What `load_encoder` loads it by, which an index remembers; None if it is in memory alone."""

    @property
    def dim(self) -> int:
        """Dimensions of every token."""

    @property
    def bags(self) -> tuple[str, ...]:
        """Bags that it makes of a video and that are searched, in the order in which they are scored.

        "frame", "video" or both; an encoder may make up to four of any names, such as "speech".
        """

    @property
    def precision(self) -> str:
        """Precision in which tokens are computed, "fp32" for example; an index notes it for information."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def sampling(self, num_frames: int | None = None, **settings: Any) -> SamplingSettings:
        """Return how frames of a video are taken for it: as many, and of the size, that it wants.

        Args:
            num_frames: Frames of each video; None for its own number.
            **settings: Other fields of `SamplingSettings`, such as `decoder` and `timeout`.

        Raises:
            SettingsError: If it takes fewer frames, or a setting is out of range.
        """

    def fingerprint(self) -> str:
        """Return a digest, of letters and digits: encoders of equal fingerprints make tokens that may be compared."""

    def encode_queries(self, texts: Sequence[str]) -> QueryTokens:
        """Return the tokens of each query (queries, query_tokens, dim), float32 unit vectors.

        Raises:
            SettingsError: If there is no query or one is empty.
        """

    def query_token_texts(self, text: str) -> list[str]:
        """Return what each scored token of `encode_queries([text])` stands for, in the same order, for people to read."""

    def encode_videos(self, videos: Sequence[FrameStack]) -> VideoTokens | Mapping[str, TokenBags]:
        """Return the bags of each video: float32 unit vectors (videos, tokens, dim), None for a bag that is not made.

        The frame bag has a token for each frame, in their order, or the same number of tokens for each. The video bag begins
        with one for each frame. An encoder that makes bags of other names returns all of them by name; their tokens have no
        times.

        Raises:
            SettingsError: If there is no video, or one has no frame.
        """


MEMBERS = (
    *("name", "dim", "bags", "precision", "device", "sampling", "fingerprint"),
    *("encode_queries", "query_token_texts", "encode_videos"),
)


def is_name(model: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return True if a model is given by its name or folder, rather than as an encoder."""
    return isinstance(model, str | os.PathLike)


def check_encoder(model: object) -> None:
    """Check that an object is an encoder.

    Raises:
        SettingsError: If it is anything else; the sentence names what it lacks.
    """
    missing = [name for name in MEMBERS if not hasattr(model, name)]
    if missing:
        raise SettingsError(
            f"model={shown(model)} is not an encoder: a {type(model).__name__} has no {', '.join(missing)}. Give a name, a "
            "VideoColBERT, or an object that satisfies colbert_video.model.VideoEncoder."
        )


def check_words(texts: Sequence[object]) -> None:
    """Check that queries are texts with words.

    Raises:
        SettingsError: If one is empty or no text.
    """
    for number, text in enumerate(texts):
        which = "the query" if len(texts) == 1 else f"query {number}"
        if not isinstance(text, str):
            raise SettingsError(f"{which} is {shown(text)}: give a text.")
        if not text.strip():
            raise SettingsError(f"{which} is empty: give it at least one word.")


def query_list(texts: object) -> list[str]:
    """Return the queries of `encode_queries` as a list.

    Raises:
        SettingsError: If there is none, or one is empty or no text.
    """
    queries = text_list("texts", texts, ordered=True)
    if not queries:
        raise SettingsError("no query was given; at least one is needed.")
    check_words(queries)
    return queries


def with_frames(sampling: SamplingSettings, num_frames: int | None, settings: Mapping[str, Any]) -> SamplingSettings:
    """Return an encoder's sampling with another number of frames, if one is given, and other settings."""
    chosen: dict[str, Any] = {**settings} if num_frames is None else {**settings, "num_frames": num_frames}
    return replace(sampling, **chosen)
