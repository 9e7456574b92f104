"""The random rotation before compression: it spreads outlier dimensions evenly, so that one set of buckets fits all."""

import torch
from jaxtyping import Float
from torch import Tensor


def random_rotation(dim: int, seed: int = 0) -> Float[Tensor, "dim dim"]:
    """Return a random orthogonal matrix, the same for the same seed.

    The Q of a QR decomposition of Gaussian numbers, its signs fixed by a positive diagonal of R, which makes it
    uniform over the orthogonal group (Mezzadri, 2007) and independent of the linear algebra library's habits.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).float().contiguous()
