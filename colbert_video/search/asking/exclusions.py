"""What a video loses for showing what must not be shown.

    lost(v) = 3 · max_j u_j · max(0, e_j(v) − median e_j),   e_j(v) = S_j(v) − ½ b_j S(v)

S is the score by the question, S_j that by the j-th excluded text, u_j its weight. b_j is the slope of the line by which S_j
follows S over the corpus: a video that fits the question well fits most other texts better, or worse, than a usual one, and
that alone says nothing about what it shows. So half of the corpus loses nothing. Slope and median are those of a fixed sample
of the whole corpus, whatever is filtered. All figures were chosen by measurement; see docs/questions.md.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from colbert_video.model.interaction import SCORE_RESOLUTION
from colbert_video.search.asking.encoded_question import EncodedQuestion, ExcludedScore

EXCLUSION = 3.0
"""How much of the score is lost by which a video fits an excluded text better than usual."""
EXPLAINED = 0.5
"""How much of the slope counts: half of it found more than all or nothing of it."""

PartScores = Float[np.ndarray, "parts items"]
"""Scores of some items: first by the question, then by each excluded text."""


def lost_scores(question: EncodedQuestion, scores: PartScores) -> Float[np.ndarray, "items"]:
    """Return what each item loses; nothing without excluded texts.

    Args:
        question: A question that `with_usual_scores` returned.
        scores: Of the items.
    """
    lost = np.zeros(scores.shape[1])
    for (_, weight), usual, found in zip(question.without, question.usual, scores[1:], strict=True):
        lost = np.maximum(lost, weight * (found - usual.slope * scores[0] - usual.level))
    return EXCLUSION * lost


def with_usual_scores(question: EncodedQuestion, sample: PartScores) -> EncodedQuestion:
    """Return a question that knows what usual videos score by its excluded texts.

    Args:
        question: The question.
        sample: Scores of a sample of the whole corpus.
    """
    return replace(question, usual=tuple(_usual(sample[0], found) for found in sample[1:]))


def against_corpus(question: EncodedQuestion, sample: PartScores) -> tuple[EncodedQuestion, list[float]]:
    """Return a question as `with_usual_scores` does, and what a sample of the whole corpus scores by it."""
    known = with_usual_scores(question, sample)
    return known, (sample[0] - lost_scores(known, sample)).tolist()


def _usual(scores: Float[np.ndarray, "items"], excluded: Float[np.ndarray, "items"]) -> ExcludedScore:
    """Return the score by an excluded text that goes with a score by the question."""
    if not len(scores):
        return ExcludedScore(0.0, 0.0)
    apart = scores - scores.mean()  # (items,)
    variance = apart @ apart
    slope = float(apart @ excluded / variance) if variance > len(scores) * SCORE_RESOLUTION**2 else 0.0
    return ExcludedScore(EXPLAINED * slope, float(np.median(excluded - EXPLAINED * slope * scores)))


def joined_samples(parts: Sequence[Float[np.ndarray, "parts _"]], excluded: int) -> PartScores:
    """Return the scores of a whole sample, given those of its parts; of none, with no items.

    Args:
        parts: In the order of the corpus.
        excluded: How many texts are excluded.
    """
    return np.concatenate([np.zeros((1 + excluded, 0)), *parts], axis=1)
