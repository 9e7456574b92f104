"""Models of sentence-transformers' `MultiVectorEncoder` as encoders of videos: each frame goes through the image input.

Their similarity "meanmaxsim" is our MeanMaxSim: of tokens that are kept whole, scores are those of the model's own
`similarity`, up to compression.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from colbert_video.base.checks import whole_number
from colbert_video.base.torch_state import encoding_on
from colbert_video.base.weight_files import weights_digest
from colbert_video.device import Device, resolve_device
from colbert_video.errors import DependencyError, ModelError, SettingsError, in_one_line, shown
from colbert_video.model.encoder import FrameStack, query_list, with_frames
from colbert_video.model.pooling import Pooling, pool
from colbert_video.model.precision import precision_of
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.video.frames import SamplingSettings

IMAGES_AT_ONCE = 8
"""Frames that the model encodes at once by default; a frame may have a thousand tokens."""
NUMBERS = ("tokens_per_frame", "num_frames", "height", "width", "images_at_once")
"""Options that the name of an encoder may set."""


class SentenceTransformersEncoder:
    """Lets `Indexer` and `Searcher` use a `sentence_transformers.MultiVectorEncoder` whose documents may be images.

    A query has the tokens of the model's query side. A frame has the tokens of an image: all of them, a number of them, or
    one. They are the frame bag; a token is shown at the time of its frame. The index does not remember the encoder: give it to
    each searcher, in memory or as "st:NAME", which `load_by_name` reads.

    Args:
        model: The model, or the name or folder that `MultiVectorEncoder` loads.
        tokens_per_frame: "all", or how many: similar tokens of a frame are pooled until so many are left (hierarchical
            pooling, as `Pooling`); 1 is their mean.
        num_frames: Frames sampled from each video.
        height: Rows of the frames that the model's image processor is given.
        width: Columns of these frames.
        images_at_once: Frames that the model encodes at once.
        device: Where a model given by name computes; None for the first GPU, else the CPU.

    Raises:
        DependencyError: If sentence-transformers is not installed.
        ModelError: If the model cannot be loaded, or takes no images.
        SettingsError: If a number is out of range.
    """

    name = None
    """The index remembers no name: what makes tokens of frames is more than the model."""
    bags = ("frame",)

    def __init__(
        self,
        model: Any,
        *,
        tokens_per_frame: int | Literal["all"] = "all",
        num_frames: int = 12,
        height: int = 224,
        width: int = 224,
        images_at_once: int = IMAGES_AT_ONCE,
        device: Device | None = None,
    ) -> None:
        if tokens_per_frame != "all":
            tokens_per_frame = whole_number("tokens_per_frame", tokens_per_frame, least=1)
        self._tokens_per_frame = tokens_per_frame
        self._images_at_once = whole_number("images_at_once", images_at_once, least=1)
        self._sampling = SamplingSettings(num_frames=num_frames, height=height, width=width)
        self.model = _loaded(model, device) if isinstance(model, str | Path) else model
        _check_images(self.model)

    @cached_property
    def dim(self) -> int:
        """Dimensions of every token."""
        dim = self.model.get_embedding_dimension()
        return len(self.encode_queries(["word"]).tokens[0, 0]) if dim is None else int(dim)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return torch.device(self.model.device)

    @property
    def precision(self) -> str:
        """Precision of the model's weights, which is chosen where it is loaded."""
        return precision_of(next((weights.dtype for weights in self.model.parameters()), torch.float32))

    def sampling(self, num_frames: int | None = None, **settings: Any) -> SamplingSettings:
        """Return how frames of a video are taken; see `VideoEncoder.sampling`."""
        return with_frames(self._sampling, num_frames, settings)

    def fingerprint(self) -> str:
        """Return a digest of weights, modules, prompts and what becomes of a frame's tokens."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        modules = [type(module).__qualname__ for module in self.model.modules()]
        facts = (
            modules,
            sorted(self.model.prompts.items(), key=repr),
            self._tokens_per_frame,
            self._sampling.height,
            self._sampling.width,
        )
        return weights_digest(facts, self.model.state_dict())

    def encode_queries(self, texts: Sequence[str]) -> QueryTokens:
        """Return the tokens of the model's query side.

        Raises:
            SettingsError: If there is no query or one is empty.
            ModelError: If the model makes a token without direction.
        """
        texts = query_list(texts)
        with encoding_on(self.device):
            made = self.model.encode_query(texts, show_progress_bar=False)
            found = TokenBags.from_list([_unit(tokens, "query") for tokens in made])
            return QueryTokens(found.tokens, found.mask, found.mask.sum(dim=1) - 1)

    def query_token_texts(self, text: str) -> list[str]:
        """Return the tokens' words where the model's tokenizer says them, else their numbers."""
        count = int(self.encode_queries([text]).mask.sum())
        words = self._words(text)
        return words if len(words) == count else [f"token {number}" for number in range(1, count + 1)]

    def _words(self, text: str) -> list[str]:
        tokenizer: Any = getattr(self.model, "tokenizer", None)
        if not hasattr(tokenizer, "convert_ids_to_tokens"):
            return []
        features = self.model.preprocess([text], prompt=self.model.prompts.get("query"), task="query")
        ids = features.get("input_ids")
        return [] if ids is None else [str(word) for word in tokenizer.convert_ids_to_tokens(ids[0].tolist())]

    def encode_videos(self, videos: Sequence[FrameStack]) -> VideoTokens:
        """Return the tokens of the frames of each video, frame by frame, the same number for each.

        Raises:
            SettingsError: If there is no video or one has no frame, or frames have different numbers of tokens.
        """
        from PIL import Image

        if not len(videos) or not all(len(frames) for frames in videos):
            raise SettingsError("a video needs at least one frame; give one video or more, none of them empty.")
        with encoding_on(self.device):
            images = [Image.fromarray(np.asarray(frame)) for frames in videos for frame in frames]
            made = self.model.encode_document(images, batch_size=self._images_at_once, show_progress_bar=False)
            frames = iter([self._pooled(_unit(tokens, "frame")) for tokens in made])
            return VideoTokens(TokenBags.from_list([_joined([next(frames) for _ in video]) for video in videos]), None)

    def _pooled(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "fewer dim"]:
        wanted = self._tokens_per_frame
        if wanted == "all" or len(tokens) <= wanted:
            return tokens
        if wanted == 1:
            return pool(tokens, torch.zeros(len(tokens), dtype=torch.int64, device="cpu"))
        groups = Pooling(factor=len(tokens) / wanted).group({"frame": tokens}, len(tokens))  # (tokens,)
        return pool(tokens, groups)


def load_by_name(which: str, *, device: Device | None = None) -> SentenceTransformersEncoder:
    """Load the encoder that "st:NAME?OPTION=VALUE&…" names.

    Args:
        which: The name or folder of the model, then any numbers of `SentenceTransformersEncoder` that are not its defaults,
            such as "org/model?tokens_per_frame=4&num_frames=8".
        device: Where it computes; None for the first GPU, else the CPU.

    Raises:
        SettingsError: If an option is unknown or no number.
        DependencyError: As for `SentenceTransformersEncoder`.
        ModelError: As for `SentenceTransformersEncoder`.
    """
    name, _, query = which.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option, value in options.items():
        if option not in NUMBERS or not (value.isascii() and value.isdigit()):
            raise SettingsError(
                f"{shown(option)}={shown(value)} in the name of the encoder: options are {', '.join(NUMBERS)}, each a whole number."
            )
    if not name:
        raise SettingsError("st: names no model; give the name or folder of one, such as st:org/model.")
    return SentenceTransformersEncoder(name, device=device, **{option: int(value) for option, value in options.items()})


def _loaded(name: str | Path, device: Device | None) -> Any:
    target = resolve_device(device)
    try:
        from sentence_transformers import MultiVectorEncoder
    except ImportError as error:
        raise DependencyError(
            "SentenceTransformersEncoder needs sentence-transformers 6.2 or later; install it with: pip install "
            '"colbert_video[sentence-transformers]".'
        ) from error
    try:
        return MultiVectorEncoder(str(name), device=str(target))
    except Exception as error:
        raise ModelError(f"the model {shown(str(name))} cannot be loaded: {in_one_line(error)}.") from error


def _check_images(model: Any) -> None:
    encoder: Any = model
    if not (hasattr(model, "encode_query") and hasattr(model, "encode_document") and isinstance(model, nn.Module)):
        raise SettingsError(
            f"model={shown(model)} is not a MultiVectorEncoder of sentence-transformers, nor the name of one."
        )
    if not encoder.supports("image"):
        raise ModelError(
            f"this MultiVectorEncoder takes {', '.join(map(str, encoder.modalities))} and no images, so it cannot encode "
            "frames; choose a model for visual documents."
        )


def _unit(tokens: Tensor, kind: str) -> Float[Tensor, "tokens dim"]:
    found = tokens.detach().float()
    lengths = torch.linalg.vector_norm(found, dim=1, keepdim=True)  # (tokens, 1)
    if not len(found) or not bool((lengths > 0).all() & lengths.isfinite().all()):
        raise ModelError(f"the model makes a {kind} without tokens, or a token without direction.")
    return found / lengths


def _joined(frames: list[Float[Tensor, "_ dim"]]) -> Float[Tensor, "tokens dim"]:
    numbers = sorted({len(tokens) for tokens in frames})
    if len(numbers) > 1:
        raise SettingsError(
            f"the frames of a video have {numbers[0]} to {numbers[-1]} tokens; set tokens_per_frame= to a number of at most "
            f"{numbers[0]}."
        )
    return torch.cat(frames)
