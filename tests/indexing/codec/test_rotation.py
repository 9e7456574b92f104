"""The random rotation is orthogonal, and the same everywhere for the same seed."""

import pytest
import torch
from torch.nn.functional import normalize

from colbert_video.indexing.codec.packing import random_rotation


@pytest.mark.parametrize("dim", [8, 64, 200])
def test_rotation_is_orthogonal_seeded_and_keeps_inner_products(dim: int) -> None:
    rotation = random_rotation(dim, seed=4)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(dim), atol=1e-5, rtol=0)
    assert torch.equal(rotation, random_rotation(dim, seed=4))
    assert not torch.equal(rotation, random_rotation(dim, seed=5))
    gaussian = torch.randn(dim, dim, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert bool(((rotation.double().T @ gaussian).diagonal() > 0).all())  # signs do not depend on the library
    tokens = normalize(torch.randn(30, dim), dim=1)
    rotated = tokens @ rotation
    torch.testing.assert_close(rotated @ rotated.T, tokens @ tokens.T, atol=1e-5, rtol=0)
