"""Tests that need a GPU: `pytest -m cuda` runs them; without one they are skipped, or fail with FAIL_WITHOUT_CUDA=1."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch

Test = TypeVar("Test", bound=Callable[..., None])
WITHOUT_CUDA = not torch.cuda.is_available() and os.environ.get("FAIL_WITHOUT_CUDA") != "1"


def needs_cuda(test: Test) -> Test:
    """Mark a test that needs a GPU."""
    skipped = pytest.mark.skipif(WITHOUT_CUDA, reason="no GPU; set FAIL_WITHOUT_CUDA=1 to fail instead")
    marked: Test = pytest.mark.cuda(skipped(test))
    return marked
