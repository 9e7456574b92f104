"""Scores that are normalised by all test queries together: what a search, which sees one query, cannot compute.

Published figures with such a normalisation are not comparable with those without. They are measured only where they are asked
for, and stand apart from an evaluation's figures.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from colbert_video.training.evaluation.metrics import retrieval_metrics

DSL_SCALE = 100.0
"""Factor on scores before the softmax over queries; CLIP's logit scale."""
QB_SCALE = 20.0
"""QB-Norm's inverse temperature."""
NEIGHBOURS = 10
"""Queries around a video that CSLS averages."""

Scores = Float[Tensor, "queries videos"]


def transductive_metrics(scores: Scores, relevant: Tensor) -> dict[str, dict[str, float]]:
    """Return the metrics of one score matrix under each normalisation, by its name.

    Args:
        scores: Of all test queries.
        relevant: As for `retrieval_metrics`.
    """
    return {
        name: retrieval_metrics(normalised, relevant, resolution=0.0)
        for name, normalised in transductive_scores(scores).items()
    }


def transductive_scores(scores: Scores) -> Mapping[str, Scores]:
    """Return scores under each normalisation; within a row alone they may be compared."""
    scores = scores.double()  # softmax at these scales would lose the order of near scores
    return {"DSL": dual_softmax(scores), "QB-Norm": querybank_norm(scores), "CSLS": csls(scores)}


def dual_softmax(scores: Scores) -> Scores:
    """Weigh each score by the softmax over queries of its column (CAMoE, Cheng et al., 2021)."""
    return scores * (DSL_SCALE * scores).softmax(dim=0)


def querybank_norm(scores: Scores) -> Scores:
    """Return the logarithm of QB-Norm's inverted softmax (Bogolin et al., CVPR 2022); the test queries are the bank.

    QB-Norm leaves rows alone whose best video is the best of no query of the bank; here there are none.
    """
    return (QB_SCALE * scores).log_softmax(dim=0)


def csls(scores: Scores) -> Scores:
    """Subtract from twice the score how near the nearest queries are to the video (Conneau et al., ICLR 2018).

    The mean of the videos nearest to a query, which CSLS subtracts too, changes nothing within a row.
    """
    nearest = scores.topk(min(NEIGHBOURS, len(scores)), dim=0).values.mean(dim=0)  # (videos,)
    return 2 * scores - nearest
