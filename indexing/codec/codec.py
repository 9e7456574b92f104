"""The residual codec: a token is its nearest centroid plus a residual of a few bits per dimension.

ColBERTv2's compression (Santhanam et al., NAACL 2022, section 3.3) in ColBERT's file format, with four changes that
lose less: tokens are first turned by a fixed random rotation, which spreads outlier dimensions and leaves inner
products alone; buckets are Lloyd-Max instead of quantiles; of several multiples of a token the one is compressed that
is decoded best; and rounding errors cancel along the direction that queries share. Centroids are rounded to eight bits
per dimension before residuals are taken, which therefore make up for it.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torch.nn import functional

from colbert_video.base.once import once_property
from colbert_video.device import Device, full_precision
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.codec.assignment import Assign, assigner
from colbert_video.indexing.codec.kmeans import num_partitions, spherical_kmeans
from colbert_video.indexing.codec.packing import check_nbits, random_rotation
from colbert_video.indexing.codec.residuals import BUCKETS, BucketKind, byte_weights, compress, fit_buckets
from colbert_video.indexing.codec.tensors import read_tensor, read_tensor_pair, write_tensors

CHUNK = 2**14  # tokens encoded or decoded at once
CENTROID_TYPES = (torch.float8_e4m3fn, torch.float16)
"""Element types of stored centroids: ours, and ColBERT's own. ColBERT converts whatever type it finds."""
QUERY_DIRECTION_FILE = "query_direction.pt"
"""Missing where rounding knows no such direction."""
HELDOUT_SHARE, MAX_HELDOUT, MIN_HELDOUT = 0.05, 2**13, 256
NORM_TOLERANCE = 0.02  # bfloat16 rounding moves a unit norm by less than half of this


@dataclass(frozen=True)
class EncodedTokens:
    """Compressed tokens of one bag, in order."""

    codes: Int32[Tensor, "tokens"]
    """Centroid of each token."""
    residuals: UInt8[Tensor, "tokens bytes"]
    """Packed bucket ids, dim * nbits // 8 bytes per token."""


