"""The search of a segment, by the compiled kernels and by torch, against the naive score of decoded tokens."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_segments import DIM, random_segment, stored_bag, unit
from real_gpu import needs_cuda
from thorough import amount
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan import scan, torch_scorer
from colbert_video.indexing.scan.kernel_scorer import DEVIATIONS, KernelScorer
from colbert_video.indexing.scan.kernels import Kernels, compiled_kernels
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import (
    num_candidates,
    num_in_every_bag,
    score_videos,
    scorer_of,
    search_segment,
    video_similarities,
)
from colbert_video.indexing.scan.torch_scorer import TorchScorer
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.indexing.segments.segment import open_bag, write_bag

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module", params=["kernels", "torch"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Search with the compiled kernels, then as if there were none."""
    if request.param == "kernels" and compiled_kernels() is None:
        pytest.skip("no compiled kernels: python setup.py build_ext --inplace")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(scan, "compiled_kernels", lambda: None)
        yield request.param


@pytest.fixture(autouse=True)
def _every_way(way: str) -> None:
    """All tests of this file run both ways."""


def _naive(segment: Segment, codecs: dict[str, ResidualCodec], query: Tensor) -> list[float]:
    """MMS_F + MMS_V of every video, one token at a time."""
    totals = []
    for ordinal in range(len(segment)):
        total = 0.0
        for bag, codec in codecs.items():
            stored = segment.bags[bag]
            start, stop = int(stored.offsets[ordinal]), int(stored.offsets[ordinal + 1])
            tokens = codec.decode(stored.codes[start:stop], stored.residuals[start:stop])
            rotated = query @ codec.rotation
            best = [max(float(row @ token) for token in tokens) for row in rotated]
            total += sum(best) / len(best)
        totals.append(total)
    return totals


bag_lengths = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12)


@settings(max_examples=amount(5, thorough=25), deadline=None)
@given(lengths=bag_lengths, query_tokens=st.integers(1, 6), seed=st.integers(0, 100))
def test_exact_scores_are_the_naive_scores(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[tuple[int, int]], query_tokens: int, seed: int
) -> None:
    frame, video = (list(column) for column in zip(*lengths, strict=True))
    segment, codecs = random_segment(tmp_path_factory.mktemp("s"), {"frame": frame, "video": video}, seed)
    query = unit(query_tokens, DIM, seed=seed + 7)
    found = search_segment(segment, codecs, query, k=len(lengths), exact=True)
    naive = _naive(segment, codecs, query)
    assert sorted(found.rows.tolist()) == list(range(len(lengths)))
    for ordinal, total in zip(found.rows.tolist(), found.total.tolist(), strict=True):
        assert total == pytest.approx(naive[ordinal], abs=1e-5)
    assert found.total.tolist() == sorted(found.total.tolist(), reverse=True)
    assert torch.allclose(found.bags["frame"] + found.bags["video"], found.total)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("names", [("frame", "video"), ("frame", "video", "speech", "caption")])
def test_each_bag_counts_its_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], exact: bool, kernels: bool
) -> None:
    monkeypatch.setattr(scan, "MIN_CANDIDATES", 295)
    monkeypatch.setattr(scan, "MIN_IN_EVERY_BAG", 280)
    if not kernels:
        monkeypatch.setattr(scan, "compiled_kernels", lambda: None)
    segment, codecs = random_segment(tmp_path, {bag: [2 + n] * 300 for n, bag in enumerate(names)})
    query, weights = unit(5, DIM, seed=3), {"frame": 0.4, "video": 2.5, "speech": 0.0}
    found = search_segment(segment, codecs, query, k=9, exact=exact, weights=weights)
    assert set(found.bags) == set(names) - {"speech"}
    expected = sum(weights.get(bag, 1.0) * scores for bag, scores in found.bags.items())
    assert torch.allclose(found.total, torch.as_tensor(expected))
    every = [score_videos(segment, {bag: codecs[bag]}, query, torch.arange(300)).total for bag in names]
    totals = sum(weights.get(bag, 1.0) * scores for bag, scores in zip(names, every, strict=True))
    assert found.rows.tolist() == torch.as_tensor(totals).topk(9).indices.tolist()


