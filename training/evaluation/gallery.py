"""A gallery of videos, encoded once, and the scores of captions against it by every interaction."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from colbert_video.base.checks import text_list
from colbert_video.errors import SettingsError, VideoError, shown
from colbert_video.model.bags import FRAME_BAGS
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.encoders.first_dims import whole_encoder
from colbert_video.model.interaction import (
    INTERACTIONS,
    SCORE_RESOLUTION,
    Interaction,
    fuse,
    mean_max_sim,
    reciprocal_rank_fusion,
    settle_ties,
)
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.progress import progress_bar
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.reading import FrameReader
from colbert_video.video.workers.pool import FrameRequest

Baseline = Literal["mms_f_pooled"]
"""Scores that are only evaluated, never used in training or search."""
Scoring = Interaction | Baseline
"""Scores of an evaluation."""
ZERO_SHOT: tuple[Scoring, ...] = ("mp_f", "mms_f_pooled")
"""Baselines, which every model has."""
VIDEOS_PER_ROUND = 64
"""Videos decoded, then encoded together; fixed, so that repeated evaluations agree in every digit."""
QUERIES_AT_ONCE = 256
"""Captions encoded and scored together."""
FRAME_ONLY = ("mms_f", "mp_f")
"""Interactions that an untrained model has."""
BOTH = ("mms_fv", "rrf")
"""Interactions made of MMS_F and MMS_V."""
KNOWN = tuple(dict.fromkeys((*INTERACTIONS, *ZERO_SHOT)))
"""Names of all scores."""


def applicable_interactions(model: VideoEncoder, chosen: Sequence[str] | None = None) -> tuple[Scoring, ...]:
    """Return the interactions to evaluate a model with.

    Args:
        model: An untrained one has only the interactions of frame tokens.
        chosen: Interactions, or the zero-shot baselines, which every model has; None for all interactions of the model.

    Raises:
        SettingsError: If one is unknown or the model cannot score with it.
    """
    possible = _possible(model)
    chosen = None if chosen is None else text_list("interactions", chosen)
    for name in chosen or ():
        if name not in KNOWN:
            raise SettingsError(f"interaction {shown(name)} is unknown; choose from {', '.join(KNOWN)}.")
        if name not in (*possible, *ZERO_SHOT):
            raise SettingsError(f"interaction {shown(name)} needs a trained model; this one has {', '.join(possible)}.")
    return tuple(possible if chosen is None else chosen)  # type: ignore[arg-type]


def _possible(model: VideoEncoder) -> Sequence[str]:
    model = whole_encoder(model)
    makes_both = model.config.trained if isinstance(model, VideoColBERT) else {*model.bags} == {*FRAME_BAGS}
    return get_args(Interaction) if makes_both else FRAME_ONLY


def own_interaction(model: VideoEncoder) -> Interaction:
    """Return the interaction that a search with a model computes."""
    model = whole_encoder(model)
    if isinstance(model, VideoColBERT) and model.config.trained:
        return model.config.interaction
    return "mms_fv" if {*model.bags} == {*FRAME_BAGS} else "mms_f"


def encode_gallery(
    model: VideoEncoder,
    videos: Mapping[str, Path],
    *,
    num_frames: int | None = None,
    snap: float | None = None,
    cache: FrameCache | None = None,
    workers: int | None = None,
) -> tuple[dict[str, VideoTokens], dict[str, VideoError]]:
    """Encode videos with centre sampling.

    Args:
        model: Encodes them.
        videos: Files by id.
        num_frames: Frames of a video; None for the model's own number.
        snap: As for `Indexer`; 0 for the exact frames of long videos.
        cache: Keeps decoded frames.
        workers: Decoding processes; None for one per core, 0 to decode in this process.

    Returns:
        Tokens of each video (one bag of each kind, on the CPU), and the reason for each video without, both by id in
        the order given.
    """
    encoded: dict[str, VideoTokens] = {}
    refused: dict[str, VideoError] = {}
    names = list(videos)
    sampling = model.sampling(num_frames, **({} if snap is None else {"snap": snap}))
    with (
        _evaluating(model),
        FrameReader(sampling, workers=workers, cache=cache) as reader,
        progress_bar("encoding videos", len(names)) as bar,
    ):
        for start in range(0, len(names), VIDEOS_PER_ROUND):
            part = names[start : start + VIDEOS_PER_ROUND]
            requests = [FrameRequest(str(videos[name]), tag=name) for name in part]
            readings = {reading.request.tag: reading for reading in reader.read_many(requests)}
            refused |= {name: error for name in part if (error := readings[name].error) is not None}
            stacks = {name: pixels for name in part if (pixels := readings[name].pixels) is not None}
            if stacks:
                encoded |= zip(stacks, _bags(model.encode_videos(list(stacks.values()))), strict=True)
            bar.advance(len(part))
    return encoded, refused


def score_gallery(
    model: VideoEncoder, captions: Sequence[str], gallery: Sequence[VideoTokens], interactions: Sequence[Scoring]
) -> dict[str, Float[Tensor, "queries videos"]]:
    """Score captions against every video of a gallery.

    Args:
        model: Encodes the captions.
        captions: The queries.
        gallery: From `encode_gallery`.
        interactions: How to score.

    Returns:
        float32 scores by interaction, on the CPU, with ties settled (`settle_ties`): what is measured, written and read
        again agrees in every tie.
    """
    videos = _stack(gallery, model.device)
    parts: dict[str, list[Tensor]] = {name: [] for name in interactions}
    with _evaluating(model), torch.inference_mode():
        for start in range(0, len(captions), QUERIES_AT_ONCE):
            queries = model.encode_queries(list(captions[start : start + QUERIES_AT_ONCE]))
            for name, scores in _score(queries, videos, interactions).items():
                resolution = 0.0 if name == "rrf" else SCORE_RESOLUTION  # rrf is made of ranks
                parts[name].append(settle_ties(scores.float(), resolution).cpu())
    return {name: torch.cat(scores) for name, scores in parts.items()}


def _score(
    queries: QueryTokens, videos: VideoTokens, interactions: Sequence[Scoring]
) -> dict[str, Float[Tensor, "queries videos"]]:
    """`fuse` for each interaction, with the two halves that several share computed once."""
    halves: list[Interaction] = ["mms_f", "mms_v"]
    shared = [name for name in halves if name in interactions or any(both in interactions for both in BOTH)]
    scores: dict[str, Tensor] = {name: fuse(queries, videos, name) for name in shared}
    for name in interactions:
        if name == "mms_fv":
            scores[name] = scores["mms_f"] + scores["mms_v"]
        elif name == "rrf":
            scores[name] = reciprocal_rank_fusion(scores["mms_f"], scores["mms_v"])
        elif name == "mms_f_pooled":
            scores[name] = pooled_max_sim(queries, videos.frame)
        elif name not in scores:
            scores[name] = fuse(queries, videos, name)
    return {name: scores[name] for name in interactions}


def _bags(tokens: VideoTokens | Mapping[str, TokenBags]) -> Iterator[VideoTokens]:
    """Yield the tokens of each video, without padding.

    Raises:
        SettingsError: If they are not frame and video tokens.
    """
    tokens = tokens if isinstance(tokens, VideoTokens) else _frame_and_video(tokens)
    frame_bags = tokens.frame.to("cpu").unpadded()
    video_bags = [None] * len(frame_bags) if tokens.video is None else tokens.video.to("cpu").unpadded()
    for frame, video in zip(frame_bags, video_bags, strict=True):
        yield VideoTokens(TokenBags.from_list([frame]), None if video is None else TokenBags.from_list([video]))


def _frame_and_video(bags: Mapping[str, TokenBags]) -> VideoTokens:
    if "frame" not in bags or {*bags} - {*FRAME_BAGS}:
        raise SettingsError(
            f"the encoder makes the bags {shown(tuple(bags))}, and interactions are scores of frame and video tokens: "
            "index the videos, and evaluate the index."
        )
    return VideoTokens(bags["frame"], bags.get("video"))


def _stack(gallery: Sequence[VideoTokens], device: torch.device) -> VideoTokens:
    frame = TokenBags.from_list([tokens.frame[0] for tokens in gallery]).to(device)
    bags = [tokens.video[0] for tokens in gallery if tokens.video is not None]
    return VideoTokens(frame, TokenBags.from_list(bags).to(device) if bags else None)


@contextmanager
def _evaluating(model: VideoEncoder) -> Iterator[None]:
    model = whole_encoder(model)
    if not isinstance(model, nn.Module):
        yield
        return
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def pooled_max_sim(queries: QueryTokens, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """Compute the cosine of the pooled query token and the nearest frame.

    Args:
        queries: Query tokens, of which only the pooled one is used.
        bags: Frame tokens.

    Returns:
        Scores in [-1, 1] for unit vectors.

    Raises:
        SettingsError: If a video has no frame, or the dimensions differ.
    """
    tokens = queries.pooled_tokens()[:, None]  # (queries, 1, dim)
    return mean_max_sim(TokenBags(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool)), bags)
