"""Benchmarks are scripts that find each other in their own folder."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from paths import BENCHMARKS


@pytest.fixture(scope="session")
def load() -> Iterator[Any]:
    """Imports a module of the benchmarks as their scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module