@dataclass(frozen=True, eq=False)
class ResidualCodec:
    """Arrays that compress and decode tokens.

    `encode` takes tokens as the model gives them; `decode` returns them rotated, ready for rotated queries.
    """

    rotation: Float[Tensor, "dim dim"]
    """Orthogonal; rotated tokens are `tokens @ rotation`."""
    centroids: Float[Tensor, "centroids dim"]
    """Rotated centroids, float32 in memory, with values that one of `CENTROID_TYPES` holds exactly."""
    cutoffs: Float[Tensor, "cutoffs"]
    """2**nbits - 1 ascending bucket borders, the same for every dimension."""
    weights: Float[Tensor, "buckets"]
    """The 2**nbits values that stand for the buckets."""
    avg_residual: float
    """Mean absolute residual of the held-out tokens; ColBERT stores it, scoring does not use it."""
    nbits: int
    """Bits per dimension: 1, 2, 4 or 8."""
    query_direction: Float[Tensor, "dim"] | None = None
    """Unit vector, not rotated, along which rounding errors cancel, as `typical_direction` finds it; decoding does not
    need it. None for plain rounding."""

    def __post_init__(self) -> None:
        """Check that the arrays are finite and belong together."""
        check_nbits(self.nbits, self.dim)
        _check_wrong_shapes(self)
        for name, array in {**self._arrays(), **self._query_direction()}.items():
            # aminmax passes NaN on, and unlike isfinite it makes no copy of the centroids.
            if not bool(torch.stack(array.aminmax()).isfinite().all()):
                raise SettingsError(f"codec {name} holds NaN or infinity; train it again")
        if bool((self.cutoffs.diff() < 0).any()):
            raise SettingsError("codec cutoffs are not ascending; train it again")

    @classmethod
    def train(
        cls,
        tokens: Float[Tensor, "tokens dim"],
        *,
        nbits: int = 4,
        seed: int = 0,
        centroids: int | None = None,
        buckets: BucketKind = "lloyd_max",
        rotate: bool = True,
        query_direction: Float[Tensor, "dim"] | None = None,
    ) -> "ResidualCodec":
        """Fit a codec to a sample of a corpus.

        As in ColBERT, centroids are fitted to most of the sample and buckets to the rest (5 %, at most 8,192
        tokens, which have millions of residual values). A sample too small to spare tokens serves for both.

        Args:
            tokens: Unit-norm tokens as the model gives them, at least one, in any order.
            nbits: Bits kept per dimension.
            seed: Seed of rotation, clustering and bucket sample.
            centroids: How many, at most the number of tokens; None for `num_partitions` of them.
            buckets: "lloyd_max", or "quantile" as in stock ColBERT.
            rotate: True to turn tokens by a random rotation first.
            query_direction: Unit vector along which rounding errors cancel; None for plain rounding.

        Returns:
            The codec, on the device of `tokens`.

        Raises:
            SettingsError: If tokens are not unit-norm, or a setting is out of range.
        """
        check_nbits(nbits, tokens.shape[1])
        _check_unnormalised(tokens)
        if buckets not in BUCKETS:
            raise SettingsError(f"buckets={shown(buckets)}: choose one of {sorted(BUCKETS)}")
        count = num_partitions(len(tokens)) if centroids is None else centroids
        rotation = (
            random_rotation(tokens.shape[1], seed)
            if rotate
            else torch.eye(tokens.shape[1], dtype=torch.float32, device="cpu")
        )
        rotation = rotation.to(tokens.device)
        sample, heldout = _hold_out(tokens, count, seed)
        means = spherical_kmeans(sample, centroids=count, seed=seed)
        with full_precision(tokens):
            means = as_stored(means @ rotation)  # clusters turn with the tokens
            rotated = heldout.float() @ rotation
        nearest = means[assigner(means)(rotated)[0]]
        cutoffs, weights = fit_buckets(rotated, nearest, nbits=nbits, buckets=buckets, seed=seed)
        average = float((rotated - nearest).abs().mean())
        direction = None if query_direction is None else query_direction.to(tokens.device).float()
        return cls(rotation, means, cutoffs, weights, average, nbits, direction)

    @property
    def dim(self) -> int:
        """Token dimension."""
        return self.centroids.shape[1]

    @property
    def num_centroids(self) -> int:
        """Number of centroids."""
        return self.centroids.shape[0]

    @property
    def rotated(self) -> bool:
        """True if the rotation is not the identity."""
        return not torch.equal(self.rotation, torch.eye(self.dim, device=self.rotation.device, dtype=torch.float32))

    @once_property
    def fingerprint(self) -> str:
        """SHA-256 over all arrays: equal for codecs that read each other's bytes."""
        digest = hashlib.sha256(f"{self.nbits} {self.num_centroids} {self.dim}".encode())
        for array in self._arrays().values():
            digest.update(np.ascontiguousarray(array.cpu().numpy(), dtype="<f4").data)
        return digest.hexdigest()

    def to(self, device: Device) -> "ResidualCodec":
        """Return this codec with its arrays on `device`."""
        direction = self.query_direction
        return replace(
            self,
            rotation=self.rotation.to(device),
            centroids=self.centroids.to(device),
            cutoffs=self.cutoffs.to(device),
            weights=self.weights.to(device),
            query_direction=None if direction is None else direction.to(device),
        )

    def rotate(self, tokens: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Rotate query or video tokens into the space of the centroids; inner products stay as they were."""
        with full_precision(tokens):
            return tokens.float() @ self.rotation

    def encode(self, tokens: Float[Tensor, "tokens dim"]) -> EncodedTokens:
        """Compress tokens.

        Args:
            tokens: Unit-norm tokens as the model gives them (not rotated), on the codec's device.

        Returns:
            Codes and residuals, on the CPU.

        Raises:
            SettingsError: If tokens are not unit-norm, or hold NaN.
        """
        codes = torch.empty(len(tokens), dtype=torch.int32, device="cpu")
        residuals = torch.empty(len(tokens), self.dim * self.nbits // 8, dtype=torch.uint8, device="cpu")
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            codes[part], residuals[part] = self._encode_chunk(tokens[part])
        return EncodedTokens(codes, residuals)

    def _encode_chunk(
        self, tokens: Float[Tensor, "tokens dim"]
    ) -> tuple[Int32[Tensor, "tokens"], UInt8[Tensor, "tokens bytes"]]:
        _check_unnormalised(tokens)
        rotated = self.rotate(tokens)
        codes, _ = self._assign(rotated)
        nearest = self.centroids.index_select(0, codes)  # (tokens, dim), the centroid of each
        direction = None if self.query_direction is None else self.rotate(self.query_direction)
        residuals, _ = compress(rotated, nearest, self.cutoffs, self.weights, direction)
        return codes.int(), residuals

    @once_property
    def byte_weights(self) -> Float[Tensor, "256 ids"]:
        """The bucket weights that each byte of packed residuals stands for."""
        return byte_weights(self.weights)

    def dequantise(self, residuals: UInt8[Tensor, "tokens bytes"]) -> Float[Tensor, "tokens dim"]:
        """Return the bucket weights that packed residuals stand for, on the codec's device."""
        return functional.embedding(residuals.to(self.weights.device).int(), self.byte_weights).flatten(1)

    def similarities(
        self,
        codes: Int32[Tensor, "tokens"],
        residuals: UInt8[Tensor, "tokens bytes"],
        rotated: Float[Tensor, "query_tokens dim"],
    ) -> Float[Tensor, "tokens query_tokens"]:
        """Return the inner products of decoded tokens and rotated query tokens."""
        with full_precision(rotated):
            return self.decode(codes, residuals) @ rotated.T

    def decode(
        self, codes: Int32[Tensor, "tokens"], residuals: UInt8[Tensor, "tokens bytes"]
    ) -> Float[Tensor, "tokens dim"]:
        """Decode tokens, as ColBERT's `ResidualCodec.decompress` does on a CPU.

        Args:
            codes: Centroid of each token.
            residuals: Packed residuals.

        Returns:
            Rotated tokens of unit norm, float32, on the codec's device.
        """
        tokens = self.dequantise(residuals)  # (tokens, dim)
        tokens += functional.embedding(codes.to(tokens.device), self.centroids)
        return functional.normalize(tokens, dim=1)

    def reconstruction_error(self, tokens: Float[Tensor, "tokens dim"]) -> float:
        """Return the mean of 1 - cosine between tokens (not rotated) and the same tokens, encoded and decoded."""
        if len(tokens) == 0:
            raise SettingsError("reconstruction_error needs at least one token; got none")
        total = 0.0
        for chunk in tokens.split(CHUNK):
            codes, residuals = self._encode_chunk(chunk)
            cosines = functional.cosine_similarity(self.decode(codes, residuals), self.rotate(chunk), dim=1)
            total += float((1 - cosines).sum())
        return total / len(tokens)

    def save(self, folder: Path) -> None:
        """Write ColBERT's centroids.pt, buckets.pt and avg_residual.pt, and what is ours, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {**self._arrays(), **self._query_direction()}
        arrays = {name: array.cpu().contiguous().clone() for name, array in kept.items()}
        write_tensors(_smallest(arrays["centroids"]), folder / "centroids.pt")
        write_tensors((arrays["cutoffs"], arrays["weights"]), folder / "buckets.pt")
        write_tensors(torch.tensor(self.avg_residual, dtype=torch.float32, device="cpu"), folder / "avg_residual.pt")
        write_tensors(arrays["rotation"], folder / "rotation.pt")
        if self.query_direction is not None:
            write_tensors(arrays["query_direction"], folder / QUERY_DIRECTION_FILE)

    @classmethod
    def load(cls, folder: Path) -> "ResidualCodec":
        """Read a codec that `save` wrote.

        Raises:
            IndexFolderError: If a file is missing or damaged, or the files do not belong together.
        """
        centroids = read_tensor(folder / "centroids.pt", CENTROID_TYPES, (None, None)).float()
        dim = centroids.shape[1]
        rotation = read_tensor(folder / "rotation.pt", torch.float32, (dim, dim))
        average = read_tensor(folder / "avg_residual.pt", torch.float32, ())
        cutoffs, weights = read_tensor_pair(folder / "buckets.pt", (torch.float32, torch.float32), ((None,), (None,)))
        nbits, direction = len(weights).bit_length() - 1, None
        if (folder / QUERY_DIRECTION_FILE).is_file():
            direction = read_tensor(folder / QUERY_DIRECTION_FILE, torch.float32, (dim,))
        try:
            return cls(rotation, centroids, cutoffs, weights, float(average), nbits, direction)
        except SettingsError as error:
            raise IndexFolderError(f"the codec in {folder} is damaged: {error}") from error

    @once_property
    def _assign(self) -> Assign:
        return assigner(self.centroids)

    def _query_direction(self) -> dict[str, Tensor]:
        return {} if self.query_direction is None else {"query_direction": self.query_direction}

    def _arrays(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("rotation", "centroids", "cutoffs", "weights")}


def as_stored(centroids: Float[Tensor, "centroids dim"]) -> Float[Tensor, "centroids dim"]:
    """Round centroids to what their file will hold."""
    return centroids.to(CENTROID_TYPES[0]).float()


def _smallest(centroids: Float[Tensor, "centroids dim"]) -> Tensor:
    """Return centroids in the smallest type that holds them exactly: an index of ColBERT's may need float16."""
    small, half = (centroids.to(dtype) for dtype in CENTROID_TYPES)
    return small if torch.equal(small.float(), centroids) else half


def _hold_out(
    tokens: Float[Tensor, "tokens dim"], centroids: int, seed: int
) -> tuple[Float[Tensor, "sample dim"], Float[Tensor, "heldout dim"]]:
    """Set random tokens aside for the buckets, or use all for both when there are too few."""
    heldout = min(int(HELDOUT_SHARE * len(tokens)), MAX_HELDOUT)
    if heldout < MIN_HELDOUT or len(tokens) - heldout < centroids:
        return tokens, tokens[:MAX_HELDOUT]
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed), device="cpu").to(tokens.device)
    return tokens[order[heldout:]], tokens[order[:heldout]]


def _check_unnormalised(tokens: Float[Tensor, "tokens dim"]) -> None:
    """Check that every norm is 1 and nothing is NaN: decoding normalises, so other tokens would come back changed."""
    off = (tokens.float().norm(dim=1) - 1).abs()
    bad = (~(off <= NORM_TOLERANCE)).nonzero()  # also true of NaN
    if len(bad):
        row = int(bad[0])
        raise SettingsError(
            f"token {row} has norm {float(tokens[row].float().norm()):.4g}; tokens must be finite and of norm 1: "
            "L2-normalise them first"
        )


def _check_wrong_shapes(codec: ResidualCodec) -> None:
    levels = 2**codec.nbits
    expected = {"rotation": (codec.dim, codec.dim), "cutoffs": (levels - 1,), "weights": (levels,)}
    if codec.query_direction is not None:
        expected["query_direction"] = (codec.dim,)
    for name, shape in expected.items():
        got = tuple(getattr(codec, name).shape)
        if got != shape:
            raise SettingsError(f"codec {name} has shape {got}; dim={codec.dim}, nbits={codec.nbits} need {shape}")
    if codec.num_centroids < 1:
        raise SettingsError("codec has no centroids; train it again")
