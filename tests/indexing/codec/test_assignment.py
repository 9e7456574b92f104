import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec import assignment
from colbert_video.indexing.codec.assignment import CentroidCells, assign
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
@settings(max_examples=40, deadline=None)
def test_searching_all_cells_is_exact(tokens: int, centroids: int, centres: int, seed: int) -> None:
    queries, codebook = unit_tokens(tokens, seed=seed), unit_tokens(centroids, seed=seed + 1)
    cells = CentroidCells.group(codebook, unit_tokens(centres, seed=seed + 2))
    assert sorted(torch.cat(cells.ids).tolist()) == list(range(centroids))
    for ids, members in zip(cells.ids, cells.members, strict=True):
        assert torch.equal(members, codebook[ids])
    codes, scores = cells.assign(queries, probes=centres)
    exact_codes, exact_scores = assign(queries, codebook)
    assert torch.equal(codes, exact_codes)
    torch.testing.assert_close(scores, exact_scores)


def test_one_probe_looks_into_the_nearest_cell_only() -> None:
    centres = torch.eye(2, 3)
    codebook = normalize(torch.tensor([[1.0, 0.6, 0.0], [0.0, 1.0, 1.0]]), dim=1)
    token = normalize(torch.tensor([[0.0, 0.5, 0.1], [1.0, 0.2, 0.0]]), dim=1)
    cells = CentroidCells.group(codebook, centres)
    assert [ids.tolist() for ids in cells.ids] == [[0], [1]]
    assert cells.assign(token, probes=1)[0].tolist() == [1, 0]


@pytest.mark.parametrize("outliers", [0.0, 10.0])
def test_eight_of_many_cells_agree_with_the_exact_search(outliers: float) -> None:
    tokens = clustered(2000, 1, outliers)
    codebook = spherical_kmeans(clustered(4000, 2, outliers), centroids=600)
    cells = CentroidCells.group(codebook, spherical_kmeans(codebook, centroids=48))
    codes, scores = cells.assign(tokens)
    exact_codes, exact_scores = assign(tokens, codebook)
    assert float((codes == exact_codes).float().mean()) > 0.99
    assert float((exact_scores - scores).mean()) < 1e-3
    assert float((exact_scores - scores).min()) > -1e-5


def test_blocks_of_tokens_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, codebook = clustered(300, 4), clustered(200, 5)
    cells = CentroidCells.group(codebook, clustered(20, 6))
    whole, _ = cells.assign(tokens, probes=3)
    monkeypatch.setattr(assignment, "TOKENS_AT_ONCE", 7)
    assert torch.equal(cells.assign(tokens, probes=3)[0], whole)
    assert torch.equal(
        cells.assign(tokens.half(), probes=3)[0], cells.assign(tokens.half().float(), probes=3)[0]
    )