def test_weights_of_one_change_nothing_and_a_bag_of_weight_nothing_is_missing(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 900, "video": [4] * 900})
    query = unit(5, DIM, seed=3)
    plain = search_segment(segment, codecs, query, k=7)
    ones = search_segment(segment, codecs, query, k=7, weights={"frame": 1.0, "video": 1.0})
    assert torch.equal(ones.rows, plain.rows)
    assert torch.equal(ones.total, plain.total)
    without = search_segment(segment, codecs, query, k=7, weights={"video": 0.0})
    alone = search_segment(segment, {"frame": codecs["frame"]}, query, k=7)
    assert torch.equal(without.rows, alone.rows)
    assert torch.equal(without.total, alone.total)
    with pytest.raises(SettingsError, match="no bag counts"):
        search_segment(segment, codecs, query, k=7, weights={"frame": 0.0, "video": 0.0})


@pytest.mark.parametrize("exact", [True, False])
def test_threads_find_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    monkeypatch.setattr(scan, "MIN_CANDIDATES", 200)
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 900, "video": [4] * 900})
    query, used = unit(5, DIM, seed=3), []
    alone = search_segment(segment, codecs, query, k=20, exact=exact)
    on = Kernels.on
    monkeypatch.setattr(Kernels, "on", lambda self, threads: used.append(threads) or on(self, threads))
    search_segment(segment, codecs, query, k=20, exact=exact, threads=3)
    assert not used or set(used) == {1}  # too small a segment to be cut
    monkeypatch.setattr(scan, "VIDEOS_PER_THREAD", 300)
    shared = search_segment(segment, codecs, query, k=20, exact=exact, threads=5)
    assert used[-1:] in ([3], [])  # none where torch scores
    assert torch.equal(shared.rows, alone.rows)
    assert torch.equal(shared.total, alone.total)


def test_top_k_is_a_prefix_of_top_k_plus_one(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 50, "video": [4] * 50})
    query = unit(5, DIM, seed=3)
    everything = search_segment(segment, codecs, query, k=50).rows.tolist()
    for k in range(1, 50):
        assert search_segment(segment, codecs, query, k=k).rows.tolist() == everything[:k]


def test_more_results_than_videos_gives_all(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [2, 1, 3]})
    assert len(search_segment(segment, codecs, unit(2, DIM, seed=1), k=100).rows) == 3


def test_a_bag_in_another_order_scores_the_same(tmp_path: Path) -> None:
    tokens = unit(6, DIM, seed=0)
    codec = ResidualCodec.train(tokens, nbits=8)
    query = unit(3, DIM, seed=1)
    totals = []
    for number, order in enumerate((torch.arange(6), torch.tensor([5, 3, 1, 0, 2, 4]))):
        encoded = codec.encode(tokens[order])
        folder = tmp_path / str(number)
        write_bag(folder, codec=codec, codes=encoded.codes, residuals=encoded.residuals, doclens=torch.tensor([6]))
        segment = Segment("s", {"frame": open_bag(folder)}, torch.ones(1, dtype=torch.bool))
        totals.append(float(score_videos(segment, {"frame": codec}, query, torch.tensor([0])).total))
    assert totals[0] == pytest.approx(totals[1], abs=1e-6)


def test_removed_and_filtered_videos_are_never_found(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [2] * 20, "video": [3] * 20})
    segment.live[[0, 5]] = False
    allowed = torch.zeros(20, dtype=torch.bool)
    allowed[[0, 1, 2]] = True
    query = unit(4, DIM, seed=9)
    assert set(search_segment(segment, codecs, query, k=20).rows.tolist()) == set(range(20)) - {0, 5}
    assert set(search_segment(segment, codecs, query, k=20, allowed=allowed).rows.tolist()) == {1, 2}
    assert len(search_segment(segment, codecs, query, k=5, allowed=torch.zeros(20, dtype=torch.bool)).rows) == 0


