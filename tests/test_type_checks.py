"""The suite checks types and shapes at every call of the library."""

from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from type_checks import checked, of_types

from colbert_video.base.checks import whole_number
from colbert_video.model.interaction import best_first

check = checked(typechecker=of_types)


@check
def product(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
    """Its result has a wrong shape for tensors of one row."""
    return left @ right if len(left) > 1 else (left @ right).T


@check
def first(values: list[int]) -> int:
    return values[0]


@check
@dataclass
class Point:
    x: int


def test_a_dimension_is_one_size_within_a_call() -> None:
    assert product(torch.ones(2, 3), torch.ones(3, 4)).shape == (2, 4)
    assert product(torch.ones(5, 1), torch.ones(1, 2)).shape == (5, 2)  # the next call has dimensions of its own
    with pytest.raises(TypeError, match="right"):
        product(torch.ones(2, 3), torch.ones(4, 3))
    with pytest.raises(TypeError, match="return"):
        product(torch.ones(1, 3), torch.ones(3, 4))
    with pytest.raises(TypeError, match="left"):
        product(torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 4))


def test_what_has_no_shapes_is_checked_too() -> None:
    with pytest.raises(TypeError, match="values"):
        first(["a"])
    with pytest.raises(TypeError, match="x"):
        Point("a")  # type: ignore[arg-type]


def test_the_library_is_checked() -> None:
    with pytest.raises(TypeError, match="violates type hint"):
        whole_number(3, 4, least=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="violates type hint"):
        best_first(torch.ones(2, 3))  # of one dimension by its type
