"""Small corpora of random unit tokens, and the naive search that everything must agree with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

DIM = 64


def unit_tokens(*shape: int, seed: int) -> Tensor:
    """Random unit vectors of the given shape."""
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def random_bags(videos: int, *, seed: int, longest: int = 5) -> list[Tensor]:
    """Bags of 1 to `longest` random tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (videos,), generator=generator).tolist()
    return [unit_tokens(length, DIM, seed=seed * 1000 + number) for number, length in enumerate(lengths)]


def naive_scores(query: Tensor, *bags: Sequence[Tensor]) -> list[float]:
    """Sum over bag kinds of the mean over query tokens of the max over a video's tokens."""
    totals = [0.0] * len(bags[0])
    for kind in bags:
        for number, tokens in enumerate(kind):
            totals[number] += sum(max(float(q @ t) for t in tokens) for q in query) / len(query)
    return totals
