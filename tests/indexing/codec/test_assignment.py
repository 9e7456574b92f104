import pickle

import faiss
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from thorough import amount
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec import assignment
from colbert_video.indexing.codec.assignment import CentroidIndex, assign, assigner
from colbert_video.indexing.codec.kmeans import spherical_kmeans


def unit_tokens(count: int, dim: int = 16, seed: int = 0) -> Float[Tensor, "tokens dim"]:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def clustered(count: int, seed: int, outliers: float = 0.0) -> Float[Tensor, "tokens dim"]:
    """Tokens around 100 directions; `outliers` is a large value that all share in three dimensions, as in CLIP."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(100, 64, generator=torch.Generator().manual_seed(99))
    tokens = centres[torch.randint(100, (count,), generator=generator)]
    tokens = tokens + 0.4 * torch.randn(count, 64, generator=generator)
    tokens[:, :3] += outliers
    return normalize(tokens, dim=1)


def test_assign_is_the_argmax_however_it_is_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, centroids = unit_tokens(101), unit_tokens(7, seed=9)
    expected = (tokens @ centroids.T).max(1)
    for at_once in (assignment.SCORES_AT_ONCE, 20, 1):
        monkeypatch.setattr(assignment, "SCORES_AT_ONCE", at_once)
        codes, scores = assign(tokens, centroids)
        assert torch.equal(codes, expected.indices)
        torch.testing.assert_close(scores, expected.values)


def test_assign_takes_the_first_of_equals_half_precision_and_no_tokens() -> None:
    centroids = unit_tokens(4)
    assert assign(centroids, torch.cat([centroids, centroids]))[0].tolist() == [0, 1, 2, 3]
    assert assign(centroids.half(), centroids)[0].tolist() == [0, 1, 2, 3]
    codes, scores = assign(torch.zeros(0, 16), centroids)
    assert codes.shape == scores.shape == (0,)


@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=amount(13, thorough=40), deadline=None)
def test_searching_all_cells_is_exact(tokens: int, centroids: int, cells: int, seed: int) -> None:
    queries, codebook = unit_tokens(tokens, seed=seed), unit_tokens(centroids, seed=seed + 1)
    codes, scores = CentroidIndex(codebook, probes=cells, cells=cells).assign(queries)
    exact_codes, exact_scores = assign(queries, codebook)
    assert torch.equal(codes, exact_codes)
    torch.testing.assert_close(scores, exact_scores)


@pytest.mark.parametrize("outliers", [0.0, 10.0])
def test_eight_of_many_cells_agree_with_the_exact_search(outliers: float, capfd: pytest.CaptureFixture[str]) -> None:
    tokens = clustered(2000, 1, outliers)
    codebook = spherical_kmeans(clustered(4000, 2, outliers), centroids=600)
    codes, scores = CentroidIndex(codebook).assign(tokens)
    exact_codes, exact_scores = assign(tokens, codebook)
    assert float((codes == exact_codes).float().mean()) > 0.99
    assert float((exact_scores - scores).mean()) < 1e-3
    assert float((exact_scores - scores).min()) > -1e-5
    few, _ = CentroidIndex(codebook, probes=1).assign(tokens)
    assert float((few == exact_codes).float().mean()) < float((codes == exact_codes).float().mean())
    output = capfd.readouterr()
    assert output.out == output.err == ""  # faiss warns of cells with few members


def test_the_same_centroids_give_the_same_codes_on_any_number_of_threads() -> None:
    tokens, codebook = clustered(500, 4), clustered(300, 5)
    codes, scores = CentroidIndex(codebook, probes=2).assign(tokens)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        again = CentroidIndex(codebook, probes=2)
        assert torch.equal(again.assign(tokens)[0], codes)
    finally:
        torch.set_num_threads(threads)
    halves = torch.cat([again.assign(part)[0] for part in (tokens[:7], tokens[7:])])
    assert torch.equal(halves, codes)
    assert torch.equal(again.assign(tokens.half())[0], again.assign(tokens.half().float())[0])
    copy = pickle.loads(pickle.dumps(again))
    assert torch.equal(copy.assign(tokens)[0], codes)
    torch.testing.assert_close(copy.assign(tokens)[1], scores)


def test_tokens_whose_cells_are_all_empty_are_compared_with_every_centroid() -> None:
    tokens, codebook = unit_tokens(9), unit_tokens(20, seed=3)
    index = CentroidIndex(codebook)
    index._index.reset()
    codes, scores = index.assign(tokens)
    assert torch.equal(codes, assign(tokens, codebook)[0])
    torch.testing.assert_close(scores, assign(tokens, codebook)[1])


@pytest.mark.parametrize(("platform", "threads"), [("linux", 3), ("darwin", 1)])
def test_faiss_has_torchs_threads_and_gets_its_own_back(
    monkeypatch: pytest.MonkeyPatch, platform: str, threads: int
) -> None:
    given: list[int] = []
    original = faiss.omp_set_num_threads
    monkeypatch.setattr(faiss, "omp_set_num_threads", lambda count: given.append(count) or original(count))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(assignment.sys, "platform", platform)
    before = faiss.omp_get_max_threads()
    CentroidIndex(unit_tokens(5))
    assert given == [threads, before]
    assert faiss.omp_get_max_threads() == before


def test_few_centroids_are_searched_exactly_and_many_through_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, centroids = clustered(200, 1), clustered(100, 2)
    assert torch.equal(assigner(centroids)(tokens)[0], (tokens @ centroids.T).argmax(1))
    monkeypatch.setattr(assignment, "MAX_EXACT", 99)
    through_cells = CentroidIndex(centroids, probes=2).assign(tokens)[0]
    assert torch.equal(assigner(centroids, probes=2)(tokens)[0], through_cells)
