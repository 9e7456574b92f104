"""Which seeds a text names, and mean and standard deviation of figures from several seeds."""

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from colbert_video.errors import SettingsError, shown

SUMMARY = "seeds.json"
MOST_SEEDS = 100
MOST_DIGITS = 18
"""Digits of a seed; more are no number that torch takes."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that a text names: "3" stands for 0, 1 and 2; "0,7,11", or "7," for one, for themselves.

    Raises:
        SettingsError: If it names none, one twice, or more than a hundred.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS for word in words):
        raise SettingsError(f"seeds={shown(text)} must be a number of seeds, such as 3, or a list, such as 0,7,11.")
    numbers = [int(word) for word in words]
    seeds = tuple(numbers) if "," in text else tuple(range(min(numbers[0], MOST_SEEDS + 1)))
    if not 0 < len(seeds) <= MOST_SEEDS or len(set(seeds)) < len(seeds):
        raise SettingsError(f"seeds={shown(text)} must be 1 to {MOST_SEEDS} different seeds.")
    return seeds


def spread_of(metrics: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation and values by seed of each metric that all seeds have.

    The deviation is that of a sample, with n - 1 in the denominator; None for a single seed.
    """
    names = [name for name in next(iter(metrics.values()), {}) if all(name in values for values in metrics.values())]
    return {name: _spread({seed: values[name] for seed, values in metrics.items()}) for name in names}


def _spread(values: Mapping[int, float]) -> dict[str, Any]:
    several = list(values.values())
    return {
        "mean": mean(several),
        "std": stdev(several) if len(several) > 1 else None,
        "values": {str(seed): value for seed, value in values.items()},
    }
