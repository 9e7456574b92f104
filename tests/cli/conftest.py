"""Without torch, only the tests of what the command line does without a model are collected."""

from importlib.util import find_spec
from pathlib import Path

WITHOUT_TORCH = ("test_usage.py",)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out tests that index or search where torch cannot be imported."""
    needs_torch = collection_path.suffix == ".py" and collection_path.name not in WITHOUT_TORCH
    return True if needs_torch and find_spec("torch") is None else None
