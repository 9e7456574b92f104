"""The compiled kernels at every instruction set of this machine, against the same arithmetic in torch."""

import ctypes
from dataclasses import replace
from pathlib import Path

import kernel_reference as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_reference import Case, random_case
from thorough import amount

from colbert_video.errors import SettingsError
from colbert_video.indexing.scan import kernels as kernel_library
from colbert_video.indexing.scan.kernels import (
    LEVELS,
    ZERO,
    Kernels,
    RoundedCodec,
    RoundedQuery,
    by_plane,
    compiled_kernels,
    kernel_name,
    load_library,
)

AVAILABLE = [level for level in LEVELS if compiled_kernels(level) is not None]
pytestmark = pytest.mark.skipif(not AVAILABLE, reason="no compiled kernels: python setup.py build_ext --inplace")


@pytest.fixture(scope="module", params=AVAILABLE)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    found = compiled_kernels(request.param)
    assert found is not None
    return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Every packing, dimensions with and without whole vectors, bags of any length, one or more blocks of lanes."""
    nbits = draw(st.sampled_from([1, 2, 4, 8]))
    multiple = 8 * nbits
    dim = draw(st.sampled_from([multiple, 3 * multiple, 64, 192, 320]))
    return random_case(
        dim=dim if dim % multiple == 0 else 64,
        nbits=nbits,
        centroids=draw(st.integers(1, 40)),
        doclens=draw(st.lists(st.integers(1, 19), min_size=1, max_size=6)),
        query_tokens=draw(st.sampled_from([1, 5, 31, 32, 33, 64, 70])),
        seed=draw(st.integers(0, 2**20)),
    )


every = settings(max_examples=amount(13, thorough=40), deadline=None)


def _rounded(case: Case) -> tuple[RoundedCodec, RoundedQuery]:
    codec = RoundedCodec.from_codec(case.codec)
    return codec, reference.round_query(case.codec.rotate(case.query), case.codec.nbits)


def _everyone(case: Case) -> torch.Tensor:
    return torch.arange(len(case.stored.doclens))


@every
@given(case=cases())
def test_queries_are_rounded_bit_for_bit(kernels: Kernels, case: Case) -> None:
    rotated = case.codec.rotate(case.query)
    query, expected = kernels.round_query(rotated, case.codec), _rounded(case)[1]
    assert torch.equal(query.bytes, expected.bytes)
    assert torch.equal(query.start, expected.start)
    assert torch.equal(query.tokens, expected.tokens)
    assert (query.scale, query.count) == (expected.scale, expected.count)


@every
@given(case=cases())
def test_centroid_products_bit_for_bit(kernels: Kernels, case: Case) -> None:
    codec, query = _rounded(case)
    products, low, high = kernels.centroid_products(codec, query)
    expected = reference.centroid_products(codec, query)
    assert torch.equal(products, expected)
    assert (low, high) == (int(expected.min()), int(expected.max()))


@every
@given(case=cases(), scale=st.floats(1e-6, 1.0), shift=st.integers(-1000, 1000))
def test_byte_tables_bit_for_bit(kernels: Kernels, case: Case, scale: float, shift: int) -> None:
    codec, query = _rounded(case)
    products = reference.centroid_products(codec, query)
    low = int(products.min()) + shift
    assert torch.equal(kernels.byte_table(products, low, scale), reference.byte_table(products, low, scale))


@every
@given(case=cases(), data=st.data())
def test_centroid_interaction_bit_for_bit(kernels: Kernels, case: Case, data: st.DataObject) -> None:
    videos = len(case.stored.doclens)
    ordinals = torch.tensor(sorted(data.draw(st.sets(st.integers(0, videos - 1)))), dtype=torch.int64)
    blocks = -(-len(case.query) // 32)
    table = torch.randint(0, 256, (blocks, case.codec.num_centroids, 32), dtype=torch.uint8)
    before = torch.randint(0, 100, (len(ordinals),), dtype=torch.int32)
    sums = before.clone()
    kernels.add_centroid_interaction(case.stored, ordinals, table, sums)
    assert torch.equal(sums - before, reference.centroid_interaction(case.stored, ordinals, table))


@every
@given(case=cases(), wide=st.booleans())
def test_distinct_codes_are_each_videos_codes_once(kernels: Kernels, case: Case, wide: bool) -> None:
    stored = replace(case.stored, num_centroids=2**16 + 1) if wide else case.stored
    found = kernels.distinct_codes(stored)
    assert found.groups.dtype == (torch.int32 if wide else torch.int16)
    groups = found.groups.int() & (-1 if wide else 0xFFFF)  # (groups, 4)
    assert bool((groups.diff(dim=1) >= 0).all())
    sizes = found.starts.diff()
    codes = [video.unique().tolist() for video in groups.split(sizes.tolist())]
    expected = reference.distinct_codes(stored)
    assert codes == expected
    assert sizes.tolist() == [-(-len(video) // 4) for video in expected]
    assert kernels.distinct_codes(stored) is found


def test_codes_beyond_fifteen_bits(kernels: Kernels) -> None:
    case = random_case(dim=8, nbits=1, centroids=2**16, doclens=[3, 1, 2, 5], query_tokens=2, seed=1)
    table = torch.randint(0, 256, (1, 2**16, 32), dtype=torch.uint8)
    sums = torch.zeros(4, dtype=torch.int32)
    kernels.add_centroid_interaction(case.stored, torch.arange(4), table, sums)
    assert torch.equal(sums, reference.centroid_interaction(case.stored, torch.arange(4), table))


@every
@given(case=cases(), threads=st.sampled_from([2, 3, 7, 100]))
def test_threads_change_nothing(kernels: Kernels, case: Case, threads: int) -> None:
    codec, query = _rounded(case)
    every = _everyone(case)
    results = []
    for ours in (kernels, kernels.on(threads)):
        products, low, high = ours.centroid_products(codec, query)
        table = ours.byte_table(products, low, 255 / max(high - low, 1))
        sums, scores = torch.zeros(len(every), dtype=torch.int32), torch.zeros(len(every))
        stored = replace(case.stored)  # lengths of tokens are not known yet
        ours.add_centroid_interaction(stored, every, table, sums)
        ours.add_rounded_scores(stored, codec, query, products, every, scores)
        extremes = torch.tensor([low, high])
        results.append((products, extremes, table, sums, scores, ours.exact_scores(stored, codec, query, every)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@every
@given(case=cases())
def test_rounded_scores(kernels: Kernels, case: Case) -> None:
    codec, query = _rounded(case)
    products, _, _ = kernels.centroid_products(codec, query)
    ordinals = _everyone(case)
    scores = torch.full((len(ordinals),), 2.0)
    kernels.add_rounded_scores(case.stored, codec, query, products, ordinals, scores)
    expected = reference.rounded_scores(case.stored, codec, query, ordinals)
    assert torch.allclose(scores - 2.0, expected, atol=2e-6)
    again = torch.full((len(ordinals),), 2.0)  # now the lengths of the tokens are known
    kernels.add_rounded_scores(case.stored, codec, query, products, ordinals, again)
    assert torch.equal(again, scores)


def test_lengths_of_tokens_are_kept(kernels: Kernels) -> None:
    case = random_case(dim=64, nbits=4, centroids=5, doclens=[2, 3, 1], query_tokens=3, seed=1)
    codec, query = _rounded(case)
    products, _, _ = kernels.centroid_products(codec, query)
    assert not case.stored.inverse_lengths.any()
    kernels.add_rounded_scores(case.stored, codec, query, products, torch.tensor([1]), torch.zeros(1))
    kept = case.stored.inverse_lengths
    assert kept.bool().tolist() == [False, False, True, True, True, False]
    tokens = codec.centroids[case.stored.codes.long()].float().sub(ZERO) * codec.centroid_scale
    planes = [plane[case.stored.residuals.long()].float().sub(ZERO) * codec.weight_scale for plane in codec.planes]
    lengths = (tokens + torch.cat(planes, dim=1)).norm(dim=1)
    assert torch.allclose(1 / kept[2:5], lengths[2:5], rtol=0.01)


@every
@given(case=cases())
def test_exact_scores_are_the_codecs(kernels: Kernels, case: Case) -> None:
    codec, query = _rounded(case)
    ordinals = _everyone(case).flip(0)
    scores = kernels.exact_scores(case.stored, codec, query, ordinals)
    assert torch.allclose(scores, reference.exact_scores(case, ordinals), atol=1e-6)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
@pytest.mark.parametrize("dim", [512, 768, 1152])
def test_dimensions_of_real_models(kernels: Kernels, dim: int, nbits: int) -> None:
    case = random_case(dim=dim, nbits=nbits, centroids=50, doclens=[12, 14, 64, 1], query_tokens=64, seed=dim + nbits)
    codec, query = _rounded(case)
    products, _, _ = kernels.centroid_products(codec, query)
    assert torch.equal(products, reference.centroid_products(codec, query))
    exact = kernels.exact_scores(case.stored, codec, query, _everyone(case))
    assert torch.allclose(exact, reference.exact_scores(case, _everyone(case)), atol=1e-6)
    rounded = torch.zeros(4)
    kernels.add_rounded_scores(case.stored, codec, query, products, _everyone(case), rounded)
    assert torch.allclose(rounded, exact, atol=4e-3)  # what rounding to bytes costs on one video


def test_all_negative_similarities_are_not_clamped(kernels: Kernels) -> None:
    case = random_case(dim=64, nbits=8, centroids=1, doclens=[3], query_tokens=1, seed=0)
    against = replace(case, query=-case.codec.centroids)
    codec, query = _rounded(against)
    assert float(kernels.exact_scores(case.stored, codec, query, torch.tensor([0]))) < -0.5


@given(sums=st.lists(st.integers(0, 30), max_size=60), extra=st.integers(0, 5000), share=st.floats(0, 1))
def test_the_largest_are_selected_the_first_of_equals(
    kernels: Kernels, sums: list[int], extra: int, share: float
) -> None:
    values = torch.tensor([*sums, extra], dtype=torch.int32)
    wanted = round(share * len(values))
    best = values.sort(descending=True, stable=True).indices[:wanted].sort().values
    assert torch.equal(kernels.largest(values, wanted), best)


def test_codes_without_a_centroid_read_nothing_outside(kernels: Kernels) -> None:
    case = random_case(dim=64, nbits=4, centroids=5, doclens=[2, 1], query_tokens=3, seed=1)
    last = replace(case.stored, codes=torch.tensor([4, 4, 4], dtype=torch.int32))
    wild = replace(case.stored, codes=torch.tensor([2**31 - 1, -1, -(2**31)], dtype=torch.int32))
    codec, query = _rounded(case)
    products, _, _ = kernels.centroid_products(codec, query)
    table = torch.randint(0, 256, (1, 5, 32), dtype=torch.uint8)
    both = []
    for stored in (last, wild):
        sums, scores = torch.zeros(2, dtype=torch.int32), torch.zeros(2)
        kernels.add_centroid_interaction(stored, torch.arange(2), table, sums)
        kernels.add_rounded_scores(stored, codec, query, products, torch.arange(2), scores)
        both.append((sums, scores, kernels.exact_scores(stored, codec, query, torch.arange(2))))
    for one, other in zip(*both, strict=True):
        assert torch.equal(one, other)


def test_arguments_that_would_read_outside_are_refused(kernels: Kernels) -> None:
    case = random_case(dim=64, nbits=4, centroids=5, doclens=[2, 1], query_tokens=3, seed=1)
    codec, query = _rounded(case)
    products, _, _ = kernels.centroid_products(codec, query)
    with pytest.raises(SettingsError, match="rows run from 0 to 2, but there are 2 videos"):
        kernels.exact_scores(case.stored, codec, query, torch.tensor([0, 2]))
    with pytest.raises(SettingsError, match="rows run from -1 to 0"):
        kernels.exact_scores(case.stored, codec, query, torch.tensor([0, -1]))
    with pytest.raises(SettingsError, match="the table has 4 centroids, the bag's codec 5"):
        kernels.add_centroid_interaction(
            case.stored, torch.arange(2), torch.zeros(1, 4, 32, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32)
        )
    with pytest.raises(SettingsError, match="belong to another query"):
        kernels.add_rounded_scores(case.stored, codec, query, products[:, 1:], torch.arange(2), torch.zeros(2))
    other = reference.round_query(torch.ones(3, 32), 4)
    with pytest.raises(SettingsError, match="query tokens have 32 dimensions, centroids 64"):
        kernels.centroid_products(codec, other)
    with pytest.raises(SettingsError, match="query tokens have 32 dimensions, centroids 64"):
        kernels.round_query(torch.ones(3, 32), case.codec)
    two = _rounded(random_case(dim=64, nbits=2, centroids=5, doclens=[2], query_tokens=3, seed=1))
    with pytest.raises(SettingsError, match="the bag has dim=64, nbits=4; its codec has dim=64, nbits=2"):
        kernels.exact_scores(case.stored, *two, torch.arange(1))
    with pytest.raises(SettingsError, match="3 of 2 sums cannot be selected"):
        kernels.largest(torch.zeros(2, dtype=torch.int32), 3)
    with pytest.raises(SettingsError, match="least sum is -1"):
        kernels.largest(torch.tensor([-1, 2], dtype=torch.int32), 1)
    with pytest.raises(SettingsError, match="contiguous memory of the CPU"):
        kernels.exact_scores(case.stored, codec, query, torch.zeros(4, dtype=torch.int64)[::2])


def test_planes_are_the_fields_of_packed_bytes() -> None:
    case = random_case(dim=64, nbits=2, centroids=3, doclens=[4], query_tokens=1, seed=3)
    codec = RoundedCodec.from_codec(case.codec)
    decoded = torch.cat([plane[case.stored.residuals.long()] for plane in codec.planes], dim=1)
    weights = case.codec.weights[reference.bucket_ids(case.stored).long()]
    expected = by_plane((weights / codec.weight_scale).round() + ZERO, 2)
    assert torch.equal(decoded.float(), expected)
    assert by_plane(torch.arange(8.0)[None], 2).tolist() == [[0, 4, 1, 5, 2, 6, 3, 7]]


def test_another_version_of_the_library_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_library, "VERSION", -1)
    compiled_kernels.cache_clear()
    try:
        assert compiled_kernels() is None
        assert "build it again" in caplog.text
        assert kernel_name() == "torch"
    finally:
        monkeypatch.undo()
        compiled_kernels.cache_clear()
    assert kernel_name() in LEVELS


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k.so").write_bytes(b"no library")
    with pytest.raises(OSError, match=r"k\.so"):
        load_library(str(tmp_path / "k.so"))
    assert ctypes.sizeof(ctypes.c_void_p) == 8