def test_survivors_of_both_stages_hold_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MIN_CANDIDATES", 100)
    monkeypatch.setattr(scan, "MIN_IN_EVERY_BAG", 20)
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 400, "video": [4] * 400})
    query = segment_query(segment, codecs, ordinal=123)
    pruned = search_segment(segment, codecs, query, k=1)
    assert pruned.rows.tolist() == [123]
    assert pruned.total[0] == pytest.approx(
        float(search_segment(segment, codecs, query, k=1, exact=True).total[0]), abs=1e-6
    )


def _clustered(
    folder: Path, videos: int, nbits: int, seed: int, *, alike: bool = False
) -> tuple[Segment, dict[str, ResidualCodec]]:
    """Videos whose tokens are noisy copies of their one scene, in both bags, or the same frames in all of them."""
    scenes = unit(videos, 1, DIM, seed=seed)
    bags, codecs = {}, {}
    for number, (bag, count) in enumerate({"frame": 3, "video": 4}.items()):
        own = scenes[:1].expand_as(scenes) if alike and bag == "frame" else scenes
        noise = 0.0 if alike and bag == "frame" else 0.7
        noisy = own + noise * unit(videos, count, DIM, seed=seed + 1 + number)
        tokens = normalize(noisy, dim=-1).flatten(0, 1)
        codecs[bag] = ResidualCodec.train(tokens, nbits=nbits, seed=number, centroids=videos // 4)
        bags[bag] = stored_bag(folder / bag, codecs[bag], tokens, [count] * videos)
    return Segment("s", bags, torch.ones(videos, dtype=torch.bool)), codecs


@pytest.mark.parametrize("alike", [False, True])
def test_videos_given_up_after_the_first_bag_are_not_the_best(tmp_path: Path, alike: bool) -> None:
    """Where all first bags are alike, only the centroids of the second one tell who goes on."""
    segment, codecs = _clustered(tmp_path, 600, nbits=4, seed=0, alike=alike)
    missed = 0
    for number in range(20):
        own = segment_query(segment, codecs, 30 * number, bag="video")
        query = PreparedQuery(normalize(own + 0.5 * unit(len(own), DIM, seed=number), dim=1))
        scorer = scorer_of(segment, codecs, query)
        best = scorer.score(segment.eligible()).best(1).rows
        kept = scorer.best_by_rounded_scores(segment.eligible(), 60, 1)
        assert kept.tolist() == sorted(set(kept.tolist()))
        missed += len(set(best.tolist()) - set(kept.tolist()))
    assert missed == 0  # of 20


@settings(max_examples=amount(3, thorough=15), deadline=None)
@given(
    query_tokens=st.integers(1, 40),
    spread=st.sampled_from([0.0, 0.2, 1.0]),
    nbits=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 999),
)
def test_rounding_loses_none_of_the_best(
    tmp_path_factory: pytest.TempPathFactory, query_tokens: int, spread: float, nbits: int, seed: int
) -> None:
    segment, codecs = random_segment(
        tmp_path_factory.mktemp("s"), {"frame": [3] * 200, "video": [4, 2] * 100}, seed, nbits
    )
    query = unit(1, DIM, seed=seed + 2) * (1 - spread) + spread * unit(query_tokens, DIM, seed=seed + 1)
    scorer = scorer_of(segment, codecs, PreparedQuery(normalize(query, dim=1)))
    best = scorer.score(segment.eligible()).best(20).rows
    assert set(best.tolist()) <= set(scorer.best_by_rounded_scores(segment.eligible(), 200, 20).tolist())


