"""A long run that is killed, repeated, and repeated again over a folder that changes: nothing is done twice."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from counting_clips import write_counting_clip
from kill_worker import preloaded
from thorough import amount

from colbert_video import Indexer, VideoColBERT
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index import staging
from colbert_video.video.workers.pool import FramePool, FrameRequest

CLIPS = amount(80, thorough=200)
FIRST = 6
"""Chunks of staged videos that the killed run leaves at least."""


def index_until_killed(path: Path, model: Path, clips: Path) -> None:
    """Index a folder, staging a few videos at a time."""
    torch.set_num_threads(1)
    staging.VIDEOS_PER_CHUNK = 8
    Indexer(path, model=model, workers=1, device="cpu").index(clips)


@dataclass
class Work:
    """What was decoded and encoded."""

    decoded: list[str] = field(default_factory=list)
    encoded: int = 0

    def taken(self) -> tuple[set[str], int]:
        """Names of the files decoded, and videos encoded, since this was last asked."""
        names, count = {Path(path).name for path in self.decoded}, self.encoded
        assert len(self.decoded) == count
        self.decoded, self.encoded = [], 0
        return names, count


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    done = Work()
    read_many, encode_videos = FramePool.read_many, VideoColBERT.encode_videos

    def reading(self: FramePool, requests: Iterable[FrameRequest], **settings: int) -> Any:
        def noted() -> Iterator[FrameRequest]:
            for request in requests:
                done.decoded.append(request.path)
                yield request

        return read_many(self, noted(), **settings)

    def encoding(self: VideoColBERT, videos: list, **settings: int) -> Any:
        done.encoded += len(videos)
        return encode_videos(self, videos, **settings)

    monkeypatch.setattr(FramePool, "read_many", reading)
    monkeypatch.setattr(VideoColBERT, "encode_videos", encoding)
    return done


def rewrite_unnoticed(path: Path) -> None:
    """Change a file's content, but neither its size nor its time."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.slow
def test_many_clips(tmp_path: Path, tiny_model: VideoColBERT, work: Work) -> None:
    clips, path = tmp_path / "clips", tmp_path / "i"
    clips.mkdir()
    names = [f"{number:03}.mp4" for number in range(CLIPS)]
    for number, name in enumerate(names):
        write_counting_clip(clips / name, frames=3, first=number % 50)
    VideoColBERT(tiny_model.config, tiny_model.backbone).save_pretrained(tmp_path / "model")

    child = preloaded().Process(target=index_until_killed, args=(path, tmp_path / "model", clips))
    child.start()
    while child.is_alive() and len(list((path / "staging").glob("*.safetensors"))) < FIRST:
        child.join(0.01)
    child.kill()
    child.join()
    with Catalog.open(path) as catalog:
        staged = catalog.staged_ids()
    assert 8 * (FIRST - 1) <= len(staged) < CLIPS

    indexer = Indexer(path, model=tmp_path / "model", workers=1, device="cpu")
    report = indexer.index(clips)  # goes on where it was
    assert (report.indexed, report.resumed, report.failures) == (CLIPS, len(staged), ())
    assert work.taken() == (set(names) - staged, CLIPS - len(staged))

    with pytest.raises(IndexFolderError, match="is an index already"):
        indexer.index(clips)
    report = indexer.add(clips, checksum=True)  # a repeated run does nothing but remember checksums
    assert (report.indexed, report.unchanged, report.videos) == (0, CLIPS, CLIPS)
    assert work.taken() == (set(), 0)

    with (clips / names[3]).open("ab") as file:  # another size, and time
        file.write(bytes(8))
    os.utime(clips / names[4], ns=(1, 1))  # another time alone
    rewrite_unnoticed(clips / names[5])
    report = indexer.add(clips)
    assert (report.indexed, report.unchanged) == (2, CLIPS - 2)
    assert work.taken() == ({names[3], names[4]}, 2)
    os.utime(clips / names[6], ns=(1, 1))
    report = indexer.add(clips, checksum=True)  # the content decides
    assert (report.indexed, report.unchanged) == (1, CLIPS - 1)
    assert work.taken() == ({names[5]}, 1)
    assert indexer.add(clips).unchanged == CLIPS

    for name in names[:3]:
        (clips / name).unlink()
    report = indexer.add(clips)
    assert (report.vanished, report.removed, report.videos) == (tuple(names[:3]), (), CLIPS)
    report = indexer.add(clips, sync=True)
    assert (report.vanished, report.removed, report.videos) == (tuple(names[:3]), tuple(names[:3]), CLIPS - 3)
    assert work.taken() == (set(), 0)
