"""Byte tables against the formula that they stand for."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from token_corpus import DIM, unit_tokens

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.buckets import lloyd_max
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import LEVELS, compiled_kernels
from colbert_video.indexing.scan.prepared_query import MAX_BYTE, PreparedQuery

needs_kernels = pytest.mark.skipif(compiled_kernels() is None, reason="no compiled kernels")


def codec(seed: int, *, length: float = 1.0) -> ResidualCodec:
    """One whose centroids have a length."""
    cutoffs, weights = lloyd_max(torch.randn(1000, generator=torch.Generator().manual_seed(0)), 4)
    centroids = length * unit_tokens(40, DIM, seed=seed)
    return ResidualCodec(torch.eye(DIM), centroids, cutoffs, weights, 0.1, 4)


@needs_kernels
@pytest.mark.parametrize("weight", [1.0, 0.3, 2.5])
def test_bytes_of_all_bags_are_on_one_scale(weight: float) -> None:
    kernels = compiled_kernels()
    assert kernels is not None
    query, codecs = unit_tokens(5, DIM, seed=1), {"frame": codec(2), "video": codec(3)}
    weights = {"frame": 1.0, "video": weight}
    tables, step = PreparedQuery(query).tables(kernels, codecs, weights)
    for bag, one in codecs.items():
        similarities = weights[bag] * one.centroids @ query.T
        lowest = min(float(similarities.min()), 0.0)  # lanes without a query token hold zeros
        expected = ((similarities - lowest) / step).floor()
        found = tables[bag][0, :, : len(query)].float()
        assert float((found - expected).abs().max()) <= 3  # of 255: query, centroids and the lowest are rounded
    highest = max(int(table.max()) for table in tables.values())
    assert highest in (MAX_BYTE, MAX_BYTE - 1)


@needs_kernels
@pytest.mark.parametrize("length", [1e-12, 1e-25])
def test_a_bag_of_another_scale_by_far_leaves_the_ranking_to_the_other(length: float) -> None:
    kernels = compiled_kernels()
    assert kernels is not None
    query, ours, damaged = unit_tokens(5, DIM, seed=1), codec(2), codec(3, length=length)
    alone, _ = PreparedQuery(query).tables(kernels, {"frame": ours}, {"frame": 1.0})
    both, _ = PreparedQuery(query).tables(kernels, {"frame": ours, "video": damaged}, {"frame": 1.0, "video": 1.0})
    assert torch.equal(both["frame"], alone["frame"])
    assert int(both["video"].max()) == int(both["video"].min())


def test_a_query_that_is_no_number_is_refused() -> None:
    query = unit_tokens(3, DIM, seed=1)
    query[1, 2] = torch.nan
    with pytest.raises(SettingsError, match="hold NaN or infinity"):
        PreparedQuery(query)


def test_a_query_travels_as_its_tokens_alone() -> None:
    many = unit_tokens(1000, DIM, seed=1)
    query = PreparedQuery(many[:2])
    query.rotated(codec(seed=1))
    sent = pickle.dumps(query)
    assert len(sent) < 4 * many.nbytes // 1000 + 2000  # neither the others nor what was computed
    assert torch.equal(pickle.loads(sent).tokens, many[:2])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dim", [8, 24, 64, 200, 512])
def test_rotating_is_a_product_that_depends_on_its_row_alone(level: str, dim: int) -> None:
    kernels = compiled_kernels(level)
    if kernels is None:
        pytest.skip("not compiled, or another processor")
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)))[0].contiguous()
    rows = torch.randn(37, dim, generator=torch.Generator().manual_seed(2))
    rotated = kernels.rotate(rows, rotation)
    assert torch.allclose(rotated, (rows.double() @ rotation.double()).float(), atol=1e-5)
    for first, last in ((0, 1), (3, 8), (36, 37), (0, 37)):
        assert torch.equal(kernels.rotate(rows[first:last].clone(), rotation), rotated[first:last])
    with ThreadPoolExecutor(5) as pool:
        for other in pool.map(lambda _: kernels.rotate(rows, rotation), range(40)):
            assert torch.equal(other, rotated)


@needs_kernels
@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 9, 32])
def test_a_rotated_query_is_the_same_with_any_number_of_torchs_threads(tokens: int) -> None:
    rotating = ResidualCodec.train(unit_tokens(300, DIM, seed=3), nbits=4, seed=0)
    query, before, found = unit_tokens(tokens, DIM, seed=4), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(PreparedQuery(query).rotated(rotating))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
