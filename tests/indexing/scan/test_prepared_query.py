"""Byte tables against the formula that they stand for."""

import pickle

import pytest
import torch
from token_corpus import DIM, unit_tokens

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.buckets import lloyd_max
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import compiled_kernels
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
