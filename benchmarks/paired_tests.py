"""Whether one row of a table is better than another: a paired bootstrap over seeds and queries.

Both rows were trained from the same seeds and asked the same queries. A resample draws seeds, and pairs of clips with all
their queries, with replacement, the same ones for both rows; captions of two clips that show the same frames stay together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.05
"""Largest p-value, after Holm's correction for all comparisons of a table, of an established difference."""


@dataclass(frozen=True)
class Difference:
    """How much more often one row finds a clip first than another."""

    first: str
    second: str
    """Names of the rows."""
    gains: Sequence[float]
    """Mean over queries by seed, in [-1, 1]; positive if the first row is better."""
    low: float
    high: float
    """Middle 95 % of the resamples."""
    p_value: float
    """Twice the smaller share of resamples on either side of zero, at most 1."""

    @property
    def mean(self) -> float:
        """Mean over seeds and queries."""
        return float(np.mean(self.gains))

    @property
    def one_sign(self) -> bool:
        """True if every seed has the same row in front."""
        return all(gain > 0 for gain in self.gains) or all(gain < 0 for gain in self.gains)


def compare(
    first: tuple[str, Mapping[int, str]], second: tuple[str, Mapping[int, str]], clusters: Sequence[int]
) -> Difference | None:
    """Compare two rows.

    Args:
        first: Name of a row, and by seed "1" for every query whose clip came first, "0" for others.
        second: The row to compare it with.
        clusters: Which queries stay together.

    Returns:
        None if the rows have no seed in common.
    """
    seeds = [seed for seed in first[1] if seed in second[1]]
    if not seeds:
        return None
    gains = np.stack([_hits(first[1][seed]) - _hits(second[1][seed]) for seed in seeds])  # (seeds, queries)
    numbers = np.unique(clusters, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    sums = np.stack([np.bincount(numbers, row, count) for row in gains])  # (seeds, clusters)
    sizes = np.bincount(numbers, minlength=count)  # (clusters,)
    random = np.random.default_rng(0)
    seed_weights = random.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), RESAMPLES)  # (resamples, seeds)
    weights = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)  # (resamples, clusters)
    totals = ((weights @ sums.T) * seed_weights).sum(axis=1) / len(seeds)  # (resamples,)
    drawn = totals / (weights @ sizes)
    low, high = np.quantile(drawn, (0.025, 0.975))
    p_value = min(1.0, 2 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean())))
    return Difference(first[0], second[0], gains.mean(axis=1).tolist(), float(low), float(high), p_value)


def verdicts(differences: Sequence[Difference]) -> dict[str, list[Difference]]:
    """Sort differences by how sure they are.

    Established: p is at most 0.05 after Holm's correction for all of them, in at least three seeds that agree in sign.
    Weak: p is at most 0.05 before the correction.
    Not established: all others.
    """
    corrected = holm([difference.p_value for difference in differences])
    sorted_out: dict[str, list[Difference]] = {"Established": [], "Weak": [], "Not established": []}
    for difference, p_value in zip(differences, corrected, strict=True):
        several = len(difference.gains) >= 3 and difference.one_sign
        if several and p_value <= LEVEL:
            sorted_out["Established"].append(difference)
        elif difference.p_value <= LEVEL:
            sorted_out["Weak"].append(difference)
        else:
            sorted_out["Not established"].append(difference)
    return sorted_out


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979)."""
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = worst
    return corrected


def _hits(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.float64) - ord("0")
