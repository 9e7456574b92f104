from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float
from thorough import amount
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.codec import codec as codec_module
from colbert_video.indexing.codec import residuals as residuals_module
from colbert_video.indexing.codec.codec import QUERY_DIRECTION_FILE, EncodedTokens, ResidualCodec
from colbert_video.indexing.codec.packing import unpack
from colbert_video.indexing.codec.residuals import MULTIPLES

pytestmark = pytest.mark.numeric

DIM = 64


def clustered(count: int, seed: int = 0, dim: int = DIM) -> Float[Tensor, "tokens dim"]:
    """Tokens around 20 directions, a few dimensions much larger than the others, as in CLIP."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, dim, generator=torch.Generator().manual_seed(99))
    tokens = centres[torch.randint(20, (count,), generator=generator)]
    tokens = tokens + 0.6 * torch.randn(count, dim, generator=generator)
    tokens[:, :3] *= 6
    return normalize(tokens, dim=1)


@lru_cache
def trained(nbits: int = 4, rotate: bool = True, buckets: str = "lloyd_max") -> ResidualCodec:
    return ResidualCodec.train(clustered(3000), nbits=nbits, rotate=rotate, buckets=buckets)


def naive_decode(codec: ResidualCodec, codes: Tensor, residuals: Tensor) -> Float[Tensor, "tokens dim"]:
    """Read tokens back with no table of bytes."""
    tokens = codec.centroids[codes.long()] + codec.weights[unpack(residuals, codec.nbits).long()]
    return tokens / tokens.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
@pytest.mark.parametrize("rotate", [True, False])
def test_decode_is_the_naive_one_and_unit_norm(nbits: int, rotate: bool) -> None:
    codec, tokens = trained(nbits, rotate), clustered(200, seed=1)
    encoded = codec.encode(tokens)
    assert encoded.codes.dtype == torch.int32
    assert encoded.residuals.shape == (200, DIM * nbits // 8)
    decoded = codec.decode(encoded.codes, encoded.residuals)
    torch.testing.assert_close(decoded, naive_decode(codec, encoded.codes, encoded.residuals))
    torch.testing.assert_close(decoded.norm(dim=1), torch.ones(200))
    rotated = codec.rotate(tokens)
    torch.testing.assert_close(rotated, tokens @ codec.rotation)
    assert torch.equal(encoded.codes.long(), (rotated @ codec.centroids.T).argmax(1))


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=amount(10, thorough=25), deadline=None)
def test_each_dimension_is_off_by_its_buckets_width_at_most(nbits: int, count: int, seed: int) -> None:
    codec = trained(nbits)
    tokens = normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)
    encoded = codec.encode(tokens)
    within = [within_buckets(codec, encoded, multiple * codec.rotate(tokens)) for multiple in MULTIPLES]
    assert bool(torch.stack(within).any(dim=0).all())  # each token at one of its lengths


def within_buckets(
    codec: ResidualCodec, encoded: EncodedTokens, rotated: Float[Tensor, "tokens dim"]
) -> Bool[Tensor, "tokens"]:
    """Whether every dimension of these tokens lies in the bucket that stands for it, and is read from within it."""
    residuals = rotated - codec.centroids[encoded.codes.long()]
    error = (codec.dequantise(encoded.residuals) - residuals).abs()
    least, most = residuals.min().reshape(1), residuals.max().reshape(1)
    edges = torch.cat([torch.minimum(least, codec.weights[:1]), codec.cutoffs, torch.maximum(most, codec.weights[-1:])])
    bucket = unpack(encoded.residuals, codec.nbits).long()  # (tokens, dim)
    inside = (edges[bucket] - 1e-6 <= residuals) & (residuals <= edges[bucket + 1] + 1e-6)
    return (inside & (error <= edges.diff()[bucket] + 1e-6)).all(dim=1)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_the_best_of_several_lengths_loses_less(nbits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, tokens = trained(nbits), clustered(300, seed=8)
    best = codec.reconstruction_error(tokens)
    monkeypatch.setattr(residuals_module, "MULTIPLES", (1.0,))
    assert best < (0.92 if nbits >= 4 else 0.99) * codec.reconstruction_error(tokens)


def test_more_bits_lose_less_and_eight_bits_almost_nothing() -> None:
    tokens = clustered(500, seed=2)
    errors = [trained(nbits).reconstruction_error(tokens) for nbits in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.2
    assert errors[3] < 1e-4


def test_rotation_and_lloyd_max_lose_less_than_stock() -> None:
    tokens = clustered(500, seed=3)
    ours = trained(2).reconstruction_error(tokens)
    assert ours < 0.8 * trained(2, rotate=False, buckets="quantile").reconstruction_error(tokens)
    assert ours < 0.9 * trained(2, rotate=False).reconstruction_error(tokens)


def test_reconstruction_error_is_one_minus_cosine() -> None:
    codec, tokens = trained(2), clustered(50, seed=4)
    encoded = codec.encode(tokens)
    read_back = codec.decode(encoded.codes, encoded.residuals) @ codec.rotation.T
    expected = 1 - (read_back * tokens).sum(1).mean()
    assert codec.reconstruction_error(tokens) == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(SettingsError, match="at least one token"):
        codec.reconstruction_error(tokens[:0])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, tokens = trained(4), clustered(100, seed=5)
    whole, error = codec.encode(tokens), codec.reconstruction_error(tokens)
    monkeypatch.setattr(codec_module, "CHUNK", 7)
    parts = codec.encode(tokens)
    assert torch.equal(parts.codes, whole.codes)
    assert torch.equal(parts.residuals, whole.residuals)
    assert codec.reconstruction_error(tokens) == pytest.approx(error, rel=1e-4)
    assert codec.encode(tokens[:0]).residuals.shape == (0, DIM // 2)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_a_handful_of_tokens_is_enough(nbits: int, count: int) -> None:
    tokens = clustered(count)
    codec = ResidualCodec.train(tokens, nbits=nbits)
    assert codec.num_centroids == max(1, count // 4)
    assert codec.reconstruction_error(tokens) < 0.35
    encoded = codec.encode(clustered(20, seed=8))  # tokens it never saw stay readable
    assert bool(codec.decode(encoded.codes, encoded.residuals).isfinite().all())


def test_one_repeated_token_is_enough() -> None:
    tokens = clustered(1).repeat(40, 1)
    codec = ResidualCodec.train(tokens)
    assert codec.num_centroids <= 10
    assert codec.reconstruction_error(tokens) < 1e-4


def test_training_repeats_and_follows_its_seed() -> None:
    tokens = clustered(3000)
    assert ResidualCodec.train(tokens).fingerprint == trained().fingerprint
    assert ResidualCodec.train(tokens, seed=1).fingerprint != trained().fingerprint


def test_buckets_are_fitted_to_held_out_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    kmeans = codec_module.spherical_kmeans

    def spy(tokens: Tensor, **options: int) -> Tensor:
        seen["sample"] = tokens
        return kmeans(tokens, **options)

    monkeypatch.setattr(codec_module, "spherical_kmeans", spy)
    monkeypatch.setattr(codec_module, "MIN_HELDOUT", 20)
    codec = ResidualCodec.train(clustered(400), centroids=50)
    assert len(seen["sample"]) == 380  # 5 % kept aside
    assert codec.num_centroids == 50
    ResidualCodec.train(clustered(399), centroids=50)
    assert len(seen["sample"]) == 399  # 19 held-out tokens would be too few
    ResidualCodec.train(clustered(400), centroids=381)
    assert len(seen["sample"]) == 400  # none to spare


def test_centroids_number_as_asked_and_rounding_them_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, tokens = ResidualCodec.train(clustered(3000), centroids=100), clustered(500, seed=6)
    assert codec.num_centroids == 100
    assert torch.equal(codec.centroids, codec.centroids.to(torch.float8_e4m3fn).float())
    monkeypatch.setattr(codec_module, "as_stored", lambda centroids: centroids.half().float())
    finer = ResidualCodec.train(clustered(3000), centroids=100)
    assert not torch.equal(finer.centroids, codec.centroids)
    assert codec.reconstruction_error(tokens) < 1.01 * finer.reconstruction_error(tokens)


def test_centroids_that_need_colberts_own_type_keep_it(tmp_path: Path) -> None:
    codec = trained()
    finer = replace(codec, centroids=(codec.centroids * 1.001).half().float())
    finer.save(tmp_path)
    assert torch.load(tmp_path / "centroids.pt").dtype == torch.float16
    assert ResidualCodec.load(tmp_path).fingerprint == finer.fingerprint


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_save_and_load_keep_every_bit_in_colberts_types(nbits: int, tmp_path: Path) -> None:
    codec = trained(nbits)
    codec.save(tmp_path / "codec")
    loaded = ResidualCodec.load(tmp_path / "codec")
    assert loaded.fingerprint == codec.fingerprint
    assert (loaded.nbits, loaded.dim, loaded.num_centroids) == (nbits, DIM, codec.num_centroids)
    assert loaded.avg_residual == pytest.approx(codec.avg_residual)
    for name in ("rotation", "centroids", "cutoffs", "weights"):
        assert torch.equal(getattr(loaded, name), getattr(codec, name))
    assert torch.load(tmp_path / "codec" / "centroids.pt").dtype == torch.float8_e4m3fn
    cutoffs, weights = torch.load(tmp_path / "codec" / "buckets.pt")
    assert (cutoffs.dtype, weights.dtype) == (torch.float32, torch.float32)
    assert torch.load(tmp_path / "codec" / "avg_residual.pt").shape == ()
    tokens = clustered(20, seed=6)
    assert torch.equal(loaded.encode(tokens).residuals, codec.encode(tokens).residuals)


def test_a_codec_that_knows_the_direction_of_queries_keeps_it(tmp_path: Path) -> None:
    plain, direction = trained(), clustered(1, seed=8)[0]
    codec = replace(plain, query_direction=direction)
    codec.to("cpu").save(tmp_path)
    loaded = ResidualCodec.load(tmp_path)
    assert loaded.query_direction is not None
    assert torch.equal(loaded.query_direction, direction)
    assert loaded.fingerprint == plain.fingerprint  # each reads what the other writes
    tokens = clustered(200, seed=6)
    errors = []
    for other in (plain, codec, loaded):
        encoded = other.encode(tokens)
        read = plain.decode(encoded.codes, encoded.residuals) @ plain.rotation.T
        errors.append(float(((read - tokens) @ direction).square().mean().sqrt()))
    assert errors[1] == errors[2] < errors[0] / 2
    for content in (b"x" * 100, torch.ones(DIM + 8)):
        torch.save(content, tmp_path / QUERY_DIRECTION_FILE)
        with pytest.raises(IndexFolderError, match=r"query_direction\.pt"):
            ResidualCodec.load(tmp_path)


def test_an_unusable_direction_is_refused() -> None:
    with pytest.raises(SettingsError, match="query_direction holds NaN"):
        ResidualCodec.train(clustered(50, seed=1), query_direction=torch.full((DIM,), torch.nan))


def test_fingerprint_tells_any_change() -> None:
    codec = trained()
    assert codec.to("cpu").fingerprint == codec.fingerprint
    for name in ("rotation", "centroids", "cutoffs", "weights"):
        array = getattr(codec, name).clone()
        array.view(-1)[-1] += 1e-3
        assert replace(codec, **{name: array}).fingerprint != codec.fingerprint


@pytest.mark.parametrize("name", ["centroids.pt", "buckets.pt", "avg_residual.pt", "rotation.pt"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "other"])
def test_damaged_files_are_named(name: str, damage: str, tmp_path: Path) -> None:
    trained().save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "other":
        torch.save({"a": torch.zeros(2)}, path)
    elif damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"x" * 500}[damage])
    with pytest.raises(IndexFolderError, match=name):
        ResidualCodec.load(tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["rotation", "centroids", "cutoffs", "weights"])
def test_one_number_that_is_not_finite_is_enough_to_refuse_a_codec(name: str, bad: float) -> None:
    array = getattr(trained(), name).clone()
    array.view(-1)[len(array.view(-1)) // 2] = bad
    with pytest.raises(SettingsError, match=f"codec {name} holds NaN or infinity"):
        replace(trained(), **{name: array})


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    trained().save(tmp_path)
    torch.save(Path("/tmp"), tmp_path / "centroids.pt")  # an object that only unpickling can build
    with pytest.raises(IndexFolderError, match=r"centroids\.pt cannot be read as tensors"):
        ResidualCodec.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("rotation.pt", torch.eye(32)),
        ("centroids.pt", torch.full((5, DIM), float("nan"), dtype=torch.float16)),
        ("centroids.pt", torch.zeros(0, DIM, dtype=torch.float16)),
        ("centroids.pt", torch.zeros(5, DIM)),
        ("buckets.pt", (torch.zeros(7), torch.zeros(8))),
        ("buckets.pt", (torch.zeros(7), torch.zeros(16))),
        ("buckets.pt", (torch.arange(15.0).flip(0), torch.zeros(16))),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: object, tmp_path: Path) -> None:
    trained().save(tmp_path)
    torch.save(array, tmp_path / name)
    with pytest.raises(IndexFolderError, match=f"{name}|codec in .* is damaged"):
        ResidualCodec.load(tmp_path)


@pytest.mark.parametrize("bad", [0.0, 0.9, 1.1, float("nan"), float("inf")])
def test_tokens_that_are_not_unit_norm_are_refused(bad: float) -> None:
    tokens = clustered(10)
    tokens[3] *= bad
    with pytest.raises(SettingsError, match=r"token 3 has norm .*L2-normalise"):
        trained().encode(tokens)
    with pytest.raises(SettingsError, match=r"token 3 has norm .*L2-normalise"):
        ResidualCodec.train(tokens)


def test_half_precision_tokens_are_unit_norm_enough() -> None:
    tokens = clustered(50)
    for dtype in (torch.float16, torch.bfloat16):
        assert (
            trained().encode(tokens.to(dtype)).codes.tolist()
            == trained().encode(tokens.to(dtype).float()).codes.tolist()
        )


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="nbits=3 does not work"):
        ResidualCodec.train(clustered(10), nbits=3)
    with pytest.raises(SettingsError, match="centroids=11 for 10 tokens"):
        ResidualCodec.train(clustered(10), centroids=11)
    with pytest.raises(SettingsError, match=r"ask for 1 to 0|got 0 tokens"):
        ResidualCodec.train(clustered(10)[:0])
