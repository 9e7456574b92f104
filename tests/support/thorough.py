"""How much the long sweeps cover: a fixed sample in the default run, everything with COLBERT_VIDEO_THOROUGH=1."""

import os
from typing import Any, TypeVar

import pytest

Amount = TypeVar("Amount")

THOROUGH = os.environ.get("COLBERT_VIDEO_THOROUGH") == "1"
"""True in the thorough run."""
thorough_only = pytest.mark.skipif(not THOROUGH, reason="takes long; set COLBERT_VIDEO_THOROUGH=1")
"""Leaves a test, or a case of one, to the thorough run."""


def amount(default: Amount, *, thorough: Amount) -> Amount:
    """How much of a sweep this run covers."""
    return thorough if THOROUGH else default


def cases(default: list[Amount], *, thorough: list[Amount]) -> list[Any]:
    """Cases of a parametrized test: those of the default run, and further ones that only the thorough run has."""
    return [*default, *(pytest.param(*_values(case), marks=thorough_only) for case in thorough)]


def _values(case: Any) -> tuple[Any, ...]:
    """The values of one case: of several parameters, or of one."""
    return case if isinstance(case, tuple) else (case,)
