"""Example queries that an index can answer, for people who do not know what it holds."""

from colbert_video.errors import ColBERTVideoError
from colbert_video.indexing.upkeep.contents import list_texts
from colbert_video.serve.indexes import ServedIndex

EXAMPLES = 4
TYPICAL = (
    "a person talks to the camera", "people walk along a street", "a car drives on a road", "a dog runs", "a cat",
    "a bird flies", "children play", "people dance", "someone cooks in a kitchen", "food on a plate", "a crowd of people",
    "a city at night", "the sea and waves", "a river in a forest", "mountains and snow", "a football match", "a bicycle",
    "a boat on the water", "a train arrives", "an aeroplane in the sky", "a computer screen", "a hand holds a phone",
    "a cartoon", "text on a screen", "fire and smoke", "a red circle", "a blue square moves",
)  # fmt: skip
"""Queries of which some fit most collections; those whose best hit stands out most are shown where there are no captions."""
LEAST_CONFIDENCE = 0.05


def example_queries(index: ServedIndex) -> list[str]:
    """Return a few queries: captions of videos all over the index, or else typical ones that it answers best."""
    captions: list[str] = index.once_per_commit("captions", lambda: list_texts(index.path, limit=EXAMPLES))
    return captions or _typical(index)


def _typical(index: ServedIndex) -> list[str]:
    if index.model is None or not index.takes_text:
        return []
    typical: list[str] = index.once_per_commit("typical", lambda: _answered_best(index))
    return typical


def _answered_best(index: ServedIndex) -> list[str]:
    found: list[tuple[float, str]] = []
    for query in TYPICAL:
        try:
            hits = index.searcher.search(query, k=1)
        except ColBERTVideoError:  # such as a model that was replaced meanwhile
            return []
        if hits and (hits[0].confidence is None or hits[0].confidence >= LEAST_CONFIDENCE):
            found.append((hits[0].confidence or 0.0, query))
    found.sort(key=lambda answer: -answer[0])
    return [query for _, query in found[:EXAMPLES]]
