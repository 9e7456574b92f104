"""What an index remembers about how it was made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from colbert_video.base.checks import check_fields
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.codec.packing import check_nbits
from colbert_video.model.bags import check_bags, check_weights
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.pooling import Pooling
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.windows import Cutting

SAMPLE_BYTES = 2**30
"""1 GiB holds 524,288 tokens of 512 dimensions in float32."""
MIN_SAMPLE_BYTES = 2**20
CODEC_SETTINGS = ("nbits", "buckets", "rotate", "seed", "sample_bytes", "bag_weights")
"""Settings that apply to precomputed tokens too; the others say how videos are read."""

NEWER: Mapping[str, tuple[str | None, ...]] = {
    "video_stream": (None,),
    "precision": (None, "fp32"),
    "bag_weights": (None,),
}
"""Settings that older releases do not know, and their values there."""


@dataclass(frozen=True)
class IndexSettings:
    """The properties that every segment of an index shares."""

    dim: int
    bags: tuple[str, ...]
    """Bags that are stored, 1 to 4 of any names, in the order in which they are scored; usually "frame" and "video"."""
    nbits: int = 4
    """Bits kept of each residual dimension: 1, 2, 4 or 8."""
    buckets: Literal["lloyd_max", "quantile"] = "lloyd_max"
    """How residual buckets are chosen; "quantile" is stock ColBERT's way."""
    rotate: bool = True
    """True to rotate tokens at random before compression."""
    seed: int = 0
    """Makes rotation, sample and centroids reproducible."""
    model: str | None = None
    """Name that `load_encoder` loads; None if the tokens came from elsewhere."""
    model_fingerprint: str | None = None
    """Digest of the model's configuration and weights."""
    precision: str | None = None
    """Precision in which the model made the first tokens, for information: one of another precision may search them."""
    num_frames: int | None = None
    """Frames sampled from each video or window."""
    window: float | Literal["shots"] | None = None
    """Seconds of the windows into which long videos are cut, or "shots"; None keeps videos whole."""
    stride: float | None = None
    """Seconds from the start of one window to the next; None for half a window, and for shots."""
    pool_factor: float | None = None
    """Frames that share a token on average; None for no limit."""
    pool_similarity: float | None = None
    """Frames of at least this mean cosine share a token; None for no limit."""
    snap: float | None = None
    """How far frames may be moved to keyframes, as a share of the spacing between them; see `SamplingSettings`."""
    video_stream: int | None = None
    """Which video stream of each file is read, counted from 0; None for the one that players choose."""
    sample_bytes: int = SAMPLE_BYTES
    """Memory that the sample to train a bag's codec on may take; what a build needs beyond it does not grow."""
    bag_weights: Mapping[str, float] | None = field(default=None, hash=False)
    """How much bags count in a search that says nothing else, by name; bags that are not named count once. None if all
    do."""

    def __post_init__(self) -> None:
        check_fields(self)
        _ = self.cutting, self.pooling, SamplingSettings(snap=self.snap, stream=self.video_stream)
        check_nbits(self.nbits, self.dim)
        if self.sample_bytes < MIN_SAMPLE_BYTES:
            raise SettingsError(
                f"sample_bytes={self.sample_bytes} is too little to train a codec on; give {MIN_SAMPLE_BYTES} at least."
            )
        check_bags(self.bags)
        if self.bag_weights is not None:
            weights = check_weights(self.bag_weights, self.bags)
            object.__setattr__(self, "bag_weights", weights if set(weights.values()) - {1.0} else None)
        self.weights()  # raises if no bag counts

    def weights(self, *given: Any) -> dict[str, float]:
        """Return how much each bag counts that a search looks at: those of weight 0 are left out.

        Args:
            *given: Weights by bag instead of the index's; of several, the last that names a bag.

        Raises:
            SettingsError: If a name is not that of a bag, a weight is negative or no number, or all are 0.
        """
        chosen = dict.fromkeys(self.bags, 1.0)
        for weights in (self.bag_weights, *given):
            chosen |= {} if weights is None else check_weights(weights, self.bags)
        counting = {bag: weight for bag, weight in chosen.items() if weight}
        if not counting:
            raise SettingsError(f"no bag counts: bag_weights gives 0 to {', '.join(self.bags)}; give one of them more.")
        return counting

    @property
    def cutting(self) -> Cutting | None:
        """How videos are cut; None if they stay whole.

        Raises:
            SettingsError: If window and stride make no sense.
        """
        if self.window is not None:
            return Cutting(self.window, self.stride)
        if self.stride is not None:
            raise SettingsError(f"stride={self.stride} needs window=, the length of the windows.")
        return None

    @property
    def pooling(self) -> Pooling | None:
        """Which frames share a token; None if each has its own.

        Raises:
            SettingsError: If a value is out of range.
        """
        if self.pool_factor is None and self.pool_similarity is None:
            return None
        return Pooling(self.pool_factor, self.pool_similarity)

    def check_given(self, given: Mapping[str, Any], path: Path) -> None:
        """Check that settings which were given for an existing index are its own.

        Args:
            given: The settings, by field name.
            path: The index, for the error.

        Raises:
            SettingsError: If one contradicts the index.
        """
        cutting = self.cutting
        stride = self.stride if cutting is None else cutting.seconds_between
        for name, value in given.items():
            known = stride if name == "stride" else getattr(self, name)
            if name == "bag_weights":
                known = {bag: self.weights().get(bag, 0.0) for bag in check_weights(value, self.bags)}
            if value != known:
                raise SettingsError(
                    f"{name}={shown(value)} was given, but {path} was made with {name}={shown(known)}: leave {name} "
                    "out, or index again with overwrite=True."
                )

    @classmethod
    def from_dict(cls, values: Any) -> "IndexSettings":
        """Rebuild from `to_dict`.

        Raises:
            IndexFolderError: If the values are unusable.
        """
        try:
            return cls(**{**values, "bags": tuple(values["bags"])})
        except (KeyError, TypeError, SettingsError) as error:
            raise IndexFolderError(f"the index's settings are damaged: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without what older releases do not know, if it is as it was for them."""
        values = {**asdict(self), "bags": list(self.bags)}
        return {name: value for name, value in values.items() if name not in NEWER or value not in NEWER[name]}


def check_model(model: VideoEncoder, settings: IndexSettings, path: Path) -> None:
    """Check that a model's tokens can be compared with those of an index.

    Raises:
        IndexFolderError: If the index was made by another model, or from tokens of other dimensions.
    """
    mismatch = find_mismatch(model, settings, path)
    if mismatch is not None:
        raise IndexFolderError(mismatch)


def find_mismatch(model: VideoEncoder, settings: IndexSettings, path: Path) -> str | None:
    """Return why a model's tokens do not belong in the index at `path`; None if they do."""
    if model.dim != settings.dim:
        return f"{path} holds tokens of {settings.dim} dimensions, the model makes {model.dim}."
    if settings.model_fingerprint is not None and model.fingerprint() != settings.model_fingerprint:
        return (
            f"{path} was made by another model ({settings.model or 'unnamed'}); use that one, or index again with "
            "overwrite=True."
        )
    return None
