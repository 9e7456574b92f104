import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from thorough import amount
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.packing import NBITS, bucket_table, check_nbits, pack, unpack


def colbert_pack(buckets: UInt8[Tensor, "tokens dim"], nbits: int) -> UInt8[Tensor, "tokens bytes"]:
    """ColBERT 0.2.22's `ResidualCodec.binarize` after `bucketize`, line by line."""
    bits = buckets.unsqueeze(-1).expand(*buckets.size(), nbits)
    bits = bits >> torch.arange(0, nbits, dtype=torch.uint8)
    bits = bits & 1
    packed = torch.as_tensor(np.packbits(np.asarray(bits.contiguous().flatten())), dtype=torch.uint8)
    return packed.reshape(buckets.size(0), buckets.size(1) // 8 * nbits)


def random_buckets(tokens: int, dim: int, nbits: int, seed: int) -> UInt8[Tensor, "tokens dim"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2**nbits, (tokens, dim), generator=generator, dtype=torch.uint8)


@given(st.sampled_from(NBITS), st.integers(0, 5), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=amount(20, thorough=60), deadline=None)
def test_bytes_are_those_of_colbert_and_unpack_restores(nbits: int, tokens: int, blocks: int, seed: int) -> None:
    buckets = random_buckets(tokens, blocks * 8 * nbits, nbits, seed)
    packed = pack(buckets, nbits)
    if tokens:
        assert torch.equal(packed, colbert_pack(buckets, nbits))
    assert torch.equal(unpack(packed, nbits), buckets)


def test_bit_order_by_hand() -> None:
    # two bits: d0 = 1 (bits 1, 0), d1 = 2 (0, 1), d2 = 3 (1, 1), d3 = 0 (0, 0) -> 10 01 11 00
    buckets = torch.tensor([[1, 2, 3, 0] + [0] * 12], dtype=torch.uint8)
    assert pack(buckets, 2).tolist() == [[0b10011100, 0, 0, 0]]
    # four bits: 1 -> 1000, 2 -> 0100
    assert pack(torch.tensor([[1, 2] + [0] * 30], dtype=torch.uint8), 4)[0, 0] == 0b10000100
    # one bit: the first dimension is the highest bit
    assert pack(torch.tensor([[1, 0, 0, 0, 0, 0, 0, 1]], dtype=torch.uint8), 1).tolist() == [[0b10000001]]
    # eight bits: the byte mirrored
    assert pack(torch.tensor([[0b00010011] + [0] * 63], dtype=torch.uint8), 8)[0, 0] == 0b11001000


@pytest.mark.parametrize("nbits", NBITS)
def test_bucket_table_lists_every_byte_once(nbits: int) -> None:
    table = bucket_table(nbits)
    assert table.shape == (256, 8 // nbits)
    assert len(set(map(tuple, table.tolist()))) == 256
    assert int(table.max()) == 2**nbits - 1


def test_parity_check_notices_the_wrong_bit_order() -> None:
    buckets = random_buckets(3, 64, 4, seed=1)
    high, low = buckets[:, 0::2], buckets[:, 1::2]
    assert not torch.equal((high << 4) | low, colbert_pack(buckets, 4))


@pytest.mark.parametrize(
    ("nbits", "dim", "working"),
    [(3, 512, r"\[1, 2, 4, 8\]"), (8, 96, r"\[1, 2, 4\]"), (4, 16, r"\[1, 2\]"), (0, 64, r"\[1, 2, 4, 8\]")],
)
def test_unworkable_nbits_are_refused_with_those_that_work(nbits: int, dim: int, working: str) -> None:
    with pytest.raises(SettingsError, match=rf"nbits={nbits} does not work with dim={dim}.*use one of {working}"):
        check_nbits(nbits, dim)


def test_dimension_that_no_nbits_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match="dimension must be a multiple of 8"):
        check_nbits(1, 12)


def test_pack_and_unpack_refuse_bad_widths() -> None:
    with pytest.raises(SettingsError, match="nbits=4 does not work with dim=8"):
        pack(torch.zeros(1, 8, dtype=torch.uint8), 4)
    with pytest.raises(SettingsError, match="nbits=3"):
        unpack(torch.zeros(1, 8, dtype=torch.uint8), 3)
