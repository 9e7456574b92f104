"""Tests of what outlasts a power cut wait for the disk."""

import pytest


@pytest.fixture(autouse=True)
def disk_is_waited_for(real_fsync: None) -> None:
    """Sync files and folders for real."""
