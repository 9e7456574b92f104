"""What becomes of a video's items is handed on when all of them are there."""

from dataclasses import replace
from pathlib import Path

import torch

from colbert_video.indexing.build.encoding import Gathering, items_from_record
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index.staging import EncodedVideo, Note
from colbert_video.video.sources import VideoRecord

FILM = VideoRecord("film", str(Path("film.mp4")), {"year": 1999})
CLIP = VideoRecord("clip", "clip.mp4", window=(1.0, 2.0))
SPANS = ((0.0, 4.0), (2.0, 6.0))


def encoded(item: VideoEntry, *damage: str) -> EncodedVideo:
    return EncodedVideo(item, {"frame": torch.eye(2)}, Note(damage))


def refused(item: VideoEntry) -> Failure:
    return Failure(item.id, str(item.path), "undecodable", f"broken at {item.start}")


def test_windows_are_items_with_a_parent() -> None:
    assert items_from_record(FILM, SPANS) == [
        VideoEntry("film#t=0,4", "film.mp4", "film", 0.0, 4.0, metadata={"year": 1999}),
        VideoEntry("film#t=2,6", "film.mp4", "film", 2.0, 6.0, metadata={"year": 1999}),
    ]
    assert items_from_record(CLIP) == [VideoEntry("clip", "clip.mp4", None, 1.0, 2.0)]
    assert items_from_record(replace(CLIP, window=None)) == [VideoEntry("clip", "clip.mp4")]


def test_a_video_is_complete_with_its_last_item_in_any_order() -> None:
    first, second = items_from_record(FILM, SPANS)
    (clip,) = items_from_record(CLIP)
    gathering = Gathering([first, second, clip])
    assert gathering.add(encoded(second)) == []
    assert [video.entry.id for video in gathering.add(encoded(clip))] == ["clip"]
    assert [video.entry.id for video in gathering.add(encoded(first))] == ["film#t=0,4", "film#t=2,6"]
    staged = gathering.staged(waited=1.5)
    assert (staged.resumed, staged.failures, staged.damaged, staged.waited) == (0, (), {}, 1.5)


def test_some_failures_are_the_windows_own_and_all_are_the_videos() -> None:
    first, second = items_from_record(FILM, SPANS)
    earlier = Failure("other", "other.mp4", "missing", "no such file")
    gathering = Gathering([first, second], [earlier])
    gathering.add(refused(first))
    whole = gathering.add(encoded(second))
    assert [video.note for video in whole] == [Note((), (refused(first),))]
    assert gathering.staged(0.0).failures == (earlier, refused(first))
    gathering = Gathering([first, second])
    gathering.add(refused(second))
    assert gathering.add(refused(first)) == []
    assert [failure.id for failure in gathering.staged(0.0).failures] == ["film"]


def test_many_failed_windows_leave_one_row() -> None:
    spans = [(float(second), second + 2.0) for second in range(40)]
    first, *others = items_from_record(FILM, spans)
    gathering = Gathering([first, *others])
    gathering.add(encoded(first))
    for item in others:
        gathering.add(refused(item))
    (failure,) = gathering.staged(0.0).failures
    assert failure.id == "film#t=1,3"
    assert failure.detail == "broken at 1.0 (and 38 more of its 40 windows failed)"


def test_damage_is_that_of_all_windows_each_kind_once() -> None:
    first, second = items_from_record(FILM, SPANS)
    gathering = Gathering([first, second])
    gathering.add(encoded(second, "grey", "late"))
    gathering.add(encoded(first, "grey"))
    assert gathering.staged(0.0).damaged == {"film": ("grey", "late")}
