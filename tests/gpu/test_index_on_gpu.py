"""Compression, search and indexes on the stand-in for a GPU: the values of the CPU, and as many waits as are known."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from random_segments import DIM, random_segment, unit
from stand_in_gpu import GPU, GPUTensor, StandInGPU
from thorough import cases, thorough_only
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.indexing.build.arrays import ArraySource
from colbert_video.indexing.build.encoding import Stopwatch, _encode
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.fit import Sample, fit_codec
from colbert_video.indexing.codec.kmeans import spherical_kmeans
from colbert_video.indexing.scan.scan import score_videos, search_segment, video_similarities
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.video.frames import SampledFrames

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("kind", cases(["1 bits, feedback"], thorough=["2 bits", "4 bits, feedback", "8 bits"]))
def test_a_codec_of_tokens_on_the_gpu(gpu: StandInGPU, kind: str) -> None:
    nbits, feedback = int(kind[0]), kind.endswith("feedback")
    tokens = unit(300, DIM, seed=nbits)
    direction = normalize(torch.ones(DIM), dim=0) if feedback else None
    here = ResidualCodec.train(tokens, nbits=nbits, query_direction=direction)
    there = ResidualCodec.train(tokens.to(GPU), nbits=nbits, query_direction=direction)
    assert isinstance(there.centroids, GPUTensor)
    for name in ("rotation", "centroids", "cutoffs", "weights"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), atol=1e-6, rtol=1e-5)
    moved = here.to(GPU)
    on_gpu = tokens.to(GPU)
    with gpu.counted():
        encoded = moved.encode(on_gpu)
    assert gpu.waits == {"codec._check_unnormalised": 1, "codec.ResidualCodec.encode": 2}
    expected = here.encode(tokens)
    assert torch.equal(encoded.codes, expected.codes)
    assert torch.equal(encoded.residuals, expected.residuals)
    decoded = moved.decode(encoded.codes, encoded.residuals)
    assert isinstance(decoded, GPUTensor)
    torch.testing.assert_close(decoded.cpu(), here.decode(expected.codes, expected.residuals))
    assert moved.reconstruction_error(on_gpu) == pytest.approx(here.reconstruction_error(tokens), rel=1e-4)
    assert moved.rotated
    assert moved.fingerprint == here.fingerprint


def test_a_codec_is_saved_from_the_gpu(gpu: StandInGPU, tmp_path: Path) -> None:
    codec = ResidualCodec.train(unit(300, DIM), nbits=2, query_direction=normalize(torch.ones(DIM), dim=0))
    codec.to(GPU).save(tmp_path / "codec")
    assert ResidualCodec.load(tmp_path / "codec").fingerprint == codec.fingerprint


@thorough_only
def test_a_codec_with_videos_set_aside(gpu: StandInGPU) -> None:
    tokens, owners = unit(1200, DIM), torch.arange(1200) // 12
    settings = {"centroids": 60, "nbits": 4, "buckets": "lloyd_max", "rotate": True, "seed": 0}
    here = fit_codec(Sample(tokens, owners), **settings)
    there = fit_codec(Sample(tokens.to(GPU), owners.to(GPU)), **settings)
    torch.testing.assert_close(there.codec.centroids.cpu(), here.codec.centroids, atol=1e-6, rtol=1e-5)
    assert there.unseen_error == pytest.approx(here.unseen_error, rel=1e-4)


def test_quantile_buckets_and_repeated_tokens(gpu: StandInGPU) -> None:
    tokens = unit(40, DIM)[torch.arange(400) % 40]
    codec = ResidualCodec.train(tokens.to(GPU), nbits=2, centroids=60, buckets="quantile", rotate=False)
    assert codec.num_centroids <= 40
    assert not codec.rotated
    assert spherical_kmeans(tokens.to(GPU), centroids=50).shape[0] <= 40


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segment, dict[str, ResidualCodec]]:
    """900 videos in both bags, one of them of several lengths, on the CPU."""
    lengths = {"frame": [3, 1, 2] * 300, "video": [4] * 900}
    segment, codecs = random_segment(tmp_path_factory.mktemp("segment"), lengths)
    live = torch.ones(900, dtype=torch.bool)
    live[7] = False
    return Segment("s", segment.bags, live), codecs


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("limited", [True, False])
def test_a_segment_is_searched_where_it_lies(
    gpu: StandInGPU, stored: tuple[Segment, dict[str, ResidualCodec]], exact: bool, limited: bool
) -> None:
    segment, codecs = stored
    query, allowed = unit(9, DIM, seed=5), torch.arange(900) % 2 == 0 if limited else None
    there, on_gpu = segment.to(GPU), {bag: codec.to(GPU) for bag, codec in codecs.items()}
    search_segment(there, on_gpu, query, k=10)  # what is computed once
    with gpu.counted():
        found = search_segment(there, on_gpu, query, k=10, allowed=allowed, exact=exact)
    chosen = not exact and not limited  # 449 videos are few enough to be decoded at once
    stages = 2 if chosen else 1
    assert gpu.waits.pop("torch_scorer._chunks") == 2 * 2 * stages  # two bags
    assert gpu.waits.pop("segment.StoredBag.token_rows") == 2 * stages
    # One bag's lengths differ: one wait to see it, two where they are the same, and one in torch's own reduction.
    assert gpu.waits.pop("torch_scorer._segment_max") == 4 * stages
    assert gpu.waits.pop("torch_scorer.TorchScorer.score") == 3
    assert gpu.waits.pop("opened_segment.Segment.eligible", 0) == 2 * limited
    assert gpu.waits == ({"opened_segment.largest": 2} if chosen else {})
    expected = search_segment(segment, codecs, query, k=10, allowed=allowed, exact=exact)
    assert type(found.total) is Tensor
    assert found.rows.tolist() == expected.rows.tolist()
    torch.testing.assert_close(found.total, expected.total, atol=2e-6, rtol=0)


def test_a_query_on_the_gpu_and_chosen_videos(
    gpu: StandInGPU, stored: tuple[Segment, dict[str, ResidualCodec]]
) -> None:
    segment, codecs = stored
    query, rows = unit(5, DIM, seed=6), torch.tensor([3, 800, 12])
    there, on_gpu = segment.to(GPU), {bag: codec.to(GPU) for bag, codec in codecs.items()}
    expected = score_videos(segment, codecs, query, rows)
    for given in (rows, rows.to(GPU)):
        found = score_videos(there, on_gpu, query.to(GPU), given)
        assert found.rows.tolist() == rows.tolist()
        torch.testing.assert_close(found.total, expected.total, atol=2e-6, rtol=0)
    with gpu.counted():
        similarities = video_similarities(there, on_gpu["video"], "video", query, 7)
    assert gpu.waits == {"scan.video_similarities": 2}
    torch.testing.assert_close(
        similarities, video_similarities(segment, codecs["video"], "video", query, 7), atol=2e-6, rtol=0
    )


def sampled(pixels: np.ndarray) -> SampledFrames:
    times = np.arange(len(pixels)) / 4
    return SampledFrames(pixels, times, 2.0, fps=4, width=32, height=32, rotation=0, codec="h264", decoder="pyav")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty videos in both bags."""
    path = tmp_path_factory.mktemp("on_gpu") / "index"
    ids = [f"clip {number}" for number in range(40)]
    Indexer(path, dim=DIM).index_tokens(ids, unit(40, 4, DIM, seed=1), unit(40, 6, DIM, seed=2))
    return path


