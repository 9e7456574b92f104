"""The stand-in for a GPU, and models on it."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def gpu() -> Iterator[Any]:
    """Runs the test inside of `StandInGPU`."""
    from stand_in_gpu import StandInGPU

    with StandInGPU() as stand_in:
        yield stand_in


@pytest.fixture(params=["tiny_trained_model", "tiny_siglip_model", "tiny_model"])
def both(request: pytest.FixtureRequest, gpu: Any) -> tuple[Any, Any]:
    """A model on the CPU and a copy of it on the stand-in: CLIP, SigLIP, and an untrained CLIP."""
    model = request.getfixturevalue(request.param)
    return model, copy.deepcopy(model).to("cuda:0")
