"""Which packets are decoded for which frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from colbert_video.video.decode.container import Deadline, OpenVideo
from colbert_video.video.decode.packets import PacketList, is_shown


@dataclass
class FakePacket:
    pts: int | None
    is_keyframe: bool = False
    is_discard: bool = False
    is_corrupt: bool = False
    duration: int | None = 1
    side_data: tuple[Any, ...] = ()

    def iter_sidedata(self) -> Iterator[Any]:
        return iter(self.side_data)

    def has_sidedata(self, kind: str) -> bool:
        return any(data.data_type == kind for data in self.side_data)

    def set_sidedata(self, data: Any) -> None:
        self.side_data = (*self.side_data, data)


def packets(*stamps: Any, keys: tuple[int, ...] = (0,), discard: tuple[int, ...] = ()) -> list[Any]:
    return [FakePacket(stamp, i in keys, i in discard) for i, stamp in enumerate(stamps)]


def planned(listed: PacketList, *wanted: int) -> list[tuple[list[Any], set[int]]]:
    return [([packet.pts for packet in run.packets()], set(run.wanted)) for run in listed.runs(wanted)]


def test_a_run_reaches_from_the_keyframe_to_the_wanted_frame() -> None:
    listed = PacketList(packets(0, 2, 1, 3, 6, 5, 4, keys=(0, 3)), hides_frames=False)
    assert planned(listed, 1) == [([0, 2, 1], {1})]
    assert planned(listed, 5) == [([3, 6, 5], {5})]
    assert planned(listed, 0, 2, 4) == [([0, 2], {0, 2}), ([3, 6, 5, 4], {4})]


def test_leading_pictures_of_an_open_gop_need_the_keyframe_before() -> None:
    # The keyframe 6 is decoded before 4 and 5, which are shown before it and refer to frames before it.
    listed = PacketList(packets(0, 2, 1, 3, 6, 4, 5, 9, 7, 8, keys=(0, 4)), hides_frames=False)
    assert planned(listed, 4) == [([0, 2, 1, 3, 6, 4], {4})]
    assert planned(listed, 8) == [([6, 4, 5, 9, 7, 8], {8})]
    assert planned(listed, 4, 8) == [([0, 2, 1, 3, 6, 4, 5, 9, 7, 8], {4, 8})]


def test_discarded_packets_are_decoded_but_not_shown() -> None:
    listed = PacketList(packets(-3, -2, -1, 0, 1, keys=(0,), discard=(0, 1, 2)), hides_frames=False)
    assert sorted(listed.position) == [0, 1]
    assert planned(listed, 0) == [([-3, -2, -1, 0], {0})]


def test_packets_before_the_first_keyframe_are_dropped() -> None:
    listed = PacketList(packets(0, 1, 2, 3, keys=(2,)), hides_frames=False)
    assert sorted(listed.position) == [2, 3]
    assert planned(listed, 3) == [([2, 3], {3})]


def test_half_a_frame_at_the_end_is_dropped() -> None:
    torn = packets(0, 1, 2)
    torn[-1].is_corrupt = True
    assert sorted(PacketList(torn, hides_frames=False).position) == [0, 1]


@pytest.mark.parametrize(
    "listed", [packets(), packets(0, 1, keys=()), packets(0, None, 2), packets(0, 1, 1), packets(0, 1, discard=(0, 1))]
)
def test_timestamps_that_cannot_be_trusted(listed: list[Any]) -> None:
    assert not PacketList(listed, hides_frames=False).ordered


def test_equal_stamps_of_discarded_packets_do_no_harm() -> None:
    assert PacketList(packets(0, 0, 1, discard=(0,)), hides_frames=False).ordered


def test_the_wider_run_starts_earlier_and_ends_with_the_next_keyframe() -> None:
    listed = PacketList(packets(*range(12), keys=(0, 3, 6, 9)), hides_frames=False)
    assert [packet.pts for packet in listed.wider_run(7).packets()] == list(range(10))
    assert [packet.pts for packet in listed.wider_run(10).packets()] == list(range(3, 12))


@pytest.mark.parametrize(
    ("duration", "end"), [(2, 1.4), (None, 1.3), (0, 1.3), (9, 2.1)], ids=["stated", "absent", "zero", "long"]
)
def test_timeline(duration: int | None, end: float) -> None:
    listed = packets(10, 13, 12, 11)
    listed[1].duration = duration
    stream = SimpleNamespace(time_base=Fraction(1, 10), guessed_rate=25)
    video = OpenVideo("a.mp4", SimpleNamespace(start_time=100_000), stream, Deadline(60.0, "a.mp4"))
    timeline = PacketList(listed, hides_frames=False).timeline(video)
    assert timeline.times.tolist() == [0.9, 1.0, 1.1, 1.2]
    assert timeline.duration == pytest.approx(end)
    assert timeline.fps == pytest.approx(4 / (end - 0.9))


def test_a_run_begins_with_the_state_that_earlier_packets_left() -> None:
    listed = packets(0, 1, 2, 3, keys=(0, 1, 2, 3))
    red, blue = (SimpleNamespace(data_type="palette", colour=colour) for colour in ("red", "blue"))
    listed[0].side_data, listed[2].side_data = (red, SimpleNamespace(data_type="skip_samples")), (blue,)
    runs = PacketList(listed, hides_frames=False).runs([1, 3])
    assert [next(iter(run.packets())).side_data for run in runs] == [(red,), (blue,)]
    assert listed[2].side_data == (blue,)


def test_a_run_goes_back_by_keyframes_to_the_first_one() -> None:
    listed = PacketList(packets(*range(10), keys=(0, 2, 4, 6, 8)), hides_frames=False)
    run = listed.runs([9])[0]
    for back, start in ((1, 6), (2, 4), (4, 0), (64, 0)):
        earlier = run.earlier(back)
        assert earlier is not None
        assert [packet.pts for packet in earlier.packets()] == list(range(start, 10))
        assert earlier.wanted == {9}
    assert earlier.earlier(1) is None


def test_hidden_frames_of_vp8() -> None:
    class Vp8Packet(bytes):
        is_discard = False

    assert is_shown(Vp8Packet(b"\x10\x00"), True)
    assert not is_shown(Vp8Packet(b"\x01\x00"), True)
    assert is_shown(Vp8Packet(b"\x01\x00"), False)
