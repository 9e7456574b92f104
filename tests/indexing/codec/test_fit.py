"""Codecs serve videos that they have not seen, and know how well; stored videos hardly pay for it."""

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Indexer
from colbert_video.indexing.codec import fit as heldout
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.fit import FittedCodec, Sample, fit_codec
from colbert_video.indexing.codec.kmeans import num_partitions
from colbert_video.indexing.upkeep.contents import describe_index

DIM, FRAMES = 64, 12


def videos(count: int, *, seed: int) -> Float[Tensor, "videos frames dim"]:
    """Videos whose frames look alike, around common topics and a common mean, as an image tower's tokens do."""
    topics = torch.randn(40, DIM, generator=torch.Generator().manual_seed(7))
    common = 1.2 * torch.randn(DIM, generator=torch.Generator().manual_seed(8))
    generator = torch.Generator().manual_seed(seed)
    topic = topics[torch.randint(40, (count,), generator=generator)]
    video = common + topic + 0.8 * torch.randn(count, DIM, generator=generator)
    return normalize(video[:, None] + 0.15 * torch.randn(count, FRAMES, DIM, generator=generator), dim=-1)


def sample_of(tokens: Float[Tensor, "videos frames dim"]) -> Sample:
    order = torch.randperm(tokens.shape[0] * FRAMES, generator=torch.Generator().manual_seed(1))
    owners = torch.arange(len(tokens)).repeat_interleave(FRAMES)
    return Sample(tokens.flatten(0, 1)[order], owners[order])


def fitted(tokens: Float[Tensor, "videos frames dim"], nbits: int = 4) -> FittedCodec:
    count = num_partitions(tokens.shape[0] * FRAMES)
    return fit_codec(sample_of(tokens), centroids=count, nbits=nbits, buckets="lloyd_max", rotate=True, seed=0)


def recall(
    codec: ResidualCodec, asked: Float[Tensor, "videos frames dim"], all_: Float[Tensor, "_ frames dim"]
) -> float:
    """Share of the exact ten best of all videos that are found by their decoded tokens, asking for some of them."""
    encoded = codec.encode(all_.flatten(0, 1))
    decoded = (codec.decode(encoded.codes, encoded.residuals) @ codec.rotation.T).view(all_.shape)
    noise = torch.randn(len(asked), 4, DIM, generator=torch.Generator().manual_seed(2))
    queries = normalize(asked[:, ::3] + 0.08 * noise, dim=-1)
    exact, found = (
        torch.einsum("qld,vtd->qlvt", queries, tokens).amax(3).mean(1).topk(10).indices for tokens in (all_, decoded)
    )
    return float((exact[:, :, None] == found[:, None]).any(2).float().mean())


@pytest.mark.parametrize("count", [10, 30, 100, 1000])
def test_later_videos_are_stored_well_and_stored_ones_hardly_worse(count: int) -> None:
    stored, later = videos(count, seed=3), videos(100, seed=4)
    everything = torch.cat([stored, later])
    token_wise = ResidualCodec.train(stored.flatten(0, 1))
    codec = fitted(stored).codec
    assert codec.num_centroids == token_wise.num_centroids
    before = [recall(token_wise, asked, everything) for asked in (stored[:100], later)]
    after = [recall(codec, asked, everything) for asked in (stored[:100], later)]
    assert after[0] > before[0] - 0.02
    assert after[1] > max(0.9, before[1] - 0.02)
    if count <= 30:
        assert before[1] < 0.8
    if count <= 100:
        new = later.flatten(0, 1)
        assert codec.reconstruction_error(new) < 0.5 * token_wise.reconstruction_error(new)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [30, 300])
def test_the_expected_error_is_that_of_later_videos(nbits: int, count: int) -> None:
    known = fitted(videos(count, seed=5), nbits)
    error = known.codec.reconstruction_error(videos(200, seed=6).flatten(0, 1))
    assert known.unseen_error == pytest.approx(error, rel=0.5, abs=1e-3)


def test_whole_videos_are_set_aside_and_half_of_them_at_most() -> None:
    for count, expected in ((1, 0), (2, 1), (7, 3), (1000, 171)):  # 171 * 12 tokens are 2,048 and a few
        owners = sample_of(videos(count, seed=1)).owners
        held = heldout._set_aside(owners, seed=0)
        chosen = set(owners[held].tolist())
        assert len(chosen) == expected
        assert int(held.sum()) == expected * FRAMES
        assert not chosen & set(owners[~held].tolist())


def test_centroids_come_from_all_videos() -> None:
    one, other = videos(2, seed=1)
    known = fitted(torch.stack([one, other]))
    nearest = (known.codec.rotate(torch.stack([one, other])) @ known.codec.centroids.T).amax(2)
    assert float(nearest.min()) > 0.95
    assert known.codec.num_centroids == 6


def test_unequal_videos_and_single_ones() -> None:
    tokens = videos(20, seed=1).flatten(0, 1)
    owners = torch.cat([torch.zeros(230, dtype=torch.int64), torch.arange(1, 11)])
    settings = {"nbits": 4, "buckets": "lloyd_max", "rotate": True, "seed": 0}
    for centroids in (1, 2, 60, 240):
        known = fit_codec(Sample(tokens, owners), centroids=centroids, **settings)
        assert 1 <= known.codec.num_centroids <= centroids
    alone = fit_codec(Sample(tokens[:5], torch.zeros(5, dtype=torch.int64)), centroids=2, **settings)
    assert alone.codec.fingerprint == ResidualCodec.train(tokens[:5], centroids=2).fingerprint
    assert alone.unseen_error == pytest.approx(alone.codec.reconstruction_error(tokens[:5]))


def test_small_indexes_do_not_cry_wolf(tmp_path: Path) -> None:
    stored, later = videos(30, seed=9), videos(40, seed=10)
    indexer = Indexer(tmp_path / "i", dim=DIM)
    indexer.index_tokens([f"a{number}" for number in range(30)], stored)
    report = indexer.index_tokens([f"b{number}" for number in range(40)], later, add=True)
    assert not report.drift.drifted
    assert report.drift.added["frame"] == pytest.approx(report.drift.trained["frame"], rel=0.5)
    assert describe_index(tmp_path / "i")["codec_drift"] is None
