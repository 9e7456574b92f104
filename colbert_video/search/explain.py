"""Why a video was found: for each query token, the frame that answers it best (Reddy et al., CVPR 2025, Fig. 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.model.bags import holds_frames
from colbert_video.model.interaction import SCORE_RESOLUTION

PADDING = "<pad>"
"""Text of padding tokens, which are scored too (soft query augmentation, section 4.2)."""


@dataclass(frozen=True)
class TokenMatch:
    """The best token of one bag for one query token."""

    frame: int | None
    """Which sampled frame, from 0; None if an expansion token, which belongs to no frame, answers best."""
    time: float | None
    """Time of that frame in seconds."""
    score: float
    """Cosine of the two tokens."""
    token: int | None = None
    """Column of the bag's `similarities`: the number of the token, from 0, where tokens are no frames."""


@dataclass(frozen=True)
class TokenExplanation:
    """One query token and its best token of each bag."""

    token: str
    """The token's text; padding and control tokens are in angle brackets."""
    matches: Mapping[str, TokenMatch] = field(hash=False)
    """Best match by bag name."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Per-token contributions to a video's score in each bag that counts (paper, Fig. 4)."""

    id: str
    tokens: tuple[TokenExplanation, ...]
    """Every scored query token in order."""
    times: tuple[float, ...]
    """Time of each sampled frame in seconds."""
    similarities: Mapping[str, Float[np.ndarray, "query_tokens _"]]
    """All cosines by bag: query tokens × (frames, then expansion tokens in the video bag), or the tokens of other bags."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """How much each bag counts in the video's score; once if it is not named."""
    token_weights: tuple[float, ...] = ()
    """How much each query token counts, with the mean 1; empty if all count once."""

    @property
    def scores(self) -> dict[str, float]:
        """MeanMaxSim by bag; their sum, each times its weight, is the video's score."""
        return {bag: float(matrix.max(axis=1).mean()) for bag, matrix in self.weighted.items()}

    @property
    def weighted(self) -> Mapping[str, Float[np.ndarray, "query_tokens _"]]:
        """The cosines by bag, each times its query token's weight."""
        if not self.token_weights:
            return self.similarities
        return {bag: matrix * np.array(self.token_weights)[:, None] for bag, matrix in self.similarities.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "id": self.id,
            "scores": self.scores,
            "weights": {bag: self.weights.get(bag, 1.0) for bag in self.similarities},
            **({"token_weights": list(self.token_weights)} if self.token_weights else {}),
            "times": list(self.times),
            "tokens": [asdict(token) for token in self.tokens],
            "similarities": {bag: matrix.tolist() for bag, matrix in self.similarities.items()},
        }

    def plot(self) -> Any:
        """Return the heat strip as a `matplotlib.figure.Figure`: words × frames in each bag, the best of each word framed.

        Raises:
            DependencyError: If matplotlib is not installed.
        """
        from colbert_video.search.heat_strip import plot_heat_strip

        return plot_heat_strip(self.id, self._strips())

    def __repr__(self) -> str:
        """Return a line with the scores, and one for each word with the times of its best frames; padding is counted."""
        scores = ", ".join(f"{bag} {score:.3f}" for bag, score in self.scores.items())
        words = [token for token in self.tokens if token.token != PADDING]
        padding = len(self.tokens) - len(words)
        lines = [f"Explanation of {self.id}: {scores}", *map(_line, words)]
        return "\n".join([*lines, f"  {padding} tokens of padding"] if padding else lines)

    def _repr_html_(self) -> str:
        """Return what notebooks show: the heat strip."""
        from colbert_video.search.heat_strip import heat_strip_html

        return heat_strip_html(self.id, self._strips())

    def _strips(self) -> list[Any]:
        from colbert_video.search.heat_strip import strips_of

        labels = [token.token for token in self.tokens]
        return strips_of(labels, [label == PADDING for label in labels], self.times, self.similarities)


def _line(token: TokenExplanation) -> str:
    """Return a word and its best match in each bag, such as "  dog: frame 0.41 at 2.5 s, video 0.38"."""
    places = (
        f"{bag} {match.score:.2f}" + (f" at {match.time:.1f} s" if match.time is not None else "")
        for bag, match in token.matches.items()
    )
    return f"  {token.token}: {', '.join(places)}"


@dataclass(frozen=True)
class Relevance:
    """How well a query fits each sampled frame of a video."""

    times: tuple[float, ...]
    """Seconds, ascending."""
    values: tuple[float, ...]
    """Means over query tokens, summed over bags as scores are."""


def explain_similarities(
    entry: VideoEntry,
    labels: Sequence[str],
    similarities: Mapping[str, Float[np.ndarray, "query_tokens _"]],
    weights: Mapping[str, float] | None = None,
    lengths: Sequence[float] | None = None,
) -> Explanation:
    """Return the best match of each query token among the tokens of one video.

    Args:
        entry: The video.
        labels: Text of each scored query token.
        similarities: Query tokens × tokens by bag; the first columns of bags of frames are the sampled frames.
        weights: How much each bag counts in the score; None if all count once.
        lengths: Length of each query token, by which its similarities are divided: how much it counts. None for 1.

    Raises:
        SettingsError: If there is not one label per query token.
    """
    for bag, matrix in similarities.items():
        if len(matrix) != len(labels):
            raise SettingsError(
                f"{len(labels)} labels for {len(matrix)} query tokens of the {bag} bag; they must agree."
            )
    if lengths is not None:
        divisors = np.array([length or 1.0 for length in lengths])[:, None]  # (query_tokens, 1)
        similarities = {bag: matrix / divisors for bag, matrix in similarities.items()}
    times = {bag: _times(bag, matrix, entry.frame_times) for bag, matrix in similarities.items()}
    tokens = tuple(
        TokenExplanation(label, {bag: _best(matrix[row], times[bag]) for bag, matrix in similarities.items()})
        for row, label in enumerate(labels)
    )
    return Explanation(
        entry.id, tokens, tuple(entry.frame_times), similarities, dict(weights or {}), tuple(lengths or ())
    )


def _times(bag: str, matrix: Float[np.ndarray, "query_tokens _"], times: Sequence[float]) -> Sequence[float]:
    """Return the times of a bag's first tokens: those of the frames, or none."""
    return times if holds_frames(bag, matrix.shape[1], len(times)) else ()


def _best(row: Float[np.ndarray, "tokens"], times: Sequence[float]) -> TokenMatch:
    best = int((row >= row.max() - SCORE_RESOLUTION).argmax())  # the first of those that are tied
    if best < len(times):
        return TokenMatch(best, float(times[best]), float(row[best]), best)
    return TokenMatch(None, None, float(row[best]), best)
