"""What follows when a worker is lost: its videos are tried again one by one, a bounded number of times."""

from collections.abc import Sequence

from colbert_video.cluster.indexing.crew import Job, Outcome
from colbert_video.errors import FailureKind
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.video.sources import VideoRecord

LONE_TRIES = 3
"""Workers that a video alone in its job may lose; one more may be lost with the job that it was in before."""


class RetryPolicy:
    """Decides which videos of jobs without a result are tried again, and which are given up."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}

    def after(self, outcome: Outcome) -> tuple[list[Job], list[Failure]]:
        """Return the jobs to try again after a job without a result, and the videos to give up.

        Raises:
            OSError: If the worker could not write to the index folder.
        """
        if isinstance(outcome.error, OSError):
            raise outcome.error
        records: Sequence[VideoRecord] = outcome.job.tag
        if len(records) > 1:
            return jobs(records, 1), []
        (record,) = records
        if outcome.error is not None:
            text = f"{type(outcome.error).__name__}: {outcome.error}"
            return [], [Failure(record.id, record.path, "error", text.strip().partition("\n")[0])]
        self._tries[record.id] = self._tries.get(record.id, 0) + 1
        if self._tries[record.id] < LONE_TRIES:
            return jobs(records, 1), []
        detail = f"{LONE_TRIES} workers were lost while they encoded it; the last one: {outcome.lost}"
        return [], [Failure(record.id, record.path, FailureKind.CRASHED.value, detail)]


def jobs(records: Sequence[VideoRecord], size: int) -> list[Job]:
    """Return jobs of `size` videos each, in their order."""
    parts = [tuple(records[start : start + size]) for start in range(0, len(records), size)]
    return [Job("encode", (part,), tag=part) for part in parts]
