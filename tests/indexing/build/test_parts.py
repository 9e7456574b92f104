"""What becomes of a video's parts is handed on when all of them are there."""

from pathlib import Path

import torch

from colbert_video.indexing.build.parts import Gathering, Part, parts_of
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index.staging import EncodedVideo
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import CutVideo

FILM, CLIP = VideoRecord("film", str(Path("film.mp4"))), VideoRecord("clip", "clip.mp4", window=(1.0, 2.0))
SPANS = ((0.0, 4.0), (2.0, 6.0))


def encoded(part: Part) -> EncodedVideo:
    start = None if part.span is None else part.span[0]
    return EncodedVideo(VideoEntry(part.id, parent=part.parent, start=start), {"frame": torch.eye(2)})


def refused(part: Part) -> Failure:
    return Failure(part.id, part.record.path, "undecodable", f"broken at {part.span}")


def test_windows_are_parts_with_a_parent() -> None:
    assert parts_of(CutVideo(FILM, SPANS)) == [
        Part("film#t=0,4", FILM, (0.0, 4.0), "film"),
        Part("film#t=2,6", FILM, (2.0, 6.0), "film"),
    ]
    assert parts_of(CutVideo(CLIP)) == [Part("clip", CLIP, (1.0, 2.0), None)]


def test_a_video_is_complete_with_its_last_part_in_any_order() -> None:
    first, second = parts_of(CutVideo(FILM, SPANS))
    (clip,) = parts_of(CutVideo(CLIP))
    gathering = Gathering([first, second, clip])
    assert gathering.add(encoded(second)) is None
    whole = gathering.add(encoded(clip))
    assert whole is not None
    assert [video.entry.id for video in whole.encoded] == ["clip"]
    whole = gathering.add(encoded(first))
    assert whole is not None
    assert [video.entry.id for video in whole.encoded] == ["film#t=0,4", "film#t=2,6"]
    assert whole.failures == []


def test_some_failures_are_the_windows_own_and_all_are_the_videos() -> None:
    first, second = parts_of(CutVideo(FILM, SPANS))
    gathering = Gathering([first, second])
    gathering.add(refused(first))
    whole = gathering.add(encoded(second))
    assert whole is not None
    assert whole.failures == [refused(first)]
    assert [video.lost for video in whole.encoded] == [(refused(first),)]
    gathering = Gathering([first, second])
    gathering.add(refused(second))
    whole = gathering.add(refused(first))
    assert whole is not None
    assert (whole.encoded, [failure.id for failure in whole.failures]) == ([], ["film"])