@pytest.mark.parametrize("spread", [0.0, 0.15, 1.0])
def test_rounding_errors_are_as_large_as_expected_also_of_query_tokens_alike(tmp_path: Path, spread: float) -> None:
    """Padding gives a query many tokens alike: they meet the same tokens, so their errors do not average out."""
    segment, codecs = random_segment(tmp_path, {"frame": [6] * 300, "video": [7] * 300})
    query = normalize(unit(1, DIM, seed=50) + spread * 5 * unit(32, DIM, seed=51), dim=1)
    scorer = scorer_of(segment, codecs, PreparedQuery(query))
    if not isinstance(scorer, KernelScorer):
        pytest.skip("torch does not round")
    rounded = torch.zeros(300)
    for bag in codecs:
        rounded += scorer._rounded_scores(bag, segment.eligible())
    off = float((rounded - scorer.score(segment.eligible()).total).std())
    assert DEVIATIONS * off < 1.1 * scorer._rounding_error() < 20 * off


def test_somebodys_autocast_and_default_type_change_nothing(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [2] * 900, "video": [3] * 900})
    query = unit(3, DIM, seed=2)
    expected = search_segment(segment, codecs, query, k=5)
    with torch.autocast("cpu", torch.bfloat16):
        found = search_segment(segment, codecs, query, k=5)
    torch.testing.assert_close(found.total, expected.total, rtol=0, atol=0)
    assert torch.equal(found.rows, expected.rows)
    fresh, codecs = random_segment(tmp_path / "again", {"frame": [2] * 900, "video": [3] * 900})
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = search_segment(fresh, codecs, query, k=5)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found.total, expected.total, rtol=0, atol=0)


def test_first_searches_of_many_threads_share_the_lengths_of_tokens(tmp_path: Path) -> None:
    """One array for all, whatever thread comes first: the kernels write into it through its address."""
    segment, codecs = random_segment(tmp_path, {"frame": [2] * 50})
    expected = search_segment(segment, codecs, unit(3, DIM, seed=2), k=5, exact=True)
    for _ in range(20):
        fresh = Segment("s", {bag: replace(stored) for bag, stored in segment.bags.items()}, segment.live)
        stored, start = fresh.bags["frame"], threading.Barrier(4)

        def first(fresh: Segment = fresh, start: threading.Barrier = start) -> int:
            start.wait()
            found = search_segment(fresh, codecs, unit(3, DIM, seed=2), k=5)
            assert torch.equal(found.rows, expected.rows)
            return fresh.bags["frame"].inverse_lengths.data_ptr()

        with ThreadPoolExecutor(4) as pool:
            addresses = {future.result() for future in [pool.submit(first) for _ in range(4)]}
        assert addresses == {stored.inverse_lengths.data_ptr()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_queries_that_are_no_numbers_are_refused(value: float) -> None:
    query = unit(3, DIM, seed=2)
    query[1, 5] = value
    with pytest.raises(SettingsError, match="NaN or infinity"):
        PreparedQuery(query)


def test_rounded_scores_leave_few(tmp_path: Path, way: str) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 400, "video": [4] * 400})
    scorer = scorer_of(segment, codecs, PreparedQuery(unit(8, DIM, seed=2)))
    kept = scorer.best_by_rounded_scores(segment.eligible(), 400, 10)
    assert 10 <= len(kept) <= 20 if way == "kernels" else len(kept) == 400


def segment_query(segment: Segment, codecs: dict[str, ResidualCodec], ordinal: int, bag: str = "frame") -> Tensor:
    """A query made of a video's own tokens."""
    stored, codec = segment.bags[bag], codecs[bag]
    rows = slice(int(stored.offsets[ordinal]), int(stored.offsets[ordinal + 1]))
    return codec.decode(stored.codes[rows], stored.residuals[rows]) @ codec.rotation.T


def test_scores_do_not_depend_on_the_chunk_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [1, 4, 2, 2, 5, 1, 3], "video": [3, 1, 1, 2, 2, 4, 1]})
    query = unit(4, DIM, seed=2)
    whole = score_videos(segment, codecs, query, torch.arange(7)).total
    monkeypatch.setattr(torch_scorer, "VALUES_PER_CHUNK", 3 * DIM)
    assert torch.allclose(score_videos(segment, codecs, query, torch.arange(7)).total, whole, atol=1e-6)


