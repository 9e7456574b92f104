"""An encoder made of two functions, for models that this library does not know."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.base.checks import whole_number
from colbert_video.base.torch_state import encoding_on
from colbert_video.device import Device, resolve_device
from colbert_video.errors import SettingsError, shown
from colbert_video.model.encoder import FrameStack, query_list, with_frames
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens, float_tokens
from colbert_video.video.frames import SamplingSettings

FINGERPRINT = re.compile(r"[0-9A-Za-z._:/@-]{1,256}")


class FunctionEncoder:
    """Makes an encoder of a function for queries and one for the frames of a video; it has frame tokens alone.

    Tokens may be tensors or arrays of any length: they are normalised.

    Args:
        encode_queries: Given texts, returns for each its tokens (query_tokens, dim).
        encode_frames: Given the RGB frames of one video, uint8 (frames, height, width, 3), returns one token for each
            frame (frames, dim).
        dim: Dimensions of every token.
        fingerprint: Names the weights: an index refuses an encoder of another name. A release or a digest, of letters,
            digits and "._:/@-".
        num_frames: Frames sampled from each video.
        height: Rows of the frames.
        width: Columns of the frames.
        token_texts: Given a text, returns what each of its tokens stands for, as `explain` shows it; None to number them.
        device: Where the functions compute, for scores that evaluation computes there.

    Raises:
        SettingsError: If a function is none, or a number or the fingerprint is out of range.
    """

    name = None
    """An encoder of functions is in memory alone; searches must be given it again."""
    bags = ("frame",)
    precision = "fp32"

    def __init__(
        self,
        *,
        encode_queries: Callable[[list[str]], Sequence[Any]],
        encode_frames: Callable[[FrameStack], Any],
        dim: int,
        fingerprint: str,
        num_frames: int = 12,
        height: int = 224,
        width: int = 224,
        token_texts: Callable[[str], Sequence[str]] | None = None,
        device: Device = "cpu",
    ) -> None:
        named = {"encode_queries": encode_queries, "encode_frames": encode_frames, "token_texts": token_texts}
        for name, function in named.items():
            if not (callable(function) or (function is None and name == "token_texts")):
                raise SettingsError(f"{name}={shown(function)} is not a function; give one, or a method of your model.")
        if not isinstance(fingerprint, str) or not FINGERPRINT.fullmatch(fingerprint):
            raise SettingsError(
                f"fingerprint={shown(fingerprint)} must be 1 to 256 letters, digits or '._:/@-', such as 'my-model@2'."
            )
        self._encode_queries, self._encode_frames, self._token_texts = encode_queries, encode_frames, token_texts
        self.dim = whole_number("dim", dim, least=1)
        self.device = resolve_device(device)
        self._fingerprint = fingerprint
        self._sampling = SamplingSettings(num_frames=num_frames, height=height, width=width)

    def sampling(self, num_frames: int | None = None, **settings: Any) -> SamplingSettings:
        """Return how frames of a video are taken; see `VideoEncoder.sampling`."""
        return with_frames(self._sampling, num_frames, settings)

    def fingerprint(self) -> str:
        """Return the name of the weights."""
        return self._fingerprint

    def encode_queries(self, texts: Sequence[str]) -> QueryTokens:
        """Return the tokens of each query, padded where they differ in number.

        Raises:
            SettingsError: If a query is empty, or the function returns something else than tokens for each.
        """
        texts = query_list(texts)
        with encoding_on(self.device):
            made = list(self._encode_queries(texts))
            if len(made) != len(texts):
                raise SettingsError(
                    f"encode_queries returned {len(made)} bags for {len(texts)} texts; return one for each."
                )
            found = TokenBags.from_list([self._unit(tokens, "encode_queries") for tokens in made])
            last = found.mask.sum(dim=1) - 1  # (queries,)
            return QueryTokens(found.tokens, found.mask, last)

    def query_token_texts(self, text: str) -> list[str]:
        """Return what each token of a query stands for, or its number."""
        if self._token_texts is not None:
            return [str(word) for word in self._token_texts(text)]
        return [f"token {number}" for number in range(1, int(self.encode_queries([text]).mask.sum()) + 1)]

    def encode_videos(self, videos: Sequence[FrameStack]) -> VideoTokens:
        """Return a frame token for each frame of each video.

        Raises:
            SettingsError: If there is no video, or the function returns another number of tokens than frames.
        """
        if not len(videos):
            raise SettingsError("no video was given; at least one is needed.")
        with encoding_on(self.device):
            bags = []
            for frames in videos:
                bags.append(self._unit(self._encode_frames(frames), "encode_frames"))
                if len(bags[-1]) != len(frames):
                    raise SettingsError(
                        f"encode_frames returned {len(bags[-1])} tokens for {len(frames)} frames; return one for each."
                    )
            return VideoTokens(TokenBags.from_list(bags), None)

    def _unit(self, tokens: Any, function: str) -> Float[Tensor, "tokens dim"]:
        found = float_tokens(tokens, f"what {function} returned").to(self.device)
        if found.ndim != 2 or found.shape[1] != self.dim or not len(found):
            raise SettingsError(
                f"{function} returned tokens of shape {tuple(found.shape)}; return (tokens, {self.dim})."
            )
        lengths = torch.linalg.vector_norm(found, dim=1, keepdim=True)  # (tokens, 1)
        if not bool((lengths > 0).all() & lengths.isfinite().all()):
            raise SettingsError(f"{function} returned a token that is zero or not finite, and has no direction.")
        return found / lengths
