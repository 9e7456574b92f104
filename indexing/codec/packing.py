"""Bucket ids packed into bytes exactly as ColBERT packs them (colbert/indexing/codecs/residual.py).

ColBERT writes the bits of each dimension's bucket id least significant first and fills bytes from the most
significant bit. So with two bits the byte of four dimensions holds, from high to low, d0.bit0 d0.bit1 d1.bit0 …
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from colbert_video.errors import SettingsError

NBITS = (1, 2, 4, 8)


def check_nbits(nbits: int, dim: int) -> None:
    """Check that ColBERT can pack so many bits per dimension.

    ColBERT asserts dim % (8 * nbits) == 0 before packing; its readers need dim % 8 == 0, which follows. CLIP-like
    dimensions (512, 640, 768, 1024, 1152) are multiples of 64 and take every `nbits`.

    Args:
        nbits: Bits kept for each dimension of a residual.
        dim: Token dimension.

    Raises:
        SettingsError: If `nbits` is not 1, 2, 4 or 8, or `dim` is not divisible by 8 * nbits.
    """
    working = [n for n in NBITS if dim > 0 and dim % (8 * n) == 0]
    if nbits not in working:
        remedy = f"use one of {working}" if working else "the dimension must be a multiple of 8"
        raise SettingsError(
            f"nbits={nbits} does not work with dim={dim}: dim must be divisible by 8 * nbits, nbits 1, 2, 4 or 8; "
            f"{remedy}"
        )


def pack(buckets: UInt8[Tensor, "tokens dim"], nbits: int) -> UInt8[Tensor, "tokens bytes"]:
    """Pack bucket ids into bytes.

    Args:
        buckets: Bucket id of each dimension, in [0, 2**nbits).
        nbits: Bits an id takes: 1, 2, 4 or 8.

    Returns:
        (tokens, dim * nbits // 8) bytes.

    Raises:
        SettingsError: If `nbits` does not go with the dimension.
    """
    tokens, dim = buckets.shape
    check_nbits(nbits, dim)
    ids = 8 // nbits  # bucket ids per byte
    packed = torch.zeros(tokens, dim // ids, dtype=torch.uint8, device=buckets.device)
    for position in range(ids):
        packed |= buckets[:, position::ids] << (8 - nbits * (position + 1))
    return _mirrored(packed, nbits)


def unpack(packed: UInt8[Tensor, "tokens bytes"], nbits: int) -> UInt8[Tensor, "tokens dim"]:
    """Return the bucket ids that `pack` packed.

    Args:
        packed: (tokens, dim * nbits // 8) bytes.
        nbits: Bits an id takes: 1, 2, 4 or 8.

    Returns:
        (tokens, dim) bucket ids.

    Raises:
        SettingsError: If `nbits` does not go with the dimension.
    """
    width = packed.shape[1]
    check_nbits(nbits, width * 8 // nbits if nbits in NBITS else 0)
    return bucket_table(nbits).to(packed.device)[packed.int()].flatten(1)


def bucket_table(nbits: int) -> UInt8[Tensor, "256 ids"]:
    """Return which bucket ids each byte holds, in order of dimension.

    Args:
        nbits: Bits an id takes: 1, 2, 4 or 8.

    Returns:
        (256, 8 // nbits) bucket ids.
    """
    shifts = torch.arange(8 - nbits, -1, -nbits, device="cpu")  # first dimension in the high bits
    numbers = _mirrored(torch.arange(256, dtype=torch.uint8, device="cpu"), nbits)
    return ((numbers.int()[:, None] >> shifts) & (2**nbits - 1)).to(torch.uint8)  # (256, 8 // nbits)


def _mirrored(packed: UInt8[Tensor, "*shape"], nbits: int) -> UInt8[Tensor, "*shape"]:
    """Reverse the order of the bits inside each group of `nbits`: swap neighbours, then pairs, then halves."""
    for width, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
        if width < nbits:
            packed = ((packed & mask) << width) | ((packed >> width) & mask)
    return packed


def random_rotation(dim: int, seed: int = 0) -> Float[Tensor, "dim dim"]:
    """Return a random orthogonal matrix, the same for the same seed.

    The Q of a QR decomposition of Gaussian numbers, its signs fixed by a positive diagonal of R, which makes it
    uniform over the orthogonal group (Mezzadri, 2007) and independent of the linear algebra library's habits.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(dim, dim, generator=generator, dtype=torch.float64, device="cpu")
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).float().contiguous()