def test_an_index_is_searched_on_the_gpu_that_is_named(index: Path, gpu: StandInGPU) -> None:
    query = unit(6, DIM, seed=4)
    with Searcher(index) as plain, Searcher(index, device="cuda:0") as searcher:
        expected = plain.search_tokens(query, k=10)
        for given in (query, query.to(GPU), query.numpy()):
            found = searcher.search_tokens(given, k=10)
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=2e-6)
        only = searcher.search_tokens(query, k=3, ids=["clip 7", "clip 31"])
        assert {hit.id for hit in only} == {"clip 7", "clip 31"}


def test_tokens_on_the_gpu_are_fetched_for_an_index(gpu: StandInGPU) -> None:
    for tokens in (unit(3, 4, DIM), [unit(length, DIM) for length in (4, 2, 3)]):
        on_gpu = tokens.to(GPU) if isinstance(tokens, Tensor) else [bag.to(GPU) for bag in tokens]
        here, there = (ArraySource(list("abc"), {"frame": given}, dim=DIM) for given in (tokens, on_gpu))
        for one, other in zip(here, there, strict=True):
            assert type(other.tokens["frame"]) is Tensor
            assert torch.equal(one.tokens["frame"], other.tokens["frame"])


def test_tokens_of_a_batch_of_videos_are_fetched_at_once(gpu: StandInGPU, tiny_trained_model: VideoColBERT) -> None:
    there = copy.deepcopy(tiny_trained_model).to("cuda:0")
    generator = np.random.default_rng(0)
    batch = []
    for number, length in enumerate((4, 6, 4)):
        pixels = generator.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)
        batch.append((VideoEntry(str(number)), sampled(pixels)))
    with gpu.counted():
        found = list(_encode(batch, there, None, Stopwatch()))
    assert gpu.waits["tokens.TokenBags.to.<locals>.<dictcomp>"] == 4  # tokens and mask of both bags
    assert not [name for name in gpu.waits if name.startswith("encoding.")]
    for one, other in zip(_encode(batch, tiny_trained_model, None, Stopwatch()), found, strict=True):
        assert one.entry == other.entry
        for bag, tokens in one.bags.items():
            assert type(other.bags[bag]) is Tensor
            torch.testing.assert_close(other.bags[bag], tokens, atol=2e-6, rtol=0)


@thorough_only
def test_videos_are_indexed_and_searched_on_the_gpu(
    gpu: StandInGPU, tmp_path: Path, rendered_clips: Path, tiny_trained_model: VideoColBERT
) -> None:
    there = copy.deepcopy(tiny_trained_model).to("cuda:0")
    Indexer(tmp_path / "here", model=tiny_trained_model, workers=1).index(rendered_clips)
    with gpu.counted():
        Indexer(tmp_path / "there", model=there, workers=1).index(rendered_clips)
    assert gpu.waits["tokens.TokenBags.to.<locals>.<dictcomp>"] == 3 + 2 * 2  # typical queries, and one batch of videos
    with (
        Searcher(tmp_path / "here", model=tiny_trained_model) as plain,
        Searcher(tmp_path / "there", model=there, device="cuda:0") as searcher,
    ):
        expected, found = (one.search("a red circle", k=4) for one in (plain, searcher))
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert [(hit.start, hit.end) for hit in found] == [(hit.start, hit.end) for hit in expected]
        explained = [one.explain("a red circle", expected[0].id) for one in (plain, searcher)]
        assert explained[0].score == pytest.approx(explained[1].score, abs=1e-5)
        assert searcher.search_all({"a": "red", "b": "blue"}, k=3).todict().keys() == {"a", "b"}
