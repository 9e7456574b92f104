"""Where relevant videos stand in a run."""

from collections.abc import Iterator, Mapping

import numpy as np

from colbert_video.errors import SettingsError
from colbert_video.training.metrics import TiedRanks, ideal_dcg


def rank_run(run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]) -> TiedRanks:
    """Where the relevant videos stand in a run.

    Args:
        run: Score by video by query; what it does not hold was not found.
        qrels: Relevance by video by query. Queries without a relevant video are left out, as trec_eval does.

    Returns:
        One entry for each relevant video that the run holds; queries in the order of the qrels.

    Raises:
        SettingsError: If no query has a relevant video.
    """
    relevant = {
        query: {video: gain for video, gain in judged.items() if gain > 0} for query, judged in qrels.items()
    }
    relevant = {query: gains for query, gains in relevant.items() if gains}
    if not relevant:
        raise SettingsError("no query of the qrels has a relevant video; there is nothing to evaluate.")
    entries = [
        (position, *place)
        for position, (query, gains) in enumerate(relevant.items())
        for place in _places(run.get(query, {}), gains)
    ]
    table = np.array(entries, dtype=np.float64).reshape(-1, 4)  # (ranked, 4)
    query, better, tied = table[:, :3].T.astype(np.int64)
    ideal = [ideal_dcg(np.array(list(gains.values()), dtype=np.float64)) for gains in relevant.values()]
    return TiedRanks(query, better, tied, table[:, 3], np.array(ideal))


def _places(scored: Mapping[str, float], gains: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """Videos before, videos level with, and gain of each relevant video that was found."""
    scores = np.fromiter(scored.values(), dtype=np.float64, count=len(scored))
    for video, gain in gains.items():
        if video in scored:
            own = scored[video]
            yield int((scores > own).sum()), int((scores == own).sum()), gain
