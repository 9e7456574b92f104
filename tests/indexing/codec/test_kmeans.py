import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from thorough import amount
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec import assignment, kmeans
from colbert_video.indexing.codec.kmeans import num_partitions, spherical_kmeans


def unit_tokens(count: int, dim: int = 16, seed: int = 0) -> Float[Tensor, "tokens dim"]:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def assert_usable(centroids: Float[Tensor, "centroids dim"]) -> None:
    assert bool(centroids.isfinite().all())
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(len(centroids)))
    assert len(centroids.half().unique(dim=0)) == len(centroids)


def test_well_separated_clusters_are_found() -> None:
    centres = torch.eye(8, 16)
    generator = torch.Generator().manual_seed(3)
    which = torch.arange(8).repeat(40)
    tokens = normalize(centres[which] + 0.03 * torch.randn(320, 16, generator=generator), dim=1)
    # random starts can share a cluster: enough rounds and spare centroids must cover all eight
    found = spherical_kmeans(tokens, centroids=24, iterations=20, seed=1)
    assert float((centres @ found.T).max(1).values.min()) > 0.99


def test_converged_centroids_are_directions_of_their_tokens_by_inner_product() -> None:
    tokens = unit_tokens(400)
    found = spherical_kmeans(tokens, centroids=10, iterations=100)
    nearest = (tokens @ found.T).argmax(1)
    means = torch.stack([tokens[nearest == centroid].mean(0) for centroid in range(10)])
    torch.testing.assert_close(found, normalize(means, dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_any_number_up_to_the_tokens_works(count: int, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    centroids = max(1, round(share * count))
    found = spherical_kmeans(unit_tokens(count), centroids=centroids)
    assert found.shape == (centroids, 16)
    assert_usable(found)
    output = capfd.readouterr()
    assert output.out == output.err == ""  # no warning of few points


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=amount(10, thorough=30), deadline=None)
def test_repeated_tokens_give_fewer_but_usable_centroids(tokens: int, wanted: int, distinct: int, seed: int) -> None:
    repeated = unit_tokens(distinct, seed=seed)[torch.arange(tokens) % distinct]
    found = spherical_kmeans(repeated, centroids=min(wanted, tokens))
    assert 1 <= len(found) <= min(wanted, tokens)
    assert_usable(found)


def test_opposite_tokens_with_one_centroid() -> None:
    token = unit_tokens(1)
    found = spherical_kmeans(torch.cat([token, -token]), centroids=1)
    assert found.shape == (1, 16)
    assert_usable(found)


def test_the_seed_decides() -> None:
    tokens = unit_tokens(500)
    first = spherical_kmeans(tokens, centroids=32, seed=5)
    assert torch.equal(first, spherical_kmeans(tokens, centroids=32, seed=5))
    assert not torch.equal(first, spherical_kmeans(tokens, centroids=32, seed=6))


@pytest.mark.parametrize("centroids", [0, -1, 11])
def test_impossible_numbers_are_refused(centroids: int) -> None:
    with pytest.raises(SettingsError, match=f"centroids={centroids} for 10 tokens: ask for 1 to 10"):
        spherical_kmeans(unit_tokens(10), centroids=centroids)


@pytest.mark.parametrize(
    ("tokens", "partitions"),
    [
        (1, 1),
        (3, 1),
        (4, 1),
        (12, 3),
        (1000, 250),
        (1296, 324),
        (4096, 576),
        (60_000, 2204),
        (120_000, 3117),
        (10**6, 9000),
    ],
)
def test_number_of_partitions_grows_with_the_root_of_the_corpus(tokens: int, partitions: int) -> None:
    assert num_partitions(tokens) == partitions


def test_number_of_partitions_needs_a_token() -> None:
    with pytest.raises(SettingsError, match="got 0 tokens"):
        num_partitions(0)


def scenes(count: int, dim: int = 32, seed: int = 0) -> Float[Tensor, "tokens dim"]:
    """Tokens in tight groups around 300 directions."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(300, dim, generator=torch.Generator().manual_seed(99))
    noise = 0.5 * torch.randn(count, dim, generator=generator)
    return normalize(centres[torch.randint(300, (count,), generator=generator)] + noise, dim=1)


def mean_cosine(tokens: Float[Tensor, "tokens dim"], centroids: Float[Tensor, "centroids dim"]) -> float:
    return float((tokens @ centroids.T).amax(1).mean())


def test_two_levels_serve_tokens_as_well_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, unseen = scenes(6000), scenes(1000, seed=1)
    exact = spherical_kmeans(tokens, centroids=400)
    for module in (assignment, kmeans):
        monkeypatch.setattr(module, "MAX_EXACT", 100)
    found = spherical_kmeans(tokens, centroids=400)
    assert found.shape == (400, 32)
    assert_usable(found)
    assert not torch.equal(found, exact)
    assert mean_cosine(unseen, found) > mean_cosine(unseen, exact) - 0.005
    random = normalize(tokens[:400], dim=1)
    assert mean_cosine(unseen, found) > mean_cosine(unseen, random) + 0.02


def test_two_levels_follow_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (assignment, kmeans):
        monkeypatch.setattr(module, "MAX_EXACT", 30)
    tokens = scenes(1000)
    first = spherical_kmeans(tokens, centroids=60, seed=5)
    torch.rand(7)  # the global generator plays no part
    assert torch.equal(first, spherical_kmeans(tokens, centroids=60, seed=5))
    assert not torch.equal(first, spherical_kmeans(tokens, centroids=60, seed=6))


@given(st.integers(10, 80), st.integers(6, 80), st.integers(1, 80), st.integers(1, 8), st.integers(0, 1000))
@settings(max_examples=amount(5, thorough=40), deadline=None)
def test_two_levels_take_any_number_and_repeated_tokens(
    tokens: int, wanted: int, distinct: int, iterations: int, seed: int
) -> None:
    repeated = unit_tokens(distinct, seed=seed)[torch.arange(tokens) % distinct]
    with pytest.MonkeyPatch.context() as patch:
        for module in (assignment, kmeans):
            patch.setattr(module, "MAX_EXACT", 5)
        found = spherical_kmeans(repeated, centroids=min(wanted, tokens), iterations=iterations, seed=seed)
    assert 1 <= len(found) <= min(wanted, tokens)
    assert_usable(found)


def test_a_centroid_without_tokens_moves_to_the_token_served_worst() -> None:
    tokens = normalize(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 0.0, 1.0]]), dim=1)
    start = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])  # nothing is nearest to the second
    found = kmeans._lloyd(tokens, start, 1)
    torch.testing.assert_close(found[1], tokens[2])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.data())
@settings(max_examples=50, deadline=None)
def test_shares_add_up_and_fit_their_cells(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    if total == 0:
        return
    centroids = data.draw(st.integers(1, total))
    shares = kmeans._shares(torch.tensor(sizes), centroids)
    assert int(shares.sum()) == centroids
    for share, size in zip(shares.tolist(), sizes, strict=True):
        assert share <= size
        assert abs(share - size * centroids / total) < 1
