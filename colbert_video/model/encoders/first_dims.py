"""An encoder whose tokens keep their first dimensions alone, as Matryoshka training prepares them (Kusupati et al., 2022)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from colbert_video.base.checks import whole_number
from colbert_video.errors import SettingsError, shown
from colbert_video.model.encoder import FrameStack, VideoEncoder
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.video.frames import SamplingSettings


class FirstDims:
    """Cuts the tokens of an encoder to their first dimensions and normalises them again, those of queries and videos alike.

    It has the fingerprint of the whole encoder, so that an index of cut tokens is searched with the model that made them.

    Args:
        encoder: Makes whole tokens; one that is cut already is cut anew.
        dim: How many dimensions to keep.

    Raises:
        SettingsError: If the encoder's tokens have fewer dimensions.
    """

    def __init__(self, encoder: VideoEncoder, dim: int) -> None:
        self.whole = whole_encoder(encoder)
        self.dim = whole_number("dim", dim, least=1)
        if self.dim > self.whole.dim:
            raise SettingsError(
                f"dim={self.dim} was given, but the model makes tokens of {self.whole.dim} dimensions: give fewer, or leave "
                "dim out."
            )

    @property
    def name(self) -> str | None:
        """Name of the whole encoder."""
        return self.whole.name

    @property
    def bags(self) -> tuple[str, ...]:
        """Bags of the whole encoder."""
        return self.whole.bags

    @property
    def precision(self) -> str:
        """Precision in which it computes."""
        return self.whole.precision

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.whole.device

    def sampling(self, num_frames: int | None = None, **settings: Any) -> SamplingSettings:
        """Return how frames of a video are taken; see `VideoEncoder.sampling`."""
        return self.whole.sampling(num_frames, **settings)

    def fingerprint(self) -> str:
        """Return the digest of the whole encoder."""
        return self.whole.fingerprint()

    def reads_all(self, text: str) -> bool:
        """Return False if the encoder says that a text is longer than it reads."""
        reads_all = getattr(self.whole, "reads_all", None)
        return reads_all is None or bool(reads_all(text))

    def encode_queries(self, texts: Sequence[str]) -> QueryTokens:
        """Return the first dimensions of the tokens of each query (queries, query_tokens, dim), unit vectors."""
        return self.whole.encode_queries(texts).first_dims(self.dim)

    def query_token_texts(self, text: str) -> list[str]:
        """Return what each token of a query stands for."""
        return self.whole.query_token_texts(text)

    def encode_videos(self, videos: Sequence[FrameStack]) -> VideoTokens | Mapping[str, TokenBags]:
        """Return the first dimensions of the tokens of each bag (videos, tokens, dim), unit vectors."""
        found = self.whole.encode_videos(videos)
        if not isinstance(found, VideoTokens):
            return {bag: tokens.first_dims(self.dim) for bag, tokens in found.items()}
        frame, video = found
        return VideoTokens(frame.first_dims(self.dim), None if video is None else video.first_dims(self.dim))

    def __repr__(self) -> str:
        return f"FirstDims({shown(self.whole)}, dim={self.dim})"


def whole_encoder(encoder: VideoEncoder) -> VideoEncoder:
    """Return the encoder whose tokens are not cut."""
    return encoder.whole if isinstance(encoder, FirstDims) else encoder


def with_first_dims(encoder: VideoEncoder, dim: int | None) -> VideoEncoder:
    """Return an encoder of the first dimensions; the whole one for None, or for all of them.

    Raises:
        SettingsError: If the encoder's tokens have fewer dimensions.
    """
    whole = whole_encoder(encoder)
    return whole if dim is None or dim == whole.dim else FirstDims(whole, dim)


def fitted_encoder(encoder: VideoEncoder, dim: int, fingerprint: str | None) -> VideoEncoder:
    """Return an encoder cut as an index was, if it is the model that made it; any other as it is.

    Args:
        encoder: The encoder, whole or cut.
        dim: Dimensions of the index's tokens.
        fingerprint: Of the model that made the index; None if that is unknown.
    """
    if encoder.dim == dim or fingerprint is None:
        return encoder
    whole = whole_encoder(encoder)
    fits = dim <= whole.dim and whole.fingerprint() == fingerprint
    return with_first_dims(whole, dim) if fits else encoder
