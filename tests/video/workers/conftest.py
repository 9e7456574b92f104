"""Tests of the processes: each pool starts its own."""

import pytest

from colbert_video.video.workers import pool
from colbert_video.video.workers.process import WorkerProcess


@pytest.fixture(autouse=True)
def own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WorkerProcess", WorkerProcess)
