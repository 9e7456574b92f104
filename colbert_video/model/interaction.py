"""MeanMaxSim and its fusions: the reference scores of Video-ColBERT (Reddy et al., CVPR 2025, section 3 and Table 3).

Everything that scores faster (compressed, pruned, in C++) must agree with these few lines.
"""

from dataclasses import replace
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from colbert_video.device import full_precision
from colbert_video.errors import SettingsError, shown
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens

Interaction = Literal["mms_fv", "mms_f", "mms_v", "mp_f", "mp_v", "rrf"]
"""How a query meets the two bags: MeanMaxSim over frame, video or both; mean pooling; reciprocal rank fusion."""

AnyQueries = TypeVar("AnyQueries", bound=TokenBags)
INTERACTIONS: tuple[str, ...] = get_args(Interaction)
RRF_CONSTANT = 60
"""The k of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""
SCORE_RESOLUTION = 1e-6
"""Scores closer than this count as equal.

The last bits of a float32 MeanMaxSim depend on how a batch was cut, on the number of threads and on the processor, so an
order within this distance says nothing about the videos."""
SIMILARITY_BUDGET = 2**26
"""Similarities held at once; more videos are scored in chunks."""


def mean_max_sim(queries: TokenBags, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """MMS(q, v) = 1/|q| sum_i max_j <q_i, v_j> for every query and every bag, over unmasked tokens.

    Masked bag tokens are set to -inf before the max, so that they lose against negative similarities too; masked
    query tokens are left out of the mean.

    Args:
        queries: Query tokens (queries, query_tokens, dim).
        bags: Frame or video tokens (videos, tokens, dim).

    Returns:
        Scores in [-1, 1] for unit vectors.

    Raises:
        SettingsError: If a query or a bag has no unmasked token, or the dimensions differ.
    """
    _check_scorable(queries, bags)
    return checked_mean_max_sim(queries, bags)


def checked_mean_max_sim(queries: TokenBags, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """Compute `mean_max_sim` of bags that are known to have tokens, of equal dimensions; a GPU is not waited for."""
    queries, bags = _of_one_dtype(queries, bags)
    per_video = queries.tokens.shape[0] * queries.tokens.shape[1] * bags.tokens.shape[1]
    chunk = max(1, SIMILARITY_BUDGET // max(1, per_video))
    columns = [
        _mean_max_sim(queries, bags.tokens[start : start + chunk], bags.mask[start : start + chunk])
        for start in range(0, len(bags), chunk)
    ]
    return torch.cat(columns, dim=1) if columns else queries.tokens.new_zeros(len(queries), 0)


def _mean_max_sim(
    queries: TokenBags, tokens: Float[Tensor, "videos tokens dim"], mask: Bool[Tensor, "videos tokens"]
) -> Float[Tensor, "queries videos"]:
    with full_precision(tokens):
        similarity = torch.einsum("qid,vjd->qvij", queries.tokens, tokens)
        similarity = similarity.masked_fill(~mask[:, None, :], float("-inf"))
        best = similarity.amax(dim=-1)  # (queries, videos, query_tokens)
        scored = queries.mask[:, None, :]  # (queries, 1, query_tokens)
        return best.masked_fill(~scored, 0.0).sum(dim=-1) / scored.sum(dim=-1)


def mean_pool_sim(queries: QueryTokens, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """Cosine of the pooled query token and the mean of the bag: the single-vector baseline MP of Table 3."""
    _check_scorable(queries, bags)
    return checked_mean_pool_sim(queries, bags)


def checked_mean_pool_sim(queries: QueryTokens, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """Compute `mean_pool_sim` of bags that are known to have tokens, of equal dimensions; a GPU is not waited for."""
    queries, bags = _of_one_dtype(queries, bags)
    sums = bags.tokens.masked_fill(~bags.mask[..., None], 0.0).sum(dim=1)  # (videos, dim), along the mean
    with full_precision(sums):
        return queries.pooled_tokens() @ torch.nn.functional.normalize(sums, dim=-1).T


def settle_ties(
    scores: Float[Tensor, "*queries videos"], resolution: float = SCORE_RESOLUTION
) -> Float[Tensor, "*queries videos"]:
    """Give videos whose scores cannot be told apart one score: that of the best among them.

    Neighbours in the order of scores are tied if they are at most `resolution` apart. A chain of such neighbours that is
    wider than `resolution` is cut into ties of that width, counted from its best score, so that no score changes by more.

    Args:
        scores: Each row is settled on its own; not NaN.
        resolution: Distance in units of the scores; 0 leaves them as they are.

    Returns:
        Scores whose ties are exact: whatever compares them next needs no tolerance.
    """
    if resolution == 0 or scores.shape[-1] < 2:
        return scores
    ordered, order = scores.sort(dim=-1, descending=True)  # (*queries, videos)
    first = torch.ones_like(ordered, dtype=torch.bool)  # True for the best of a chain, then for the best of a tie
    first[..., 1:] = ordered[..., :-1] - ordered[..., 1:] > resolution
    steps = (
        (ordered.gather(-1, _last_true(first)) - ordered) / resolution
    ).floor()  # (*queries, videos), from the best
    first[..., 1:] |= steps[..., 1:] != steps[..., :-1]
    return torch.empty_like(scores).scatter(-1, order, ordered.gather(-1, _last_true(first)))


def _last_true(marks: Bool[Tensor, "*queries videos"]) -> Int[Tensor, "*queries videos"]:
    """For each column the nearest marked column at or before it; the first column is marked."""
    columns = torch.arange(marks.shape[-1], device=marks.device)
    return torch.where(marks, columns, 0).cummax(dim=-1).values


def best_first(scores: Float[Tensor, "videos"], k: int | None = None) -> Int[Tensor, "best"]:
    """Return the positions of the k largest scores, best first; tied scores (`settle_ties`) stay in order.

    Sorted by NumPy, which takes a quarter of torch's time for the few hundred candidates of a search.
    """
    values = scores.cpu().numpy()
    order = np.argsort(-values, kind="stable")
    k = len(values) if k is None else k
    gaps = -np.diff(values[order])
    within, across = gaps[: k - 1], gaps[k - 1 : k]  # 0 within needs no settling: the sort is stable
    if ((within > 0) & (within <= SCORE_RESOLUTION)).any() or (across <= SCORE_RESOLUTION).any():
        order = settle_ties(scores).sort(descending=True, stable=True).indices.cpu().numpy()
    return torch.from_numpy(order[:k])


def reciprocal_rank_fusion(*scores: Float[Tensor, "queries videos"]) -> Float[Tensor, "queries videos"]:
    """Sum of 1 / (60 + rank) over several score matrices; tied scores (`settle_ties`) share the best of their ranks.

    Raises:
        SettingsError: If a score is NaN, which has no rank.
    """
    for matrix in scores:
        broken = matrix.isnan().nonzero()
        if len(broken):
            raise SettingsError(
                f"the score of query {int(broken[0, 0])} and video {int(broken[0, 1])} is NaN, which has no rank."
            )
    return torch.stack([1.0 / (RRF_CONSTANT + _ranks(settle_ties(matrix))) for matrix in scores]).sum(dim=0)


def _ranks(scores: Float[Tensor, "queries videos"]) -> Float[Tensor, "queries videos"]:
    ascending = scores.sort(dim=1).values
    not_better = torch.searchsorted(ascending, scores.contiguous(), right=True)  # scores at most as high
    return (scores.shape[1] - not_better + 1).to(scores.dtype)


def fuse(
    queries: QueryTokens, videos: VideoTokens, interaction: Interaction = "mms_fv"
) -> Float[Tensor, "queries videos"]:
    """Score every query against every video.

    Args:
        queries: Query tokens.
        videos: Frame and video tokens; the video bag may be None for interactions that do not read it.
        interaction: `mms_fv` = MMS_F + MMS_V, one of its halves, mean pooling of one bag, or
            reciprocal rank fusion of the two MMS rankings.

    Returns:
        Fused scores; only `rrf` depends on which videos are scored together.

    Raises:
        SettingsError: If the interaction is unknown or needs the video bag and there is none.
    """
    if interaction not in INTERACTIONS:
        raise SettingsError(f"interaction {shown(interaction)} is unknown; choose one of {', '.join(INTERACTIONS)}.")
    frame, video = videos
    if interaction == "mms_f":
        return mean_max_sim(queries, frame)
    if interaction == "mp_f":
        return mean_pool_sim(queries, frame)
    if video is None:
        raise SettingsError(
            f"interaction {shown(interaction)} needs video tokens, which an untrained model does not make; "
            "use 'mms_f' or train the model first."
        )
    if interaction == "mms_v":
        return mean_max_sim(queries, video)
    if interaction == "mp_v":
        return mean_pool_sim(queries, video)
    halves = mean_max_sim(queries, frame), mean_max_sim(queries, video)
    return halves[0] + halves[1] if interaction == "mms_fv" else reciprocal_rank_fusion(*halves)


def _of_one_dtype(queries: AnyQueries, bags: TokenBags) -> tuple[AnyQueries, TokenBags]:
    """Return both in the more exact of their dtypes; half precision beside float32 otherwise fails in torch."""
    dtype = torch.promote_types(queries.tokens.dtype, bags.tokens.dtype)
    return (
        queries if queries.tokens.dtype == dtype else replace(queries, tokens=queries.tokens.to(dtype)),
        bags if bags.tokens.dtype == dtype else replace(bags, tokens=bags.tokens.to(dtype)),
    )


def _check_scorable(queries: TokenBags, bags: TokenBags) -> None:
    if queries.shape[-1] != bags.shape[-1]:
        raise SettingsError(
            f"query tokens have {queries.shape[-1]} dimensions and bags {bags.shape[-1]}; they must agree."
        )
    if torch.compiler.is_compiling():  # a graph has no place for the error
        return
    scorable = torch.cat([queries.mask.any(dim=1), bags.mask.any(dim=1)])  # (queries + videos,)
    if bool(scorable.all()):  # the only time that a GPU is waited for
        return
    empty = int((~scorable).nonzero()[0])
    name, row = ("query", empty) if empty < len(queries) else ("video", empty - len(queries))
    raise SettingsError(f"{name} {row} has no unmasked token; every {name} needs at least one.")