def test_all_negative_similarities_are_not_clamped(tmp_path: Path) -> None:
    tokens = normalize(torch.rand(4, DIM) + 0.1, dim=1)
    codec = ResidualCodec.train(tokens, nbits=8)
    encoded = codec.encode(tokens)
    write_bag(tmp_path / "b", codec=codec, codes=encoded.codes, residuals=encoded.residuals, doclens=torch.tensor([4]))
    segment = Segment("s", {"frame": open_bag(tmp_path / "b")}, torch.ones(1, dtype=torch.bool))
    assert float(search_segment(segment, {"frame": codec}, -tokens[:2], k=1).total) < -0.5


def test_video_similarities_are_cosines_of_one_video(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [2, 3], "video": [3, 4]})
    query = unit(4, DIM, seed=5)
    matrix = video_similarities(segment, codecs["video"], "video", query, 1)
    assert matrix.shape == (4, 4)
    expected = score_videos(segment, codecs, query, torch.tensor([1])).bags["video"]
    assert float(matrix.amax(dim=1).mean()) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("videos", "k", "expected"), [(10, 1, 600), (20_000, 10, 615), (100_000, 10, 1898), (1000, 100, 1000)]
)
def test_survivors_grow_with_corpus_and_k(videos: int, k: int, expected: int) -> None:
    assert num_candidates(videos, k) == expected


@pytest.mark.parametrize(("k", "expected"), [(1, 240), (10, 240), (100, 1000)])
def test_videos_decoded_in_every_bag(k: int, expected: int) -> None:
    assert num_in_every_bag(k) == expected


def test_what_scores_arandom_segment(tmp_path: Path, way: str) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 5})
    scorer = scorer_of(segment, codecs, PreparedQuery(unit(2, DIM, seed=0)))
    assert isinstance(scorer, KernelScorer if way == "kernels" else TorchScorer)


def test_a_prepared_query_finds_the_same(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [3] * 60, "video": [4] * 60})
    query = unit(5, DIM, seed=3)
    prepared = PreparedQuery(query)
    plain = search_segment(segment, codecs, query, k=7)
    for _ in range(2):
        found = search_segment(segment, codecs, prepared, k=7)
        assert torch.equal(found.rows, plain.rows)
        assert torch.equal(found.total, plain.total)


@settings(max_examples=amount(3, thorough=10), deadline=None)
@given(query_tokens=st.sampled_from([1, 3, 32, 40]), nbits=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 99))
def test_centroid_interaction_orders_as_in_single_precision(
    tmp_path_factory: pytest.TempPathFactory, query_tokens: int, nbits: int, seed: int
) -> None:
    segment, codecs = random_segment(
        tmp_path_factory.mktemp("s"), {"frame": [3] * 200, "video": [4, 2] * 100}, seed, nbits
    )
    prepared = PreparedQuery(unit(query_tokens, DIM, seed=seed + 1))
    everyone = segment.eligible()
    scores = TorchScorer(segment, codecs, prepared).centroid_scores(everyone)
    chosen = scorer_of(segment, codecs, prepared).best_by_centroids(everyone, 20)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 20
    worst_chosen, best_left = scores[chosen].min(), scores.topk(20).values[-1]
    assert worst_chosen >= best_left - 0.02  # a byte is 1/255 of the range of similarities


@needs_cuda
def test_a_segment_on_another_device_finds_the_same(tmp_path: Path) -> None:
    segment, codecs = random_segment(tmp_path, {"frame": [3, 1] * 300, "video": [4] * 600})
    query = unit(33, DIM, seed=4)
    here = search_segment(segment, codecs, query, k=20)
    on_gpu = {bag: codec.to("cuda") for bag, codec in codecs.items()}
    there = search_segment(segment.to("cuda"), on_gpu, query, k=20)
    assert there.total.device.type == "cpu"
    assert torch.allclose(there.total, here.total, atol=1e-4)
    assert len(set(there.rows.tolist()) & set(here.rows.tolist())) >= 19
    matrix = video_similarities(segment.to("cuda"), on_gpu["video"], "video", query, 7)
    assert torch.allclose(matrix, video_similarities(segment, codecs["video"], "video", query, 7), atol=1e-4)
