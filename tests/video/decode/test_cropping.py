"""Borders that codecs and containers ask to cut off: what is left is exactly the inner part of the whole picture."""

import struct
from pathlib import Path

import pytest
from container_bytes import add_clean_aperture, add_pixel_crop, matroska, set_display_matrix
from hypothesis import given
from hypothesis import strategies as st
from tagged_files import filtered
from video_writer import write_clip

from colbert_video.video.decode.cropping import container_crop
from colbert_video.video.decode.decoding import read_source
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import Cropping, SampledFrames, SamplingSettings

WHOLE = SamplingSettings(num_frames=3, width=64, height=64)


def check_inner(path: Path, whole: SampledFrames, crop: Cropping) -> None:
    """Check that the frames are those of the whole picture within the borders; chroma at their edge may differ a little."""
    left, top, right, bottom = crop
    width, height = 64 - left - right, 64 - top - bottom
    frames = read_frames(path, SamplingSettings(num_frames=3, width=width, height=height))
    assert (frames.width, frames.height) == (width, height)
    inner = whole.pixels[:, top : 64 - bottom, left : 64 - right].astype(int)
    assert abs(inner - frames.pixels).max() <= 4


@pytest.mark.parametrize("crop", [(2, 0, 0, 0), (6, 2, 4, 8), (26, 0, 0, 0), (0, 10, 2, 0)])
def test_by_the_stream(tmp_path: Path, crop: tuple[int, int, int, int]) -> None:
    plain = write_clip(tmp_path / "plain.mp4", 20)
    left, top, right, bottom = crop
    words = f"h264_metadata=crop_left={left}:crop_top={top}:crop_right={right}:crop_bottom={bottom}"
    check_inner(filtered(plain, tmp_path / "cropped.mp4", words), read_frames(plain, WHOLE), Cropping(*crop))


@pytest.mark.parametrize("crop", [(2, 0, 0, 0), (6, 2, 4, 8), (26, 0, 0, 0), (0, 10, 2, 0)])
def test_by_matroska(tmp_path: Path, crop: tuple[int, int, int, int]) -> None:
    path = write_clip(tmp_path / "a.mkv", 20, muxer={"live": "1"})
    whole = read_frames(path, WHOLE)
    check_inner(add_pixel_crop(path, *crop), whole, Cropping(*crop))


@pytest.mark.parametrize(
    ("aperture", "crop"), [((60, 64, 4, 0), (4, 0, 0, 0)), ((50, 54, -2, 6), (6, 8, 8, 2)), ((32, 32, 0, 0), (16,) * 4)]
)
def test_by_mp4(tmp_path: Path, aperture: tuple[int, int, int, int], crop: tuple[int, int, int, int]) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    whole = read_frames(path, WHOLE)
    check_inner(add_clean_aperture(path, *aperture), whole, Cropping(*crop))


def test_cropped_and_turned(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    whole = read_frames(path, WHOLE).pixels
    set_display_matrix(add_clean_aperture(path, 50, 54, -2, 6), 0, 1, 1, 0)  # x and y change places
    frames = read_frames(path, SamplingSettings(num_frames=3, width=54, height=50))
    inner = whole[:, 8:62, 6:56].swapaxes(1, 2).astype(int)
    assert abs(inner - frames.pixels).max() <= 4
    assert read_source(str(path), WHOLE).crop == Cropping(8, 6, 2, 8)


def test_of_two_tracks_each_has_its_own(tmp_path: Path) -> None:
    sound = ("ae", matroska([("83", b"\x02")]))
    buttons = ("ae", matroska([("83", b"\x12")]))  # no stream for FFmpeg
    picture = [("ae", matroska([("83", b"\x01"), ("e0", matroska([("54cc", bytes([n]))]))])) for n in (3, 5)]
    tracks = matroska([sound, picture[0], buttons, picture[1]])
    path = tmp_path / "a.mkv"
    path.write_bytes(matroska([("1a45dfa3", b""), ("18538067", matroska([("ec", b"12"), ("1654ae6b", tracks)]))]))
    found = [container_crop(str(path), "matroska,webm", index, 64, 64).left for index in range(4)]
    assert found == [0, 3, 5, 0]


@pytest.mark.parametrize("crop", [(40, 0, 24, 0), (0, 64, 0, 0), (65535, 0, 0, 0)])
def test_borders_that_leave_nothing_are_ignored(tmp_path: Path, crop: tuple[int, int, int, int]) -> None:
    path = write_clip(tmp_path / "a.mkv", 20, muxer={"live": "1"})
    add_pixel_crop(path, *crop)  # FFmpeg opens no such file
    assert container_crop(str(path), "matroska,webm", 0, 64, 64) == Cropping()


@pytest.mark.parametrize("fields", [(64, 0, 64, 1), (80, 1, 64, 1), (-4, 1, 64, 1)])
def test_apertures_that_make_no_sense_are_ignored(tmp_path: Path, fields: tuple[int, int, int, int]) -> None:
    path = add_clean_aperture(write_clip(tmp_path / "a.mp4", 20), 60, 64, 0, 0)
    data = bytearray(path.read_bytes())
    struct.pack_into(">4i", data, data.index(b"clap") + 4, *fields)
    path.write_bytes(data)
    assert read_source(str(path), WHOLE).crop == Cropping()


@given(data=st.data())
def test_damaged_heads_crop_nothing_wrong(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    name, format_name = data.draw(st.sampled_from([("a.mp4", "mov,mp4"), ("a.mkv", "matroska,webm")]))
    folder = tmp_path_factory.mktemp("damaged")
    whole = bytearray(write_clip(folder / name, 3).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    left, top, right, bottom = container_crop(str(folder / name), format_name, 0, 64, 64)
    assert 0 <= left < 64 - right <= 64
    assert 0 <= top < 64 - bottom <= 64
