"""A word for a confidence: strong, fair or weak, measured against queries that no video answers.

Which confidence a right hit has depends on the model: texts of the shipped checkpoint come close to their videos, texts of
CLIP stay far from all pictures. So the words are relative: every model is asked for the same word lists without meaning.
The best that one of them finds in a corpus is chance; a right hit stands clear of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MatchLabel = Literal["strong", "fair", "weak"]
UNANSWERABLE = (
    "invoice gravel seldom harmonic",
    "thursday velvet subtract marble",
    "opinion ladder nitrogen whisper",
    "treaty sponge algebra lantern",
    "mortgage plankton honest zipper",
    "syllable tractor jealous vapor",
    "discount violin tundra memory",
    "alphabet mustard gravity lawsuit",
    "census feather logic oven",
    "warranty coral sarcasm hinge",
    "grammar tobacco eclipse fee",
    "patience copper dialect soup",
    "verdict pollen rhythm shovel",
    "tariff orchid doubt battery",
    "proverb magnet salary fog",
    "thesis walnut mercy antenna",
)
"""Words that no video shows together."""
CLEAR = 1.15
"""A strong match has so many times the confidence of the best of them; `benchmarks/confidence.py` shows how many right hits
have it, and how many hits of captions without an answer."""


@dataclass(frozen=True)
class MatchLevels:
    """From which confidence on a hit is a fair match, and from which on a strong one."""

    fair: float
    strong: float

    @classmethod
    def from_unanswerable(cls, best: Sequence[float]) -> "MatchLevels":
        """Return the levels of a corpus, given the confidence of the best hit of each query that has no answer."""
        return cls(max(best), min(CLEAR * max(best), 1.0))

    def label(self, confidence: float | None) -> MatchLabel | None:
        """Return the word for a confidence; None where it is not known."""
        if confidence is None:
            return None
        return "strong" if confidence >= self.strong else "fair" if confidence > self.fair else "weak"


PICTURE_LEVELS = MatchLevels(0.5, 0.8)
"""For pictures and clips: one that is in the index itself has confidence 1, so half of the way and four fifths are said."""
