"""Codec drift: videos added to an index may be stored worse than the ones its codec was trained on.

Centroids and buckets are fitted once. Added videos that look different, or the many that follow a small beginning, fall
far from every centroid, and their residuals outside the buckets. The mean of 1 - cosine between tokens and what is
decoded of them shows it, compared to that of videos which were held out when the codec was fitted: those that it was
fitted to are always stored better.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import IndexFolderError, shown
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenChunk, TokenSource

DRIFT_KEY = "drift"
"""Catalog key of the live codec's errors."""
SAMPLE = 4096
"""Tokens of each bag whose error is measured."""
FACTOR = 3.0
"""Added tokens have drifted if their error is at least this many times that of held-out videos, and `MIN_ERROR`."""
MIN_ERROR = 0.01
"""Below it rankings hardly change."""


@dataclass(frozen=True)
class Drift:
    """How a codec stores videos like those it was trained for, and added ones that it stores much worse."""

    trained: Mapping[str, float]
    """Reconstruction error, the mean of 1 - cosine, of videos held out when the codec was fitted, by bag."""
    added: Mapping[str, float]
    """The worst reconstruction error of a later addition, by bag; empty if none was made."""
    videos: int = 0
    """How many added videos are stored much worse."""

    @property
    def drifted(self) -> bool:
        """True if an addition is stored much worse."""
        return self.videos > 0

    def merged(self, addition: "Drift") -> "Drift":
        """Return both additions as one."""
        bags = {*self.added, *addition.added}
        worst = {bag: max(self.added.get(bag, 0.0), addition.added.get(bag, 0.0)) for bag in sorted(bags)}
        return Drift(self.trained, worst, self.videos + addition.videos)

    def advice(self) -> str:
        """Return what happened and what to do about it, in one sentence."""
        errors = ", ".join(
            f"{bag} tokens {self.added[bag]:.3f} instead of {self.trained[bag]:.3f}" for bag in self.added
        )
        return (
            f"{self.videos} added videos are stored less exactly than others like those of its codec would be (1 - "
            f"cosine of {errors}): retrain the codec with `colbert-video compact --retrain`, or index again with "
            "--overwrite."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"trained": dict(self.trained), "added": dict(self.added), "videos": self.videos}

    @classmethod
    def from_dict(cls, values: Any) -> "Drift":
        """Rebuild from `to_dict`.

        Raises:
            IndexFolderError: If the values are unusable.
        """
        try:
            trained = {str(bag): float(error) for bag, error in values["trained"].items()}
            added = {str(bag): float(error) for bag, error in values["added"].items()}
            return cls(trained, added, int(values["videos"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IndexFolderError(f"the index's record of codec errors is damaged: {shown(error)}") from error


def measure_drift(before: Drift, sample: "SampledSource", codecs: Mapping[str, ResidualCodec]) -> Drift:
    """Measure how a codec stores added tokens, once they have been read, compared to what is known of it."""
    errors = sample.errors(codecs)
    bags = before.trained.keys() & errors.keys()
    worse = any(errors[bag] > max(FACTOR * before.trained[bag], MIN_ERROR) for bag in bags)
    return Drift(before.trained, {bag: errors[bag] for bag in sorted(bags)}, len(sample) if worse else 0)


class SampledSource:
    """A token source that keeps a random sample, reproducible by its seed, of the tokens that are read from it."""

    def __init__(self, source: TokenSource, *, seed: int = 0) -> None:
        self.source = source
        self._generator = torch.Generator().manual_seed(seed)
        self._kept: dict[str, list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self.source)

    def counts(self) -> Mapping[str, int]:
        """Return the number of tokens in each bag."""
        return self.source.counts()

    def __iter__(self) -> Iterator[TokenChunk]:
        share = {bag: SAMPLE / count for bag, count in self.counts().items()}
        for chunk in self.source:
            for bag, tokens in chunk.tokens.items():
                self._keep(bag, tokens, share[bag])
            yield chunk

    def _keep(self, bag: str, tokens: Float[Tensor, "tokens dim"], share: float) -> None:
        chosen = torch.rand(len(tokens), generator=self._generator, dtype=torch.float32, device="cpu") < share
        if bag not in self._kept:
            chosen[0] = True  # a sample is never empty
            self._kept[bag] = []
        self._kept[bag].append(tokens[chosen].float())

    def errors(self, codecs: Mapping[str, ResidualCodec]) -> dict[str, float]:
        """Return the reconstruction error of what was read so far, by bag."""
        return {bag: codecs[bag].reconstruction_error(torch.cat(kept)) for bag, kept in self._kept.items()}
