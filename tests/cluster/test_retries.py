"""What follows when a worker is lost with videos: they are tried alone, a bounded number of times."""

from pathlib import Path

import pytest
import torch

from colbert_video.cluster.indexing.cluster_worker import stage_by_content
from colbert_video.cluster.indexing.crew import Job, Outcome
from colbert_video.cluster.indexing.retries import LONE_TRIES, RetryPolicy, jobs
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.staging import EncodedVideo, chunk_file, read_chunk, select_rows
from colbert_video.video.sources import VideoRecord

RECORDS = [VideoRecord(name, f"/{name}.mp4") for name in "abc"]


def test_jobs_hold_all_videos_in_order() -> None:
    assert [[record.id for record in job.tag] for job in jobs(RECORDS, 2)] == [["a", "b"], ["c"]]


def test_a_lost_block_is_tried_one_by_one_and_a_lone_video_is_given_up() -> None:
    policy = RetryPolicy()
    again, failures = policy.after(Outcome(jobs(RECORDS, 3)[0], lost="power cut"))
    assert ([job.tag for job in again], failures) == ([(record,) for record in RECORDS], [])
    for _ in range(LONE_TRIES - 1):
        (retried,), failures = policy.after(Outcome(again[1], lost="power cut"))
        assert (retried.tag, failures) == ((RECORDS[1],), [])
    again, (failure,) = policy.after(Outcome(retried, lost="another one"))
    assert again == []
    assert (failure.id, failure.path, failure.kind) == ("b", "/b.mp4", "crashed")
    assert failure.detail == "3 workers were lost while they encoded it; the last one: another one"


def test_an_error_costs_one_more_try_and_a_full_disk_ends_the_run() -> None:
    policy = RetryPolicy()
    block, alone = jobs(RECORDS, 3)[0], jobs(RECORDS, 1)[0]
    assert len(policy.after(Outcome(block, error=ValueError("odd")))[0]) == 3
    again, (failure,) = policy.after(Outcome(alone, error=ValueError("odd\nmore")))
    assert (again, failure.kind, failure.detail) == ([], "error", "ValueError: odd")
    with pytest.raises(OSError, match="disk full"):
        policy.after(Outcome(Job("encode", ()), error=OSError("disk full")))


def encoded(name: str, seed: int) -> EncodedVideo:
    tokens = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    return EncodedVideo(VideoEntry(name), {"frame": tokens})


def test_a_chunk_is_named_by_what_it_holds(tmp_path: Path) -> None:
    name, size = stage_by_content(tmp_path, [encoded("a", 1), encoded("b", 2)])
    assert stage_by_content(tmp_path, [encoded("a", 1), encoded("b", 2)]) == (name, size)
    assert [path.name for path in tmp_path.iterdir()] == [chunk_file(tmp_path, name).name]
    others = [
        stage_by_content(tmp_path, [encoded("a", 1), encoded("c", 2)])[0],  # a copy under another id
        stage_by_content(tmp_path, [encoded("a", 1), encoded("b", 3)])[0],
    ]
    assert len({name, *others}) == 3
    assert chunk_file(tmp_path, name).stat().st_size == size
    assert len(select_rows(read_chunk(chunk_file(tmp_path, name)), [1]).tokens["frame"]) == 3
